"""What a model weighs, by its headers and by its shape alone."""

import json
from pathlib import Path

import pytest

from convert.conversion import convert
from convert.conversion_error import ConversionError
from convert.expected_tensors import expected_tensors
from convert.gguf_header import GgufHeader, TensorInfo, read_gguf_header
from convert.inspection import result_sizes
from convert.model_shape import ModelShape
from convert.tensor_map import Draft
from engine.placement import model_sizes
from engine.placement.context_sizes import PlainCache, V4Cache
from engine.placement.model_sizes import ModelSizes, sizes_of_headers, sizes_of_shape
from tests.convert.conversions import checkpoint, job
from tests.convert.released_configs import FLASH, PRO_0813
from tests.convert.seeded_checkpoint import small_config
from tests.engine.placement.models import flash, pro


def header(tensors: list[tuple[str, tuple[int, ...], int]], **metadata: object) -> GgufHeader:
    """A header in memory with these tensors; keys are of the architecture "a"."""
    return GgufHeader(
        version=3,
        metadata={"general.architecture": "a", **{f"a.{key}": value for key, value in metadata.items()}},  # type: ignore[dict-item]
        arrays={},
        tensors=tuple(TensorInfo(name, shape, "F16", 0, size) for name, shape, size in tensors),
        alignment=32,
        data_offset=0,
        size_bytes=0,
        expected_size_bytes=0,
    )


@pytest.mark.slow
@pytest.mark.parametrize("draft", ["skip", "keep", "separate"])
@pytest.mark.parametrize("ratios", ["flash", "pro"])
def test_a_converted_model_weighs_what_its_config_says(tmp_path: Path, draft: Draft, ratios: str) -> None:
    source = checkpoint(tmp_path, "preview", ratios=ratios)
    path = convert(job(source, tmp_path / "m.gguf", draft=draft))[0]
    shape = ModelShape.from_config(json.loads((source / "config.json").read_text()))
    expected, found = sizes_of_shape(shape, "q8_0"), sizes_of_headers([read_gguf_header(path)])
    assert (found.idle_bytes > 0) is (draft == "keep")
    for name in (
        "layers", "embedding_bytes", "output_bytes", "output_numbers", "tied", "experts", "experts_used", "cache",
        "context_train_tokens", "key",
    ):  # fmt: skip
        assert getattr(found, name) == getattr(expected, name), name
    tensors = sum(each.size_bytes for each in read_gguf_header(path).tensors)
    assert found.loaded_bytes + found.idle_bytes == tensors


def test_what_two_experts_tell_is_what_all_of_them_weigh() -> None:
    shape = ModelShape.from_config(small_config(n_routed_experts=40, num_experts_per_tok=6))
    assert sizes_of_shape(shape, "bf16") == model_sizes._sizes_of_tensors(shape, "bf16", "DeepSeek-V4")


def test_flash_and_pro_weigh_what_is_known_of_them() -> None:
    for sizes, config, routed, experts in (
        (flash(), FLASH, 3.449e9, 147.2e9),
        (pro(), PRO_0813, 12.845e9, 822.1e9),
    ):
        assert sizes.routed_bytes == pytest.approx(routed, rel=1e-3)
        assert sizes.expert_bytes == pytest.approx(experts, rel=1e-3)
        (result, _) = result_sizes(expected_tensors(ModelShape.from_config(config)))
        # A file also pads its tensors to 32 bytes.
        assert 0 <= result.model_bytes - sizes.loaded_bytes < 32 * 4000
    # 13.27 thousand million numbers work on a token, the output's among them.
    assert flash().numbers_per_token + flash().output_numbers == pytest.approx(13.27e9, rel=2e-3)


def test_experts_in_fp8_have_no_gguf() -> None:
    with pytest.raises(ConversionError):
        sizes_of_shape(ModelShape.from_config(FLASH | {"expert_dtype": "fp8"}), "q8_0")


def test_an_ordinary_model() -> None:
    found = sizes_of_headers(
        [
            header(
                [
                    ("token_embd.weight", (64, 1000), 128_000),
                    ("output_norm.weight", (64,), 256),
                    ("blk.0.attn_k.weight", (64, 16), 2048),
                    ("blk.0.attn_v.weight", (64, 24), 3072),
                    ("blk.0.attn_norm.weight", (64,), 256),
                    ("blk.1.attn_qkv.weight", (64, 128), 16_384),
                ],
                block_count=2, embedding_length=64, feed_forward_length=256,
                **{"attention.head_count": 4, "attention.head_count_kv": 2},
            )
        ]
    )  # fmt: skip
    assert found.tied
    assert found.dense_bytes == 128_000 + 256 + 2048 + 3072 + 256 + 16_384
    assert found.numbers_per_token == 64 * 16 + 64 * 24 + 64 * 128
    assert found.output_numbers == 64_000
    assert found.cache == PlainCache(((16, 24), (32, 32)), hidden=64, inner=256, heads=4)
    assert (found.expert_bytes, found.routed_bytes) == (0, 0)


def test_latent_attention_keeps_one_row() -> None:
    found = sizes_of_headers([header([("blk.0.attn_kv_a_mqa.weight", (64, 576), 2)])])
    assert found.cache == PlainCache(((576, 0),), hidden=0, inner=0)


def test_all_parts_of_a_split_model_count() -> None:
    first = header([("blk.0.ffn_up_exps.weight", (4, 4, 8), 256)], expert_count=8, expert_used_count=2)
    second = header([("output.weight", (4, 9), 72)])
    found = sizes_of_headers([first, second])
    assert (found.expert_bytes, found.routed_bytes, found.output_bytes) == (256, 64, 72)


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"block_count": 0},
        {"block_count": -3, "expert_count": -1},
        {"block_count": 1 << 40, "expert_count": 1 << 40, "expert_used_count": 1 << 40},
        {"block_count": 2.5, "expert_used_count": "six", "nextn_predict_layers": 7},
        {"attention.head_count": 0, "embedding_length": 1 << 62},
    ],
)
def test_nonsense_in_a_header_is_nothing(metadata: dict[str, object]) -> None:
    found = sizes_of_headers([header([("blk.0.attn_qkv.weight", (1,), 4), ("x", (), 4)], **metadata)])
    assert isinstance(found, ModelSizes)
    assert found.loaded_bytes + found.idle_bytes == 8
    assert 0 <= found.routed_share <= 1


def test_matrices_without_extents_put_out_nothing() -> None:
    names = ("blk.0.attn_k.weight", "blk.0.attn_v.weight", "blk.1.attn_kv_a_mqa.weight")
    found = sizes_of_headers([header([(name, (), 4) for name in names])])
    assert found.cache == PlainCache(((0, 0), (0, 0)), hidden=0, inner=0)


def test_v4_with_no_ratios_is_no_v4_and_does_no_harm() -> None:
    strange = header([("blk.0.attn_kv.weight", (4, 4), 4)])
    strange.metadata["general.architecture"] = "deepseek4"
    assert isinstance(sizes_of_headers([strange]).cache, PlainCache)
    strange.metadata["deepseek4.attention.compress_ratios"] = [4, "x", 7, 128]
    found = sizes_of_headers([strange])
    assert isinstance(found.cache, V4Cache)
    assert found.cache.ratios == (4,)
