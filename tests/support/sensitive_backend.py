"""A backend whose every logit depends on the way by which its context came to be.

What real ones do in the last bits is here the whole: a context that was loaded computes something else than the one
that was saved, as does a prompt read in other chunks, or a written token that is read as a prompt. Two that went the
same way agree. So whoever repeats an answer by a way of its own writes another one, at any temperature.
"""

import hashlib
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

import numpy as np

from engine.backends.base import (
    Cancelled,
    ContextState,
    Logits,
    Mark,
    ModelFacts,
    Room,
    SyncReport,
)
from engine.errors import GenerationError

VOCABULARY = 64
END = 0
_BITS = 32


class SensitiveBackend:
    """`rewinds`: it can be cut back to any length; otherwise to marks before chunks and before a prompt's last two
    tokens, as DeepSeek-V4."""

    plan = None
    taken = None
    expert_counts = None

    def __init__(
        self,
        *,
        rewinds: bool = False,
        chunk: int = 16,
        context: int = 4096,
        exact: str = "exact",
        ballast: int = 0,
    ) -> None:
        self.facts = ModelFacts(
            name="Sensitive",
            architecture="test",
            backend="sensitive",
            context_tokens=context,
            context_train_tokens=context,
            vocabulary_size=VOCABULARY,
            threads=1,
            end_token_ids=frozenset({END}),
            begin_token_id=None,
            begin_token_text="",
            end_token_text="",
            chat_template=None,
            control_tokens={},
            can_rewind=rewinds,
            states_rewind=rewinds,
            state_key="sensitive" + str(rewinds),
            exact_key=exact,
        )
        self.read_tokens = 0
        self.stepped = 0
        self.loads = 0
        self.fails_to_load = False
        self.off = 0.0
        """Added to every logit: as another build would."""
        self._chunk = chunk
        self._ballast = ballast
        self._held: list[int] = []
        self._ways: list[bytes] = []
        """By how many tokens are held: what the context is by then."""
        self._marks: dict[int, bytes] = {}
        self._has_logits = False

    @property
    def held(self) -> Sequence[int]:
        return self._held

    def relieve(self, wanted_bytes: int) -> int:
        won = _BITS * len(self._marks)
        self._marks.clear()
        return min(won, wanted_bytes)

    def allow(self, more_bytes: int) -> int:
        return 0

    def tokenize(self, text: str) -> list[int]:
        return [1 + byte % (VOCABULARY - 1) for byte in text.encode()]

    def token_bytes(self, token_id: int) -> bytes:
        return bytes((64 + token_id,)) if token_id else b""

    def sync(
        self,
        tokens: Sequence[int],
        on_progress: Callable[[int, int, int], None],
        cancelled: Callable[[], bool],
    ) -> SyncReport:
        wanted, total = list(tokens), len(tokens)
        assert 1 <= total <= self.facts.context_tokens
        if wanted == self._held and self._has_logits:
            on_progress(total, total, total)
            return SyncReport(total, 0)
        reused = self._cut(self._reach(wanted, total - 1))
        on_progress(reused, total, reused)
        at = reused
        while at < total:
            if cancelled():
                raise Cancelled
            end = min(at + self._chunk, total)
            if end == total and not self.facts.can_rewind:
                end = max(total - 2, at + 1) if total - at > 2 else total
            self._marks[at] = self._way
            self._go("read", wanted[at:end])
            self.read_tokens += end - at
            at = end
            on_progress(at, total, reused)
        self._has_logits = True
        return SyncReport(reused, total - reused)

    def reusable(self, tokens: Sequence[int]) -> int:
        return self._reach(list(tokens), len(tokens))

    def logits(self) -> Logits:
        assert self._has_logits
        seed = int.from_bytes(self._way[:8], "little")
        return (np.random.default_rng(seed).normal(0, 2, VOCABULARY) + self.off).astype(np.float32)

    def step(self, token_id: int) -> Logits:
        if len(self._held) >= self.facts.context_tokens:
            self._clear()
            raise GenerationError("The answer stopped", "there is no room in the context", "continue")
        self._go("step", [token_id])
        self.stepped += 1
        self._has_logits = True
        return self.logits()

    def state_bytes(self) -> int:
        return _BITS * len(self._held) + self._ballast

    def save(self, room: Room) -> ContextState | None:
        if not self._held:
            return None
        whole = room(self.state_bytes())
        whole[:] = np.frombuffer(b"".join(self._ways[1:]) + bytes(self._ballast), np.uint8)
        marks = tuple(
            Mark(at, np.frombuffer(way, np.uint8))
            for at, way in sorted(self._marks.items())
            if 0 < at < len(self._held)
        )
        logits = self.logits() if self._has_logits else None
        return ContextState(tuple(self._held), whole, () if self.facts.can_rewind else marks, logits)

    def load(self, state: ContextState, tokens: int | None = None) -> None:
        self._clear()
        self.loads += 1
        total = len(state.tokens)
        length = total if tokens is None else tokens
        if not total:
            return
        marks = {mark.tokens: mark.state.tobytes() for mark in state.marks}
        whole = state.whole.tobytes()
        if (
            self.fails_to_load
            or len(whole) != _BITS * total + self._ballast
            or (length < total and not self.facts.can_rewind and length not in marks)
        ):
            raise GenerationError("What was kept was not taken", "it is of another form", "continue")
        self._held = list(state.tokens[:length])
        ways = [whole[at : at + _BITS] for at in range(0, _BITS * length, _BITS)]
        # From here on nothing is what it would have been without having been loaded.
        ways[-1] = _hash(b"loaded", marks.get(length, ways[-1]), whole)
        self._ways = [b"", *ways]
        self._marks = {at: way for at, way in marks.items() if at < length}
        self._has_logits = length == total and state.logits is not None
        if self._has_logits and state.logits is not None:
            self._ways[-1] = whole[_BITS * (total - 1) : _BITS * total]
            self._loaded = _hash(b"loaded", whole)

    @contextmanager
    def fork(self) -> Generator[None]:
        held, ways, marks = list(self._held), list(self._ways), dict(self._marks)
        try:
            yield
        finally:
            self._held, self._ways, self._marks = held, ways, marks
            if ways:
                self._ways[-1] = _hash(b"forked", ways[-1])
            self._has_logits = False

    def close(self) -> None:
        self._clear()

    @property
    def _way(self) -> bytes:
        return self._ways[-1] if len(self._ways) > 1 else b""

    def _go(self, how: str, tokens: list[int]) -> None:
        loaded, self._loaded = self._loaded, b""
        way = _hash(how.encode(), self._way, loaded, repr(tokens).encode())
        if not self._ways:
            self._ways = [b""]
        for token in tokens:
            self._held.append(token)
            self._ways.append(way)
        self._has_logits = False

    def _reach(self, tokens: list[int], most: int) -> int:
        common = next(
            (at for at, (a, b) in enumerate(zip(self._held, tokens, strict=False)) if a != b),
            min(len(self._held), len(tokens)),
        )
        if common == len(self._held) and common <= most:
            return common
        common = min(common, most)
        if self.facts.can_rewind:
            return common
        return max((at for at in self._marks if at <= common), default=0)

    def _cut(self, length: int) -> int:
        if length < len(self._held):
            way = self._marks.get(length)
            self._held, self._ways = self._held[:length], self._ways[: length + 1]
            if way is not None and length:
                self._ways[-1] = way
            self._marks = {at: each for at, each in self._marks.items() if at <= length}
            self._has_logits = False
            self._loaded = b""
        return length

    def _clear(self) -> None:
        self._held, self._ways, self._marks = [], [], {}
        self._has_logits = False
        self._loaded = b""

    _loaded = b""
    """Of a context that was loaded whole: its logits are the saved ones, and what follows is not."""


def _hash(*parts: bytes) -> bytes:
    return hashlib.blake2b(b"|".join(parts), digest_size=_BITS).digest()
