"""How fast one of llama.cpp's devices moves and multiplies numbers, run as a program of its own.

Owns: the measurements, made through ggml's interface of devices (ggml-backend.h), so that a GPU of any maker and the
processor are measured alike and by the code that computes models; and the line of JSON that tells them. Does not
start that program (`placement.device_measurement`), keep its answer, or know models. Importing this module loads
llama.cpp.

Sizes are bounded by what is free on the device and told by who asks, times by `ROUND_S` for each figure. A driver
that crashes ends this process, and only this.
"""

import ctypes
import json
import mmap
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

from engine.backends.ggml_library import ggml_function
from engine.backends.llama_library import llama

ANSWER = "rates of a device: "
"""Before the JSON: drivers print lines of their own."""
ROUND_S = 0.5
_ROUNDS = 12
_ENOUGH_S = 0.02
"""A run that takes so long needs no larger matrices to be told from what surrounds it."""
_PIECE_BYTES = 256 << 20
_MATRIX_BYTES = 512 << 20
"""Well above the last cache of every GPU (72 MB in an RTX 4090, 96 in an MI300's part)."""
_WIDTH = 4096
"""Of the matrices: a row of Flash's layers."""
_ROWS = (1024, 4096, 16_384, 65_536)
_MANY = (32, 128, 512, 2048)
_NODES = 4
_CHAIN = 256
_SMALL_BYTES = 4 * _WIDTH
"""A token between two layers."""
_FILLED = 0x3C
"""As F32, F16 and in blocks of Q8_0 and MXFP4 it makes ordinary numbers, neither zeros nor NaNs."""
_GPU_KINDS = (1, 2)  # GGML_BACKEND_DEVICE_TYPE_GPU, _IGPU
_F32, _Q8_0, _MXFP4 = 0, 8, 39  # ggml_type

_pointer, _size = ctypes.c_void_p, ctypes.c_size_t


class _ContextParameters(ctypes.Structure):
    """ggml_init_params."""

    _fields_ = [
        ("mem_size", ctypes.c_size_t),
        ("mem_buffer", ctypes.c_void_p),
        ("no_alloc", ctypes.c_bool),
    ]


class DeviceTrouble(Exception):  # noqa: N818 - told as a clause, not raised at a person
    """A device does not do what it was asked; the text is a clause that says why."""


_device_count = ggml_function("ggml_backend_dev_count", _size)
_device = ggml_function("ggml_backend_dev_get", _pointer, _size)
_kind = ggml_function("ggml_backend_dev_type", ctypes.c_int, _pointer)
_description = ggml_function("ggml_backend_dev_description", ctypes.c_char_p, _pointer)
_memory = ggml_function(
    "ggml_backend_dev_memory", None, _pointer, ctypes.POINTER(_size), ctypes.POINTER(_size)
)
_begin = ggml_function("ggml_backend_dev_init", _pointer, _pointer, ctypes.c_char_p)
_end = ggml_function("ggml_backend_free", None, _pointer)
_wait = ggml_function("ggml_backend_synchronize", None, _pointer)
_host_kind = ggml_function("ggml_backend_dev_host_buffer_type", _pointer, _pointer)
_host_buffer = ggml_function("ggml_backend_buft_alloc_buffer", _pointer, _pointer, _size)
_base_of = ggml_function("ggml_backend_buffer_get_base", _pointer, _pointer)
_fill = ggml_function("ggml_backend_buffer_clear", None, _pointer, ctypes.c_uint8)
_free_buffer = ggml_function("ggml_backend_buffer_free", None, _pointer)
_allocate = ggml_function("ggml_backend_alloc_ctx_tensors", _pointer, _pointer, _pointer)
_set = ggml_function("ggml_backend_tensor_set", None, _pointer, _pointer, _size, _size)
_set_soon = ggml_function("ggml_backend_tensor_set_async", None, _pointer, _pointer, _pointer, _size, _size)
_get_soon = ggml_function("ggml_backend_tensor_get_async", None, _pointer, _pointer, _pointer, _size, _size)
_supports = ggml_function("ggml_backend_supports_op", ctypes.c_bool, _pointer, _pointer)
_compute = ggml_function("ggml_backend_graph_compute", ctypes.c_int, _pointer, _pointer)
_registry_of = ggml_function("ggml_backend_dev_backend_reg", _pointer, _pointer)
_extension = ggml_function("ggml_backend_reg_get_proc_address", _pointer, _pointer, ctypes.c_char_p)
_context = ggml_function("ggml_init", _pointer, _ContextParameters)
_free_context = ggml_function("ggml_free", None, _pointer)
_tensor_overhead = ggml_function("ggml_tensor_overhead", _size)
_graph_overhead = ggml_function("ggml_graph_overhead_custom", _size, _size, ctypes.c_bool)
_new_graph = ggml_function("ggml_new_graph_custom", _pointer, _pointer, _size, ctypes.c_bool)
_expand = ggml_function("ggml_build_forward_expand", None, _pointer, _pointer)
_new_matrix = ggml_function(
    "ggml_new_tensor_2d", _pointer, _pointer, ctypes.c_int, ctypes.c_int64, ctypes.c_int64
)
_row_bytes = ggml_function("ggml_row_size", _size, ctypes.c_int, ctypes.c_int64)
_multiply = ggml_function("ggml_mul_mat", _pointer, _pointer, _pointer, _pointer)
_copy_into = ggml_function("ggml_cpy", _pointer, _pointer, _pointer, _pointer)
_negate = ggml_function("ggml_neg", _pointer, _pointer, _pointer)


