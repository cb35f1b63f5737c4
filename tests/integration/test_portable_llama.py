"""The llama.cpp for any processor: each variant of it that this one can run answers, and its Vulkan backend does.

    python packaging/llama_portable.py && .venv/bin/pytest -m slow tests/integration/test_portable_llama.py

SEAMOUNT_PORTABLE_LLAMA names the folder of one that was built elsewhere. Vulkan is tried on Mesa's lavapipe (package
mesa-vulkan-drivers), a device made of the processor, which compiles its programs anew in each process.
"""

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.backends.ggml_backends import WITHOUT_VARIABLE
from engine.backends.ggml_library import FOLDER_VARIABLE, backend_files
from engine.llama_builds import LlamaBuilds
from engine.paths import DataFolder
from engine.placement import hardware
from tests.support.portable_llama import HOW, portable_folder

LIBRARIES = portable_folder()
LIMIT_S = 600
PROMPT = [504, 3575, 2421, 6519, 837]
TOKENS = 8
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(LIMIT_S + 60),
    pytest.mark.skipif(LIBRARIES is None, reason=f"the portable llama.cpp is not built here (`{HOW}`)"),
]
FLAGS = {
    "SSE42": "sse4_2",
    "AVX": "avx",
    "F16C": "f16c",
    "FMA": "fma",
    "AVX2": "avx2",
    "BMI2": "bmi2",
    "AVX_VNNI": "avx_vnni",
    "AVX512": "avx512f",
    "VBMI": "avx512vbmi",
    "VNNI": "avx512_vnni",
    "BF16": "avx512_bf16",
    "AMX": "amx_int8",
}
_HASWELL = ("SSE42", "AVX", "F16C", "FMA", "AVX2", "BMI2")
_SKYLAKEX = (*_HASWELL, "AVX512")
NEEDS = {
    "x64": (),
    "sse42": ("SSE42",),
    "sandybridge": ("SSE42", "AVX"),
    "ivybridge": ("SSE42", "AVX", "F16C"),
    "piledriver": ("SSE42", "AVX", "F16C", "FMA"),
    "haswell": _HASWELL,
    "alderlake": (*_HASWELL, "AVX_VNNI"),
    "skylakex": _SKYLAKEX,
    "cannonlake": (*_SKYLAKEX, "VBMI"),
    "cascadelake": (*_SKYLAKEX, "VNNI"),
    "icelake": (*_SKYLAKEX, "VBMI", "VNNI"),
    "cooperlake": (*_SKYLAKEX, "VNNI", "BF16"),
    "zen4": (*_SKYLAKEX, "VBMI", "VNNI", "BF16"),
    "sapphirerapids": (*_SKYLAKEX, "VBMI", "VNNI", "BF16", "AMX"),
}
"""What each variant uses beyond the first x86-64 (ggml/src/CMakeLists.txt); by Linux's names in `FLAGS`."""
ICD = next(Path("/usr/share/vulkan/icd.d").glob("lvp_icd.*.json"), None)
LAVAPIPE = {"VK_DRIVER_FILES": str(ICD), "GGML_VK_VISIBLE_DEVICES": "0"}
needs_lavapipe = pytest.mark.skipif(ICD is None, reason="lavapipe (mesa-vulkan-drivers) is not installed")


def can_run(variant: str) -> bool:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return {FLAGS[need] for need in NEEDS[variant]} <= set(line.split())
    raise AssertionError("this processor does not tell its features")


def with_variants(folder: Path, *variants: str) -> Path:
    """A build with these variants alone, and without Vulkan."""
    assert LIBRARIES is not None
    folder.mkdir()
    names = ["libllama.so", "libggml.so", "libggml-base.so", *(f"libggml-cpu-{each}.so" for each in variants)]
    for name in names:
        (folder / name).symlink_to(LIBRARIES / name)
    return folder


def run(module: str, libraries: Path | None, asked: object = None, **variables: str) -> Any:
    environment = {key: value for key, value in os.environ.items() if key != FOLDER_VARIABLE} | variables
    if libraries is not None:
        environment[FOLDER_VARIABLE] = str(libraries)
    return subprocess.run(
        [sys.executable, "-m", module],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        errors="replace",
        env=environment,
        timeout=LIMIT_S,
    )


def answered(path: Path, libraries: Path | None, tokens: int = TOKENS, **variables: str) -> dict[str, Any]:
    asked = {"path": str(path), "prompt": PROMPT, "tokens": tokens, "cache_type": "f32"}
    done = run("tests.integration.stand_in_load", libraries, asked, **variables)
    line = next((line for line in done.stdout.splitlines() if line.startswith("answer ")), None)
    assert line is not None, done.stderr[-2000:]
    return json.loads(line.removeprefix("answer "))


