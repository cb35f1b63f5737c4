"""The network's configuration, from the shape of an official checkpoint.

Owns: the translation. The keys of config.json and their limits are `convert.model_shape`'s. Does not know tensors.
"""

from convert.model_shape import ModelShape
from engine.model.config import NetworkConfig, Yarn
from engine.model.config_limits import check_config


def network_config(
    shape: ModelShape, *, name: str = "This checkpoint", dspark_tensors: int = 0
) -> NetworkConfig:
    """The configuration of a checkpoint of that shape; `dspark_tensors` of a DSpark drafter lie in it.

    An MTP block is the network's, the stages of DSpark are not. Raises ModelError for a shape that the network
    cannot run.
    """
    layers = shape.num_hidden_layers
    drafts = 0 if shape.dspark else shape.num_nextn_predict_layers
    clamp = (shape.swiglu_limit,) * (layers + drafts)
    yarn = shape.rope_scaling
    config = NetworkConfig(
        hidden_size=shape.hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=shape.num_attention_heads,
        head_dim=shape.head_dim,
        qk_rope_head_dim=shape.qk_rope_head_dim,
        q_lora_rank=shape.q_lora_rank,
        o_groups=shape.o_groups,
        o_lora_rank=shape.o_lora_rank,
        n_routed_experts=shape.n_routed_experts,
        num_experts_per_tok=shape.num_experts_per_tok,
        moe_intermediate_size=shape.moe_intermediate_size,
        n_shared_experts=shape.n_shared_experts,
        routed_scaling_factor=shape.routed_scaling_factor,
        num_hash_layers=shape.num_hash_layers,
        expert_clamp=clamp,
        shared_clamp=clamp,
        index_n_heads=shape.index_n_heads,
        index_head_dim=shape.index_head_dim,
        index_topk=shape.index_topk,
        sliding_window=shape.sliding_window,
        compress_ratios=shape.layer_ratios,
        rope_theta=shape.rope_theta,
        compress_rope_theta=shape.compress_rope_theta,
        yarn=Yarn(yarn.factor, yarn.original_max_position_embeddings, yarn.beta_fast, yarn.beta_slow),
        max_position_embeddings=shape.max_position_embeddings,
        hc_mult=shape.hc_mult,
        hc_sinkhorn_iters=shape.hc_sinkhorn_iters,
        hc_eps=shape.hc_eps,
        rms_norm_eps=shape.rms_norm_eps,
        vocab_size=shape.vocab_size,
        draft_blocks=drafts,
        dspark_tensors=dspark_tensors,
    )
    check_config(config, f"{name} cannot be used as a DeepSeek-V4")
    return config
