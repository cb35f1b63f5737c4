"""What a configuration must be for the network to run, wherever it was read.

Owns: the rules between its numbers. Each number's own limits belong to who reads it (`gguf_config`, and
`convert.model_shape` for a checkpoint). Does not know files.
"""

from engine.model.config import NetworkConfig
from engine.model.model_error import GET_AGAIN, NEWER, ModelError

RATIOS = (0, 4, 128)
MAX_EXPERTS = 43_690
"""Of all layers together. Pro with its drafter has 24,000; so what is kept for each of them stays small."""


def check_config(config: NetworkConfig, what: str) -> None:
    """Raise ModelError, beginning with `what`, where two numbers cannot both be true or a rule is broken."""
    layers, drafts = config.num_hidden_layers, config.draft_blocks
    if len(config.compress_ratios) != layers or set(config.compress_ratios) - set(RATIOS):
        raise ModelError(what, "its compress_ratios are not one of 0, 4 and 128 for each layer", GET_AGAIN)
    for key, clamps in (("expert", config.expert_clamp), ("shared", config.shared_clamp)):
        if len(clamps) != layers + drafts:
            raise ModelError(
                what, f"its {key} clamps are {len(clamps)} for {layers + drafts} blocks", GET_AGAIN
            )
    if config.n_routed_experts * (layers + drafts) > MAX_EXPERTS:
        raise ModelError(
            what,
            f"{layers} layers of {config.n_routed_experts} experts are more than any V4 has",
            GET_AGAIN,
        )
    yarn = config.yarn
    if yarn is not None:
        for name, value, least in (
            ("compress_rope_theta", config.compress_rope_theta, 1.0),
            ("beta_fast", yarn.beta_fast, 0.0),
            ("beta_slow", yarn.beta_slow, 0.0),
        ):
            if value <= least:  # how often a pair of dimensions turns is counted in logarithms of these
                raise ModelError(what, f"its {name} is {value:g}, not above {least:g}", GET_AGAIN)
        if yarn.factor < 1:
            raise ModelError(
                what, f"its positions are stretched by {yarn.factor:g}, which is less than 1", GET_AGAIN
            )
    width = config.num_attention_heads * config.head_dim
    for name, value, divisor in (
        ("hidden_size", config.hidden_size, 32),
        ("moe_intermediate_size", config.moe_intermediate_size, 32),
        ("num_attention_heads * head_dim", width, config.o_groups),
        ("qk_rope_head_dim", config.qk_rope_head_dim, 2),
    ):
        if value % divisor:
            raise ModelError(what, f"its {name} is {value}, which {divisor} does not divide", GET_AGAIN)
    narrowest = config.head_dim
    if 4 in config.compress_ratios:
        narrowest = min(narrowest, config.index_head_dim)
        if config.index_head_dim & (config.index_head_dim - 1):
            # Its queries and keys go through a Hadamard matrix, which exists here for these only.
            raise ModelError(
                what, f"its index_head_dim is {config.index_head_dim}, not a power of two", NEWER
            )
    for name, part, whole in (
        ("num_experts_per_tok", config.num_experts_per_tok, config.n_routed_experts),
        ("qk_rope_head_dim", config.qk_rope_head_dim, narrowest),
        ("num_hash_layers", config.num_hash_layers, layers),
    ):
        if part > whole:
            raise ModelError(what, f"its {name} is {part}, more than {whole}", GET_AGAIN)
