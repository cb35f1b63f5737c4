"""From GGUF's MXFP4 blocks into the planes of a slot, on an NVIDIA GPU, in one kernel for a matrix.

The same bits as `kernels.device_layout` moves in ten operations; experts that are uploaded for a pass go this way.
"""

# Triton's language is no Python that a type checker knows, and no machine without a GPU has it.
# pyright: basic, reportMissingImports=false, reportIndexIssue=false

import torch
import triton
import triton.language as tl

_BLOCKS = 128


@triton.jit
def _unpack(source, codes, scale, count, some: tl.constexpr):
    block = (tl.program_id(0) * some + tl.arange(0, some)).to(tl.int64)
    inside = block < count
    tl.store(scale + block, tl.load(source + block * 17, mask=inside, other=0), mask=inside)
    # Byte j takes values 2j and 2j + 1: of low nibbles for the first 8 bytes, of high ones for the last.
    byte = tl.arange(0, 16)
    first = 1 + (2 * byte) % 16
    shift = tl.where(byte < 8, 0, 4).to(tl.uint8)[None, :]
    mask = inside[:, None] & (byte >= 0)[None, :]
    at = source + block[:, None] * 17 + first[None, :]
    low = (tl.load(at, mask=mask, other=0) >> shift) & 15
    high = (tl.load(at + 1, mask=mask, other=0) >> shift) & 15
    tl.store(codes + block[:, None] * 16 + byte[None, :], low | (high << 4), mask=mask)


def unpack(blocks: torch.Tensor, codes: torch.Tensor, scale: torch.Tensor) -> None:
    """uint8 MXFP4 blocks [rows, columns / 32 * 17] → codes [rows, columns / 2] and scale [rows, columns / 32]."""
    count = scale.numel()
    if count:
        _unpack[(triton.cdiv(count, _BLOCKS),)](blocks.contiguous(), codes, scale, count, some=_BLOCKS)
