"""How full the model's context is, as far as the window can tell.

Owns: reading it from a turn's progress and from the answers on the screen. Pure; knows no widget.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.turn_stream import TurnProgress
    from engine.protocol import Message


@dataclass(frozen=True)
class ContextUse:
    """`tokens` in the context when that was last told; `overflowed`: the newest prompt did not fit into it."""

    tokens: int = 0
    overflowed: bool = False


def context_use(progress: TurnProgress | None, branch: Sequence[Message]) -> ContextUse:
    """From `progress` once it knows the prompt's size, else from the newest answer that was counted."""
    if progress is not None and progress.context_used is not None:
        return ContextUse(progress.context_used)
    answers = [message for message in reversed(branch) if message.role == "assistant"]
    newest = answers[0] if answers else None
    overflowed = newest is not None and newest.error is not None and newest.error.code == "prompt_too_long"
    usage = next((answer.usage for answer in answers if answer.usage), None)
    return ContextUse(usage.prompt_tokens + usage.generated_tokens if usage else 0, overflowed)
