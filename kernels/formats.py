"""The number formats of DeepSeek-V4's checkpoints and of the GGUF made from them: the one door to all of them.

Arrays in, arrays out; numpy only. What a format cannot hold, and a NaN scale, is a `FormatError` that names
the operand and the place. The layouts stand in the modules behind this one:

| format | layout | module |
|---|---|---|
| E2M1, E8M0, E4M3 (fn), BF16 | one number | `float_codes` |
| FP4 of the checkpoint, MXFP4 of GGUF | 32 along a row share a scale | `fp4_blocks` |
| FP8 | 128 x 128 share a scale | `fp8_blocks` |
| Q8_0 | 32 along a row share a scale | `q8_0` |
"""

from kernels.float_codes import (
    E2M1_VALUES,
    E4M3_MAX,
    E8M0_BIAS,
    E8M0_NAN,
    decode_bf16,
    decode_e2m1,
    decode_e4m3,
    decode_e8m0,
    encode_bf16,
    encode_e4m3,
    encode_e8m0,
    pack_nibbles,
    unpack_nibbles,
)
from kernels.fp4_blocks import (
    FP4_BLOCK,
    MXFP4_BLOCK_BYTES,
    decode_fp4,
    decode_mxfp4,
    fp4_to_mxfp4,
    mxfp4_to_fp4,
)
from kernels.fp8_blocks import (
    FP8_TILE,
    MAX_EXACT_SPREAD_BITS,
    Bf16Result,
    Fp8Result,
    decode_fp8_blocks,
    decoded_bands,
    fp4_to_fp8,
    fp8_to_bf16,
)
from kernels.operands import FormatError
from kernels.q8_0 import (
    Q8_0_BLOCK,
    Q8_0_BLOCK_BYTES,
    Q8Error,
    Q8Result,
    decode_q8_0,
    encode_q8_0,
    fp8_to_q8_0,
    q8_0_error,
)

__all__ = [
    "E2M1_VALUES", "E4M3_MAX", "E8M0_BIAS", "E8M0_NAN", "FP4_BLOCK", "FP8_TILE", "MAX_EXACT_SPREAD_BITS",
    "MXFP4_BLOCK_BYTES", "Q8_0_BLOCK", "Q8_0_BLOCK_BYTES", "Bf16Result", "FormatError", "Fp8Result",
    "Q8Error", "Q8Result", "decode_bf16", "decode_e2m1", "decode_e4m3", "decode_e8m0", "decode_fp4",
    "decode_fp8_blocks", "decode_mxfp4", "decode_q8_0", "decoded_bands", "encode_bf16", "encode_e4m3",
    "encode_e8m0", "encode_q8_0", "fp4_to_fp8", "fp4_to_mxfp4", "fp8_to_bf16", "fp8_to_q8_0", "mxfp4_to_fp4",
    "pack_nibbles", "q8_0_error", "unpack_nibbles",
]  # fmt: skip