class Device:
    """One device while it is measured. `limit_bytes` may be taken of its memory, and as much of this machine's."""

    def __init__(self, handle: int, *, threads: int, limit_bytes: int, round_s: float = ROUND_S) -> None:
        self._handle, self._round_s = handle, round_s
        free, total = _size(), _size()
        _memory(handle, free, total)
        # A device of which nothing is known beforehand (the processor, on some systems) says 0.
        self._limit_bytes = min(limit_bytes, free.value // 3) if free.value else limit_bytes
        found = _begin(handle, None)
        if not found:
            raise DeviceTrouble("its driver does not start")
        self._backend: int = found
        if threads:
            self._use_threads(threads)

    def close(self) -> None:
        """Let the device go."""
        _end(self._backend)

    def rates(self) -> dict[str, Any]:
        """Every figure: bytes and multiplications per second, seconds. None for what this device cannot do."""
        small = self._small()
        return {
            "copy_bytes_per_s": self._copy(),
            "pinned_bytes_per_s": self._from_host(pinned=True),
            "pageable_bytes_per_s": self._from_host(pinned=False),
            "back_bytes_per_s": self._to_host(),
            "operation_s": small,
            "exchange_s": self._exchange(),
            "q8_0": self._multiplying(_Q8_0),
            "mxfp4": self._multiplying(_MXFP4),
        }

    # --- moving ------------------------------------------------------------------------------------

    def _copy(self) -> float:
        """Bytes per second that are read and written when one part of the device's memory is copied to another."""
        size_bytes = self._piece(2)
        with self._work(1 + 2 * _NODES) as (context, graph):
            left, right = (_new_matrix(context, _F32, size_bytes // 4, 1) for _ in range(2))
            for number in range(_NODES):
                pair = (left, right) if number % 2 == 0 else (right, left)
                _expand(graph, _copy_into(context, *pair))
            with self._allocated(context):
                return 2 * _NODES * size_bytes / self._best_s(lambda: self._run(graph))

    def _from_host(self, *, pinned: bool) -> float | None:
        size_bytes = self._piece(1)
        with self._tensor(size_bytes) as tensor, self._host(size_bytes, pinned=pinned) as address:
            if address is None:
                return None

            def send() -> None:
                if pinned:
                    _set_soon(self._backend, tensor, address, 0, size_bytes)
                    _wait(self._backend)
                else:
                    _set(tensor, address, 0, size_bytes)

            return size_bytes / self._best_s(send)

    def _to_host(self) -> float:
        size_bytes = self._piece(1)
        with self._tensor(size_bytes) as tensor, self._host(size_bytes, pinned=True) as pinned:
            if pinned is not None:
                return size_bytes / self._best_s(lambda: self._fetch(tensor, pinned, size_bytes))
        with self._tensor(size_bytes) as tensor, self._host(size_bytes, pinned=False) as pageable:
            return size_bytes / self._best_s(lambda: self._fetch(tensor, pageable, size_bytes))

    def _fetch(self, tensor: int, address: int | None, size_bytes: int) -> None:
        _get_soon(self._backend, tensor, address, 0, size_bytes)
        _wait(self._backend)

    def _exchange(self) -> float:
        """Seconds for one token's row to come to the processor and go back, each waited for."""
        with self._tensor(_SMALL_BYTES) as tensor, self._host(_SMALL_BYTES, pinned=False) as address:

            def both() -> None:
                self._fetch(tensor, address, _SMALL_BYTES)
                _set_soon(self._backend, tensor, address, 0, _SMALL_BYTES)
                _wait(self._backend)

            return self._best_s(both)

    # --- computing ---------------------------------------------------------------------------------

    def _small(self) -> float:
        """Seconds for an operation on one token's row, which is the cost of asking for it."""
        with self._work(1 + _CHAIN) as (context, graph):
            last = _new_matrix(context, _F32, _WIDTH, 1)
            for _ in range(_CHAIN):
                last = _negate(context, last)
            _expand(graph, last)
            with self._allocated(context):
                return self._best_s(lambda: self._run(graph)) / _CHAIN

    def _multiplying(self, kind: int) -> dict[str, float] | None:
        """Bytes of weights per second with one token, and multiplications with addition per second with many."""
        row_bytes: int = _row_bytes(kind, _WIDTH)
        one = many = 0.0
        for rows in _ROWS:
            if rows * row_bytes > min(_MATRIX_BYTES, self._limit_bytes // 2):
                break
            taken_s = self._product_s(kind, rows, 1)
            if taken_s is None:
                return None
            one = _NODES * rows * row_bytes / taken_s
            if taken_s > _ENOUGH_S:
                break
        for tokens in _MANY:
            if (_NODES + 1) * 4 * _WIDTH * tokens > self._limit_bytes // 2:
                break
            taken_s = self._product_s(kind, _WIDTH, tokens)
            if taken_s is None:
                return None
            many = _NODES * _WIDTH * _WIDTH * tokens / taken_s
            if taken_s > _ENOUGH_S:
                break
        return {"one_bytes_per_s": one, "many_per_s": many} if one and many else None

    def _product_s(self, kind: int, rows: int, tokens: int) -> float | None:
        """Seconds for a few products of the same matrix; None where the device has no such operation."""
        with self._work(2 + _NODES) as (context, graph):
            weights = _new_matrix(context, kind, _WIDTH, rows)
            put = _new_matrix(context, _F32, _WIDTH, tokens)
            for _ in range(_NODES):
                product = _multiply(context, weights, put)
                if not _supports(self._backend, product):
                    return None
                _expand(graph, product)
            with self._allocated(context):
                return self._best_s(lambda: self._run(graph))

    def _run(self, graph: int) -> None:
        status = _compute(self._backend, graph)
        _wait(self._backend)
        if status:
            raise DeviceTrouble(f"it could not compute (status {status})")

    def _best_s(self, run: Callable[[], None]) -> float:
        """The quickest of some runs, at least one, after one that does not count: a driver makes its programs then."""
        run()
        taken: list[float] = []
        ends_s = time.perf_counter() + self._round_s
        while not taken or (len(taken) < _ROUNDS and time.perf_counter() < ends_s):
            started_s = time.perf_counter()
            run()
            taken.append(time.perf_counter() - started_s)
        return max(1e-9, min(taken))

    # --- memory ------------------------------------------------------------------------------------

    def _piece(self, count: int) -> int:
        """The size of each of `count` pieces, in whole pages."""
        size_bytes = min(_PIECE_BYTES, self._limit_bytes // (2 * count)) // mmap.PAGESIZE * mmap.PAGESIZE
        if size_bytes < _SMALL_BYTES:
            raise DeviceTrouble(f"only {self._limit_bytes >> 20:,} MiB of memory can be had for it")
        return size_bytes

    @contextmanager
    def _work(self, tensors: int) -> Generator[tuple[int, int]]:
        """A context of ggml with room for so many tensors, and a graph in it."""
        nodes = 2 * tensors
        size_bytes = _tensor_overhead() * (nodes + 2) + _graph_overhead(nodes, False) + 1024
        context = _context(_ContextParameters(size_bytes, None, True))
        if not context:
            raise DeviceTrouble("there is no memory left on this machine")
        try:
            yield context, _new_graph(context, nodes, False)
        finally:
            _free_context(context)

    @contextmanager
    def _allocated(self, context: int) -> Generator[None]:
        buffer = _allocate(context, self._backend)
        if not buffer:
            raise DeviceTrouble("its memory is taken")
        try:
            _fill(buffer, _FILLED)
            yield
        finally:
            _free_buffer(buffer)

    @contextmanager
    def _tensor(self, size_bytes: int) -> Generator[int]:
        with self._work(1) as (context, _graph):
            tensor = _new_matrix(context, _F32, size_bytes // 4, 1)
            with self._allocated(context):
                yield tensor

    @contextmanager
    def _host(self, size_bytes: int, *, pinned: bool) -> Generator[int | None]:
        """Memory of this machine, written once; None where the device has no pinned one."""
        if not pinned:
            with mmap.mmap(-1, size_bytes) as pages:
                for start in range(0, size_bytes, mmap.PAGESIZE):
                    pages[start] = _FILLED
                view = (ctypes.c_char * size_bytes).from_buffer(pages)
                try:
                    yield ctypes.addressof(view)
                finally:
                    del view  # a mapping that is still looked at cannot be closed
            return
        kind = _host_kind(self._handle)
        buffer = _host_buffer(kind, size_bytes) if kind else None
        if not buffer:
            yield None
            return
        try:
            _fill(buffer, _FILLED)
            yield _base_of(buffer)
        finally:
            _free_buffer(buffer)

    def _use_threads(self, threads: int) -> None:
        registry = _registry_of(self._handle)
        address = _extension(registry, b"ggml_backend_set_n_threads") if registry else None
        if address:
            ctypes.CFUNCTYPE(None, _pointer, ctypes.c_int)(address)(self._backend, threads)


def handle_of(which: str) -> int:
    """`cpu`, or the number of a GPU among llama.cpp's GPUs. Raises DeviceTrouble."""
    handles = [_device(number) for number in range(_device_count())]
    if which == "cpu":
        found = [handle for handle in handles if _kind(handle) == 0]
        number = 0
    else:
        found = [handle for handle in handles if _kind(handle) in _GPU_KINDS]
        number = int(which)
    if not 0 <= number < len(found):
        raise DeviceTrouble("llama.cpp does not find it")
    return found[number]


def measured(which: str, *, threads: int, limit_bytes: int, round_s: float = ROUND_S) -> dict[str, Any]:
    """The rates of a device by its name (`handle_of`), or `why` there are none."""
    try:
        handle = handle_of(which)
        name: bytes = _description(handle)
        device = Device(handle, threads=threads, limit_bytes=limit_bytes, round_s=round_s)
        try:
            return {"name": name.decode("utf-8", "replace"), "rates": device.rates()}
        finally:
            device.close()
    except DeviceTrouble as trouble:
        return {"why": str(trouble)}


def main(arguments: Sequence[str]) -> int:
    """`cpu` or a GPU's number, threads (0: as it likes), and the bytes that may be taken; prints one line."""
    which, threads, limit_bytes = arguments
    llama.llama_backend_init()
    print(
        ANSWER + json.dumps(measured(which, threads=int(threads), limit_bytes=int(limit_bytes))), flush=True
    )
    return 0
