"""The configuration of GGUF files: as the checkpoint has it, as llama.cpp fills gaps, and what is refused."""

import json
from typing import Any, cast

import pytest

from convert.gguf_header import ArrayShape, GgufHeader, TensorInfo
from convert.model_shape import ModelShape
from engine.model import checkpoint_config
from engine.model.config import Yarn
from engine.model.gguf_config import drafter_tensors, network_config, release_of
from engine.model.model_error import ModelError
from tests.convert.released_configs import FLASH

# What convert_hf_to_gguf.py of llama.cpp wrote for DeepSeek-V4-Flash's configuration with five layers.
THEIRS: dict[str, Any] = {
    "block_count": 5, "context_length": 1048576, "embedding_length": 4096, "attention.head_count": 64,
    "attention.head_count_kv": 1, "rope.scaling.type": "yarn", "rope.scaling.factor": 16.0,
    "rope.scaling.original_context_length": 65536, "rope.scaling.yarn_beta_fast": 32.0,
    "rope.scaling.yarn_beta_slow": 1.0, "rope.freq_base": 10000.0,
    "attention.layer_norm_rms_epsilon": 9.999999974752427e-07, "expert_count": 256, "expert_used_count": 6,
    "expert_gating_func": 4, "attention.key_length": 512, "attention.value_length": 512,
    "rope.dimension_count": 64, "attention.q_lora_rank": 1024, "attention.sliding_window": 128,
    "expert_feed_forward_length": 2048, "expert_shared_count": 1, "expert_weights_scale": 1.5,
    "expert_weights_norm": True, "swiglu_clamp_exp": [10.0] * 5, "swiglu_clamp_shexp": [10.0] * 5,
    "attention.indexer.head_count": 64, "attention.indexer.key_length": 128, "attention.indexer.top_k": 512,
    "attention.output_group_count": 8, "attention.output_lora_rank": 1024,
    "attention.compress_ratios": [0, 0, 4, 128, 4, 0], "attention.compress_rope_freq_base": 160000.0,
    "hyper_connection.count": 4, "hyper_connection.sinkhorn_iterations": 20,
    "hyper_connection.epsilon": 9.999999974752427e-07, "hash_layer_count": 3, "embedding_length_out": 16384,
}  # fmt: skip
ABSENT = object()


def header(
    changes: dict[str, Any] | None = None, *, kind: str = "deepseek4", tensors: tuple[str, ...] = ()
) -> GgufHeader:
    """A header like theirs with other values; ABSENT leaves a key out. Lists of more than 64 are not kept."""
    values = THEIRS | (changes or {})
    metadata: dict[str, Any] = {"general.architecture": kind}
    arrays = {"tokenizer.ggml.tokens": ArrayShape("string", 129280)}
    for key, value in values.items():
        length = len(cast(list[Any], value)) if isinstance(value, list) else 0
        if isinstance(value, list):
            arrays[f"deepseek4.{key}"] = ArrayShape("int32", length)
        if value is not ABSENT and length <= 64:
            metadata[f"deepseek4.{key}"] = value
    infos = tuple(TensorInfo(name, (32, 32), "F32", 0, 4096) for name in tensors)
    return GgufHeader(3, metadata, arrays, infos, 32, 0, 0, 0)


def shape(base: dict[str, Any], layers: int) -> ModelShape:
    """The shape of a release, cut to its first layers."""
    config = json.loads(json.dumps(base))
    config["num_hidden_layers"] = layers
    config["compress_ratios"] = [*base["compress_ratios"][:layers], 0]
    return ModelShape.from_config(config)


def test_what_llama_cpps_converter_writes_is_what_the_checkpoint_says() -> None:
    checkpoints = checkpoint_config.network_config(shape(FLASH, 5))
    found = network_config(header({"attention.compress_ratios": [0, 0, 4, 128, 4]}))
    assert checkpoints.draft_blocks == 1
    for name, value in vars(found).items():
        wanted = getattr(checkpoints, name)
        if name in ("expert_clamp", "shared_clamp"):
            wanted = wanted[:5]
        assert value == wanted or name == "draft_blocks", name


def test_the_drafters_entry_in_the_list_of_ratios_is_no_layer() -> None:
    assert network_config(header()).compress_ratios == (0, 0, 4, 128, 4)


