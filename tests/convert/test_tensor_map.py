"""The tensor map: every tensor of a checkpoint has one place, and llama.cpp's types."""

from typing import Any

import pytest

from convert.conversion_error import ConversionError
from convert.expected_tensors import Expected as Named
from convert.expected_tensors import expected_tensors
from convert.model_shape import ModelShape
from convert.tensor_map import Dense, Draft, Options, Target, map_tensors
from tests.convert.released_configs import FLASH, FLASH_0731, PRO, PRO_0813
from tests.convert.seeded_checkpoint import small_config


def tensors(drafter: str = "mtp") -> dict[str, Named]:
    release = "0731" if drafter == "dspark" else "preview"
    config = small_config(release=release, o_lora_rank=128)
    if drafter == "none":
        config |= {"num_nextn_predict_layers": 0, "compress_ratios": config["compress_ratios"][:-1]}
    return expected_tensors(ModelShape.from_config(config))


def by_name(targets: tuple[Target, ...]) -> dict[str, Target]:
    return {target.name: target for target in targets}


@pytest.mark.parametrize("drafter", ["mtp", "dspark", "none"])
@pytest.mark.parametrize("draft", ["keep", "skip", "separate"])
@pytest.mark.parametrize("dense", ["q8_0", "bf16"])
def test_every_tensor_has_one_place(drafter: str, draft: Draft, dense: Dense) -> None:
    if (drafter, draft) == ("dspark", "keep"):
        pytest.skip("refused, and tested below")
    given = tensors(drafter)
    mapped = map_tensors(given, Options(dense, draft))
    used = [source for target in mapped.targets for source in target.sources]
    assert sorted({*used, *mapped.left_out}) == sorted(given)
    assert not set(used) & set(mapped.left_out)
    twice = {source for source in used if used.count(source) > 1}
    shared = {"embed.weight", "norm.weight", "head.weight"}
    assert twice == (shared if (drafter, draft) == ("mtp", "separate") else set())
    for role in mapped.roles:
        names = [target.name for target in mapped.of(role)]
        assert len(set(names)) == len(names)
    sizes = {"Q8_0", "BF16", "F32", "I32", "MXFP4"} - ({"Q8_0"} if dense == "bf16" else set())
    assert {target.type_name for target in mapped.targets} == sizes


def test_types_and_shapes_are_those_that_llama_cpp_loads() -> None:
    mapped = map_tensors(tensors("mtp"), Options("q8_0", "keep"))
    found = by_name(mapped.targets)

    def seen(name: str) -> tuple[str, tuple[int, ...], str]:
        return found[name].type_name, found[name].shape, found[name].how

    assert seen("token_embd.weight") == ("BF16", (256, 512), "copy")
    assert seen("output_hc_fn.weight") == ("F32", (1024, 4), "copy")
    assert seen("blk.0.attn_norm.weight") == ("F32", (256,), "widen")
    assert seen("blk.0.attn_output_a.weight") == ("Q8_0", (256, 256), "dense")
    assert seen("blk.0.ffn_gate_tid2eid.weight") == ("I32", (2, 512), "narrow")
    assert "blk.0.exp_probs_b.bias" not in found
    assert seen("blk.3.exp_probs_b.bias") == ("F32", (8,), "copy")
    assert seen("blk.2.attn_compressor_ape.weight") == ("F32", (256, 4), "copy")
    assert seen("blk.3.attn_compressor_kv.weight") == ("BF16", (256, 128), "copy")
    assert "blk.3.indexer.proj.weight" not in found
    assert seen("blk.4.indexer.attn_q_b.weight") == ("Q8_0", (128, 512), "dense")
    assert seen("blk.1.ffn_gate_exps.weight") == ("MXFP4", (256, 128, 8), "experts")
    assert seen("blk.1.ffn_down_exps.weight") == ("MXFP4", (128, 256, 8), "experts")
    assert found["blk.1.ffn_up_exps.weight"].sources[-1] == "layers.1.ffn.experts.7.w3.scale"
    assert seen("blk.5.nextn.eh_proj.weight") == ("Q8_0", (512, 256), "join")
    assert found["blk.1.ffn_up_exps.weight"].size_bytes == 8 * 128 * 256 // 32 * 17


