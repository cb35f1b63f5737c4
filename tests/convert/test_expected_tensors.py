"""The list of tensors against what is known of the released checkpoints, by computation."""

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from convert.checkpoint import Source
from convert.expected_tensors import Expected, compare, expected_tensors, is_draft, parameters
from convert.model_shape import MAX_EXPERT_TENSORS, ModelShape
from tests.convert.released_configs import FLASH, FLASH_0731, PRO, PRO_0813

# Config, bytes of all tensors, their number, those in each shard's place: V4.md 1.1. The two counts of the
# previews are not stated there; they follow from the same list.
RELEASED = {
    "DeepSeek-V4-Flash": (FLASH, 159_609_485_896, 69_187),
    "DeepSeek-V4-Pro": (PRO, 864_704_792_696, 145_116),
    "DeepSeek-V4-Flash-0731": (FLASH_0731, 166_878_536_440, 72_317),
    "DeepSeek-V4-Pro-0813": (PRO_0813, 892_727_580_904, 149_782),
}


@pytest.mark.parametrize("name", RELEASED)
def test_bytes_and_number_of_tensors_are_those_of_the_release(name: str) -> None:
    config, size_bytes, count = RELEASED[name]
    expected = expected_tensors(ModelShape.from_config(config))
    assert sum(each.size_bytes for each in expected.values()) == size_bytes
    assert len(expected) == count


@pytest.mark.parametrize(
    ("config", "model", "draft", "active"),
    [
        # Billions, rounded as V4.md 1.1 gives them.
        (FLASH, 284.33, 290.94 - 284.33, 13.27),
        (FLASH_0731, 284.33, 304.18 - 284.33, 13.27),
        (PRO, 1573.0, 1598.84 - 1573.0, 48.85),
        (PRO_0813, 1573.0, 1650.5 - 1573.0, 48.85),
    ],
)
def test_parameters(config: dict[str, Any], model: float, draft: float, active: float) -> None:
    counted = parameters(ModelShape.from_config(config))
    assert counted.model / 1e9 == pytest.approx(model, abs=0.05)
    assert counted.draft / 1e9 == pytest.approx(draft, abs=0.05)
    assert counted.active / 1e9 == pytest.approx(active, abs=0.005)
    assert counted.total == counted.model + counted.draft


def test_shapes_of_flash_as_its_headers_give_them() -> None:
    expected = expected_tensors(ModelShape.from_config(FLASH_0731))
    for name, dtype, shape in (
        ("embed.weight", "BF16", (129280, 4096)),
        ("hc_head_fn", "F32", (4, 16384)),
        ("layers.0.hc_attn_fn", "F32", (24, 16384)),
        ("layers.0.attn.wq_a.scale", "F8_E8M0", (8, 32)),
        ("layers.0.attn.wq_b.weight", "F8_E4M3", (32768, 1024)),
        ("layers.0.attn.wkv.scale", "F8_E8M0", (4, 32)),
        ("layers.0.attn.wo_a.weight", "F8_E4M3", (8192, 4096)),
        ("layers.0.attn.wo_b.scale", "F8_E8M0", (32, 64)),
        ("layers.2.attn.compressor.ape", "F32", (4, 1024)),
        ("layers.3.attn.compressor.ape", "F32", (128, 512)),
        ("layers.2.attn.compressor.wkv.weight", "BF16", (1024, 4096)),
        ("layers.2.attn.indexer.wq_b.weight", "F8_E4M3", (8192, 1024)),
        ("layers.2.attn.indexer.compressor.ape", "F32", (4, 256)),
        ("layers.2.ffn.gate.tid2eid", "I64", (129280, 6)),
        ("layers.3.ffn.gate.bias", "F32", (256,)),
        ("layers.0.ffn.experts.255.w1.weight", "I8", (2048, 2048)),
        ("layers.0.ffn.experts.255.w2.scale", "F8_E8M0", (4096, 64)),
        ("layers.0.ffn.shared_experts.w2.scale", "F8_E8M0", (32, 16)),
        ("mtp.0.main_proj.weight", "F8_E4M3", (4096, 12288)),
        ("mtp.2.markov_head.markov_w1.weight", "BF16", (129280, 256)),
        ("mtp.2.confidence_head.proj.weight", "BF16", (1, 4352)),
    ):
        assert expected[name] == Expected(dtype, shape), name
    for absent in (
        "layers.0.attn.compressor.ape",
        "layers.3.attn.indexer.wq_b.weight",
        "layers.0.ffn.gate.bias",
        "layers.3.ffn.gate.tid2eid",
        "mtp.0.e_proj.weight",
        "mtp.1.norm.weight",
        "mtp.3.attn_norm.weight",
    ):
        assert absent not in expected, absent


