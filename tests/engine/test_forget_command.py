"""`seamount doctor --forget`: says, asks, and only then removes."""

import io
from pathlib import Path

import pytest

from engine import cli, forget_command
from engine.engine import Engine
from engine.folder_lock import locked
from engine.paths import DataFolder
from engine.system_keyring import KeyringUnusableError
from tests.engine.store.data_folders import filled


@pytest.fixture(autouse=True)
def without_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> object:
        raise KeyringUnusableError("this system has no keyring")

    for module in ("engine.kept_secrets", "engine.store.keys"):
        monkeypatch.setattr(f"{module}.usable_keyring", none)


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    made = DataFolder(filled(tmp_path / "data"))
    Engine.open(made).store.close()
    return made


def forget(folder: DataFolder, *words: str) -> int:
    return cli.main(["--data", str(folder.root), "doctor", "--forget", *words], open_window=lambda *_given: 9)


class Person(io.StringIO):
    """Somebody at a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_dry_run_says_what_there_is_and_removes_nothing(
    folder: DataFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert forget(folder, "--dry-run") == 0
    said = capsys.readouterr().out
    for words in ("sessions.db: conversations, 1 file", "models: models and checkpoints", str(folder.root)):
        assert words in said
    assert folder.sessions_db.exists()


def test_the_word_removes_and_another_does_not(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for typed in ("yes\n", "\n", ""):
        monkeypatch.setattr("sys.stdin", Person(typed))
        assert forget(folder) == 1
        assert folder.sessions_db.exists()
    monkeypatch.setattr("sys.stdin", Person("forget\n"))
    assert forget(folder) == 0
    assert not folder.root.exists()
    assert "All of that is gone" in capsys.readouterr().out


def test_with_nobody_to_ask_it_wants_to_be_told(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("forget\n"))
    assert forget(folder) == 1
    assert "--yes" in capsys.readouterr().err and folder.sessions_db.exists()
    assert forget(folder, "--yes") == 0
    assert not folder.root.exists()
    assert forget(folder, "--yes") == 0
    assert "nothing of Seamount's" in capsys.readouterr().out


def test_it_is_refused_while_another_has_the_folder(
    folder: DataFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    with locked(folder, "x", "x"):
        assert forget(folder, "--yes") == 3
    assert "Nothing was removed" in capsys.readouterr().err and folder.sessions_db.exists()


def test_it_is_refused_while_a_job_runs(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(forget_command, "running_titles", lambda _folder: ["DeepSeek-V4-Flash"])
    assert forget(folder, "--yes") == 1
    assert "DeepSeek-V4-Flash is still being worked on" in capsys.readouterr().err
    assert folder.sessions_db.exists()


@pytest.mark.parametrize("word", ["--yes", "--dry-run"])
def test_its_options_are_refused_without_it(
    folder: DataFolder, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["--data", str(folder.root), "doctor", word], open_window=lambda *_given: 9) == 1
    assert "--forget" in capsys.readouterr().err
