"""What a plan means for llama.cpp, by name."""

import re

import pytest

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
        setattr(context, name, value)
        assert name in {field[0] for field in context._fields_}
    assert found.model_parameters()["main_gpu"] == 0


def test_the_processor_alone() -> None:
    little = plan(flash(), Room(64 * GB, 56 * GB, 8), Wishes(8192))
    assert little.model_parameters() == {
        "load_mode": "LLAMA_LOAD_MODE_MMAP",
        "use_extra_bufts": False,
        "n_gpu_layers": 0,
    }
    assert little.tensors_in_ram() == ()
    small = plan(dense_model(), Room(64 * GB, 56 * GB, 8), Wishes(2048, cache_type="q8_0"))
    assert small.model_parameters()["use_extra_bufts"] is True
    parameters = small.context_parameters()
    assert parameters["type_k"] == parameters["type_v"] == 8
    assert (parameters["n_ctx"], parameters["n_threads"], parameters["swa_full"]) == (2048, 7, True)


def test_the_patterns_match_the_experts_that_stay_and_no_other_tensor() -> None:
    found = plan(flash(), Room(256 * GB, 240 * GB, 16, (Gpu("G", 80 * GB, 79 * GB),)), Wishes(8192))
    (pattern,) = found.tensors_in_ram()
    kept = set(found.expert_layers_in_ram)
    assert 0 < len(kept) < 43
    for layer in range(43):
        for part in ("gate", "up", "down"):
            assert bool(re.search(pattern, f"blk.{layer}.ffn_{part}_exps.weight")) is (layer in kept)
            assert not re.search(pattern, f"blk.{layer}.ffn_{part}_shexp.weight")
    assert not re.search(pattern, "output.weight")
