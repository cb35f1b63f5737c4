"""A model's answer to a quick instruction, beside the answer that its context holds.

Owns: drawing it over a fork of the context. Does not know what is asked (`encoding/quick`) or what the answer is for.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from engine.protocol import Sampling

if TYPE_CHECKING:
    from engine.backends.base import Backend
    from engine.encoding.quick import QuickQuestion
    from engine.expert_meter import ExpertCost
    from engine.generation import NewText, PrefillProgress


def ask_quickly(backend: "Backend", question: "QuickQuestion", cancelled: Callable[[], bool]) -> str:
    """The model's answer to a quick instruction, drawn greedily over a fork of its context."""
    from engine.contexts.context import BareContext
    from engine.generation import GenerationRequest, NewText, generate

    texts: list[str] = []
    request = GenerationRequest(
        prompt=(*question.prefix, *question.suffix),
        sampling=Sampling(temperature=0, seed=0),
        max_tokens=question.most_tokens,
    )

    def emit(event: "PrefillProgress | NewText | ExpertCost") -> None:
        if isinstance(event, NewText):
            texts.append(event.text)

    with backend.fork():
        outcome = generate(BareContext(backend), request, emit, cancelled)
    return "" if outcome.reason == "cancelled" else "".join(texts)
