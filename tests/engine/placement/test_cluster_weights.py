"""What lies on each GPU: against the checkpoint's tensors, sliced one by one for every GPU."""

from collections import defaultdict
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.expected_tensors import expected_tensors, is_draft
from convert.model_shape import FP8_BLOCK, ModelShape
from convert.safetensors_header import tensor_bytes
from engine.placement.cluster_weights import (
    Division,
    Engine,
    gpu_weights,
    kind_of,
    objection,
    replicates_shared,
    stages,
    weights_of,
)
from tests.convert.released_configs import FLASH, FLASH_0731, PRO, PRO_0813

GB = 1_000_000_000


@cache
def shape(name: str) -> ModelShape:
    return ModelShape.from_config({"flash": FLASH, "pro": PRO, "0731": FLASH_0731, "0813": PRO_0813}[name])


@cache
def small() -> ModelShape:
    """The rules of a real one with few enough tensors to slice for every GPU."""
    whole = shape("flash")
    return replace(
        whole,
        num_hidden_layers=6,
        compress_ratios=(*whole.compress_ratios[:6], 0),
        n_routed_experts=48,
        hidden_size=512,
        moe_intermediate_size=24 * FP8_BLOCK,
        num_attention_heads=16,
        o_groups=8,
        o_lora_rank=128,
        q_lora_rank=256,
        vocab_size=4096,
    )


