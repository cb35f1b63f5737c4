"""The metadata of a converted file: everything that llama.cpp reads to build the network, and where it is from.

Owns: the keys of the architectures `deepseek4` (the model, and a file with MTP alone) and `dflash` (DSpark), by
the names and types that llama.cpp loads (src/llama-arch.cpp, src/models/deepseek4.cpp and dflash.cpp,
load_hparams in src/llama-model.cpp), and our own under `seamount.`. The values are those of the checkpoint's
config (`model_shape`). Does not know tensors' bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from convert.conversion_error import ConversionError
from convert.gguf_writer import Metadata
from convert.model_shape import ModelShape
from convert.tensor_map import Options, Role, TensorMap
from convert.tokenizer_metadata import add_tokenizer

FORMAT = 1
"""Of the keys under `seamount.`."""
MOSTLY_MXFP4_MOE = 38
SQRT_SOFTPLUS = 4
QUANTIZATION_VERSION = 2
MAX_LAYERS = 512
"""LLAMA_MAX_LAYERS: an array of more is an assertion that fails."""


@dataclass(frozen=True)
class Origin:
    """Where a checkpoint is from, as far as it is known; written into every file that is made of it.

    `release` is the model's name, "DeepSeek-V4-Flash-0731": the engine chooses the way to write prompts by it.
    """

    release: str
    repository: str = ""
    revision: str = ""
    fingerprint: str = ""
    config_sha256: str = ""
    tokenizer_sha256: str = ""


@dataclass(frozen=True)
class Vocabulary:
    """A checkpoint's tokenizer.json and tokenizer_config.json, as they are."""

    tokenizer_json: bytes
    tokenizer_config_json: bytes | None = None


def metadata_of(
    role: Role,
    shape: ModelShape,
    vocabulary: Vocabulary,
    mapped: TensorMap,
    options: Options,
    origin: Origin,
) -> Metadata:
    """The metadata of one file of a conversion.

    Raises ConversionError for a vocabulary that cannot be used, and for more layers than llama.cpp takes.
    """
    metadata = Metadata()
    dspark = shape.dspark if role == "draft" else None
    arch = "deepseek4" if dspark is None else "dflash"
    metadata.text("general.architecture", arch)
    metadata.text("general.type", "model")
    metadata.text("general.name", f"{origin.release} drafter" if role == "draft" else origin.release)
    metadata.text("general.license", "mit")
    if origin.repository:
        metadata.text("general.source.huggingface.repository", origin.repository)
        metadata.text("general.source.url", f"https://huggingface.co/{origin.repository}")
    metadata.count("general.file_type", MOSTLY_MXFP4_MOE)
    metadata.count("general.quantization_version", QUANTIZATION_VERSION)
    _add_own(metadata, role, mapped, options, origin)
    if dspark is not None:
        _add_network(metadata, arch, shape, [0] * dspark.stages, hashed=0)
        metadata.count(f"{arch}.block_size", dspark.block_size)
        # The drafter reads what goes into the layer after each of these, which is what comes out of them.
        metadata.counts(f"{arch}.target_layers", [layer + 1 for layer in dspark.target_layer_ids])
    else:
        with_mtp = mapped.drafter == "mtp" and (role == "draft" or options.draft == "keep")
        drafts = mapped.stages if with_mtp else 0
        _add_network(
            metadata, arch, shape, [*shape.layer_ratios, *[0] * drafts], hashed=shape.num_hash_layers
        )
        metadata.count(f"{arch}.embedding_length_out", shape.hidden_size * shape.hc_mult)
        if drafts:
            metadata.count(f"{arch}.nextn_predict_layers", drafts)
    add_tokenizer(metadata, vocabulary.tokenizer_json, vocabulary.tokenizer_config_json, shape.vocab_size)
    if dspark is not None:
        metadata.count("tokenizer.ggml.mask_token_id", dspark.noise_token_id)
    return metadata


