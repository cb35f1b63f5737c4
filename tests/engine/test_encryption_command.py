"""`seamount sessions encrypt`: what is printed, and what is done at once."""

import io
import re
from contextlib import closing
from pathlib import Path

import pytest

from engine import encryption_command
from engine.cli import main
from engine.encryption_command import encrypt
from engine.errors import BadRequest, EngineRunning, KeyMissing
from engine.folder_lock import locked
from engine.paths import DataFolder
from engine.store.encryption import stored_key_id
from engine.store.keys import KEY_FILE_VARIABLE
from engine.store.sessions import SessionStore

KEY = re.compile(r"\b(?:[A-Z2-7]{4}-){13}[A-Z2-7]{4}\b")


@pytest.fixture
def key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(tmp_path / "key"))
    return tmp_path / "key"


@pytest.fixture
def folder(tmp_path: Path, key_file: Path) -> DataFolder:
    folder = DataFolder(tmp_path / "data")
    folder.create()
    with closing(SessionStore.open(folder.sessions_db)) as store:
        store.create_session("quixotic")
    return folder


def test_on_off_and_what_is_so(
    folder: DataFolder, key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert encrypt(folder, None) == 0
    assert "are not encrypted" in capsys.readouterr().out
    assert encrypt(folder, "on") == 0
    said = capsys.readouterr().out
    assert KEY.findall(said) == [key_file.read_text().strip()]
    assert "are encrypted; their key is in the file" in said
    assert b"quixotic" not in folder.sessions_db.read_bytes()
    assert encrypt(folder, "on") == 0
    assert KEY.search(capsys.readouterr().out) is None
    assert encrypt(folder, "off") == 0
    assert "are not encrypted" in capsys.readouterr().out
    assert b"quixotic" in folder.sessions_db.read_bytes()


def test_as_it_is_typed(folder: DataFolder, capsys: pytest.CaptureFixture[str]) -> None:
    def seamount(*arguments: str) -> int:
        command = ["--data", str(folder.root), "sessions", "encrypt", *arguments]
        return main(command, open_window=lambda _: 9)

    (folder.root / "sessions.db.backup-v1-20250101").write_bytes(folder.sessions_db.read_bytes())
    assert seamount("--remove-plain-files") != 0
    assert "add --on" in capsys.readouterr().err
    assert seamount("--on") == 0
    assert "sessions.db.backup-v1-20250101" in capsys.readouterr().out
    assert seamount("--on", "--remove-plain-files") == 0
    assert "backup" not in capsys.readouterr().out
    assert not (folder.root / "sessions.db.backup-v1-20250101").exists()
    assert seamount() == 0
    assert seamount("--off") == 0
    assert stored_key_id(folder.sessions_db) is None
    with pytest.raises(SystemExit):
        seamount("--on", "--off")


def test_a_lost_key_is_given_back(
    folder: DataFolder,
    key_file: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encrypt(folder, "on")
    [key] = KEY.findall(capsys.readouterr().out)
    key_file.unlink()
    with pytest.raises(KeyMissing, match="recovery key"):
        encrypt(folder, None)
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    with pytest.raises(BadRequest, match="line is empty"):
        encrypt(folder, "recover")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{key.lower()}\n"))
    assert encrypt(folder, "recover") == 0
    assert key not in capsys.readouterr().out
    assert key_file.read_text().strip() == key


def test_where_an_engine_has_the_folder_nothing_is_rewritten(
    folder: DataFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with locked(folder, "", ""), pytest.raises(EngineRunning, match="cannot be encrypted now"):
        encrypt(folder, "on")
    assert stored_key_id(folder.sessions_db) is None
    monkeypatch.setattr(encryption_command, "running_engine", lambda _: object())
    assert encrypt(folder, "on") == 0
    assert "when the engine starts next" in capsys.readouterr().out
    assert stored_key_id(folder.sessions_db) is None
