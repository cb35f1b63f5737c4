"""The contract between the generation loop and whatever computes logits.

Owns: the `Backend` protocol and its values. Callers own whole prefixes: they say which tokens the context
must hold, the backend decides between reuse and rebuild and says which. One thread uses a backend at a
time. A backend never samples, renders or parses.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from engine.placement.load_plan import LoadPlan

Logits = NDArray[np.float32]
"""float32 [vocabulary], un-normalised, for the token after the context. Valid until the next call."""


@dataclass(frozen=True)
class ModelFacts:
    """What a backend says of the model it holds."""

    name: str
    architecture: str
    backend: str
    context_tokens: int
    context_train_tokens: int
    vocabulary_size: int
    threads: int
    end_token_ids: frozenset[int]
    """Any of these ends an answer."""
    begin_token_id: int | None
    """Put before every prompt unless the template wrote it; None when the model wants none."""
    begin_token_text: str
    end_token_text: str
    chat_template: str | None
    control_tokens: dict[str, int]
    """Text → id of every token that is not ordinary text."""
    release_names: tuple[str, ...] = ()
    """What the model's file calls it, the surest first: by these a V4 model's release is found."""
    can_rewind: bool = True
    """Whether the context can be cut back to any prefix. Where it cannot, it is brought back to the nearest place
    of which the backend kept a state, if it did, and read from there."""
    state_key: str = ""
    """States of contexts with equal keys can be put into each other's place: same model file, same form of the state.
    "": a context's state cannot be told."""
    exact_key: str = ""
    """Where this is equal too, what follows a state is the same bit for bit: same library, threads, batches, places."""
    states_rewind: bool = True
    """Whether a context that was loaded with a state can be cut back to any prefix of it. Not where it has a window:
    a state leaves out what is no longer looked at."""


Room = Callable[[int], NDArray[np.uint8]]
"""Gives memory of so many bytes to write into, [bytes]. Raises MemoryError, OSError."""


@dataclass(frozen=True)
class Mark:
    """A place within a state to which a context that was loaded with it can be brought back."""

    tokens: int
    state: NDArray[np.uint8]


@dataclass(frozen=True)
class ContextState:
    """All that a context remembers. Opaque bytes of the backend that wrote it; may be a view of a file."""

    tokens: tuple[int, ...]
    """The ids in the context, in order."""
    whole: NDArray[np.uint8]
    marks: tuple[Mark, ...] = ()
    """By rising length, each shorter than `tokens`. None where a context can be cut back anyway."""
    logits: Logits | None = None
    """A copy of the logits after the last token; None where they were not computed."""


@dataclass(frozen=True)
class SyncReport:
    """How a prefix came to be in the context."""

    reused_tokens: int
    read_tokens: int


@dataclass(frozen=True)
class ExpertCounts:
    """Experts that tokens written one by one went to, since the model was loaded: how many, how many of them lay in
    memory when they were chosen (`on_gpu`: of these, in a GPU's), and what was read from the disk for the others."""

    wanted: int = 0
    in_memory: int = 0
    read_bytes: int = 0
    on_gpu: int = 0


@dataclass(frozen=True)
class TakenBytes:
    """What a loaded model and its context have really taken, by the library's own account. `mapped_bytes`: of the
    model's file, in memory as far as there is room; not counted in `ram_bytes`. Experts that were read into memory of
    our own in the mapping's place count as `ram_bytes`, as far as they are there now."""

    gpu_bytes: int = 0
    ram_bytes: int = 0
    mapped_bytes: int = 0


class Cancelled(Exception):  # noqa: N818 - not an error: the person asked for it
    """Raised by `sync` when `cancelled()` became true; the context holds a shorter, valid prefix."""


class Backend(Protocol):
    """A loaded model and one context."""

    @property
    def facts(self) -> ModelFacts:
        """What is known of the model; never changes."""
        ...

    @property
    def plan(self) -> "LoadPlan | None":
        """By which plan it was loaded; None where there was none."""
        ...

    @property
    def taken(self) -> TakenBytes | None:
        """What it takes of this machine; None where the library does not say."""
        ...

    @property
    def expert_counts(self) -> ExpertCounts | None:
        """What its experts cost so far; None where nobody looks. Any thread."""
        ...

    def relieve(self, wanted_bytes: int) -> int:
        """Give back memory that it can do without, as soon as it can, `wanted_bytes` of it if there is so much.

        Returns how many bytes it will give back; 0: none. Any thread: a running `step` or `sync` goes on, and what
        it needs is not touched before it ends.
        """
        ...

    def allow(self, more_bytes: int) -> int:
        """It may take `more_bytes` again of what `relieve` made it give back; returns how many of them it can use.

        0: it has all that it was loaded with. Any thread.
        """
        ...

    @property
    def held(self) -> Sequence[int]:
        """The tokens in the context."""
        ...

    def tokenize(self, text: str) -> list[int]:
        """Ids of `text` as plain text: no control token, no begin token, no added space."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for in text; empty for control tokens."""
        ...

    def sync(
        self,
        tokens: Sequence[int],
        on_progress: Callable[[int, int, int], None],
        cancelled: Callable[[], bool],
    ) -> SyncReport:
        """Make the context hold exactly `tokens` (at least one, at most `context_tokens`).

        `on_progress(done, total, reused)` is called before the first chunk and after each. Raises Cancelled
        within one chunk, GenerationError when the backend fails.
        """
        ...

    def reusable(self, tokens: Sequence[int]) -> int:
        """How many of `tokens` a `sync` of something longer that begins with them would not read again.

        Changes nothing.
        """
        ...

    def logits(self) -> Logits:
        """Logits after the last token of the context."""
        ...

    def step(self, token_id: int) -> Logits:
        """Append one token, evaluated alone; the logits after it. Raises GenerationError."""
        ...

    def state_bytes(self) -> int:
        """About what `save` would give now, without marks; 0 where a state cannot be told. Changes nothing."""
        ...

    def save(self, room: Room) -> ContextState | None:
        """What the context remembers, written into memory from `room`; None where it cannot be told or nothing is held.

        Raises what `room` raises. Changes nothing. What a context goes on to compute may differ in the last bits from
        what one does that was loaded with its state: sums are taken in another order. Two that were loaded with the
        same state agree, if `ModelFacts.exact_key` is equal. So who wants to be able to repeat what follows loads what
        it saved.
        """
        ...

    def load(self, state: ContextState, tokens: int | None = None) -> None:
        """Make the context hold the first `tokens` of the state's (None: all of them), in the place of what it held.

        Fewer than all: a mark's length, or any where `ModelFacts.states_rewind`. With all of them the state's logits,
        if it has them, are those of the context; else `sync` has to evaluate at least one token more. A state without
        tokens empties the context. Nothing depends on what was held before. The state is trusted: who read it from a
        file has looked at its sums. Raises GenerationError when it is not taken; the context is then empty.
        """
        ...

    def fork(self) -> AbstractContextManager[None]:
        """Within it, the context may be extended by `sync` and `step`; afterwards it is what it was before.

        The tokens held must be a prefix of what is synced within. A context that cannot be brought back is
        shorter or empty afterwards, and what it lacks is read by the next `sync`. What it goes on to compute is the
        same to the bit if it can be cut back, or was loaded and nothing was read since; else it is what one computes
        that was loaded with its state.
        """
        ...

    def close(self) -> None:
        """Free the model and the context. Calling it again does nothing."""
        ...
