"""What a llama.cpp context remembers of its one sequence, and the ways in which it can be cut back.

Owns: the tokens held and every call that takes something out of the memory or puts it back. Does not know
how tokens are read (`llamacpp`), which states are worth their room (`checkpoints`) or what their bytes mean
(`llama_states`).

There are three kinds of memory:

- most can be cut back to any length;
- DeepSeek-V4's cannot: the last 128 tokens are a ring, older ones are rows compressed from what is gone, and
  a compressor is always halfway through its next row. But a row, once written, never changes. So a state
  taken at a length needs the ring and the compressors alone (llama.cpp's "partial" state), and the memory
  can be brought back to it for as long as the rows before it come from the same tokens. Order matters: the
  state goes in first, which lowers the last position that the memory knows of; only then does it agree to
  forget everything from that position on. Rows beyond it are not erased. Their number is masked by position
  and they are written anew before they are ever seen;
- others (recurrent ones) are read anew.

A memory that was brought back continues as the one that the state was taken from would have, but for where
the ring's cells lie, and with that the order in which attention adds up. They lie in the state's own order from the
first cell on, whatever was there before; so two memories that were brought back by one state agree to the bit, and
with them one into which the whole state of that moment was put.

A whole state leaves out what a model with a window no longer attends to, also where all of it is held. A memory
that was loaded with such a state can therefore not be cut back to anything shorter.
"""

import ctypes
import logging
import mmap
import weakref
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np

from engine.backends.base import ContextState, Mark, Room
from engine.backends.checkpoints import Checkpoint, Checkpoints, State
from engine.backends.llama_library import llama
from engine.backends.llama_states import StateFormError, check_state, partial_state

Kind = Literal["cut", "checkpoints", "neither"]

# Any: the annotations of llama_cpp want ctypes objects where numbers are converted.
_WHOLE: Any = 0
_PARTIAL: Any = llama.LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY
_SEQUENCE: Any = 0

_logger = logging.getLogger(__name__)


