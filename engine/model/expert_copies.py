"""Copies of experts: in memory of our own, and in slots of a device.

Owns: how a copy is made and what it takes. The bytes are the file's, whatever they mean. Does not know which experts
are copied, nor why.
"""

import mmap
from collections.abc import Callable
from typing import Any, Protocol, cast

import torch

from engine.model.expert_store import tensors_of
from engine.model.mapped_pages import spare, want
from kernels.matrices import ExpertMatrices, Matrix

_ALIGNMENT_BYTES = 64


class SlotMemory(Protocol):
    """Room for `count` experts of one size on a device, taken once. `kernels.experts.expert_slots` has one for FP4."""

    @property
    def count(self) -> int:
        """How many slots."""
        ...

    @property
    def size_bytes(self) -> int:
        """What all slots take."""
        ...

    @property
    def device(self) -> torch.device:
        """Where they lie."""
        ...

    def write(self, slot: int, expert: ExpertMatrices) -> None:
        """Put an expert into a slot, in the place of what is there. ValueError for one that does not fit."""
        ...

    def matrices(self, expert: int) -> ExpertMatrices:
        """The expert in a slot: views."""
        ...


class PlainSlots:
    """Slots that hold experts as they lie in the file, of any kind and shape, all alike."""

    def __init__(self, count: int, like: ExpertMatrices, device: torch.device | str = "cpu") -> None:
        self._experts = [
            ExpertMatrices(*(_room(m, device) for m in (like.gate, like.up, like.down))) for _ in range(count)
        ]
        self.count, self.device = count, torch.device(device)
        self.size_bytes = count * like.size_bytes

    def write(self, slot: int, expert: ExpertMatrices) -> None:
        """See `SlotMemory`."""
        room = self._experts[slot]
        pairs = [(room.gate, expert.gate), (room.up, expert.up), (room.down, expert.down)]
        if any(_form(to) != _form(m) for to, m in pairs):
            raise ValueError("the expert is of another form than the slots")
        for to, m in pairs:
            to.data.copy_(m.data)
            if to.scale is not None and m.scale is not None:
                to.scale.copy_(m.scale)

    def matrices(self, expert: int) -> ExpertMatrices:
        """See `SlotMemory`."""
        return self._experts[expert]


def copied(expert: ExpertMatrices, *, pinned: bool = False) -> ExpertMatrices:
    """A copy in memory that is the system's again with the last reference to it.

    pinned: in memory that a GPU reads from by itself. Raises OSError, MemoryError or RuntimeError (torch) where there
    is no room. The file's pages are begun to be read all at once, and are the first to go afterwards.
    """
    tensors = tensors_of(expert)
    for tensor in tensors:
        want(tensor.data_ptr(), tensor.nbytes)
    size_bytes = copy_bytes(expert)
    if pinned:
        room = torch.empty(size_bytes, dtype=torch.uint8, pin_memory=True)
    else:
        # Not from malloc, which would keep what is freed for later.
        room = torch.frombuffer(mmap.mmap(-1, size_bytes), dtype=torch.uint8)
    at = 0

    def copy(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal at
        place = room[at : at + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
        at += _up(tensor.nbytes, _ALIGNMENT_BYTES)
        place.copy_(tensor)
        return place

    copies = ExpertMatrices(
        *(
            Matrix(m.kind, m.rows, m.columns, copy(m.data), None if m.scale is None else copy(m.scale))
            for m in (expert.gate, expert.up, expert.down)
        )
    )
    for tensor in tensors:
        spare(tensor.data_ptr(), tensor.nbytes)
    return copies


def forget_pinned() -> None:
    """Give the system what torch holds of pinned memory and nobody uses: it keeps it for copies to come."""
    # Public since torch 2.12.
    empty: Callable[[], None] | None = getattr(torch.accelerator, "empty_host_cache", None)
    empty = empty or getattr(cast(Any, torch)._C, "_host_emptyCache", None)
    if empty is not None:
        empty()


def copy_bytes(expert: ExpertMatrices, *, pinned: bool = False) -> int:
    """What `copied` takes: whole pages; pinned, what torch takes for it, a power of two."""
    size_bytes = _up(
        sum(_up(tensor.nbytes, _ALIGNMENT_BYTES) for tensor in tensors_of(expert)), mmap.PAGESIZE
    )
    return 1 << (size_bytes - 1).bit_length() if pinned else size_bytes


def _room(m: Matrix, device: torch.device | str) -> Matrix:
    scale = None if m.scale is None else torch.zeros_like(m.scale, device=device)
    return Matrix(m.kind, m.rows, m.columns, torch.zeros_like(m.data, device=device), scale)


def _form(m: Matrix) -> tuple[object, ...]:
    return m.kind, m.rows, m.columns


def _up(size_bytes: int, unit: int) -> int:
    return -(-size_bytes // unit) * unit
