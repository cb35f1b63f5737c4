"""Cached rows in few bytes: FP8 with BF16 for the rotary dimensions, and FP4 for the indexer.

Source: DeepSeek-V4 report §2.3.4 (keys and values: BF16 where they are rotary, FP8 elsewhere) and §5.2.1 (the
indexer's in FP4); blocks of 64 and 32 and scales rounded up to powers of two as in DeepSeek's inference kernels.
A row of d = 512 with r = 64 rotary dimensions takes 584 bytes, one of the indexer (d = 128) 68:

    row         d - r E4M3 codes | r BF16 | one E8M0 scale for each 64 codes, then zeros up to a multiple of 8
    index row   d / 2 bytes, two E2M1 codes each, the even one low | one E8M0 scale for each 32 numbers

The `fake_` functions give the numbers that a packed row holds, and pass gradients straight through.
"""

import torch

from kernels.dequantisation.reference import looked_up, powers
from kernels.float_codes import E2M1_VALUES, E4M3_MAX, E8M0_BIAS, E8M0_NAN

FP8_BLOCK, FP4_BLOCK = 64, 32
FP8_SMALLEST, FP4_SMALLEST = 1e-4, 6 * 2.0**-126
"""A block's largest number counts as at least so much."""
_E2M1 = torch.tensor(E2M1_VALUES, dtype=torch.float32)
_BYTE = torch.arange(256)
_PAIRS = torch.stack((_E2M1[_BYTE & 15], _E2M1[_BYTE >> 4]), dim=-1).view(torch.int64).flatten()
"""The two numbers of each byte side by side, as one word of 64 bits: a step reads all keys of a long context."""
_MIDDLES = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])
_EVEN_ABOVE = torch.tensor([False, True, False, True, False, True, False])
"""Of two neighbouring codes of E2M1, a number in the middle gets the even one."""


def row_bytes(d: int, r: int) -> int:
    """What a packed row of d numbers, r of them rotary, takes."""
    scales = -(-(d - r) // FP8_BLOCK)
    return (d - r) + 2 * r + scales + -scales % 8


def index_row_bytes(d: int) -> int:
    """What a packed row of the indexer takes. ValueError unless 32 divides d."""
    if d % FP4_BLOCK:
        raise ValueError(f"rows of {d} numbers cannot be packed as FP4, which groups {FP4_BLOCK}")
    return d // 2 + d // FP4_BLOCK


def fake_fp8(x: torch.Tensor) -> torch.Tensor:
    """x [..., d] rounded to E4M3 in blocks of 64 (the last may be shorter)."""
    return straight_through(x, decode_fp8(*encode_fp8(x)))


def fake_fp4(x: torch.Tensor) -> torch.Tensor:
    """x [..., d] rounded to E2M1 in blocks of 32."""
    return straight_through(x, decode_fp4(*encode_fp4(x)))


def pack_row(x: torch.Tensor, r: int) -> torch.Tensor:
    """[S, d] → uint8 [S, bytes]."""
    plain = x.shape[-1] - r
    codes, scale = encode_fp8(x[..., :plain])
    padding = scale.new_zeros(*scale.shape[:-1], -scale.shape[-1] % 8)
    rotary = x[..., plain:].to(torch.bfloat16).contiguous().view(torch.uint8)
    return torch.cat((codes, rotary, scale, padding), dim=-1)


def unpack_row(packed: torch.Tensor, d: int, r: int) -> torch.Tensor:
    """The inverse: F32 [S, d]."""
    plain, end = d - r, d + r
    rotary = packed[..., plain:end].clone(memory_format=torch.contiguous_format).view(torch.bfloat16).float()
    scale = packed[..., end : end - (-plain // FP8_BLOCK)]
    return torch.cat((decode_fp8(packed[..., :plain], scale), rotary), dim=-1)


def pack_index_row(x: torch.Tensor) -> torch.Tensor:
    """[S, d] → uint8 [S, d / 2 + d / 32]."""
    codes, scale = encode_fp4(x)
    return torch.cat((codes[..., 0::2] | codes[..., 1::2] << 4, scale), dim=-1)


def unpack_index_row(packed: torch.Tensor) -> torch.Tensor:
    """The inverse: F32 [S, d]."""
    d = packed.shape[-1] * FP4_BLOCK // (FP4_BLOCK // 2 + 1)
    pairs, scale = packed.split_with_sizes((d // 2, d // FP4_BLOCK), dim=-1)
    values = looked_up(_PAIRS, pairs).view(torch.float32)
    values.view(*scale.shape, FP4_BLOCK).mul_(powers(scale)[..., None])
    return values


def encode_fp8(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """[..., d] → codes uint8 [..., d], scales uint8 [..., ceil(d / 64)]."""
    blocks = in_blocks(x, FP8_BLOCK)
    scale = scale_codes(blocks, FP8_SMALLEST, E4M3_MAX)
    sized = (blocks / powers(scale)[..., None]).clamp(-E4M3_MAX, E4M3_MAX)
    codes = sized.to(torch.float8_e4m3fn).view(torch.uint8)
    return codes.flatten(-2)[..., : x.shape[-1]].contiguous(), scale


def decode_fp8(codes: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """The inverse, F32."""
    spread = powers(scale).repeat_interleave(FP8_BLOCK, dim=-1)[..., : codes.shape[-1]]
    return codes.contiguous().view(torch.float8_e4m3fn).float() * spread


def encode_fp4(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """[..., d] → codes uint8 [..., d], one in each byte; scales uint8 [..., d / 32]."""
    index_row_bytes(x.shape[-1])  # refuses what does not divide
    blocks = in_blocks(x, FP4_BLOCK)
    scale = scale_codes(blocks, FP4_SMALLEST, E2M1_VALUES[7])
    sized = blocks / powers(scale)[..., None]
    size = sized.abs()[..., None]
    middles, even_above = _MIDDLES.to(x.device), _EVEN_ABOVE.to(x.device)
    codes = ((size > middles) | (size == middles) & even_above).sum(dim=-1, dtype=torch.uint8)
    return (codes | sized.signbit().to(torch.uint8) << 3).flatten(-2), scale


def decode_fp4(codes: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """The inverse, F32."""
    return looked_up(_E2M1, codes) * powers(scale).repeat_interleave(FP4_BLOCK, dim=-1)


def in_blocks(x: torch.Tensor, block: int) -> torch.Tensor:
    """[..., d] → F32 [..., ceil(d / block), block], zeros behind."""
    padded = torch.nn.functional.pad(x.detach().float(), (0, -x.shape[-1] % block))
    return padded.view(*x.shape[:-1], -(-x.shape[-1] // block), block)


def scale_codes(blocks: torch.Tensor, smallest: float, largest_code: float) -> torch.Tensor:
    """E8M0 codes of the least powers of two under which nothing in a block is beyond the largest code.

    NaN, so that it is not lost, where there is NaN or an infinity.
    """
    needed = blocks.abs().amax(dim=-1).clamp(min=smallest) / largest_code
    mantissa, exponent = torch.frexp(needed)  # needed = mantissa * 2^exponent, 1/2 ≤ mantissa < 1
    codes = exponent - (mantissa == 0.5).int() + E8M0_BIAS
    return torch.where(needed.isfinite(), codes, E8M0_NAN).to(torch.uint8)


def straight_through(x: torch.Tensor, rounded: torch.Tensor) -> torch.Tensor:
    """`rounded` in x's type; its gradient is x's."""
    rounded = rounded.to(x.dtype)
    return rounded + (x - x.detach()) if x.requires_grad and torch.is_grad_enabled() else rounded