def test_shapes_of_pro() -> None:
    expected = expected_tensors(ModelShape.from_config(PRO))
    assert expected["layers.0.ffn.experts.383.w1.weight"] == Expected("I8", (3072, 3584))
    assert expected["layers.0.ffn.experts.0.w1.scale"] == Expected("F8_E8M0", (3072, 224))
    assert expected["layers.60.attn.wkv.weight"] == Expected("F8_E4M3", (512, 7168))
    assert expected["layers.0.attn.compressor.ape"].shape == (128, 512)
    assert expected["mtp.0.e_proj.weight"] == Expected("F8_E4M3", (7168, 7168))


def test_the_shards_of_0731_follow_the_layers() -> None:
    """Shard 1 is the embedding, then one for each layer, the head, and one for each stage: 48 in all."""
    names = list(expected_tensors(ModelShape.from_config(FLASH_0731)))
    groups = [name.split(".")[0] + "." + name.split(".")[1] for name in names if name[:2] in ("la", "mt")]
    assert len(dict.fromkeys(groups)) + 2 == 48
    assert names[0] == "embed.weight" and is_draft(names[-1]) and not is_draft(names[0])


def test_a_model_without_a_drafter_and_one_all_in_fp8() -> None:
    bare = FLASH | {"num_nextn_predict_layers": 0, "compress_ratios": FLASH["compress_ratios"][:-1]}
    shape = ModelShape.from_config(bare)
    assert not any(is_draft(name) for name in expected_tensors(shape))
    base = expected_tensors(replace(shape, expert_dtype="fp8"))
    assert base["layers.0.ffn.experts.0.w1.weight"] == Expected("F8_E4M3", (2048, 4096))
    assert base["layers.0.ffn.experts.0.w1.scale"] == Expected("F8_E8M0", (16, 32))
    assert parameters(replace(shape, expert_dtype="fp8")) == parameters(shape)


@pytest.mark.slow
def test_the_largest_shape_there_can_be_takes_little_memory() -> None:
    experts = MAX_EXPERT_TENSORS // 6 // 62
    shape = ModelShape.from_config(PRO | {"n_routed_experts": experts})
    tracemalloc.start()
    try:
        assert len(expected_tensors(shape)) > 6 * experts * 62
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100e6


def test_compare_names_what_is_missing_unexpected_and_wrong() -> None:
    expected = {
        "a": Expected("BF16", (2,)),
        "b": Expected("F32", (2,)),
        "c": Expected("F32", (3,)),
        "d": Expected("I8", (3,)),
    }
    shard = Path("x")
    found = {
        "a": Source(shard, "BF16", (2,), 0, 4),
        "c": Source(shard, "F32", (3, 1), 4, 12),
        "d": Source(shard, "U8", (3,), 16, 3),
        "e": Source(shard, "F32", (1,), 19, 4),
    }
    result = compare(found, expected)
    assert result.missing == ("b",) and result.unexpected == ("e",)
    assert [(wrong.name, wrong.found) for wrong in result.wrong] == [
        ("c", Expected("F32", (3, 1))),
        ("d", Expected("U8", (3,))),
    ]
    assert not result.agrees
    assert compare({"a": found["a"]}, {"a": expected["a"]}).agrees
