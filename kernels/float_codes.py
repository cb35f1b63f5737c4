"""Numbers of one or two bytes: E2M1, E8M0, E4M3, BF16.

Owns: what each code of these formats means, and which code a number gets. Knows nothing of blocks, scales of
blocks, or packing beyond two nibbles in a byte.

Sources: OCP Microscaling Formats (MX) 1.0, section 5.3 (E2M1, E8M0, E4M3); Micikevicius et al., "FP8 Formats
for Deep Learning" (E4M3); DeepSeek-V4's inference/convert.py (order of nibbles).
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.operands import Bytes, Float32, last_axis, refuse, require_dtype

E2M1_VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)
"""The value of each E2M1 code: bit 3 sign, bits 2-1 exponent (bias 1), bit 0 mantissa."""

E8M0_BIAS = 127
E8M0_NAN = 255
E4M3_MAX = 448.0
"""The largest finite E4M3 number (code 0x7E)."""

_E2M1 = np.array(E2M1_VALUES, np.float32)
_E8M0 = np.array([2.0 ** (code - E8M0_BIAS) for code in range(E8M0_NAN)] + [np.nan], np.float32)


def _e4m3_values() -> Float32:
    code = np.arange(256)
    exponent, mantissa = code >> 3 & 15, code & 7
    size = np.where(exponent == 0, np.ldexp(mantissa / 8, -6), np.ldexp(1 + mantissa / 8, exponent - 7))
    size[(code & 0x7F) == 0x7F] = np.nan
    return np.copysign(size, np.where(code & 0x80, -1.0, 1.0)).astype(np.float32)


_E4M3 = _e4m3_values()
_SIGN = np.uint32(0x80000000)
_INFINITY = np.uint32(0x7F800000)


def decode_e2m1(codes: Bytes) -> Float32:
    """The values of E2M1 codes, one code (0 to 15) in each byte; same shape. Exact; -0 keeps its sign.

    FormatError for a byte above 15: that is two packed codes (see `unpack_nibbles`).
    """
    require_dtype("codes", codes, np.uint8)
    if codes.size and codes.max() > 15:
        refuse("codes", codes > 15, "it is above 15, so not one E2M1 code")
    return np.asarray(_E2M1[codes])


def unpack_nibbles(packed: Bytes) -> Bytes:
    """Two codes from each byte: [..., n/2] → [..., n]; low nibble = even index, high = odd, as in the checkpoint."""
    require_dtype("packed", packed, np.uint8)
    length = last_axis("packed", packed, 1)
    codes = np.empty((*packed.shape[:-1], 2 * length), np.uint8)
    np.bitwise_and(packed, 15, out=codes[..., 0::2])
    np.right_shift(packed, 4, out=codes[..., 1::2])
    return codes


def pack_nibbles(codes: Bytes) -> Bytes:
    """The inverse of `unpack_nibbles`: [..., n] → [..., n/2]. FormatError for odd n or a code above 15."""
    require_dtype("codes", codes, np.uint8)
    last_axis("codes", codes, 2)
    if codes.size and codes.max() > 15:
        refuse("codes", codes > 15, "it is above 15, so not one nibble")
    return codes[..., 0::2] | codes[..., 1::2] << np.uint8(4)


def decode_e8m0(codes: Bytes) -> Float32:
    """2^(code - 127) for each byte; same shape. Exact, code 0 (2^-127, subnormal in float32) included; 255 is NaN."""
    require_dtype("codes", codes, np.uint8)
    return np.asarray(_E8M0[codes])


def encode_e8m0(values: npt.NDArray[np.floating[Any]]) -> Bytes:
    """The E8M0 codes of exact powers of two from 2^-127 to 2^127; same shape.

    FormatError for any other number, NaN included: nothing is rounded here.
    """
    mantissa, exponent = np.frexp(values)
    code = exponent.astype(np.int64) - 1 + E8M0_BIAS
    held = (mantissa == 0.5) & (code >= 0) & (code < E8M0_NAN)
    refuse("values", np.asarray(~held), "it is not a power of two from 2^-127 to 2^127")
    return np.asarray(code.astype(np.uint8))


def decode_e4m3(codes: Bytes) -> Float32:
    """The values of E4M3 (fn) codes; same shape. Exact; there are no infinities, 0x7F and 0xFF are NaN."""
    require_dtype("codes", codes, np.uint8)
    return np.asarray(_E4M3[codes])


def encode_e4m3(values: Float32) -> Bytes:
    """The nearest E4M3 (fn) codes, ties to even; same shape.

    Beyond ±448, infinities included, the largest code of that sign, as DeepSeek's reference clamps before it
    casts; NaN becomes 0x7F or 0xFF.
    """
    require_dtype("values", values, np.float32)
    bits = values.view(np.uint32)
    size = np.minimum(
        np.where((bits & ~_SIGN) > _INFINITY, np.float32(0), np.abs(values)), np.float32(E4M3_MAX)
    )
    size_bits = size.view(np.uint32)
    # Normal: round the 20 bits below the mantissa to even, then move the exponent's bias from 127 to 7.
    normal = (size_bits + np.uint32(0x7FFFF) + (size_bits >> 20 & 1) >> 20) - np.uint32(120 << 3)
    # Below 2^-6: beside 2^14, float32 has a spacing of 2^-9, so the addition itself rounds, ties to even.
    subnormal = (size + np.float32(2**14)).view(np.uint32) - np.float32(2**14).view(np.uint32)
    code = np.where(size < np.float32(2**-6), subnormal, normal)
    code = np.where((bits & ~_SIGN) > _INFINITY, np.uint32(0x7F), code)
    return np.asarray((code | bits >> 24 & 0x80).astype(np.uint8))


def decode_bf16(codes: npt.NDArray[np.uint16]) -> Float32:
    """The values of BF16 codes (the upper half of a float32); same shape. Exact, NaN payloads included."""
    require_dtype("codes", codes, np.uint16)
    return np.asarray(codes.astype(np.uint32) << 16).view(np.float32)


def encode_bf16(values: Float32) -> npt.NDArray[np.uint16]:
    """The nearest BF16 codes, ties to even; same shape. What rounds beyond the range becomes an infinity.

    NaN stays NaN: its upper payload is kept and made quiet, as ggml's ggml_compute_fp32_to_bf16 does.
    """
    require_dtype("values", values, np.float32)
    bits = values.view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + (bits >> 16 & 1) >> 16
    code = np.where((bits & ~_SIGN) > _INFINITY, bits >> 16 | 0x40, rounded)
    return np.asarray(code.astype(np.uint16))


def e4m3_is_nan(codes: Bytes) -> npt.NDArray[np.bool_]:
    """Which E4M3 codes are NaN (0x7F, 0xFF)."""
    return np.asarray((codes & 0x7F) == 0x7F)
