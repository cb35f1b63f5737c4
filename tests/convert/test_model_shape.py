"""The config of every release is read; what is not known is refused by its key."""

from typing import Any

import pytest

from convert.checkpoint_error import CheckpointError
from convert.model_shape import DSparkShape, ModelShape, YarnShape
from tests.convert.released_configs import FLASH, FLASH_0731, PRO, PRO_0813
from tests.convert.seeded_checkpoint import small_config


def refusal(config: dict[str, Any]) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        ModelShape.from_config(config, "model")
    assert caught.value.what == "model cannot be used as a DeepSeek-V4"
    assert len(caught.value.why) < 300 and caught.value.why.isprintable()
    return caught.value


def test_flash() -> None:
    shape = ModelShape.from_config(FLASH)
    assert (shape.hidden_size, shape.num_hidden_layers, shape.n_routed_experts) == (4096, 43, 256)
    assert (shape.layer_ratios.count(4), shape.layer_ratios.count(128)) == (21, 20)
    assert shape.layer_ratios[:4] == (0, 0, 4, 128)
    assert shape.rope_scaling == YarnShape(16.0, 65536, 32.0, 1.0)
    assert shape.dspark is None and shape.num_nextn_predict_layers == 1
    # The first upload had no expert_dtype.
    old = {key: value for key, value in FLASH.items() if key != "expert_dtype"}
    assert ModelShape.from_config(old) == shape


def test_pro() -> None:
    shape = ModelShape.from_config(PRO)
    assert (shape.layer_ratios.count(4), shape.layer_ratios.count(128)) == (30, 31)
    assert shape.layer_ratios[:4] == (128, 128, 4, 128)


@pytest.mark.parametrize(
    ("config", "targets", "rank"),
    [(FLASH_0731, (40, 41, 42), 256), (PRO_0813, (58, 59, 60), 512)],
)
def test_dspark_is_found_by_its_keys(config: dict[str, Any], targets: tuple[int, ...], rank: int) -> None:
    # num_nextn_predict_layers stays 1 in these configs although there is no MTP block.
    assert config["num_nextn_predict_layers"] == 1
    assert ModelShape.from_config(config).dspark == DSparkShape(3, 5, 128799, targets, rank)


@pytest.mark.parametrize("release", ["preview", "0731"])
@pytest.mark.parametrize("ratios", ["flash", "pro"])
def test_small_shapes_for_tests(release: Any, ratios: Any) -> None:
    shape = ModelShape.from_config(small_config(release=release, ratios=ratios, layers=4))
    assert len(shape.compress_ratios) == 4 + (1 if release == "preview" else 3)


def test_yarn_as_newer_configs_spell_it() -> None:
    yarn = {key: value for key, value in FLASH["rope_scaling"].items() if key != "type"}
    config = FLASH | {"rope_scaling": yarn | {"rope_type": "yarn"}}
    assert ModelShape.from_config(config) == ModelShape.from_config(FLASH)


NUMBERS = [
    key
    for key, value in FLASH_0731.items()
    if isinstance(value, int | float)
    and not isinstance(value, bool)
    and key not in ("attention_dropout", "initializer_range", "num_key_value_heads")
]


@pytest.mark.parametrize("key", NUMBERS)
def test_a_number_is_a_number_within_bounds(key: str) -> None:
    wrong: list[Any] = [-1, 2**63, "8", True, [1], {}, 1e300, float("inf"), float("nan")]
    for value in wrong:
        error = refusal(FLASH_0731 | {key: value})
        assert error.problem in ("damaged", "unsupported") and key in error.why, value
    if key != "num_nextn_predict_layers":
        without = {name: value for name, value in FLASH_0731.items() if name != key}
        assert f"{key} is missing" in refusal(without).why


@pytest.mark.parametrize(
    ("change", "problem", "why"),
    [
        ({"model_type": "deepseek_v3"}, "unsupported", "deepseek_v3"),
        ({"architectures": ["DeepseekV41ForCausalLM"]}, "unsupported", "DeepseekV41ForCausalLM"),
        ({"model_type": None}, "unsupported", "another kind"),
        ({"vision_n_layers": 32}, "unsupported", "vision"),
        ({"quantization_config": None}, "unsupported", "quantization_config"),
        ({"quantization_config": 1}, "damaged", "quantization_config"),
        (
            {"quantization_config": FLASH["quantization_config"] | {"weight_block_size": [32, 32]}},
            "unsupported",
            "quantization_config.weight_block_size is [32, 32], and only [128, 128]",
        ),
        ({"quantization_config": FLASH["quantization_config"] | {"fmt": "e5m2"}}, "unsupported", "e5m2"),
        ({"expert_dtype": "nvfp4"}, "unsupported", "nvfp4"),
        ({"hidden_act": "gelu"}, "unsupported", "hidden_act"),
        ({"num_key_value_heads": 8}, "unsupported", "num_key_value_heads"),
        ({"norm_topk_prob": 1}, "unsupported", "norm_topk_prob"),
        ({"rope_scaling": None}, "damaged", "rope_scaling"),
        ({"rope_scaling": FLASH["rope_scaling"] | {"factor": "x"}}, "damaged", "rope_scaling.factor"),
        ({"rope_scaling": FLASH["rope_scaling"] | {"type": "linear"}}, "unsupported", "linear"),
        ({"compress_ratios": []}, "damaged", "compress_ratios"),
        ({"compress_ratios": None}, "damaged", "compress_ratios is missing"),
        ({"compress_ratios": [0] * 5000}, "damaged", "compress_ratios"),
        ({"compress_ratios": FLASH["compress_ratios"][:-1]}, "damaged", "43 entries, not 43 + 1"),
        ({"compress_ratios": [*FLASH["compress_ratios"], 0]}, "damaged", "45 entries"),
        ({"compress_ratios": [8, *FLASH["compress_ratios"][1:]]}, "unsupported", "hold 8"),
        ({"compress_ratios": [*FLASH["compress_ratios"][:-1], 4]}, "unsupported", "drafter compresses"),
        ({"compress_ratios": [True, *FLASH["compress_ratios"][1:]]}, "damaged", "compress_ratios"),
        ({"hidden_size": 4100}, "damaged", "4100"),
        ({"o_groups": 7}, "damaged", "7 does not divide"),
        ({"num_experts_per_tok": 200, "n_routed_experts": 100}, "damaged", "num_experts_per_tok"),
        ({"qk_rope_head_dim": 256}, "damaged", "qk_rope_head_dim"),
        ({"n_routed_experts": 4096}, "damaged", "43 layers of 4096 experts"),
        ({"hidden_act": "\x1b[31m" * 50}, "unsupported", "hidden_act"),
    ],
)
def test_what_is_not_known_is_refused(change: dict[str, Any], problem: str, why: str) -> None:
    error = refusal(FLASH | change)
    assert error.problem == problem and why in error.why


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"dspark_target_layer_ids": [40, 41, 43]}, "dspark_target_layer_ids"),
        ({"dspark_target_layer_ids": [40, 40]}, "twice"),
        ({"dspark_target_layer_ids": None}, "dspark_target_layer_ids is missing"),
        ({"dspark_noise_token_id": 129280}, "dspark_noise_token_id"),
        ({"compress_ratios": FLASH["compress_ratios"][:-1]}, "43 entries for 43 layers"),
        ({"compress_ratios": [*FLASH["compress_ratios"], *([0] * 20)]}, "64 entries"),
    ],
)
def test_a_drafter_that_cannot_be_is_refused(change: dict[str, Any], why: str) -> None:
    assert why in refusal(FLASH_0731 | change).why
