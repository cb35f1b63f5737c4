"""Finding and starting engines. Real ones are started in tests/integration."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from engine.errors import DataFolderError
from engine.folder_lock import noted
from engine.launch import (
    LARGEST_LOG_BYTES,
    EngineAddress,
    EngineProcess,
    child_environment,
    long_work,
    running_engine,
)
from engine.paths import DataFolder

ADDRESS = {"url": "http://127.0.0.1:1", "key": "k", "pid": os.getpid()}


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    found = DataFolder(tmp_path)
    found.create()
    return found


def test_an_engine_runs_where_the_lock_is_held_and_the_process_lives(folder: DataFolder) -> None:
    assert running_engine(folder) is None
    folder.engine_address.write_text(json.dumps(ADDRESS))
    # What a crash left behind: the lock is free.
    assert running_engine(folder) is None
    with FileLock(folder.engine_lock):
        assert running_engine(folder) == EngineAddress("http://127.0.0.1:1", "k", os.getpid())
        folder.engine_address.write_text(json.dumps(ADDRESS | {"pid": 2**22 + 12345}))
        assert running_engine(folder) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"url": "x"}', '{"url": "x", "key": "k", "pid": "p"}'])
def test_an_address_that_cannot_be_read_is_none(folder: DataFolder, content: str) -> None:
    folder.engine_address.write_text(content)
    with FileLock(folder.engine_lock):
        assert running_engine(folder) is None


def test_what_takes_long_counts_while_the_lock_is_held_and_the_process_lives(folder: DataFolder) -> None:
    assert long_work(folder) is None
    with noted(folder, "the conversations are being encrypted"):
        assert long_work(folder) is None  # what a crash left behind
        with FileLock(folder.engine_lock):
            assert long_work(folder) == "the conversations are being encrypted"
            folder.long_work.write_text(json.dumps({"words": "something", "pid": 2**22 + 12345}))
            assert long_work(folder) is None


def ended(folder: DataFolder, program: str, before: str = "") -> EngineProcess:
    """A stand-in for an engine that has ended, its output in the log after `before`."""
    folder.engine_log.write_text(before)
    with folder.engine_log.open("ab") as log:
        process = subprocess.Popen([sys.executable, "-c", program], stdout=log, stderr=log)
        process.wait()
    return EngineProcess(process, folder, len(before))


def test_the_last_words_of_this_start_are_the_sentence(folder: DataFolder) -> None:
    program = "import sys; print('noise'); sys.exit('seamount: The disk is full: it is; free some space.')"
    assert (
        ended(folder, program, "seamount: old news.\n").failure()
        == "The disk is full: it is; free some space."
    )


def test_without_last_words_the_status_speaks(folder: DataFolder) -> None:
    silent = ended(folder, "raise SystemExit(9)", "seamount: old news.\n").failure()
    assert "status 9" in silent
    assert "engine.log" in silent
    assert "old news" not in silent
    assert "restart it" in ended(folder, "pass").failure()


@pytest.mark.skipif(sys.platform == "win32", reason="signals end processes on POSIX")
def test_a_signal_is_named_and_for_9_memory_is_suspected(folder: DataFolder) -> None:
    killed = ended(folder, "import os; os.kill(os.getpid(), 9)").failure()
    assert "signal 9" in killed
    assert "memory" in killed
    crashed = ended(folder, "import os; os.kill(os.getpid(), 6)").failure()
    assert "SIGABRT" in crashed
    assert "memory" not in crashed


def test_a_long_log_is_set_aside_when_an_engine_starts(folder: DataFolder) -> None:
    folder.engine_log.write_bytes(b"x" * (LARGEST_LOG_BYTES + 1))
    process = EngineProcess.start(folder, linger_s=None, arguments=["--port", "65536"])
    assert process.wait(30) == 2
    assert process.address() is None
    assert folder.engine_log.stat().st_size < 10_000
    assert (folder.logs / "engine.old.log").stat().st_size == LARGEST_LOG_BYTES + 1


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataFolderError, match="cannot write"):
        EngineProcess.start(DataFolder(tmp_path / "file" / "data"), linger_s=None)


def test_a_log_that_cannot_be_written_is_a_sentence(folder: DataFolder) -> None:
    folder.engine_log.mkdir()
    with pytest.raises(DataFolderError) as raised:
        EngineProcess.start(folder, linger_s=None)
    assert "log" in raised.value.text
    assert "permission" in raised.value.text


def test_a_child_finds_the_packages_first_and_a_bundles_child_brings_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/theirs")
    ours, theirs = child_environment()["PYTHONPATH"].split(os.pathsep)
    assert (Path(ours) / "seamount" / "__main__.py").is_file()
    assert theirs == "/theirs"
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert child_environment() == dict(os.environ)
