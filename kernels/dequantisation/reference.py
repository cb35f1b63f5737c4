"""What the bytes of a matrix mean, in torch: the numbers that `kernels.formats` has in numpy, bit for bit.

Sources: OCP Microscaling Formats 1.0 §5.3 (E2M1, E8M0); llama.cpp's ggml-common.h (block_q8_0, block_mxfp4);
DeepSeek-V4's inference/convert.py (order of FP4's nibbles, tiles of FP8). A NaN scale gives NaN.
"""

import numpy as np
import torch

from kernels.float_codes import E2M1_VALUES, decode_e8m0
from kernels.matrices import BLOCK, TILE, Matrix

_E2M1 = torch.tensor(E2M1_VALUES, dtype=torch.float32)
_E8M0 = torch.tensor(decode_e8m0(np.arange(256, dtype=np.uint8)))
_BYTE = torch.arange(256)
_LOW, _HIGH = _E2M1[_BYTE & 15], _E2M1[_BYTE >> 4]


def dequantised(m: Matrix, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """All of it, [rows, columns]."""
    return decoded_rows(m, slice(0, m.rows)).to(dtype)


def decoded_rows(m: Matrix, rows: slice | torch.Tensor) -> torch.Tensor:
    """Rows start … end-1, or those with the numbers int64 [T], in F32. A slice of plain F32 is a view, not a copy."""
    data = m.data[rows]
    if m.kind in ("f32", "bf16", "f16"):
        return data.float()
    if m.kind == "fp8" and m.scale is not None:
        number = torch.arange(m.rows, device=data.device)[rows]
        scale = powers(m.scale)[number // TILE].repeat_interleave(TILE, dim=1)[:, : m.columns]
        return data.view(torch.float8_e4m3fn).float().mul_(scale)
    if m.kind == "fp4" and m.scale is not None:
        values = torch.stack((looked_up(_LOW, data), looked_up(_HIGH, data)), dim=-1)
        return scaled(values, powers(m.scale[rows]))
    if m.kind == "mxfp4":
        block = data.view(len(data), m.columns // BLOCK, 1 + BLOCK // 2)
        codes = block[..., 1:]
        values = torch.cat((looked_up(_LOW, codes), looked_up(_HIGH, codes)), dim=-1)
        return scaled(values, powers(block[..., 0]))
    if m.kind == "q8" and m.scale is not None:
        return scaled(data.view(torch.int8).float(), m.scale[rows].view(torch.float16).float())
    block = data.view(len(data), m.columns // BLOCK, 2 + BLOCK)  # q8_0
    d = block[..., :2].clone(memory_format=torch.contiguous_format).view(torch.float16).squeeze(-1).float()
    return scaled(block[..., 2:].view(torch.int8).float(), d)


def scaled(values: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Numbers in blocks of 32 times the scale [rows, blocks] of each, in place: [rows, columns]."""
    blocks = values.view(*scale.shape, BLOCK).mul_(scale[..., None])
    return blocks.view(scale.shape[0], scale.shape[1] * BLOCK)


def powers(codes: torch.Tensor) -> torch.Tensor:
    """2^(code - 127) of E8M0 codes; NaN for 255."""
    return looked_up(_E8M0, codes)


def looked_up(table: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """`table[codes]` for bytes, with indices of four bytes, not eight."""
    return table.to(codes.device)[codes.int()]
