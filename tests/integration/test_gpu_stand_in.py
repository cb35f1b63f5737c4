"""Plans and loads on a llama.cpp that reaches a GPU: a real one, or a software one that stands in for it.

    SEAMOUNT_GPU_LIBRARIES=FOLDER .venv/bin/pytest tests/integration/test_gpu_stand_in.py

FOLDER holds the libraries of a build from the sources of the installed llama-cpp-python. Mesa's lavapipe is a Vulkan
device that any Linux machine has (package mesa-vulkan-drivers); llama.cpp takes it where GGML_VK_VISIBLE_DEVICES=0 is
set, and VK_DRIVER_FILES names its file lvp_icd.*.json. It computes slowly and compiles its programs anew in each
process, for two minutes or more, so a model computes in one test only.
"""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from convert.conversion import convert
from engine.backends.ggml_library import FOLDER_VARIABLE
from engine.llama_builds import LlamaBuilds
from engine.paths import DataFolder
from tests.convert.conversions import checkpoint, job

LIBRARIES = os.environ.get("SEAMOUNT_GPU_LIBRARIES", "")
LIMIT_S = 900
PROMPT = [5, 6]
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.timeout(LIMIT_S + 60),
    pytest.mark.skipif(
        not LIBRARIES, reason="SEAMOUNT_GPU_LIBRARIES names no folder of a llama.cpp that reaches a GPU"
    ),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two small V4s: one with experts that outweigh all else, one with fewer layers."""
    folder = tmp_path_factory.mktemp("v4")
    made: dict[str, Path] = {}
    for name, changes in {"model": {"n_routed_experts": 32}, "other": {"n_routed_experts": 8}}.items():
        source = checkpoint(folder / name, "0731", seed=3, **changes)
        made[name] = convert(job(source, folder / f"{name}.gguf", draft="skip"))[0]
    return made


def load(path: Path, *, libraries: str = LIBRARIES, **asked: Any) -> dict[str, Any]:
    """What `stand_in_load` answers; by llama-cpp-python's own libraries where `libraries` is empty."""
    environment = {key: value for key, value in os.environ.items() if key != FOLDER_VARIABLE}
    if libraries:
        environment[FOLDER_VARIABLE] = libraries
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.stand_in_load"],
        input=json.dumps({"path": str(path)} | asked),
        capture_output=True,
        text=True,
        errors="replace",
        env=environment,
        timeout=LIMIT_S,
    )
    line = next((line for line in done.stdout.splitlines() if line.startswith("answer ")), None)
    assert line is not None, done.stderr[-2000:]
    return json.loads(line.removeprefix("answer "))


def test_the_build_is_one_that_may_be_used_and_reaches_a_gpu(tmp_path: Path) -> None:
    _, found = LlamaBuilds(DataFolder(tmp_path)).judge(Path(LIBRARIES))
    assert found.gpu_offload
    assert found.gpus
    for gpu in found.gpus:
        assert gpu.backend in found.backends
        assert gpu.device.startswith(gpu.backend)
        assert 0 < gpu.free_bytes <= gpu.total_bytes


def test_all_that_fits_goes_to_the_gpu_and_takes_what_was_planned(models: dict[str, Path]) -> None:
    loaded = load(models["model"])
    assert loaded["gpu"] == loaded["devices"][0], loaded
    assert loaded["patterns"] == []
    keeps_to_its_plan(loaded)


def test_within_a_budget_experts_stay_in_ram_and_it_takes_what_was_planned(models: dict[str, Path]) -> None:
    everything = load(models["model"])
    # Not enough for all weights, by a third of them.
    budget = everything["gpu_bytes"] - everything["weights_on_gpu_bytes"] // 3
    loaded = load(models["model"], budget_bytes=budget)
    assert loaded["gpu"] is not None, loaded
    assert loaded["gpu_bytes"] <= budget
    assert 0 < loaded["weights_on_gpu_bytes"] < everything["weights_on_gpu_bytes"]
    keeps_to_its_plan(loaded)


@pytest.mark.parametrize("budget", [0, 1 << 20])
def test_no_budget_or_too_small_a_one_is_the_processor_alone(models: dict[str, Path], budget: int) -> None:
    loaded = load(models["model"], budget_bytes=budget)
    assert loaded["gpu"] is None, loaded
    assert loaded["gpu_bytes"] == loaded["taken_gpu_bytes"] == 0
    keeps_to_its_plan(loaded)


def test_a_plan_for_another_file_is_an_error_and_not_ignored(
    models: dict[str, Path], starter_path: Path
) -> None:
    everything = load(models["model"])
    budget = everything["gpu_bytes"] - everything["weights_on_gpu_bytes"] // 3
    planned = load(models["model"], budget_bytes=budget)
    if not planned["patterns"]:
        pytest.skip("this plan leaves whole layers to the processor, so there is no pattern that could fail")
    # The starter model has no experts.
    refused = load(starter_path, planned_for=str(models["model"]), budget_bytes=budget)
    assert refused["patterns"]
    assert "has none of that name" in refused["error"]


def test_the_gpu_answers_as_the_processor_does(models: dict[str, Path]) -> None:
    """With F32 where the cache is: what differs is the order of sums, and how activations are rounded for Q8_0."""
    asked: dict[str, Any] = {"prompt": PROMPT, "tokens": 3, "cache_type": "f32"}
    there = load(models["other"], **asked)
    assert there["gpu"] is not None, there
    assert there["weights_on_gpu_bytes"] > 0
    here = load(models["other"], libraries="", **asked)
    assert here["gpu"] is None
    span = max(here["logits"]) - min(here["logits"])
    worst = max(abs(one - other) for one, other in zip(there["logits"], here["logits"], strict=True))
    assert math.isfinite(worst)
    assert worst < 0.05 * span
    assert there["written"][0] == here["written"][0]


def keeps_to_its_plan(loaded: dict[str, Any]) -> None:
    """Within 3 %; what the driver takes beside is not told by llama.cpp."""
    planned = loaded["gpu_bytes"] - loaded["driver_bytes"]
    assert loaded["taken_gpu_bytes"] == pytest.approx(planned, rel=0.03), loaded
    assert loaded["taken_ram_bytes"] == pytest.approx(loaded["ram_bytes"], rel=0.03), loaded
