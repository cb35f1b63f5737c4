"""What this machine is."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from engine.placement import control_groups, hardware
from engine.placement.control_groups import Limits


def test_the_processor_and_the_memory_make_sense() -> None:
    cpu = hardware.processor()
    assert cpu.name
    assert 1 <= cpu.physical <= cpu.logical
    assert 1 <= cpu.usable <= cpu.logical
    assert 1 <= cpu.cores <= cpu.physical
    ram = hardware.memory()
    assert 0 < ram.available_bytes <= ram.total_bytes
    assert ram.swap_bytes >= 0


def test_a_container_that_is_limited_has_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    free = hardware.memory()
    monkeypatch.setattr(control_groups, "limits", lambda: Limits(1 << 30, 1 << 29, 0, 1.9))
    ram = hardware.memory()
    assert (ram.total_bytes, ram.available_bytes, ram.swap_bytes, ram.limited) == (1 << 30, 1 << 29, 0, True)
    assert hardware.processor().cores == 1
    # A limit above what the machine has is none.
    monkeypatch.setattr(control_groups, "limits", lambda: Limits(1 << 59, 1 << 59, 1 << 59, 1e6))
    roomy = hardware.memory()
    assert (roomy.total_bytes, roomy.limited) == (free.total_bytes, False)


def test_the_disk_of_a_folder_is_that_of_the_nearest_mount(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    parts = [
        SimpleNamespace(device="/dev/a", fstype="ext4", mountpoint="/"),
        SimpleNamespace(device="/dev/b", fstype="xfs", mountpoint=str(tmp_path)),
        SimpleNamespace(device="/dev/c", fstype="xfs", mountpoint=f"{tmp_path}/model"),
    ]
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: parts)
    assert hardware.disk_of(tmp_path / "models" / "deep") == "/dev/b xfs"
    assert hardware.disk_of(tmp_path / "model") == "/dev/c xfs"
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: [])
    assert hardware.disk_of(tmp_path) == "unknown"


@pytest.mark.parametrize(
    ("battery", "on_battery"),
    [(None, None), (SimpleNamespace(power_plugged=None), None), (SimpleNamespace(power_plugged=False), True)],
)
def test_a_battery(monkeypatch: pytest.MonkeyPatch, battery: object, on_battery: bool | None) -> None:
    monkeypatch.setattr(psutil, "sensors_battery", lambda: battery, raising=False)
    assert hardware.surroundings().on_battery is on_battery


def test_a_container_is_seen_by_its_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert hardware.surroundings().container == "Kubernetes"


def test_llama_cpp_says_how_it_was_built() -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    built = hardware.llama_cpp()
    assert isinstance(built, hardware.LlamaCpp), built
    assert built.version
    assert all(feature.isidentifier() for feature in built.features)
    assert built.backends
    assert built.ggml[0].isdigit()
    assert built.llama[0].isdigit()
    assert json.loads(built.defaults)[1][:2] == [
        512,
        2048,
    ]  # n_ctx and n_batch of llama_context_default_params


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("raise ImportError('libfoo.so.1 is missing')", "libfoo.so.1"),
        ("raise SystemExit(3)", "status 3"),
        ("print('hello')", "did not say"),
    ],
)
def test_a_llama_cpp_that_cannot_be_had_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, program: str, said: str
) -> None:
    monkeypatch.setattr(hardware, "_LLAMA_QUESTION", program)
    found = hardware.llama_cpp()
    assert isinstance(found, str)
    assert said in found


def test_what_lies_in_the_working_folder_is_not_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hardware, "_LLAMA_QUESTION", "import json; raise SystemExit(3)")
    assert "status 3" in str(hardware.llama_cpp())


def test_one_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        hardware, "_LLAMA_QUESTION", "input()" if sys.platform == "none" else "while True: pass"
    )
    assert "did not answer" in str(hardware.llama_cpp(timeout_s=0.2))


@pytest.mark.skipif(sys.platform == "win32", reason="a process has no signals")
def test_a_crash_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_LLAMA_QUESTION", "import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    assert hardware.llama_cpp() == "it crashed (SIGILL)"


def test_other_libraries_can_be_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(
        hardware, "_LLAMA_QUESTION", "import os; raise SystemExit(os.environ['LLAMA_CPP_LIB_PATH'])"
    )
    assert hardware.llama_cpp(libraries=tmp_path) == str(tmp_path)
