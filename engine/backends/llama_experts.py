"""What the routers of a model choose, seen while llama.cpp computes.

Owns: the evaluation callback of a context (`cb_eval` in llama.h): at each layer's chosen experts it reads their
numbers, asks for those that lie on the disk (`read_ahead`), and hands them to whoever wants to note them. Does
not know files, policies or what a trace is for. Importing this module loads llama.cpp.

llama.cpp asks the callback of every operation of the graph whether its result is wanted, and stops after those
that are. The choice is known before the matrices are multiplied, so the disk reads a layer's experts all at once
while the first of them are computed with, instead of one page fault after the other. The callback is called in
the thread that computes: it must be short, and nothing may be raised into C.
"""

import ctypes
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as llama
import numpy as np
from numpy.typing import NDArray

from convert.gguf_header import GgufError, read_gguf_header
from engine.backends.ggml_library import ggml_function
from engine.backends.read_ahead import ReadAhead, available
from engine.placement.expert_ranges import ExpertRanges, expert_ranges

_logger = logging.getLogger(__name__)

Chosen = NDArray[np.int32]
"""[tokens, used]: the experts that each token of a batch goes to, in one layer."""
OnChoice = Callable[[int, Chosen], None]
"""The layer and what was chosen there."""

_CHOICE = b"ffn_moe_topk-"
"""llama.cpp's name for a layer's chosen experts (build_moe_ffn in src/llama-graph.cpp), before its number."""
_ID_BYTES = 4


class ExpertWatch:
    """A callback for one context, whose owner keeps it as long as that context.

    ranges: where the model's experts lie. read_ahead: asked for what a single token chose; None asks nothing.
    on_choice: told every choice, in the order of the layers, batch after batch.
    A failure ends the watching, not the answer: it is logged once, and the model goes on as without it.
    """

    def __init__(
        self, ranges: ExpertRanges, *, read_ahead: ReadAhead | None = None, on_choice: OnChoice | None = None
    ) -> None:
        self._ranges, self._read_ahead, self._on_choice = ranges, read_ahead, on_choice
        self._layer = -1
        self._failed = False
        self.callback: Any = llama.ggml_backend_sched_eval_callback(self._evaluate)
        """For `cb_eval` of the context's parameters; llama.cpp holds only its address."""

    @classmethod
    def open(
        cls, path: Path, *, memory_bytes: int, on_choice: OnChoice | None = None
    ) -> "ExpertWatch | None":
        """A watch for the model in the file `path`, which may keep `memory_bytes` of it in memory.

        Where all of it fits there, nothing is read ahead. None if there would be nothing to do: a model without
        experts, a system that takes no such advice, a file that cannot be read (llama.cpp says so better).
        """
        try:
            header = read_gguf_header(path)
            ranges = expert_ranges(header)
            if ranges is None:
                return None
            wanted = available() and header.size_bytes > memory_bytes
            if not wanted and on_choice is None:
                return None
            return cls(ranges, read_ahead=ReadAhead.open(path) if wanted else None, on_choice=on_choice)
        except (GgufError, OSError):
            return None

    @property
    def reads_ahead(self) -> bool:
        """Whether the model is larger than the memory that it may have."""
        return self._read_ahead is not None

    @property
    def failed(self) -> bool:
        """Whether it gave up; the log says why."""
        return self._failed

    @property
    def asked_bytes(self) -> int:
        """Asked of the disk so far."""
        return self._read_ahead.asked_bytes if self._read_ahead is not None else 0

    def close(self) -> None:
        """Close the file that it reads ahead in; the context must be gone. Calling it again does nothing."""
        if self._read_ahead is not None:
            self._read_ahead.close()

    def _evaluate(self, tensor: int, ask: bool, _data: object) -> bool:
        """`ask`: whether the tensor's numbers are wanted; else they are there, and True goes on computing."""
        try:
            if not ask:
                self._see(tensor)
                return True
            name: bytes = _name_of(tensor)
            if self._failed or not name.startswith(_CHOICE):
                return False
            self._layer = int(name[len(_CHOICE) :])
            return self._layer in self._ranges.layers
        except BaseException as error:  # noqa: BLE001 - it cannot travel through C
            self._failed = True
            why = str(error) or type(error).__name__
            _logger.warning("The chosen experts are not looked at any more: %s", why)
            return not ask

    def _see(self, tensor: int) -> None:
        layer = self._ranges.layers[self._layer]
        chosen = _numbers(tensor, self._ranges.used)
        if chosen.min() < 0 or chosen.max() >= layer.experts:
            raise ValueError(f"layer {self._layer} chose an expert that is not there")
        # A batch's tokens choose nearly all experts of a layer, which page faults read one after the other.
        if self._read_ahead is not None and len(chosen) == 1:
            self._read_ahead.ask(layer.ranges(chosen[0].tolist()))
        if self._on_choice is not None:
            self._on_choice(self._layer, chosen)


def _numbers(tensor: int, used: int) -> Chosen:
    """The whole numbers of a tensor of `used` columns, whose rows may lie apart (a view of sorted experts)."""
    rows = _rows_of(tensor)
    size_bytes = _bytes_of(tensor)  # from its first number to its last
    row_bytes = used * _ID_BYTES
    apart_bytes, rest = divmod(size_bytes - row_bytes, rows - 1) if rows > 1 else (row_bytes, 0)
    if rows < 1 or _elements_of(tensor) != rows * used or rest or apart_bytes % _ID_BYTES:
        raise ValueError(f"{rows} rows of chosen experts in {size_bytes} bytes")
    if rows == 1 and size_bytes != row_bytes:
        raise ValueError(f"{used} chosen experts in {size_bytes} bytes")
    content = np.zeros(rows * apart_bytes // _ID_BYTES, np.int32)
    _copy(tensor, content.ctypes.data, 0, size_bytes)
    return content.reshape(rows, -1)[:, :used]


_name_of = ggml_function("ggml_get_name", ctypes.c_char_p, ctypes.c_void_p)
_rows_of = ggml_function("ggml_nrows", ctypes.c_int64, ctypes.c_void_p)
_elements_of = ggml_function("ggml_nelements", ctypes.c_int64, ctypes.c_void_p)
_bytes_of = ggml_function("ggml_nbytes", ctypes.c_size_t, ctypes.c_void_p)
_copy = ggml_function(
    "ggml_backend_tensor_get", None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t
)
