"""What the routers of a model choose, seen while llama.cpp computes, and had in memory before it is computed with.

Owns: the evaluation callback of a context (`cb_eval` in llama.h): at each layer's chosen experts it reads their
numbers, has those that lie on the disk read (`expert_memory`; where that cannot be, `read_ahead` asks the system),
and hands them to whoever wants to note them. Does not know files, rules or what a trace is for. Importing this module
loads llama.cpp.

llama.cpp asks the callback of every operation of the graph whether its result is wanted, and stops after those that
are. The choice is known before the matrices are multiplied, so a layer's experts are read all at once, and computing
goes on when they are there; the last of a layer's matrices are read while it computes with the others. The callback
is called in the thread that computes: nothing may be raised into C.

What fails never makes a wrong number. Where the memory cannot be had, the file is mapped again and the model goes on as
without any of this. Where the disk does not give what it has, the answer ends: mapped, the same disk would end the
process. llama.cpp takes "stop" from a callback for success, so the owner asks `settle` after every `llama_decode`.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from convert.gguf_header import GgufError, read_gguf_header
from engine.backends.base import ExpertCounts
from engine.backends.direct_reader import ReadError
from engine.backends.expert_memory import ExpertMemory, Fetch
from engine.backends.ggml_tensor import (
    bytes_of,
    copy_numbers,
    data_of,
    elements_of,
    first_source,
    name_of,
    rows_of,
)
from engine.backends.llama_library import llama
from engine.backends.read_ahead import ReadAhead, available
from engine.library.model_files import parts_of
from engine.placement.expert_ranges import ByteRange, ExpertRanges, ExpertTensor, expert_ranges

_logger = logging.getLogger(__name__)

Chosen = NDArray[np.int32]
"""[tokens, used]: the experts that each token of a batch goes to, in one layer."""
OnChoice = Callable[[int, Chosen], None]
"""The layer and what was chosen there."""
Way = Literal["direct", "mapped"]

_CHOICE = b"ffn_moe_topk-"
"""llama.cpp's name for a layer's chosen experts (build_moe_ffn in src/llama-graph.cpp), before its number."""
_PRODUCTS = tuple(f"ffn_moe_{part}-".encode() for part in ("up", "gate", "gate_up", "down"))
"""Its names for the products with them."""
_LAST_PRODUCT = _PRODUCTS[-1]
_ID_BYTES = 4


class ExpertWatch:
    """A callback for one context, whose owner keeps it as long as that context.

    ranges: where the model's experts lie. memory: where they are had; None leaves them to the system.
    read_ahead: asked for what a single token chose, where `memory` does not have it; None asks nothing.
    on_choice: told every choice, in the order of the layers, batch after batch.
    """

    def __init__(
        self,
        ranges: ExpertRanges,
        *,
        memory: ExpertMemory | None = None,
        read_ahead: ReadAhead | None = None,
        on_choice: OnChoice | None = None,
    ) -> None:
        self._ranges, self._memory, self._read_ahead, self._on_choice = ranges, memory, read_ahead, on_choice
        self._layer = -1
        self._failed = False
        self._trouble: str | None = None  # why the numbers of this batch are not to be used
        self._lost: str | None = None  # why none are any more
        self._fetch: Fetch | None = None
        self._waiting: Chosen | None = None  # chosen in a layer whose addresses are not known yet
        self._addresses: dict[ExpertTensor, int] = {}
        self._last_product: dict[int, bytes] = {}  # by layer, the last before the last tensor's
        self._product = b""
        self._strange: set[int] = set()  # layers that are not in the file's mapping: with a GPU, or copied
        self.callback: Any = llama.ggml_backend_sched_eval_callback(self._evaluate)
        """For `cb_eval` of the context's parameters; llama.cpp holds only its address."""

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        memory_bytes: int,
        experts_bytes: int = 0,
        on_choice: OnChoice | None = None,
    ) -> "ExpertWatch | None":
        """A watch for the model that begins at `path`, which may keep `memory_bytes` of it in memory.

        Where all of it fits there, nothing is read. experts_bytes: what may be held in memory for its experts
        alone; 0 leaves them to the system's page cache. None if there would be nothing to do: a model without
        experts, a system that does none of it, a file that cannot be read (llama.cpp says so better).
        """
        try:
            paths = parts_of(path)
            headers = list(map(read_gguf_header, paths))
            ranges = expert_ranges(*headers)
            if ranges is None:
                return None
            wanted = available() and sum(each.size_bytes for each in headers) > memory_bytes
            if not wanted and on_choice is None:
                return None
            reader = ReadAhead.open(*paths) if wanted else None
            try:
                memory = ExpertMemory.open(paths, ranges, experts_bytes) if wanted else None
            except OSError:
                if reader is not None:
                    reader.close()
                raise
            return cls(ranges, memory=memory, read_ahead=reader, on_choice=on_choice)
        except (GgufError, OSError):
            return None

    @property
    def reads_ahead(self) -> bool:
        """Whether the model is larger than the memory that it may have."""
        return self._read_ahead is not None or self._memory is not None

    @property
    def way(self) -> Way:
        """How experts come from the disk: read into memory of our own, or through the file's mapping."""
        return "mapped" if self._memory is None or self._failed else "direct"

    @property
    def failed(self) -> bool:
        """Whether it gave up; the log says why."""
        return self._failed

    @property
    def asked_bytes(self) -> int:
        """Asked of the system so far."""
        return self._read_ahead.asked_bytes if self._read_ahead is not None else 0

    @property
    def counts(self) -> ExpertCounts | None:
        """What single tokens' experts cost so far; None where the system has them. Any thread."""
        memory = self._memory
        return ExpertCounts(memory.wanted, memory.in_memory, memory.read_bytes) if memory else None

    @property
    def held_bytes(self) -> int:
        """What of the experts lies in memory of our own now. Any thread."""
        return self._memory.held_bytes if self._memory is not None else 0

    def relieve(self, wanted_bytes: int) -> int:
        """Hold so many bytes less; returns how many will be given back. Any thread."""
        return self._memory.relieve(wanted_bytes) if self._memory is not None else 0

    def allow(self, wanted_bytes: int) -> int:
        """Hold so many bytes more, at most what was allowed at first; returns how many more. Any thread."""
        return self._memory.allow(wanted_bytes) if self._memory is not None else 0

    def settle(self) -> str | None:
        """Call it when a batch was computed. Why its numbers are not to be used; None where they are right."""
        self._end_fetch()  # a batch that was broken off may not have waited for it
        trouble, self._trouble = self._trouble, self._lost
        self._waiting = None
        if self._memory is not None and not self._failed:
            self._memory.rest()
        return trouble

    def close(self) -> None:
        """End its reading; no batch may be computed any more, but the model must still be there. May be called
        again."""
        if self._memory is not None:
            self._memory.close()
        if self._read_ahead is not None:
            self._read_ahead.close()

    def _evaluate(self, tensor: int, ask: bool, _data: object) -> bool:
        """`ask`: whether the tensor's numbers are wanted; else they are there, and True goes on computing."""
        if self._trouble is not None:
            return ask  # stop at the next operation: what is computed until then is not used
        try:
            name: bytes = name_of(tensor)
            if ask:
                return not self._failed and self._asked(tensor, name)
            if name.startswith(_CHOICE):
                self._see(tensor)
            elif self._fetch is not None:
                self._fetch.wait()
        except ReadError as error:
            self._trouble = str(error)
            return ask
        except BaseException as error:  # noqa: BLE001 - it cannot travel through C
            self._give_up(str(error) or type(error).__name__)
            return ask if self._trouble is not None else not ask
        return True

    def _asked(self, tensor: int, name: bytes) -> bool:
        """Whether to stop after an operation, which nothing was computed of yet."""
        if name.startswith(_CHOICE):
            # In a batch of which a GPU computes the experts, products are with copies: the next one may be another.
            self._waiting = None
            self._layer = int(name[len(_CHOICE) :])
            self._addresses, self._product = {}, b""
            return self._layer in self._ranges.layers
        if not name.startswith(_PRODUCTS):
            return False
        if self._waiting is not None:
            self._learn(tensor, name)
        fetch = self._fetch
        if fetch is None or fetch.ready:
            return False
        # The last tensor's matrices are still being read, and are needed only after this.
        if name == self._last_product.get(self._layer):
            return True
        if name.startswith(_LAST_PRODUCT):
            fetch.wait()
        return False

    def _see(self, tensor: int) -> None:
        layer = self._ranges.layers[self._layer]
        chosen = _numbers(tensor, self._ranges.used)
        if chosen.min() < 0 or chosen.max() >= layer.experts:
            raise ValueError(f"layer {self._layer} chose an expert that is not there")
        self._end_fetch()  # there since the last product of the layer before
        self._waiting = None
        memory = self._memory
        if memory is not None and memory.placed(self._layer):
            self._fetch = memory.fetch(self._layer, chosen)
            self._fetch.wait_first()
        elif memory is not None and self._layer not in self._strange:
            self._waiting = chosen
        if (memory is None or self._layer in self._strange or memory.lent(self._layer)) and len(chosen) == 1:
            # Of a batch, whose tokens choose nearly all experts of a layer, nothing is gained by asking.
            self._ask_system(layer.ranges(chosen[0].tolist()))
        if self._on_choice is not None:
            self._on_choice(self._layer, chosen)

    def _ask_system(self, ranges: list[ByteRange]) -> None:
        if self._read_ahead is not None:
            self._read_ahead.ask(ranges)

    def _learn(self, product: int, name: bytes) -> None:
        """Note where a tensor of experts lies, before the first product with one is computed; with the last of a
        layer known, have them read."""
        memory, chosen = self._memory, self._waiting
        source = first_source(product)
        if memory is None or chosen is None or source is None:
            return
        layer = self._ranges.layers[self._layer]
        own: bytes = name_of(source)
        address: int | None = data_of(source)
        part = name.removeprefix(b"ffn_moe_").partition(b"-")[0]
        if own != b"blk.%d.ffn_%s_exps.weight" % (self._layer, part) or not address:
            return
        tensor = next((each for each in layer.tensors if each.part == part.decode()), None)
        if tensor is None or bytes_of(source) != tensor.expert_bytes * layer.experts:
            return
        self._addresses[tensor] = address
        if part != b"down":
            self._product = name
        if len(self._addresses) < len(layer.tensors):
            return
        self._waiting = None
        if not memory.place(self._layer, self._addresses):
            if not self._strange:
                _logger.info(
                    "Experts of layer %d, and others perhaps, do not lie in the mapped file", self._layer
                )
            self._strange.add(self._layer)
            return
        self._last_product[self._layer] = self._product
        self._fetch = memory.fetch(self._layer, chosen)
        self._fetch.wait()

    def _give_up(self, why: str) -> None:
        self._failed = True
        _logger.warning("The chosen experts are not looked at any more: %s", why)
        try:
            self._end_fetch()
            if self._memory is not None:
                self._memory.surrender()
        except BaseException as error:  # noqa: BLE001 - it cannot travel through C
            self._trouble = self._lost = str(error) or type(error).__name__

    def _end_fetch(self) -> None:
        """Nothing is being read any more; what failed is read again when it is wanted again."""
        fetch, self._fetch = self._fetch, None
        if fetch is not None:
            with suppress(ReadError):
                fetch.wait()


def _numbers(tensor: int, used: int) -> Chosen:
    """The whole numbers of a tensor of `used` columns, whose rows may lie apart (a view of sorted experts)."""
    rows = rows_of(tensor)
    size_bytes = bytes_of(tensor)  # from its first number to its last
    row_bytes = used * _ID_BYTES
    apart_bytes, rest = divmod(size_bytes - row_bytes, rows - 1) if rows > 1 else (row_bytes, 0)
    if rows < 1 or elements_of(tensor) != rows * used or rest or apart_bytes % _ID_BYTES:
        raise ValueError(f"{rows} rows of chosen experts in {size_bytes} bytes")
    if rows == 1 and size_bytes != row_bytes:
        raise ValueError(f"{used} chosen experts in {size_bytes} bytes")
    content = np.zeros(rows * apart_bytes // _ID_BYTES, np.int32)
    copy_numbers(tensor, content.ctypes.data, 0, size_bytes)
    return content.reshape(rows, -1)[:, :used]
