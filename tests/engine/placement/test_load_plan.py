"""What a plan means for llama.cpp, by name."""

import re
from dataclasses import replace

import pytest

from engine.placement.context_sizes import CacheType
from engine.placement.hardware import Gpu
from engine.placement.planner import Room, Wishes, plan
from tests.engine.placement.models import GB, dense_model, flash


def test_every_parameter_exists_in_llama_cpp() -> None:
    low = pytest.importorskip("llama_cpp.llama_cpp", reason="llama-cpp-python is not installed")
    found = plan(flash(), Room(64 * GB, 56 * GB, 8, (Gpu("G", 24 * GB, 23 * GB),)), Wishes(8192))
    model, context = low.llama_model_default_params(), low.llama_context_default_params()
    for name, value in found.model_parameters().items():
        setattr(model, name, getattr(low, value) if isinstance(value, str) else value)
        assert hasattr(model, name)
        assert name in {field[0] for field in model._fields_}
    for name, value in found.context_parameters().items():
        setattr(context, name, getattr(low, value) if isinstance(value, str) else value)
        assert name in {field[0] for field in context._fields_}
    assert found.model_parameters()["main_gpu"] == 0


def test_the_processor_alone() -> None:
    little = plan(flash(), Room(64 * GB, 56 * GB, 8), Wishes(8192))
    assert little.model_parameters() == {
        "load_mode": "LLAMA_LOAD_MODE_MMAP",
        "use_extra_bufts": False,
        "n_gpu_layers": 0,
        "split_mode": "LLAMA_SPLIT_MODE_NONE",
        "main_gpu": -1,  # or a build that reaches a GPU would use it for prompts all the same
    }
    assert little.tensors_in_ram() == ()
    small = plan(dense_model(), Room(64 * GB, 56 * GB, 8), Wishes(2048, cache_type="q8_0"))
    assert small.model_parameters()["use_extra_bufts"] is True
    parameters = small.context_parameters()
    assert parameters["type_k"] == parameters["type_v"] == 8
    assert (parameters["n_ctx"], parameters["n_threads"], parameters["swa_full"]) == (2048, 8, True)


def test_the_patterns_match_the_experts_that_stay_and_no_other_tensor() -> None:
    found = plan(flash(), Room(256 * GB, 240 * GB, 16, (Gpu("G", 80 * GB, 79 * GB),)), Wishes(8192))
    patterns = found.tensors_in_ram()
    kept = set(found.expert_layers_in_ram)
    assert 0 < len(kept) < 43

    def stays(tensor: str) -> bool:
        return any(re.search(pattern, tensor) for pattern in patterns)

    for layer in range(43):
        for part in ("gate", "up", "down"):
            apart = (layer, part) in found.matrices_in_ram
            assert stays(f"blk.{layer}.ffn_{part}_exps.weight") is (layer in kept or apart)
            assert not stays(f"blk.{layer}.ffn_{part}_shexp.weight")
    assert not stays("output.weight")


def test_a_matrix_that_stays_alone_has_a_pattern_of_its_own() -> None:
    found = plan(flash(), Room(256 * GB, 240 * GB, 16, (Gpu("G", 80 * GB, 79 * GB),)), Wishes(8192))
    apart = replace(found, expert_layers_in_ram=(), matrices_in_ram=((1, "gate"),))
    (pattern,) = apart.tensors_in_ram()
    assert re.search(pattern, "blk.1.ffn_gate_exps.weight")
    for other in ("blk.1.ffn_gate_up_exps.weight", "blk.11.ffn_gate_exps.weight", "blk.1.ffn_up_exps.weight"):
        assert not re.search(pattern, other)


def test_llama_cpp_counts_the_output_and_what_it_does_not_load_as_layers() -> None:
    with_gpu = Room(256 * GB, 240 * GB, 16, (Gpu("G", 80 * GB, 79 * GB),))
    found = plan(replace(flash(), idle_layers=1), with_gpu, Wishes(8192))
    assert found.gpu_layers == 43
    assert found.model_parameters()["n_gpu_layers"] == 43 + 1 + 1


@pytest.mark.parametrize(
    ("cache_type", "attention"), [("f32", "DISABLED"), ("f16", "AUTO"), ("q8_0", "ENABLED")]
)
def test_attention_suits_the_cache(cache_type: CacheType, attention: str) -> None:
    found = plan(dense_model(), Room(64 * GB, 56 * GB, 8), Wishes(2048, cache_type=cache_type))
    assert found.context_parameters()["flash_attn_type"] == f"LLAMA_FLASH_ATTN_TYPE_{attention}"


def test_what_computes() -> None:
    room = Room(256 * GB, 240 * GB, 16, (Gpu("G", 80 * GB, 79 * GB),))
    assert plan(flash(), room, Wishes(8192)).reach == "both"
    assert plan(dense_model(), room, Wishes(2048)).reach == "gpu"
    assert plan(dense_model(), replace(room, gpus=()), Wishes(2048)).reach == "processor"
