"""What the generation loop sees of a backend: one answer's context.

Owns: the `Context` protocol, and the plain one that adds nothing to a backend. Does not know what is kept of a context
or where it starts from (`keeper`).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from engine.backends.base import Backend, ExpertCounts, Logits, ModelFacts


@dataclass(frozen=True)
class Prepared:
    """How a prompt came to be in the context. `read_tokens` of it were read in `reading_s`. `exact`: whether an answer
    that was cut off goes on token for token as it would have, with the same draws; None where none was."""

    read_tokens: int
    reading_s: float
    exact: bool | None = None


class Context(Protocol):
    """A context for one answer. One thread at a time."""

    @property
    def facts(self) -> "ModelFacts":
        """What is known of the model."""
        ...

    @property
    def expert_counts(self) -> "ExpertCounts | None":
        """What its experts cost so far; see `Backend.expert_counts`."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for in text."""
        ...

    def prepare(
        self,
        prompt: Sequence[int],
        already: Sequence[int],
        on_progress: Callable[[int, int, int], None],
        cancelled: Callable[[], bool],
    ) -> Prepared:
        """Make it hold `prompt` and what was `already` generated after it.

        `on_progress(done, total, reused)`; raises Cancelled, GenerationError: see `Backend.sync`.
        """
        ...

    def logits(self) -> "Logits":
        """Logits after the last token; valid until the next call."""
        ...

    def step(self, token_id: int) -> "Logits":
        """Append a token that was generated; the logits after it. Raises GenerationError."""
        ...


class BareContext:
    """A backend as it is: nothing is kept of it, and nothing is promised of an answer that goes on."""

    def __init__(self, backend: "Backend") -> None:
        self._backend = backend
        self.facts = backend.facts
        self.token_bytes = backend.token_bytes
        self.logits = backend.logits
        self.step = backend.step

    @property
    def expert_counts(self) -> "ExpertCounts | None":
        """What its experts cost so far."""
        return self._backend.expert_counts

    def prepare(
        self,
        prompt: Sequence[int],
        already: Sequence[int],
        on_progress: Callable[[int, int, int], None],
        cancelled: Callable[[], bool],
    ) -> Prepared:
        """Read prompt and answer alike; see `Context.prepare`."""
        began_s = time.perf_counter()
        report = self._backend.sync((*prompt, *already), on_progress, cancelled)
        return Prepared(report.read_tokens, time.perf_counter() - began_s, False if already else None)