@pytest.fixture(scope="module")
def native(starter_path: Path) -> dict[str, Any]:
    """What the build for this very processor answers."""
    return answered(starter_path, None)


def near(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether the same token is written first, by logits that differ as rounding makes them differ."""
    span = max(other["logits"]) - min(other["logits"])
    worst = max(abs(a - b) for a, b in zip(one["logits"], other["logits"], strict=True))
    return worst < 0.05 * span and one["written"][0] == other["written"][0]


@pytest.mark.parametrize("variant", NEEDS)
def test_each_variant_answers_or_is_refused_by_its_score(
    variant: str, tmp_path: Path, starter_path: Path, native: dict[str, Any]
) -> None:
    libraries = with_variants(tmp_path / "build", variant)
    found = hardware.llama_cpp(libraries=libraries)
    if not can_run(variant):
        score = ctypes.CDLL(str(libraries / f"libggml-cpu-{variant}.so")).ggml_backend_score
        assert score() == 0
        assert isinstance(found, str)
        assert "no code that runs on this processor" in found
        return
    assert isinstance(found, hardware.LlamaCpp), found
    assert found.variant == variant
    assert found.backends == ("CPU",)
    assert near(answered(starter_path, libraries), native)


def test_the_whole_build_takes_the_best_variant_and_is_one_that_may_be_used(
    tmp_path: Path, starter_path: Path, native: dict[str, Any]
) -> None:
    assert LIBRARIES is not None
    assert set(backend_files(LIBRARIES)["cpu"]) == set(NEEDS)
    _, found = LlamaBuilds(DataFolder(tmp_path)).judge(LIBRARIES)
    best = [variant for variant in NEEDS if can_run(variant)][-1]
    assert len(NEEDS[found.variant]) == len(NEEDS[best])
    assert near(answered(starter_path, LIBRARIES), native)


@needs_lavapipe
def test_a_software_device_is_never_taken_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VK_DRIVER_FILES", str(ICD))
    monkeypatch.delenv("GGML_VK_VISIBLE_DEVICES", raising=False)
    found = hardware.llama_cpp(libraries=LIBRARIES)
    assert isinstance(found, hardware.LlamaCpp), found
    assert "Vulkan" in found.backends
    assert found.gpus == ()


@needs_lavapipe
def test_vulkan_lists_a_device_and_it_answers_as_the_processor_does(
    starter_path: Path, native: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in LAVAPIPE.items():
        monkeypatch.setenv(name, value)
    found = hardware.llama_cpp(libraries=LIBRARIES)
    assert isinstance(found, hardware.LlamaCpp), found
    (gpu,) = found.gpus
    assert (gpu.backend, gpu.device) == ("Vulkan", "Vulkan0")
    there = answered(starter_path, LIBRARIES, tokens=3)
    assert there["gpu"] == gpu.name
    assert there["weights_on_gpu_bytes"] > 0
    assert near(there, native)


@needs_lavapipe
def test_a_plan_without_the_gpu_computes_the_same_bits_as_where_there_is_none(starter_path: Path) -> None:
    """What the keys of kept states rely on (`llama_keys`)."""
    here = answered(starter_path, LIBRARIES, **{WITHOUT_VARIABLE: "vulkan"})
    asked = {"path": str(starter_path), "prompt": PROMPT, "tokens": TOKENS, "cache_type": "f32"}
    done = run("tests.integration.stand_in_load", LIBRARIES, asked | {"budget_bytes": 0}, **LAVAPIPE)
    line = next(line for line in done.stdout.splitlines() if line.startswith("answer "))
    beside = json.loads(line.removeprefix("answer "))
    assert len(beside["devices"]) == 1
    assert here["devices"] == []
    assert (beside["gpu"], beside["logits"], beside["written"]) == (None, here["logits"], here["written"])


def test_a_driver_that_crashes_is_left_out_and_the_processor_answers(
    tmp_path: Path, starter_path: Path, native: dict[str, Any]
) -> None:
    libraries = with_variants(tmp_path / "build", "x64")
    source = "#include <stdlib.h>\nvoid *ggml_backend_init(void) { abort(); }"
    try:
        subprocess.run(
            [*("cc", "-shared", "-fPIC", "-x", "c", "-", "-o"), str(libraries / "libggml-vulkan.so")],
            input=source,
            text=True,
            check=True,
        )
    except FileNotFoundError:
        pytest.skip("there is no C compiler to make a driver that crashes with")
    found = hardware.llama_cpp(libraries=libraries)
    assert isinstance(found, hardware.LlamaCpp), found
    assert found.left_out == (("vulkan", "its driver crashed (SIGABRT)"),)
    assert near(answered(starter_path, libraries), native)
