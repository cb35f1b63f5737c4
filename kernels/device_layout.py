"""Matrices as a GPU reads them best: codes in one tensor, scales in another.

Owns: the way from GGUF's blocks, in which a scale lies before the codes that it belongs to and few blocks begin
where a word does, to two planes. Moves bits and rounds nothing; torch on any device. Knows no kernel.
"""

import torch

from kernels.matrices import BLOCK, Matrix


def laid_out(m: Matrix, device: torch.device | str) -> Matrix:
    """The same numbers on `device`, in planes: "mxfp4" becomes "fp4" and "q8_0" "q8"; other kinds stay what they are.

    From pinned memory the copy is queued, and nothing waits for it.
    """
    device = torch.device(device)
    data = m.data.to(device, non_blocking=True)
    if m.kind == "mxfp4":
        return _fp4(m, data)
    if m.kind == "q8_0":
        blocks = data.reshape(m.rows, m.columns // BLOCK, BLOCK + 2)
        codes = blocks[..., 2:].reshape(m.rows, m.columns)
        return Matrix("q8", m.rows, m.columns, codes, blocks[..., :2].reshape(m.rows, -1))
    scale = None if m.scale is None else m.scale.to(device, non_blocking=True)
    return Matrix(m.kind, m.rows, m.columns, data, scale)


def _fp4(m: Matrix, data: torch.Tensor) -> Matrix:
    blocks = data.reshape(m.rows, m.columns // BLOCK, BLOCK // 2 + 1)
    packed = blocks[..., 1:]
    low, high = packed & 15, packed >> 4
    # A block's 16 bytes hold value j low and j + 16 high; wanted are 2j low and 2j + 1 high.
    first = low[..., 0::2] | low[..., 1::2] << 4
    last = high[..., 0::2] | high[..., 1::2] << 4
    codes = torch.cat((first, last), dim=-1).reshape(m.rows, m.columns // 2)
    return Matrix("fp4", m.rows, m.columns, codes, blocks[..., 0].contiguous())
