"""What the network must know of a model beside its weights.

Owns: `NetworkConfig`, under the names of the checkpoint's config.json where it has one for it, so that it can be
read beside the paper. Made from a file's header elsewhere (`gguf_config`, `checkpoint_config`); knows no file.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Yarn:
    """How far the positions of layers that compress are stretched; no factor on attention."""

    factor: float
    original_max_position_embeddings: int
    beta_fast: float
    beta_slow: float


@dataclass(frozen=True)
class NetworkConfig:
    """Every number that the forward pass depends on. Lists have an entry for each layer of the model."""

    hidden_size: int
    num_hidden_layers: int
    """Without the draft block."""
    num_attention_heads: int
    head_dim: int
    qk_rope_head_dim: int
    q_lora_rank: int
    o_groups: int
    o_lora_rank: int
    n_routed_experts: int
    num_experts_per_tok: int
    moe_intermediate_size: int
    """Of one routed expert; the shared one is `n_shared_experts` times as wide."""
    n_shared_experts: int
    routed_scaling_factor: float
    num_hash_layers: int
    expert_clamp: tuple[float, ...]
    """SwiGLU's limit for routed experts of each layer, the draft block's last where there is one; 0: none."""
    shared_clamp: tuple[float, ...]
    """The same for the shared expert. The preview's own code has none there; both files and transformers clamp."""
    index_n_heads: int
    index_head_dim: int
    index_topk: int
    sliding_window: int
    compress_ratios: tuple[int, ...]
    """0: the window alone; 4: compressed, with an indexer; 128: compressed."""
    rope_theta: float
    compress_rope_theta: float
    yarn: Yarn | None
    """None: positions are not stretched."""
    max_position_embeddings: int
    hc_mult: int
    hc_sinkhorn_iters: int
    hc_eps: float
    rms_norm_eps: float
    vocab_size: int
    draft_blocks: int = 0
    """1: an MTP block lies in the same file (or checkpoint)."""
    dspark_tensors: int = 0
    """Tensors of a DSpark drafter that lie there too; they are left alone."""