class LlamaMemory:
    """The memory of one context. `held` are the tokens in it; who reads more of them adds them there."""

    def __init__(self, context: Any, kind: Kind, *, checkpoint_bytes: int) -> None:
        self._context: Any = context
        self._memory: Any = llama.llama_get_memory(context)
        self._kind: Kind = kind
        self._checkpoints = Checkpoints(checkpoint_bytes if kind == "checkpoints" else 0)
        self.held: list[int] = []
        self._known: list[
            tuple[weakref.ref[State], int]
        ] = []  # whole states of what is held, and their lengths
        self._uncut_tokens = 0  # shorter than this it cannot be: what was before them is not there

    @property
    def keeps_checkpoints(self) -> bool:
        """Whether `keep` does something, at least when memory is not short."""
        return self._kind == "checkpoints" and self._checkpoints.whole_budget_bytes > 0

    @property
    def checkpoints(self) -> Checkpoints:
        """The states kept."""
        return self._checkpoints

    def reach(self, tokens: Sequence[int]) -> int:
        """How many of the first `tokens` are held and would be left by cutting back to them; nothing changes."""
        return self._reach(_common_length(self.held, list(tokens)))

    def cut(self, most: int) -> int:
        """Cut back to the first `most` tokens held, or to fewer where that cannot be; returns how many are left."""
        reached = self._reach(most)
        if reached == 0 or (reached < len(self.held) and not self._cut_to(reached)):
            self.clear()
        return len(self.held)

    def keep(self) -> None:
        """Keep a state of what is held now, if this memory needs that and there is room for it."""
        size = self._size(_PARTIAL) if self.keeps_checkpoints and self.held else 0
        if size and self._checkpoints.wants(len(self.held), size):
            state = self._state(_PARTIAL)
            if state is not None:
                self._checkpoints.add(len(self.held), state)

    def mend(self) -> None:
        """Make it sound after reading was broken off: what is in it beyond `held` is in doubt."""
        if self._kind == "checkpoints":
            reached = self._checkpoints.last_within(len(self.held))
            sound = reached is not None and self._bring_back(reached)
        else:
            # One token more than what is in doubt: only a memory that can truly be cut agrees.
            sound = len(self.held) > max(1, self._uncut_tokens) and self._remove(len(self.held) - 1)
        if not sound:
            self.clear()

    @contextmanager
    def fork(self) -> Generator[None]:
        """Within it more may be read; afterwards the memory is what it was, or as much of it as can be."""
        back = self._way_back() if self.held else self.clear
        try:
            yield
        finally:
            back()

    def clear(self) -> None:
        """Forget everything."""
        llama.llama_memory_clear(self._memory, True)
        self._checkpoints.forget_beyond(0)
        self.held.clear()
        self._known.clear()
        self._uncut_tokens = 0

    def state_bytes(self) -> int:
        """The size of what `save` would write; 0: it cannot."""
        return self._size(_WHOLE) if self.held and self._kind != "neither" else 0

    def save(self, room: Room) -> ContextState | None:
        """The whole state in memory from `room`, with the states kept on the way to it; without logits.

        None where the memory is empty, is of a kind that is read anew, or writes a state of a form that could not be
        looked through when it is read. Raises what `room` raises.
        """
        size = self.state_bytes()
        if not size:
            return None
        whole = room(size)[:size]
        written = llama.llama_state_seq_get_data_ext(self._context, _bytes(whole), size, _SEQUENCE, _WHOLE)
        if int(written) != size:
            return None
        try:
            form = check_state(whole, len(self.held), v4=self._kind == "checkpoints")
        except StateFormError as error:
            _logger.warning("a state of this model's context cannot be kept: %s", error)
            return None
        if self._kind == "checkpoints" or form.in_order:
            self._know(whole)
        marks = [Mark(each.tokens, each.state) for each in self._checkpoints.within(len(self.held) - 1)]
        return ContextState(tuple(self.held), whole, tuple(marks))

    def load(self, state: ContextState, length: int) -> str | None:
        """Hold the first `length` tokens of a state in the place of what is held; why not, None: it does.

        When it does not it is empty afterwards. The marks of the state that lie within them are kept as its own.
        """
        total = len(state.tokens)
        if length == total == 0:
            self.clear()
            return None
        mark: State | None = next((each.state for each in state.marks if each.tokens == length), None)
        why = None
        if self._kind == "neither":
            why = "this model's context takes none"
        elif not 1 <= length <= total or (self._kind == "checkpoints" and length < total and mark is None):
            why = f"it cannot be brought back to {length:,} of its {total:,} tokens"
        else:
            try:
                if self._return(state, length, mark):
                    return None
                self.clear()
                why = self._load(state, length, mark)
            except StateFormError as error:
                why = str(error)
        if why is not None:
            self.clear()
        return why

    def _return(self, state: ContextState, length: int, mark: State | None) -> bool:
        """Go back to a state that was taken from this memory or loaded into it, if all that it held is still there.

        Then only what changes is put in, which is a small part of a long state. What follows is the same to the bit.
        """
        total = len(state.tokens)
        if not any(whole() is state.whole and tokens == total for whole, tokens in self._known):
            return False
        if self._kind == "cut":
            return length >= self._uncut_tokens and (length == len(self.held) or self._remove(length))
        if mark is None:
            return self._bring_back(Checkpoint(total, partial_state(state.whole, total)))
        check_state(mark, length, v4=True, partial=True)
        return self._bring_back(Checkpoint(length, mark))

    def _load(self, state: ContextState, length: int, mark: State | None) -> str | None:
        total, v4 = len(state.tokens), self._kind == "checkpoints"
        check_state(state.whole, total, v4=v4)
        for each in state.marks if v4 else ():
            check_state(each.state, each.tokens, v4=True, partial=True)
        if not self._put(state.whole, _WHOLE):
            return "llama.cpp refused it"
        if not self._ends_with(total):
            return "llama.cpp took it for another one"
        self.held += state.tokens
        self._know(state.whole)
        if v4:
            for each in state.marks:
                if each.tokens <= length and self._checkpoints.wants(each.tokens, each.state.nbytes):
                    self._checkpoints.add(each.tokens, each.state)
            cut = length == total or (mark is not None and self._bring_back(Checkpoint(length, mark)))
        else:
            # Tokens of a window that no later one attends to are not in the state: of what is shorter, some would.
            self._uncut_tokens = total if int(llama.llama_memory_seq_pos_min(self._memory, 0)) > 0 else 0
            cut = length == total or (length >= self._uncut_tokens and self._remove(length))
        return None if cut else f"it cannot be cut back to {length:,} of its {total:,} tokens"

    def _know(self, whole: State) -> None:
        """From here on, this is a state of what is held; see `_return`."""
        self._known = [each for each in self._known if each[0]() is not None and each[0]() is not whole]
        self._known.append((weakref.ref(whole), len(self.held)))

    def _ends_with(self, length: int) -> bool:
        return int(llama.llama_memory_seq_pos_max(self._memory, 0)) == length - 1

    def forget(self) -> None:
        """Let go of everything kept outside of llama.cpp; the context is about to be freed."""
        self._checkpoints.forget_beyond(0)
        self.held.clear()
        self._context = self._memory = None

    def _way_back(self) -> Callable[[], object]:
        """What brings the memory back to what it holds now, after it has held more, or something else."""
        held = list(self.held)
        if self._kind == "neither":
            whole = self._state(_WHOLE)
            return self.clear if whole is None else lambda: self._begin_with(whole, held)
        state = self._state(_PARTIAL) if self._kind == "checkpoints" else None
        checkpoint = None if state is None else Checkpoint(len(held), state)

        def back() -> None:
            if self.held == held:
                return
            # What was read instead of these tokens has taken the place of their rows.
            same = _common_length(self.held, held)
            if same < len(held) or checkpoint is None or not self._bring_back(checkpoint):
                self.cut(same)

        return back

    def _begin_with(self, whole: State, held: list[int]) -> None:
        self.clear()
        if self._put(whole, _WHOLE):
            self.held += held
        else:
            self.clear()

    def _reach(self, most: int) -> int:
        if most == len(self.held):
            return most
        if self._kind == "cut":
            return most if most >= self._uncut_tokens else 0
        nearest = self._checkpoints.last_within(most)
        return 0 if nearest is None else nearest.tokens

    def _cut_to(self, length: int) -> bool:
        if self._kind == "cut":
            return self._remove(length)
        checkpoint = self._checkpoints.last_within(length)
        return checkpoint is not None and self._bring_back(checkpoint)

    def _bring_back(self, checkpoint: Checkpoint) -> bool:
        length = checkpoint.tokens
        if not self._put(checkpoint.state, _PARTIAL) or not self._remove(length):
            return False
        return self._ends_with(length)

    def _remove(self, length: int) -> bool:
        """Take out what stands at position `length` and behind."""
        if not llama.llama_memory_seq_rm(self._memory, 0, length, -1):
            return False
        del self.held[length:]
        self._checkpoints.forget_beyond(length)
        self._known = [each for each in self._known if each[1] <= length]
        return True

    def _size(self, flags: Any) -> int:
        return int(llama.llama_state_seq_get_size_ext(self._context, _SEQUENCE, flags))

    def _state(self, flags: Any) -> State | None:
        """The state of the sequence, as llama.cpp writes it; None when it cannot or there is no memory for it."""
        size = self._size(flags)
        if not size:
            return None
        try:
            # Pages of its own, which are the system's again at once when the state goes: memory that the C library
            # frees it may keep for itself, and then nothing would be won by giving states up.
            state = np.frombuffer(mmap.mmap(-1, size), np.uint8)
        except (MemoryError, OSError):
            _logger.warning("no memory for a state of %d bytes of the context: more will be read again", size)
            return None
        written = llama.llama_state_seq_get_data_ext(self._context, _bytes(state), size, _SEQUENCE, flags)
        if int(written) != size:
            return None
        state.flags.writeable = False  # from here on it is handed around
        return state

    def _put(self, state: State, flags: Any) -> bool:
        taken = llama.llama_state_seq_set_data_ext(
            self._context, _bytes(state), state.nbytes, _SEQUENCE, flags
        )
        return int(taken) == state.nbytes


def _bytes(state: State) -> Any:
    return state.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))


def _common_length(held: list[int], wanted: list[int]) -> int:
    shorter = min(len(held), len(wanted))
    if held[:shorter] == wanted[:shorter]:
        return shorter
    return next(index for index in range(shorter) if held[index] != wanted[index])