@pytest.mark.parametrize("layers", [61, 62, 64])
def test_lists_of_a_model_as_deep_as_pro_are_read(layers: int) -> None:
    ratios = [128, 128, *[4, 128] * 31][:layers]
    found = network_config(
        header(
            {
                "block_count": layers,
                "attention.compress_ratios": ratios,
                "swiglu_clamp_exp": [10.0] * layers,
                "swiglu_clamp_shexp": 7.0,
                "expert_count": 384,
            }
        )
    )
    assert found.compress_ratios == tuple(ratios)
    assert (set(found.expert_clamp), set(found.shared_clamp)) == ({10.0}, {7.0})
    assert len(found.expert_clamp) == len(found.shared_clamp) == layers


def test_lists_that_are_too_long_to_be_kept_are_named() -> None:
    with pytest.raises(
        ModelError, match=r"its attention\.compress_ratios has 65 entries, and lists of up to 64 are read"
    ):
        network_config(header({"attention.compress_ratios": [4] * 65}))


def test_what_is_missing_is_filled_as_llama_cpp_does() -> None:
    found = network_config(
        header(
            dict.fromkeys(
                (
                    "rope.freq_base",
                    "rope.scaling.type",
                    "rope.scaling.factor",
                    "swiglu_clamp_shexp",
                    "attention.key_length",
                    "rope.dimension_count",
                ),
                ABSENT,
            )
        )
    )
    assert (found.rope_theta, found.yarn) == (10000.0, None)
    assert (found.head_dim, found.qk_rope_head_dim) == (64, 64)
    assert found.shared_clamp == found.expert_clamp
    found = network_config(
        header(
            dict.fromkeys(
                (
                    "rope.scaling.original_context_length",
                    "rope.scaling.yarn_beta_fast",
                    "rope.scaling.yarn_beta_slow",
                ),
                ABSENT,
            )
        )
    )
    assert found.yarn == Yarn(16.0, 1048576, 32.0, 1.0)


def test_numbers_of_32_bits_are_the_decimals_that_were_meant() -> None:
    found = network_config(header({"expert_weights_scale": 2.5, "hyper_connection.epsilon": 1 / 3}))
    assert (found.rms_norm_eps, found.routed_scaling_factor) == (1e-6, 2.5)
    assert found.hc_eps == 1 / 3  # 64 bits in the file: kept


def test_a_drafter_counts_where_its_tensor_is() -> None:
    said = {"block_count": 6, "nextn_predict_layers": 1, "attention.compress_ratios": [0, 0, 4, 128, 4, 0],
            "swiglu_clamp_exp": [10.0] * 5 + [5.0], "swiglu_clamp_shexp": ABSENT}  # fmt: skip
    found = network_config(header(said, tensors=("blk.5.nextn.eh_proj.weight",)))
    assert (found.num_hidden_layers, found.draft_blocks) == (5, 1)
    assert found.expert_clamp == (10.0,) * 5 + (5.0,)
    found = network_config(header(said))
    assert (found.num_hidden_layers, found.draft_blocks) == (6, 0)


