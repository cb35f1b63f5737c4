"""What a model's weights mean, decoded with numpy alone, and compared with what a checkpoint means.

    for name, numbers in decoded(model.weights): ...

Names are those of the checkpoint, and the numbers come through `kernels.formats`, whose decoders have proofs of their
own; what is compared with is read by `tests.convert.seeded_checkpoint`, which knows neither.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.model.weights import BlockWeights, CompressorWeights, HyperConnectionWeights, NetworkWeights
from kernels.formats import decode_fp4, decode_fp8_blocks, decode_mxfp4, decode_q8_0
from kernels.matrices import ExpertMatrices, Matrix

Array = NDArray[Any]


def matrix_numbers(matrix: Matrix) -> Array:
    """float32 [rows, columns]."""
    if matrix.kind in ("f32", "bf16", "f16"):
        return matrix.data.float().numpy()
    data = np.ascontiguousarray(matrix.data.numpy())
    if matrix.scale is not None:
        decode = decode_fp4 if matrix.kind == "fp4" else decode_fp8_blocks
        return decode(data, matrix.scale.numpy())
    return decode_mxfp4(data) if matrix.kind == "mxfp4" else decode_q8_0(data)


def decoded(weights: NetworkWeights) -> Iterator[tuple[str, Array]]:
    """Every tensor, under the name of the checkpoint."""
    yield "embed.weight", matrix_numbers(weights.embed)
    for layer, block in enumerate(weights.blocks):
        yield from _block(f"layers.{layer}.", block)
    yield from _mixing("hc_head", weights.hc_head)
    yield "norm.weight", weights.norm.numpy()
    yield "head.weight", matrix_numbers(weights.head)
    if (draft := weights.draft) is not None:
        yield "mtp.0.e_proj.weight", matrix_numbers(draft.e_proj)
        yield "mtp.0.h_proj.weight", matrix_numbers(draft.h_proj)
        yield "mtp.0.enorm.weight", draft.enorm.numpy()
        yield "mtp.0.hnorm.weight", draft.hnorm.numpy()
        yield "mtp.0.norm.weight", draft.norm.numpy()
        yield from _mixing("mtp.0.hc_head", draft.hc_head)
        yield from _block("mtp.0.", draft.block)


def _mixing(name: str, each: HyperConnectionWeights) -> Iterator[tuple[str, Array]]:
    for part in ("fn", "base", "scale"):
        yield f"{name}_{part}", getattr(each, part).numpy()


def _block(prefix: str, block: BlockWeights) -> Iterator[tuple[str, Array]]:
    yield f"{prefix}attn_norm.weight", block.attn_norm.numpy()
    yield f"{prefix}ffn_norm.weight", block.ffn_norm.numpy()
    yield from _mixing(f"{prefix}hc_attn", block.hc_attn)
    yield from _mixing(f"{prefix}hc_ffn", block.hc_ffn)
    attention = block.attention
    for part in ("wq_a", "wq_b", "wkv", "wo_a", "wo_b"):
        yield f"{prefix}attn.{part}.weight", matrix_numbers(getattr(attention, part))
    yield f"{prefix}attn.q_norm.weight", attention.q_norm.numpy()
    yield f"{prefix}attn.kv_norm.weight", attention.kv_norm.numpy()
    yield f"{prefix}attn.attn_sink", attention.sinks.numpy()
    if attention.compressor is not None:
        yield from _compressor(f"{prefix}attn.compressor.", attention.compressor)
    if attention.indexer is not None:
        yield f"{prefix}attn.indexer.wq_b.weight", matrix_numbers(attention.indexer.wq_b)
        yield f"{prefix}attn.indexer.weights_proj.weight", matrix_numbers(attention.indexer.weights_proj)
        yield from _compressor(f"{prefix}attn.indexer.compressor.", attention.indexer.compressor)
    moe = block.moe
    yield f"{prefix}ffn.gate.weight", matrix_numbers(moe.gate)
    if moe.bias is not None:
        yield f"{prefix}ffn.gate.bias", moe.bias.numpy()
    if moe.table is not None:
        yield f"{prefix}ffn.gate.tid2eid", moe.table.numpy()
    yield from _expert(f"{prefix}ffn.shared_experts.", moe.shared)
    for expert in range(len(moe.experts)):
        yield from _expert(f"{prefix}ffn.experts.{expert}.", moe.experts.matrices(expert))


def _compressor(prefix: str, each: CompressorWeights) -> Iterator[tuple[str, Array]]:
    yield f"{prefix}wkv.weight", matrix_numbers(each.wkv)
    yield f"{prefix}wgate.weight", matrix_numbers(each.wgate)
    yield f"{prefix}ape", each.ape.numpy()
    yield f"{prefix}norm.weight", each.norm.numpy()


def _expert(prefix: str, each: ExpertMatrices) -> Iterator[tuple[str, Array]]:
    yield f"{prefix}w1.weight", matrix_numbers(each.gate)
    yield f"{prefix}w2.weight", matrix_numbers(each.down)
    yield f"{prefix}w3.weight", matrix_numbers(each.up)