def _add_own(metadata: Metadata, role: Role, mapped: TensorMap, options: Options, origin: Origin) -> None:
    metadata.count("seamount.format", FORMAT)
    metadata.text("seamount.release", origin.release)
    metadata.text("seamount.role", role)
    metadata.text("seamount.dense", options.dense)
    metadata.text("seamount.draft", options.draft)
    metadata.text("seamount.drafter", mapped.drafter or "none")
    for key in ("revision", "fingerprint", "config_sha256", "tokenizer_sha256"):
        if value := cast(str, getattr(origin, key)):
            metadata.text(f"seamount.source.{key}", value)


def _add_network(
    metadata: Metadata, arch: str, shape: ModelShape, ratios: Sequence[int], *, hashed: int
) -> None:
    """What trunk, MTP and DSpark have in common; `ratios` has an entry for each block of the file."""
    if len(ratios) > MAX_LAYERS:
        raise ConversionError(
            "unsupported",
            "This checkpoint cannot be converted",
            f"it has {len(ratios)} layers, and llama.cpp takes {MAX_LAYERS}",
            "use a newer Seamount",
        )
    counts = {
        "block_count": len(ratios),
        "vocab_size": shape.vocab_size,
        "context_length": shape.max_position_embeddings,
        "embedding_length": shape.hidden_size,
        "attention.head_count": shape.num_attention_heads,
        "attention.head_count_kv": 1,
        "attention.key_length": shape.head_dim,
        "attention.value_length": shape.head_dim,
        "attention.q_lora_rank": shape.q_lora_rank,
        "attention.output_lora_rank": shape.o_lora_rank,
        "attention.output_group_count": shape.o_groups,
        "attention.sliding_window": shape.sliding_window,
        "attention.indexer.head_count": shape.index_n_heads,
        "attention.indexer.key_length": shape.index_head_dim,
        "attention.indexer.top_k": shape.index_topk,
        "rope.dimension_count": shape.qk_rope_head_dim,
        "rope.scaling.original_context_length": shape.rope_scaling.original_max_position_embeddings,
        "expert_count": shape.n_routed_experts,
        "expert_used_count": shape.num_experts_per_tok,
        "expert_shared_count": shape.n_shared_experts,
        "expert_feed_forward_length": shape.moe_intermediate_size,
        "expert_gating_func": SQRT_SOFTPLUS,
        "hash_layer_count": hashed,
        "hyper_connection.count": shape.hc_mult,
        "hyper_connection.sinkhorn_iterations": shape.hc_sinkhorn_iters,
    }
    # llama.cpp applies YaRN only to layers that compress, and takes its factor on attention back.
    reals = {
        "attention.layer_norm_rms_epsilon": shape.rms_norm_eps,
        "attention.compress_rope_freq_base": shape.compress_rope_theta,
        "rope.freq_base": shape.rope_theta,
        "rope.scaling.factor": shape.rope_scaling.factor,
        "rope.scaling.yarn_beta_fast": shape.rope_scaling.beta_fast,
        "rope.scaling.yarn_beta_slow": shape.rope_scaling.beta_slow,
        "expert_weights_scale": shape.routed_scaling_factor,
        "hyper_connection.epsilon": shape.hc_eps,
    }
    for key, value in counts.items():
        metadata.count(f"{arch}.{key}", value)
    for key, value in reals.items():
        metadata.real(f"{arch}.{key}", value)
    metadata.text(f"{arch}.rope.scaling.type", "yarn")
    metadata.flag(f"{arch}.expert_weights_norm", True)
    metadata.counts(f"{arch}.attention.compress_ratios", ratios)
    # Shared experts too: llama.cpp and transformers clamp both, the preview's own code only the routed ones.
    clamp = [shape.swiglu_limit] * len(ratios)
    metadata.reals(f"{arch}.swiglu_clamp_exp", clamp)
    metadata.reals(f"{arch}.swiglu_clamp_shexp", clamp)
