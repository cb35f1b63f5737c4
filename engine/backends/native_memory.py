"""What a context of the native engine remembers, and the ways in which it is brought back.

Owns: the tokens held with the cache that belongs to them, marks by the rules of `checkpoints`, and whole states as
bytes in both directions. Does not know how tokens are read (`native`) or what a cache is made of
(`engine.model.cache`).

A state is a function of the way by which its tokens were read, and what goes on from it is the same whether it was
saved and loaded or not. So going back to a state that was just saved or loaded is going back to a fork of the cache
itself, which shares the compressed rows: nothing is copied but the window and the rows that are being made.
"""

import mmap
import weakref
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

import numpy as np

from engine.backends.base import ContextState, Mark, Room
from engine.backends.checkpoints import Checkpoints, State
from engine.contexts.kept_states import common_length
from engine.model.cache import SequenceCache
from engine.model.model_error import ModelError
from engine.model.saved_cache import read_mark, read_state, state_bytes, write_state


class NativeMemory:
    """One context. `held` are the tokens in `cache`; who commits more of them there adds them."""

    def __init__(
        self, new_cache: Callable[[], SequenceCache], *, context_tokens: int, checkpoint_bytes: int
    ) -> None:
        self._new_cache, self._context_tokens = new_cache, context_tokens
        self.checkpoints = Checkpoints(checkpoint_bytes)
        self.held: list[int] = []
        self._anchor: tuple[weakref.ref[State], SequenceCache] | None = None
        self._keeps = True
        self.cache = self._empty()

    @property
    def keeps_marks(self) -> bool:
        """Whether `keep` does something, at least when memory is not short."""
        return self._keeps and self.checkpoints.whole_budget_bytes > 0

    @property
    def size_bytes(self) -> int:
        """What is in use: the cache and the marks."""
        return self.cache.size_bytes + self.cache.draft_bytes + self.checkpoints.size_bytes

    def reach(self, tokens: Sequence[int]) -> int:
        """How many of the first `tokens` are held and would be left by cutting back to them; nothing changes."""
        return self._reach(common_length(self.held, tokens))

    def cut(self, most: int) -> int:
        """Cut back to the first `most` tokens held, or to fewer where that cannot be; returns how many are left."""
        length = self._reach(most)
        if length == len(self.held):
            return length
        if self._anchor is not None and self._anchor[0]() is None:
            self._anchor = None  # else its rows would be in the way of those to come, and be copied
        if self.cache.can_cut(length):
            self.cache.cut(length)
        else:
            mark = self.checkpoints.last_within(length)
            if mark is None:
                raise AssertionError("a place that is reached has a mark")
            self.cache.rewind(read_mark(mark.state, self.cache))
        del self.held[length:]
        self.checkpoints.forget_beyond(length)
        return length

    def keep(self) -> None:
        """Keep a mark of what is held now, if there is room for it."""
        size_bytes = state_bytes(self.cache, rows=False) if self.keeps_marks and self.held else 0
        if size_bytes and self.checkpoints.wants(len(self.held), size_bytes):
            self.checkpoints.add(len(self.held), self._mark(size_bytes))

    @contextmanager
    def fork(self) -> Generator[None]:
        """Within it more may be read; afterwards there is the very cache from before."""
        cache, held, keeps = self.cache, list(self.held), self._keeps
        self.cache, self._keeps = cache.fork(), False
        try:
            yield
        finally:
            self.cache, self.held, self._keeps = cache, held, keeps
            self.checkpoints.forget_beyond(len(held))

    def clear(self) -> None:
        """Forget everything."""
        self._anchor = None
        self.cache = (
            self._new_cache()
        )  # what was held goes before there is room for more: a GPU might not have both
        self.cache.reserve(self._context_tokens)
        self.held = []
        self.checkpoints.forget_beyond(0)

    def close(self) -> None:
        """Forget everything for good, and who makes caches."""
        self.cache = SequenceCache(self.cache.config, self.cache.format, "meta")
        self._new_cache, self._anchor, self.held = lambda: self.cache, None, []
        self.checkpoints.forget_beyond(0)

    def state_bytes(self) -> int:
        """The size of what `save` would write; 0: nothing is held."""
        return state_bytes(self.cache) if self.held else 0

    def save(self, room: Room) -> ContextState | None:
        """The whole state in memory from `room`, with the marks on the way to it; without logits. None where nothing
        is held. Raises what `room` raises."""
        size_bytes = self.state_bytes()
        if not size_bytes:
            return None
        whole = room(size_bytes)[:size_bytes]
        write_state(self.cache, whole)
        self._anchor = (weakref.ref(whole), self.cache.fork())
        marks = [Mark(each.tokens, each.state) for each in self.checkpoints.within(len(self.held) - 1)]
        return ContextState(tuple(self.held), whole, tuple(marks))

    def load(self, state: ContextState, length: int) -> str | None:
        """Hold the first `length` tokens of a state in the place of what is held; why not, None: it does.

        When it does not it is empty afterwards. The marks of the state that lie within them are kept as its own.
        """
        total = len(state.tokens)
        if length == total == 0:
            self.clear()
            return None
        mark = next((each for each in state.marks if each.tokens == length), None)
        if not 1 <= length <= total or (length < total and mark is None):
            self.clear()
            return f"it cannot be brought back to {length:,} of its {total:,} tokens"
        try:
            cache = self._loaded(state)
            for each in state.marks:
                if (marked := read_mark(each.state, cache).position) != each.tokens:
                    raise ValueError(f"its mark at {each.tokens:,} has the rows of {marked:,} tokens")
            if length < total and mark is not None:
                cache.rewind(read_mark(mark.state, cache))
        except (ModelError, ValueError) as error:
            self.clear()
            return error.why if isinstance(error, ModelError) else str(error)
        self.cache, self.held = cache, list(state.tokens[:length])
        self.checkpoints.forget_beyond(0)
        for each in state.marks:
            if each.tokens < length and self.checkpoints.wants(each.tokens, each.state.nbytes):
                self.checkpoints.add(each.tokens, each.state)
        return None

    def _loaded(self, state: ContextState) -> SequenceCache:
        """The cache of a whole state. Raises ModelError."""
        if self._anchor is not None and self._anchor[0]() is state.whole:
            return self._anchor[1].fork()
        # What is held goes first: a GPU might not have room for both.
        self._anchor = None
        self.held = []
        empty = self.cache = self._new_cache()
        cache = read_state(
            state.whole, empty.config, empty.format, empty.device, drafts=empty.draft is not None
        )
        if cache.position != len(state.tokens):
            raise ValueError(f"it holds {cache.position:,} tokens and not {len(state.tokens):,}")
        cache.reserve(self._context_tokens)
        self._anchor = (weakref.ref(state.whole), cache.fork())
        return cache

    def _empty(self) -> SequenceCache:
        cache = self._new_cache()
        # Memory that is not written is not taken: then no row is ever copied to make room.
        cache.reserve(self._context_tokens)
        return cache

    def _mark(self, size_bytes: int) -> State:
        # Pages of its own, which are the system's again at once when the mark goes.
        state = np.frombuffer(mmap.mmap(-1, size_bytes), np.uint8)
        write_state(self.cache, state, rows=False)
        state.flags.writeable = False  # from here on it is handed around
        return state

    def _reach(self, most: int) -> int:
        if most == len(self.held):
            return most
        if self.cache.can_cut(most):
            return most
        nearest = self.checkpoints.last_within(most)
        return 0 if nearest is None else nearest.tokens
