"""The network's weights, put together from a model's tensors.

Owns: which tensors a network of a given configuration is made of, and the shape of each (DeepSeek-V4's report §2.2 to
§2.4; the names are those of its checkpoints). Does not know files: `TensorSource` finds what is asked for.
"""

import torch

from engine.model.config import NetworkConfig
from engine.model.tensor_source import TensorSource
from engine.model.weights import (
    AttentionWeights,
    BlockWeights,
    CompressorWeights,
    DraftWeights,
    HyperConnectionWeights,
    IndexerWeights,
    MoeWeights,
    NetworkWeights,
)
from kernels.matrices import ExpertMatrices

DRAFT = "mtp.0."


def network_weights(config: NetworkConfig, source: TensorSource) -> NetworkWeights:
    """Everything but a drafter and the checks. Raises ModelError as `source` does."""
    hidden, vocabulary = config.hidden_size, config.vocab_size
    return NetworkWeights(
        embed=source.matrix("embed.weight", vocabulary, hidden),
        blocks=tuple(
            _block(config, source, f"layers.{layer}.", ratio, hashed=layer < config.num_hash_layers)
            for layer, ratio in enumerate(config.compress_ratios)
        ),
        hc_head=_hc_head(config, source, ""),
        norm=source.numbers("norm.weight", (hidden,)),
        head=source.matrix("head.weight", vocabulary, hidden),
    )


def draft_weights(config: NetworkConfig, source: TensorSource) -> DraftWeights:
    """The MTP block's. Raises ModelError as `source` does."""
    hidden = config.hidden_size
    e_proj, h_proj = source.pair((f"{DRAFT}e_proj.weight", f"{DRAFT}h_proj.weight"), hidden, hidden)
    return DraftWeights(
        e_proj=e_proj,
        h_proj=h_proj,
        enorm=source.numbers(f"{DRAFT}enorm.weight", (hidden,)),
        hnorm=source.numbers(f"{DRAFT}hnorm.weight", (hidden,)),
        norm=source.numbers(f"{DRAFT}norm.weight", (hidden,)),
        hc_head=_hc_head(config, source, DRAFT),
        block=_block(config, source, DRAFT, 0, hashed=False),
    )


def _hc_head(config: NetworkConfig, source: TensorSource, prefix: str) -> HyperConnectionWeights:
    streams = config.hc_mult
    return HyperConnectionWeights(
        fn=source.numbers(f"{prefix}hc_head_fn", (streams, streams * config.hidden_size)),
        base=source.numbers(f"{prefix}hc_head_base", (streams,)),
        scale=source.numbers(f"{prefix}hc_head_scale", (1,)),
    )


def _hyper_connection(config: NetworkConfig, source: TensorSource, name: str) -> HyperConnectionWeights:
    mixes = (2 + config.hc_mult) * config.hc_mult
    return HyperConnectionWeights(
        fn=source.numbers(f"{name}_fn", (mixes, config.hc_mult * config.hidden_size)),
        base=source.numbers(f"{name}_base", (mixes,)),
        scale=source.numbers(f"{name}_scale", (3,)),
    )


def _block(
    config: NetworkConfig, source: TensorSource, prefix: str, ratio: int, *, hashed: bool
) -> BlockWeights:
    hidden = config.hidden_size
    return BlockWeights(
        attn_norm=source.numbers(f"{prefix}attn_norm.weight", (hidden,)),
        ffn_norm=source.numbers(f"{prefix}ffn_norm.weight", (hidden,)),
        hc_attn=_hyper_connection(config, source, f"{prefix}hc_attn"),
        hc_ffn=_hyper_connection(config, source, f"{prefix}hc_ffn"),
        attention=_attention(config, source, f"{prefix}attn.", ratio),
        moe=_moe(config, source, f"{prefix}ffn.", hashed=hashed),
    )


def _attention(config: NetworkConfig, source: TensorSource, prefix: str, ratio: int) -> AttentionWeights:
    hidden, rank = config.hidden_size, config.q_lora_rank
    width, groups = config.num_attention_heads * config.head_dim, config.o_groups
    indexer = None
    if ratio == 4:
        size = config.index_head_dim
        indexer = IndexerWeights(
            wq_b=source.matrix(f"{prefix}indexer.wq_b.weight", config.index_n_heads * size, rank),
            weights_proj=source.matrix(f"{prefix}indexer.weights_proj.weight", config.index_n_heads, hidden),
            compressor=_compressor(source, f"{prefix}indexer.compressor.", ratio, size, hidden),
        )
    return AttentionWeights(
        wq_a=source.matrix(f"{prefix}wq_a.weight", rank, hidden),
        q_norm=source.numbers(f"{prefix}q_norm.weight", (rank,)),
        wq_b=source.matrix(f"{prefix}wq_b.weight", width, rank),
        wkv=source.matrix(f"{prefix}wkv.weight", config.head_dim, hidden),
        kv_norm=source.numbers(f"{prefix}kv_norm.weight", (config.head_dim,)),
        wo_a=source.matrix(f"{prefix}wo_a.weight", groups * config.o_lora_rank, width // groups),
        wo_b=source.matrix(f"{prefix}wo_b.weight", hidden, groups * config.o_lora_rank),
        sinks=source.numbers(f"{prefix}attn_sink", (config.num_attention_heads,)),
        compressor=_compressor(source, f"{prefix}compressor.", ratio, config.head_dim, hidden)
        if ratio
        else None,
        indexer=indexer,
    )


def _compressor(source: TensorSource, prefix: str, ratio: int, size: int, hidden: int) -> CompressorWeights:
    # At ratio 4 groups overlap: a second set of channels pools the group before.
    channels = 2 * size if ratio == 4 else size
    return CompressorWeights(
        wkv=source.matrix(f"{prefix}wkv.weight", channels, hidden),
        wgate=source.matrix(f"{prefix}wgate.weight", channels, hidden),
        ape=source.numbers(f"{prefix}ape", (ratio, channels)),
        norm=source.numbers(f"{prefix}norm.weight", (size,)),
    )


def _moe(config: NetworkConfig, source: TensorSource, prefix: str, *, hashed: bool) -> MoeWeights:
    hidden, inner, count = config.hidden_size, config.moe_intermediate_size, config.n_routed_experts
    shared = inner * config.n_shared_experts
    bias: torch.Tensor | None = None
    table: torch.Tensor | None = None
    if hashed:
        table = source.table(f"{prefix}gate.tid2eid", config.vocab_size, config.num_experts_per_tok)
    else:
        bias = source.numbers(f"{prefix}gate.bias", (count,))
    return MoeWeights(
        gate=source.matrix(f"{prefix}gate.weight", count, hidden),
        bias=bias,
        table=table,
        shared=ExpertMatrices(
            gate=source.matrix(f"{prefix}shared_experts.w1.weight", shared, hidden),
            up=source.matrix(f"{prefix}shared_experts.w3.weight", shared, hidden),
            down=source.matrix(f"{prefix}shared_experts.w2.weight", hidden, shared),
        ),
        experts=source.experts(f"{prefix}experts.", count, hidden, inner),
    )