def sliced(model: ModelShape, division: Division, engine: Engine) -> list[int]:
    """Bytes on every GPU, each tensor cut for each rank by its shape: another way than sums that are divided."""
    layer_of = {
        layer: stage
        for stage, layers in enumerate(stages(model.num_hidden_layers, division.pipeline, engine))
        for layer in layers
    }
    held: dict[tuple[int, int, int], int] = defaultdict(int)
    ranks = [(data, tensor) for data in range(division.data) for tensor in range(division.tensor)]
    for name, each in expected_tensors(model).items():
        if is_draft(name):
            continue
        parts = name.split(".")
        inside = ".".join(parts[2:])
        for data, tensor in ranks:
            extents = list(each.shape)
            stage = layer_of[int(parts[1])] if parts[0] == "layers" else division.pipeline - 1
            if ".experts." in name:
                each_has = model.n_routed_experts // division.experts
                if int(parts[4]) // each_has != data * division.tensor + tensor:
                    continue
            elif inside.startswith(("attn.wq_b", "attn.wo_a")):
                extents[0] //= division.tensor
            elif inside.startswith("attn.wo_b"):
                extents[1] //= division.tensor
            elif ".shared_experts." in name:
                axis = 1 if ".w2." in name else 0
                blocks = model.moe_intermediate_size // FP8_BLOCK
                if engine == "vllm":
                    ways = division.tensor if division.data == 1 else 1
                else:
                    ways = 1 if blocks % division.experts else division.experts
                of_block = extents[axis] // blocks
                extents[axis] = -(-blocks // ways) * of_block
            elif name in ("embed.weight", "head.weight"):
                stage = 0 if name == "embed.weight" else stage
                if not (engine == "sglang" and name == "embed.weight" and division.data > 1):
                    extents[0] //= division.tensor
            held[stage, data, tensor] += tensor_bytes(each.dtype, tuple(extents))
    return [held[key] for key in sorted(held)]


DIVISIONS = [
    Division(1),
    Division(2),
    Division(8),
    Division(1, 8),
    Division(8, 2),
    Division(4, 3),
    Division(8, 1, 2),
    Division(2, 1, 4),
    Division(1, 1, 5),
]


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
@pytest.mark.parametrize("division", DIVISIONS, ids=str)
def test_each_gpu_has_what_its_slices_weigh(division: Division, engine: Engine) -> None:
    per_stage = division.tensor * division.data
    found = [each.total for each in gpu_weights(small(), division, engine) for _ in range(per_stage)]
    assert found == sliced(small(), division, engine)


@pytest.mark.parametrize("name", ["flash", "pro"])
@pytest.mark.parametrize("engine", ["vllm", "sglang"])
@pytest.mark.parametrize(
    "division", [Division(8), Division(8, 2), Division(1, 16), Division(4, 1, 4)], ids=str
)
def test_all_gpus_together_have_what_is_cut_once_and_the_rest_as_often_as_it_is_repeated(
    name: str, engine: Engine, division: Division
) -> None:
    model, weights = shape(name), weights_of(shape(name))
    gpus = [each for each in gpu_weights(model, division, engine) for _ in range(division.experts)]
    once = {
        kind: sum(getattr(layer, kind) for layer in weights.layers) for kind in ("experts", "heads", "whole")
    }
    assert sum(gpu.experts for gpu in gpus) == once["experts"]
    assert sum(gpu.heads for gpu in gpus) == once["heads"] * division.data
    assert sum(gpu.whole for gpu in gpus) == (once["whole"] + weights.ending) * division.experts
    embedding = division.experts if engine == "sglang" and division.data > 1 else division.data
    assert sum(gpu.ends for gpu in gpus) == weights.embedding * embedding + weights.output * division.data


@pytest.mark.parametrize(("name", "bare"), [("0731", "flash")])
def test_a_drafter_is_left_out_and_nothing_else(name: str, bare: str) -> None:
    assert weights_of(shape(name)) == weights_of(shape(bare))
    tensors = expected_tensors(shape(bare))
    assert weights_of(shape(bare)).total == sum(
        each.size_bytes for key, each in tensors.items() if not is_draft(key)
    )


def test_the_released_sizes() -> None:
    """What the hub shows of the previews is 159.61 GB and 864.70 GB, drafter and all."""
    for name, total in (("flash", 159_609_485_896), ("pro", 864_704_792_696)):
        draft = sum(each.size_bytes for key, each in expected_tensors(shape(name)).items() if is_draft(key))
        assert weights_of(shape(name)).total + draft == total


def test_experts_in_fp8_weigh_nearly_twice_as_much() -> None:
    repacked = replace(shape("flash"), expert_dtype="fp8")
    of = [sum(layer.experts for layer in weights_of(each).layers) for each in (shape("flash"), repacked)]
    assert 1.85 < of[1] / of[0] < 1.9


@pytest.mark.parametrize(
    ("name", "division", "why"),
    [
        ("flash", Division(3), "64 attention heads cannot be cut into 3"),
        ("flash", Division(16), "8 groups of heads cannot be cut into 16"),
        ("pro", Division(32), "16 groups of heads cannot be cut into 32"),
        ("flash", Division(1, 3), "256 experts do not come out even on 3"),
        ("flash", Division(8, 3), "256 experts do not come out even on 24"),
        ("pro", Division(8, 5), "384 experts do not come out even on 40"),
        ("flash", Division(1, 1, 44), "43 layers for 44 stages"),
        ("pro", Division(8, 3), None),
        ("pro", Division(16), None),
        ("flash", Division(1, 1, 3), None),
    ],
)
def test_what_cannot_be_cut(name: str, division: Division, why: str | None) -> None:
    found = objection(shape(name), division)
    assert (found is None) if why is None else (found is not None and why in found)


@given(layers=st.integers(1, 70), pipeline=st.integers(1, 64))
@settings(max_examples=60, deadline=None)
def test_every_layer_is_in_one_stage(layers: int, pipeline: int) -> None:
    if pipeline > layers:
        return
    for engine in ("vllm", "sglang"):
        found = stages(layers, pipeline, engine)
        assert [layer for stage in found for layer in stage] == list(range(layers))
        assert {len(stage) for stage in found} <= {layers // pipeline, layers // pipeline + 1}


def test_where_layers_do_not_come_out_even_each_engine_has_its_own_way() -> None:
    assert [len(stage) for stage in stages(43, 4, "vllm")] == [11, 11, 11, 10]
    assert [len(stage) for stage in stages(43, 4, "sglang")] == [10, 11, 11, 11]
    assert [len(stage) for stage in stages(61, 4, "vllm")] == [15, 15, 16, 15]


def test_sglang_keeps_the_shared_expert_of_pro_whole_on_sixteen() -> None:
    assert replicates_shared(shape("pro"), Division(8, 2))  # 24 blocks
    assert not replicates_shared(shape("flash"), Division(8, 2))  # 16 blocks
    assert not replicates_shared(shape("pro"), Division(8, 3))


def test_names_that_look_alike_are_told_apart() -> None:
    assert kind_of("ffn.experts.7.w1.weight") == "experts"
    assert kind_of("ffn.shared_experts.w1.weight") == "shared"
    assert kind_of("attn.wq_b.scale") == "heads"
    assert kind_of("attn.indexer.wq_b.weight") == "whole"  # both engines keep the indexer whole
    assert kind_of("attn.wkv.weight") == "whole"
