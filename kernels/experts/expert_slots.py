"""Room for routed experts on a device: their FP4 numbers in planes that a GPU reads in whole words.

Owns: the layout (codes in one tensor, scales in another, one slot for each expert) and the way into it from the
bytes of a file. Moves bits and rounds nothing: E2M1 codes and E8M0 scales are those of the file, in the order of
the checkpoint (low nibble = even index). In a file of GGUF each scale lies before its 16 bytes of codes, so that
no block but one in sixteen begins where a word does. Knows no policy and no kernel.
"""

from collections.abc import Callable
from functools import cache

import torch

from kernels.device_layout import laid_out
from kernels.dispatch import fast_paths_are_wanted
from kernels.matrices import BLOCK, ExpertMatrices, Matrix

_BLOCK_BYTES = 17


class ExpertSlots:
    """`count` slots of experts w1, w3 [intermediate, hidden] and w2 [hidden, intermediate] on one device.

    codes1 uint8 [count, 2, intermediate, hidden / 2] and scale1 [count, 2, intermediate, hidden / 32]: w1, then w3;
    codes2 [count, hidden, intermediate / 2] and scale2 [count, hidden, intermediate / 32]: w2.
    """

    def __init__(self, count: int, hidden: int, intermediate: int, device: torch.device | str) -> None:
        if hidden % BLOCK or intermediate % BLOCK:
            raise ValueError(f"experts of {hidden} x {intermediate} do not divide into blocks of {BLOCK}")

        def room(*shape: int) -> torch.Tensor:
            return torch.zeros(shape, dtype=torch.uint8, device=device)

        self.count, self.hidden, self.intermediate = count, hidden, intermediate
        self.codes1 = room(count, 2, intermediate, hidden // 2)
        self.scale1 = room(count, 2, intermediate, hidden // BLOCK)
        self.codes2 = room(count, hidden, intermediate // 2)
        self.scale2 = room(count, hidden, intermediate // BLOCK)

    @staticmethod
    def slot_bytes(hidden: int, intermediate: int) -> int:
        """What one slot takes: 17 bytes for 32 numbers."""
        return 3 * hidden * intermediate // BLOCK * _BLOCK_BYTES

    @property
    def device(self) -> torch.device:
        """Where they lie."""
        return self.codes1.device

    @property
    def size_bytes(self) -> int:
        """What all slots take."""
        return self.count * self.slot_bytes(self.hidden, self.intermediate)

    def write(self, slot: int, expert: ExpertMatrices) -> None:
        """Put an expert's bytes into a slot. From pinned memory the copy is queued, and nothing waits for it.

        ValueError where it is not FP4 or of another shape.
        """
        shape = (self.intermediate, self.hidden)
        for m, wanted in ((expert.gate, shape), (expert.up, shape), (expert.down, shape[::-1])):
            if (m.rows, m.columns) != wanted:
                raise ValueError(
                    f"an expert's matrix is {m.rows} x {m.columns}; a slot has room for {wanted}"
                )
        for m, (codes, scale) in zip((expert.gate, expert.up, expert.down), self._room(slot), strict=True):
            if m.kind == "mxfp4" and codes.is_cuda and (unpack := _unpack()) is not None:
                unpack(m.data.to(self.device, non_blocking=True), codes, scale)
                continue
            apart = laid_out(m, self.device)
            if apart.scale is None or apart.kind != "fp4":
                raise ValueError(f"an expert stored as {m.kind} has no FP4 codes")
            codes.copy_(apart.data)
            scale.copy_(apart.scale)

    def _room(self, slot: int) -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
        return (
            (self.codes1[slot, 0], self.scale1[slot, 0]),
            (self.codes1[slot, 1], self.scale1[slot, 1]),
            (self.codes2[slot], self.scale2[slot]),
        )

    def matrices(self, expert: int) -> ExpertMatrices:
        """A slot's expert as matrices of kind "fp4": views."""
        shapes = ((self.intermediate, self.hidden),) * 2 + ((self.hidden, self.intermediate),)
        rooms = zip(shapes, self._room(expert), strict=True)
        return ExpertMatrices(*(Matrix("fp4", *shape, codes, scale) for shape, (codes, scale) in rooms))


@cache
def _unpack() -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None] | None:
    """The GPU's own way into a slot; None where triton is not installed, or only the reference is wanted."""
    if not fast_paths_are_wanted():
        return None
    try:
        from kernels.experts.triton_slots import unpack
    except ImportError:
        return None
    return unpack
