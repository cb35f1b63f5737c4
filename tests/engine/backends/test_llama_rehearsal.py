"""A load is rehearsed: what its buffers would take is what they take."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.backends import llama_rehearsal
from engine.backends.llama_log import logger
from engine.backends.llama_rehearsal import rehearse
from engine.backends.llamacpp import LlamaCppBackend
from engine.placement.load_plan import LoadPlan
from engine.placement.planner import ComputeBytes, Room, Wishes, plan
from engine.placement.present_plan import sizes_of_file

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_rehearsal, "_kept", type(llama_rehearsal._kept)())


@pytest.fixture
def planned(starter_path: Path) -> LoadPlan:
    return plan(sizes_of_file(starter_path), Room(8 << 30, 8 << 30, 2), Wishes(512, threads=1))


def test_in_this_process_and_in_another_it_says_the_same_and_what_is_taken(
    starter_path: Path, planned: LoadPlan
) -> None:
    here = rehearse(starter_path, planned, (128, 512), here=True)
    llama_rehearsal._kept.clear()
    assert rehearse(starter_path, planned, (128, 512), here=False) == here
    assert isinstance(here, dict)
    assert 0 < here[128].ram_bytes < here[512].ram_bytes
    backend = LlamaCppBackend.open(
        starter_path, name="s", context_tokens=512, threads=1, on_progress=lambda _: True, plan=planned
    )
    backend.close()
    cache = planned.part_bytes("cache", "ram")
    assert backend.taken is not None
    assert backend.taken.ram_bytes == pytest.approx(cache + here[512].ram_bytes, abs=30_000)
    assert here[512].gpu_bytes == 0


def test_what_was_rehearsed_is_remembered_as_long_as_the_file_is_the_same(
    starter_path: Path, planned: LoadPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(starter_path.read_bytes())
    asked: list[object] = []

    def answer(question: dict[str, Any], _timeout_s: float) -> list[list[int]]:
        asked.append(question)
        return [[1, 2]]

    monkeypatch.setattr(llama_rehearsal, "_asked", answer)
    for _ in range(2):
        assert rehearse(path, planned, (512,), here=False) == {512: ComputeBytes(1, 2)}
    assert len(asked) == 1
    rehearse(path, replace(planned, context_tokens=256), (256,), here=False)
    with path.open("ab") as file:
        file.write(b"more")
    rehearse(path, planned, (512,), here=False)
    assert len(asked) == 3


def test_nothing_of_it_is_in_the_log(
    starter_path: Path, planned: LoadPlan, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger.name)
    rehearse(starter_path, planned, (512,), here=True)
    assert caplog.messages == []


def test_what_cannot_be_loaded_says_why(tmp_path: Path, planned: LoadPlan) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(b"GGUF and no more")
    told = rehearse(path, planned, (512,), here=True)
    assert isinstance(told, str)
    assert told
    assert isinstance(rehearse(tmp_path / "gone.gguf", planned, (512,), here=True), str)
    unreached = replace(planned, gpu="Geforce 9999", gpu_layers=30)
    told = rehearse(path, unreached, (512,), here=True)
    assert isinstance(told, str)
    assert "Geforce 9999" in told


Done = "subprocess.CompletedProcess[str]"


def late(*_: object, **__: object) -> Done:
    raise subprocess.TimeoutExpired("x", 3)


def absent(*_: object, **__: object) -> Done:
    raise OSError("no such program")


def crashed(*_: object, **__: object) -> Done:
    return subprocess.CompletedProcess([], -11, "rehearsed [[1, 2]]\n", "")


def silent(*_: object, **__: object) -> Done:
    return subprocess.CompletedProcess([], 0, "hello\n", "driver: lost\n")


@pytest.mark.parametrize(
    ("run", "why"),
    [(late, "within 3 s"), (absent, "no such program"), (crashed, "status -11"), (silent, "driver: lost")],
)
def test_a_process_that_fails_is_told_and_not_remembered(
    starter_path: Path,
    planned: LoadPlan,
    run: Callable[..., Done],
    why: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(llama_rehearsal.subprocess, "run", run)
    told = rehearse(starter_path, planned, (512,), here=False, timeout_s=3)
    assert isinstance(told, str)
    assert why in told
    assert not llama_rehearsal._kept


def test_a_plan_for_a_gpu_is_never_rehearsed_in_this_process(
    starter_path: Path, planned: LoadPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def run(_command: object, *, input: str, **_: object) -> Done:  # noqa: A002 - subprocess's own name
        asked.append(input)
        return subprocess.CompletedProcess([], 0, "rehearsed [[5, 6]]\n", "")

    monkeypatch.setattr(llama_rehearsal.subprocess, "run", run)
    with_gpu = replace(planned, gpu="G", gpu_layers=30, matrices_in_ram=((1, "up"),))
    assert rehearse(starter_path, with_gpu, (512,), here=True) == {512: ComputeBytes(5, 6)}
    question = json.loads(asked[0])
    assert question["model"]["no_alloc"] is True
    assert question["model"]["load_mode"] == "LLAMA_LOAD_MODE_NONE"
    assert question["patterns"] == list(with_gpu.tensors_in_ram())


def test_asking_loads_no_library() -> None:
    program = "import sys, engine.backends.llama_rehearsal; assert 'llama_cpp' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[3])
