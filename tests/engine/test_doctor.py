"""What the doctor finds, and what he says to it."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from engine import doctor
from engine.data_version import settle
from engine.doctor import examine, findings, qt_remedy
from engine.finding import Finding
from engine.gpu_advice import Graphics
from engine.library import credentials
from engine.library.credentials import Credentials, KeyringUnusableError, TokenFacts
from engine.parts import search_path
from engine.parts.part_lock import read_lock
from engine.paths import DataFolder
from engine.placement import hardware
from engine.placement.hardware_record import HardwareRecord, write_record
from engine.placement.measurement import present_fingerprint
from engine.placement.nvidia import NvidiaGpu, Seen
from engine.protocol import Settings
from engine.protocol_encryption import ChangeEncryption
from engine.settings import save_settings
from engine.store.encryption import Encryption
from engine.store.keys import KEY_FILE_VARIABLE
from engine.store.sessions import SessionStore

GET_PYTORCH = "seamount parts install native" if read_lock().fits_here else 'pip install "seamount[native]"'


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Qt, llama.cpp and PyTorch are asked in processes of their own, once in the integration tests."""
    monkeypatch.setattr(doctor, "_TORCH_PROGRAM", "print('9.9')")
    monkeypatch.setattr(doctor, "try_qt", lambda _platform: None)
    monkeypatch.setattr(hardware, "llama_cpp", lambda: hardware.LlamaCpp("1", False, ("AVX2",), ()))


def lines(folder: DataFolder) -> list[str]:
    return [finding.line for finding in findings(folder)]


def test_a_well_machine_is_all_ok(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "talk.script.json").write_text('{"replies": [{}]}')
    assert examine(DataFolder(tmp_path)) == 0
    printed = capsys.readouterr().out.splitlines()
    assert all(line.startswith("ok  ") for line in printed)
    for expected in (
        "Seamount",
        "Python",
        "Qt",
        "processor",
        "memory",
        "AVX2",
        "GPU",
        "data folder",
        "keyring",
    ):
        assert any(expected in line for line in printed), expected


def test_what_is_not_well_says_what_to_do_and_is_the_exit_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "try_qt", lambda _platform: "libEGL.so.1: cannot open shared object file")
    monkeypatch.setattr(hardware, "llama_cpp", lambda: "ModuleNotFoundError: No module named 'llama_cpp'")
    assert examine(DataFolder(tmp_path)) == 1
    bad = [line for line in capsys.readouterr().out.splitlines() if line.startswith("!!")]
    assert any("libEGL.so.1" in line for line in bad)
    assert any("pip install llama-cpp-python" in line for line in bad)