def test_file_order_follows_the_shards() -> None:
    groups = [name for name, _ in map_tensors(tensors("dspark"), Options()).groups]
    assert groups == [
        "embedding",
        *(f"layer {n}" for n in range(5)),
        "output",
        "draft 0",
        "draft 1",
        "draft 2",
    ]


def test_mtp_alone_repeats_what_its_file_needs() -> None:
    mapped = map_tensors(tensors("mtp"), Options(draft="separate"))
    draft = by_name(mapped.of("draft"))
    assert draft["output_hc_fn.weight"].sources == ("mtp.0.hc_head_fn",)
    assert by_name(mapped.of("model"))["output_hc_fn.weight"].sources == ("hc_head_fn",)
    assert draft["token_embd.weight"].sources == ("embed.weight",)
    assert not mapped.left_out


def test_what_is_left_out_is_named_with_its_reason() -> None:
    kept = map_tensors(tensors("mtp"), Options(draft="keep")).left_out
    assert sorted(kept) == ["mtp.0.hc_head_base", "mtp.0.hc_head_fn", "mtp.0.hc_head_scale"]
    skipped = map_tensors(tensors("dspark"), Options(draft="skip")).left_out
    assert set(skipped) == {name for name in tensors("dspark") if name.startswith("mtp.")}


@pytest.mark.parametrize(
    "name",
    ["embed.weight", "layers.4.attn.wq_a.scale", "layers.2.ffn.experts.3.w2.weight", "mtp.0.enorm.weight",
     "layers.2.attn.compressor.ape", "layers.3.ffn.gate.bias", "layers.0.ffn.gate.tid2eid"],
)  # fmt: skip
def test_a_gap_is_named(name: str) -> None:
    given = tensors("mtp")
    del given[name]
    with pytest.raises(ConversionError) as caught:
        map_tensors(given, Options())
    named = name.replace("tid2eid", "bias")  # without its table a layer is one that scores
    assert named in caught.value.why


def test_a_leftover_is_named() -> None:
    given = tensors("mtp") | {"layers.2.attn.surprise": Named("F32", (4,))}
    with pytest.raises(ConversionError, match=r"layers\.2\.attn\.surprise"):
        map_tensors(given, Options())


def test_strange_types_and_shapes_are_named() -> None:
    for name, strange in {
        "layers.0.attn.wq_a.weight": Named("F16", (128, 256)),
        "layers.0.attn.wq_a.scale": Named("F8_E8M0", (2, 2)),
        "layers.1.ffn.experts.5.w1.weight": Named("I8", (128, 64)),
        "layers.0.ffn.gate.tid2eid": Named("F64", (512, 2)),
    }.items():
        with pytest.raises(ConversionError) as caught:
            map_tensors(tensors("mtp") | {name: strange}, Options())
        assert name in caught.value.why


def test_base_checkpoints_are_refused_with_the_reason() -> None:
    given = tensors("mtp")
    given["layers.0.ffn.experts.0.w1.weight"] = Named("F8_E4M3", (128, 256))
    with pytest.raises(ConversionError, match="experts are FP8"):
        map_tensors(given, Options())


def test_dspark_cannot_be_kept_in_the_model() -> None:
    with pytest.raises(ConversionError, match="a file of its own"):
        map_tensors(tensors("dspark"), Options(draft="keep"))


@pytest.mark.parametrize(
    ("config", "count", "stages"),
    [(FLASH, 1328, 1), (FLASH_0731, 1328, 3), (PRO, 1894, 1), (PRO_0813, 1894, 3)],
)
def test_the_released_models(config: dict[str, Any], count: int, stages: int) -> None:
    """24 tensors a layer, 4 more where it compresses, 6 more where it has an indexer, 6 outside of layers."""
    mapped = map_tensors(expected_tensors(ModelShape.from_config(config)), Options("bf16", "separate"))
    assert (len(mapped.of("model")), mapped.stages) == (count, stages)
    compressing = [ratio for ratio in config["compress_ratios"] if ratio]
    layers = config["num_hidden_layers"]
    assert count == 24 * layers + 4 * len(compressing) + 6 * compressing.count(4) + 6