def test_the_vocabulary_is_that_of_the_key_the_tokens_or_the_embedding() -> None:
    assert network_config(header({"vocab_size": 100})).vocab_size == 100
    assert network_config(header()).vocab_size == 129280
    bare = header(tensors=("token_embd.weight",))
    bare.arrays.clear()
    assert network_config(bare).vocab_size == 32


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"embedding_length": ABSENT}, "in its metadata embedding_length is missing"),
    ({"attention.compress_ratios": ABSENT}, "attention.compress_ratios is missing"),
    ({"attention.compress_rope_freq_base": 1.0}, "its compress_rope_theta is 1, not above 1"),
    ({"rope.scaling.yarn_beta_fast": 0.0}, "its beta_fast is 0, not above 0"),
    ({"rope.scaling.yarn_beta_slow": 0.0}, "its beta_slow is 0, not above 0"),
    ({"rope.scaling.factor": 1e-300}, "its positions are stretched by 1e-300, which is less than 1"),
    ({"attention.compress_ratios": [0, 0, 4, 128]}, "attention.compress_ratios has 4 entries for 5 blocks"),
    ({"attention.compress_ratios": [0, 0, 4, 64, 4]}, "hold 64; 0, 4 and 128 are known here"),
    ({"attention.compress_ratios": [0, 0, 4, 4.0, 4]}, "hold 4.0; 0, 4 and 128 are known here"),
    ({"swiglu_clamp_exp": [10.0] * 4}, "swiglu_clamp_exp has 4 entries for 5 blocks"),
    ({"swiglu_clamp_exp": float("nan")}, "swiglu_clamp_exp is nan, not a number from 0 to 1e+06"),
    ({"swiglu_clamp_exp": float("inf")}, "swiglu_clamp_exp is inf, not a number from 0"),
    ({"rope.freq_base": "large"}, "rope.freq_base is 'large', not a number from 1 to 1e+12"),
    ({"block_count": 0}, "block_count is 0, not a whole number from 1 to 512"),
    ({"block_count": True}, "block_count is True, not a whole number"),
    ({"block_count": 5.0}, "block_count is 5.0, not a whole number"),
    ({"attention.sliding_window": 2**31}, "attention.sliding_window is 2147483648, not"),
    ({"expert_used_count": [6, 6, 6, 6, 5]}, "its expert_used_count differs from layer to layer"),
    ({"expert_used_count": []}, "its expert_used_count differs"),
    ({"expert_used_count": 257}, "expert_used_count is 257, not a whole number from 1 to 256"),
    ({"expert_count": 4}, "its num_experts_per_tok is 6, more than 4"),
    ({"expert_count": 4096, "block_count": 60, "attention.compress_ratios": [4] * 60,
      "swiglu_clamp_exp": 1.0, "swiglu_clamp_shexp": 1.0}, "60 layers of 4096 experts are more than any V4 has"),
    ({"hash_layer_count": 6}, "hash_layer_count is 6, not a whole number from 0 to 5"),
    ({"expert_gating_func": 2}, "its expert_gating_func is 2, and only 4"),
    ({"expert_weights_norm": False}, "its expert_weights_norm is false"),
    ({"expert_group_count": 8}, "its experts are in 8 groups"),
    ({"attention.head_count_kv": 4}, "its attention.head_count_kv is not 1"),
    ({"attention.indexer.key_length": 96}, "its index_head_dim is 96, not a power of two"),
    ({"attention.indexer.key_length": 32}, "its qk_rope_head_dim is 64, more than 32"),
    ({"attention.output_group_count": 7}, "its num_attention_heads * head_dim is 32768, which 7 does not divide"),
    ({"expert_feed_forward_length": 2050}, "its moe_intermediate_size is 2050, which 32 does not divide"),
    ({"rope.dimension_count": 63}, "its qk_rope_head_dim is 63, which 2 does not divide"),
    ({"rope.scaling.type": "linear"}, "its positions are stretched by “linear”, and only yarn is known"),
    ({"rope.scaling.yarn_ext_factor": 0.5}, "its rope.scaling.yarn_ext_factor is not 1"),
    ({"nextn_predict_layers": 7}, "nextn_predict_layers is 7, not a whole number from 0 to 5"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "sentence"), REFUSED, ids=[sentence[:60] for _, sentence in REFUSED])
def test_what_cannot_be_is_refused_with_its_key(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ModelError) as caught:
        network_config(header(changes), name="some.gguf")
    assert sentence in str(caught.value)
    assert str(caught.value).startswith("“some.gguf” cannot be used as a DeepSeek-V4: ")


def test_more_than_one_drafter_is_refused() -> None:
    with pytest.raises(ModelError, match="it has 2 MTP blocks, and one is known here"):
        network_config(header({"nextn_predict_layers": 2}, tensors=("blk.3.nextn.eh_proj.weight",)))
    with pytest.raises(ModelError, match="all of its 1 blocks are drafters"):
        network_config(
            header({"block_count": 1, "nextn_predict_layers": 1}, tensors=("blk.0.nextn.eh_proj.weight",))
        )


def test_files_of_other_kinds_are_refused() -> None:
    with pytest.raises(ModelError, match=r"it is a model of another kind \(“deepseek2”\)"):
        network_config(header(kind="deepseek2"))
    dspark = header(kind="dflash", tensors=("fc.weight", "blk.0.attn_norm.weight"))
    with pytest.raises(
        ModelError, match=r"it is a drafter \(DSpark\), not a model; choose the model's own file"
    ):
        network_config(dspark)
    assert (drafter_tensors(dspark), drafter_tensors(header(tensors=("x",)))) == (2, 0)


def test_what_a_model_calls_itself() -> None:
    assert release_of({"general.name": " A ", "seamount.release": "B"}) == "B"
    assert release_of({"general.name": " A ", "seamount.release": " "}) == "A"
    assert release_of({"general.name": ["A"]}) == ""