@pytest.mark.parametrize(
    ("installed", "program", "line"),
    [
        (True, "print('9.9')", "ok  the native engine can run (PyTorch 9.9): `--backend native` asks for it"),
        (
            True,
            "raise ImportError('libtorch.so is broken')",
            "!!  the native engine cannot run, because PyTorch cannot be loaded (ImportError: libtorch.so is "
            'broken): install it again with `pip install "seamount[native]"`',
        ),
        (
            False,
            "",
            "ok  the native engine cannot run, because PyTorch is not installed, which nothing else needs: "
            f"`{GET_PYTORCH}` brings it",
        ),
    ],
)
def test_whether_the_native_engine_can_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: bool, program: str, line: str
) -> None:
    """It is something more: its absence is no fault of the machine's."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        doctor.importlib.util,
        "find_spec",
        lambda name: (object() if installed else None) if name == "torch" else find_spec(name),
    )
    monkeypatch.setattr(doctor, "_TORCH_PROGRAM", program)
    assert line in lines(DataFolder(tmp_path))


@pytest.mark.skipif(not read_lock().fits_here, reason="the part is for another Python or machine")
def test_a_pytorch_that_was_installed_as_a_part_is_named_and_tried_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = DataFolder(tmp_path)
    part = search_path.native_part(folder)
    variant = part.lock.variant[0]
    packages = part.place(variant)
    packages.mkdir(parents=True)
    (packages / "part.json").write_bytes(part.note(variant))
    # The Python that runs the tests may have a PyTorch, which would count first.
    monkeypatch.setattr(search_path, "settle", lambda _part: packages)
    monkeypatch.setattr(doctor, "_TORCH_PROGRAM", "import sys; print(sys.argv[1:])")
    find_spec = importlib.util.find_spec
    there = lambda name: object() if name == "torch" else find_spec(name)  # noqa: E731
    monkeypatch.setattr(doctor.importlib.util, "find_spec", there)
    told = lines(folder)
    assert f"ok  PyTorch is installed in {packages}, 735 MB (cpu)" in told
    assert (
        f"ok  the native engine can run (PyTorch {[str(packages)]}): `--backend native` asks for it" in told
    )
    monkeypatch.setattr(doctor, "_TORCH_PROGRAM", "raise ImportError('it is torn')")
    broken = [line for line in lines(folder) if line.startswith("!!  the native engine cannot run")]
    assert "remove it with `seamount parts remove native`, and install it again" in broken[0]
    (packages / "part.json").write_bytes(part.note(variant))
    packages.rename(packages.with_name("native-0000"))
    monkeypatch.setattr(search_path, "settle", lambda _part: packages.with_name("native-0000"))
    assert any("has a newer set: `seamount parts install native`" in line for line in lines(folder))


def test_a_data_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert any(
        line.startswith("!!  Seamount cannot write") for line in lines(DataFolder(tmp_path / "file" / "x"))
    )


def test_the_store_is_looked_at_without_being_touched(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    assert any("no conversations yet" in line for line in lines(folder))
    SessionStore.open(folder.sessions_db).close()
    before = folder.sessions_db.read_bytes()
    assert any("session store of version" in line for line in lines(folder))
    assert folder.sessions_db.read_bytes() == before
    newer = before[:60] + (9999).to_bytes(4, "big") + before[64:]
    folder.sessions_db.write_bytes(newer)
    assert any("version 9999: update Seamount" in line for line in lines(folder))


def test_a_question_that_fails_is_a_line_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def faint() -> hardware.Memory:
        raise OSError("no /proc")

    monkeypatch.setattr(hardware, "memory", faint)
    told = lines(DataFolder(tmp_path))
    assert any("no /proc" in line and line.startswith("!!") for line in told)
    assert any("data folder" in line for line in told)


@pytest.mark.skipif(sys.platform != "linux", reason="packages have names on Linux")
def test_missing_libraries_are_one_line_to_paste() -> None:
    remedy = qt_remedy("qt.qpa.plugin: libxcb-cursor.so.0: cannot open shared object file")
    assert "libxcb-cursor.so.0 is missing" in remedy
    assert "libegl1" in remedy
    assert "\n" not in remedy
    assert "pip install PySide6" in qt_remedy("ModuleNotFoundError: No module named 'PySide6'")


def test_what_a_container_withholds_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        hardware, "processor", lambda: hardware.Processor("CPU", 8, 16, 16, 2, ("AVX2", "AVX512"))
    )
    monkeypatch.setattr(hardware, "memory", lambda: hardware.Memory(8 * 10**9, 4 * 10**9, 10**9, True))
    monkeypatch.setattr(hardware, "surroundings", lambda: hardware.Surroundings(True, "Docker"))
    told = lines(DataFolder(tmp_path))
    for text in (
        "2 cores granted",
        "8.0 GB (this container's limit)",
        "swap 1.0 GB",
        "in a container (Docker)",
        "runs on battery",
        "also has AVX512",
    ):
        assert any(text in line and line.startswith("ok") for line in told), text


def test_a_measurement_is_told_until_the_machine_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = DataFolder(tmp_path)
    assert any("bench --hardware" in line for line in lines(folder))
    record = HardwareRecord(
        measured_at=1.7e9,
        fingerprint=present_fingerprint(folder.models),
        memory_threads=2,
        memory_bytes_per_s=2.5e10,
        memory_one_bytes_per_s=1e10,
        arithmetic_per_s=1e11,
    )
    write_record(tmp_path, record)
    assert any("25 GB/s by 2 threads" in line for line in lines(folder))
    monkeypatch.setattr(hardware, "memory", lambda: hardware.Memory(1 << 50, 1 << 49))
    told = lines(folder)
    assert any("the machine changed" in line for line in told)
    assert not any("25 GB/s" in line for line in told)


def test_a_finding_is_a_line() -> None:
    assert Finding("disk").line == "ok  disk"
    assert Finding("disk full", False, "free some space").line == "!!  disk full: free some space"


def test_where_models_go_and_who_may_fetch_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_ENDPOINT", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    folder, disk = DataFolder(tmp_path / "data"), tmp_path / "disk"
    folder.create()
    settings = Settings(checkpoints_folder=str(disk), hub_endpoint="https://mirror.example", offline=True)
    save_settings(folder.settings, settings)

    def facts(_self: Credentials, _endpoint: str) -> TokenFacts:
        return TokenFacts("this_run")

    monkeypatch.setattr(Credentials, "facts", facts)
    found = lines(folder)
    assert any(line.startswith(f"ok  models go to {folder.models}, ") for line in found)
    assert any(line.startswith(f"ok  checkpoints go to {disk}, ") for line in found)
    assert "ok  hub https://mirror.example, which is not asked (offline mode)" in found
    assert "ok  access token for it: for this run" in found
    save_settings(folder.settings, Settings(hub_endpoint="nonsense"))
    assert any(
        line.startswith("!!  The hub cannot be asked") and "https://HOST" in line for line in lines(folder)
    )


def test_a_keyring_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "keyring_name", lambda: "SecretService")
    assert "ok  keyring SecretService" in lines(DataFolder(tmp_path))

    def none() -> str:
        raise KeyringUnusableError("this system has no keyring")

    monkeypatch.setattr(credentials, "keyring_name", none)
    assert any("until the engine ends" in line for line in lines(DataFolder(tmp_path)))


def test_whether_conversations_are_encrypted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, key_file = DataFolder(tmp_path / "data"), tmp_path / "key"
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(key_file))
    assert "ok  The conversations are not encrypted" in lines(folder)
    Encryption(folder).change(ChangeEncryption(on=True))
    Encryption(folder).settle()
    (folder.root / "sessions.db.old").write_bytes(plain_store(tmp_path))
    found = lines(folder)
    assert any(line.startswith("ok  The conversations are encrypted") for line in found)
    assert any(line.startswith("!!") and "sessions.db.old" in line for line in found)
    assert any("session store of version" in line for line in found)
    key_file.unlink()
    assert any(line.startswith("!!  The conversations stay locked") for line in lines(folder))


def plain_store(tmp_path: Path) -> bytes:
    SessionStore.open(tmp_path / "plain.db").close()
    return (tmp_path / "plain.db").read_bytes()


def test_the_gpus_that_are_used_and_their_slots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = hardware.Gpu("H100", 80 * 10**9, 70 * 10**9, "CUDA0", "CUDA", False, "0000:c1:00.0")
    built = hardware.LlamaCpp("0.3.36", True, ("AVX2",), (gpu,), ("CUDA", "CPU"))
    card = NvidiaGpu("H100", "0000:c1:00.0", "GPU-0", 81 * 10**9, 6 * 10**9, "580.1", 1, 16, 5, 16)
    monkeypatch.setattr(hardware, "llama_cpp", lambda: built)
    monkeypatch.setattr(doctor, "nvidia_gpus", lambda: Seen((card,), 1))
    monkeypatch.setattr(
        doctor, "refreshed", lambda gpus: tuple(replace(gpu, free_bytes=6 * 10**9) for gpu in gpus)
    )  # type: ignore[reportUnknownLambdaType]
    found = lines(DataFolder(tmp_path))
    assert "ok  GPU H100 by CUDA as CUDA0, 80 GB, 6.0 GB of it free" in found
    assert "ok  its slot: PCIe 5 with 16 lanes, now 1 with 16; driver 580.1" in found
    assert any(line.startswith("!!  a GPU of NVIDIA's does not answer") for line in found)
    assert not any("no GPU is used" in line for line in found)


def test_a_gpu_that_is_not_used_gets_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "graphics", lambda: Graphics(("AMD",)))
    found = lines(DataFolder(tmp_path))
    assert any("built for the processor alone" in line for line in found)
    assert any("GGML_VULKAN=on" in line and str(tmp_path / "llama.cpp" / "vulkan") in line for line in found)


def test_a_build_that_is_refused_and_one_that_is_not_chosen(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    for name in ("libllama.so", "libllama.dylib", "llama.dll"):
        (folder.llama_builds / "cuda" / "lib").mkdir(parents=True, exist_ok=True)
        (folder.llama_builds / "cuda" / "lib" / name).write_bytes(b"")
    assert (
        f"ok  another build lies in {folder.llama_builds / 'cuda'}: it can be chosen in the settings"
        in lines(folder)
    )
    save_settings(folder.settings, Settings(llama_cpp_folder=str(tmp_path / "gone")))
    found = lines(folder)
    assert any(line.startswith("!!  The llama.cpp in") and "gone is not used" in line for line in found)
    assert any(line.startswith("ok  llama.cpp (llama-cpp-python 1)") for line in found)


def test_a_build_for_gpus_that_sees_none_is_not_called_one_for_the_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = hardware.LlamaCpp("0.3.36", False, ("AVX2",), (), ("Vulkan", "CPU"), variant="haswell")
    monkeypatch.setattr(hardware, "llama_cpp", lambda: built)
    monkeypatch.setattr(doctor, "graphics", lambda: Graphics(("AMD",)))
    found = lines(DataFolder(tmp_path))
    assert any("CPU code for AVX2, its variant for processors like haswell" in line for line in found)
    assert any("has code for Vulkan, sees none" in line for line in found)
    assert not any("GGML_" in line for line in found)
    monkeypatch.setattr(doctor, "graphics", lambda: Graphics(()))
    assert any("no GPU is used, because none of a maker" in line for line in lines(DataFolder(tmp_path)))


def test_a_backend_that_is_left_out_is_named_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashed = "its driver crashed (SIGSEGV)"
    built = hardware.LlamaCpp(
        "0.3.36", False, ("AVX2",), (), ("CPU",), variant="zen4", left_out=(("vulkan", crashed),)
    )
    monkeypatch.setattr(hardware, "llama_cpp", lambda: built)
    monkeypatch.setattr(doctor, "graphics", lambda: Graphics(("Intel",)))
    found = lines(DataFolder(tmp_path))
    assert any(line.startswith("!!  Vulkan is not used") and "SIGSEGV" in line for line in found)
    # One for GPUs is there: that another is built is no advice.
    assert not any("built for the processor alone" in line or "GGML_" in line for line in found)


def test_who_used_the_folder_last_and_the_backups_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = DataFolder(tmp_path)
    folder.settings.write_text("format = 1\n")
    for name in ("0.1.0", "0.2.0"):
        monkeypatch.setattr("engine.data_version.version", lambda name=name: name)
        settle(folder)
    [finding] = doctor._versions(folder)
    assert finding.well and finding.what.endswith("newer versions: before-0.2.0.seamount")
    monkeypatch.setattr("engine.data_version.version", lambda: "0.1.0")
    used, refused = doctor._versions(folder)
    assert used.well and not refused.well
    assert "0.2.0" in refused.line and "seamount restore" in refused.line
