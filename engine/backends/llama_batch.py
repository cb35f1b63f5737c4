"""The arrays of tokens that llama.cpp is given to evaluate.

Owns: a `llama_batch` for one sequence and the memory behind its addresses. Does not know what is evaluated.
"""

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.backends.llama_library import llama


class Batch:
    """Arrays of a `llama_batch` for one sequence, made once. The struct holds addresses, this the arrays."""

    def __init__(self, size: int) -> None:
        self.token: NDArray[np.int32] = np.zeros(size, np.int32)
        self.position: NDArray[np.int32] = np.zeros(size, np.int32)
        self._sequences: NDArray[np.int32] = np.ones(size, np.int32)
        self._sequence = (ctypes.c_int32 * 1)(0)
        self._sequence_pointers = (ctypes.POINTER(ctypes.c_int32) * size)(
            *[ctypes.cast(self._sequence, ctypes.POINTER(ctypes.c_int32))] * size
        )
        self._logits: NDArray[np.int8] = np.zeros(size, np.int8)
        pointer = ctypes.POINTER(ctypes.c_int32)
        # Any: the annotations of llama_cpp name arrays where the struct's fields are pointers.
        self.batch: Any = llama.llama_batch()
        self.batch.token = self.token.ctypes.data_as(pointer)
        self.batch.pos = self.position.ctypes.data_as(pointer)
        self.batch.n_seq_id = self._sequences.ctypes.data_as(pointer)
        self.batch.seq_id = self._sequence_pointers
        self.batch.logits = self._logits.ctypes.data_as(ctypes.POINTER(ctypes.c_int8))

    def n_seq_and_logits(self, count: int, *, logits: bool = True) -> None:
        """Use the first `count` places; `logits`: of the last of them."""
        self.batch.n_tokens = count
        self._logits[:count] = 0
        self._logits[count - 1] = logits
