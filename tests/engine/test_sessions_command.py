"""`seamount sessions`, `backup` and `restore` where no engine runs; tests/integration has one that does."""

import json
import os
from pathlib import Path

import pytest

from engine import cli
from engine.store.database import Database
from engine.store.sessions import SessionStore
from tests.engine.store.conversations import fill
from tests.engine.store.data_folders import contents, filled


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return filled(tmp_path / "data")


def run(root: Path, *words: str) -> int:
    def no_window(_data: str | None) -> int:
        raise AssertionError("no window was asked for")

    return cli.main(["--data", str(root), *words], open_window=no_window)


def session_ids(root: Path) -> list[str]:
    store = SessionStore(Database.open(root / "sessions.db"))
    found = [each.id for each in store.list_sessions()]
    store.close()
    return found


def test_the_list(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, "sessions") == 0
    [line] = capsys.readouterr().out.splitlines()
    [session_id] = session_ids(root)
    assert line.startswith(session_id[:8] + "  2") and line.endswith("    5 messages  Why is the sea salty?")
    assert run(root, "sessions", "list", "RIVERS", "--json") == 0
    assert [each["id"] for each in json.loads(capsys.readouterr().out)] == [session_id]
    assert run(root, "sessions", "list", "nowhere") == 0
    assert capsys.readouterr().out == "No conversation holds that.\n"


def test_short_ids_are_as_long_as_tells_them_apart(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = SessionStore.open(root / "sessions.db")
    for _ in range(4):
        store.create_session("A title\x1b[31m")
    store.close()
    run(root, "sessions")
    lines = capsys.readouterr().out.splitlines()
    shown = [line.split()[0] for line in lines]
    assert len(set(shown)) == 5 and len({len(each) for each in shown}) == 1
    assert not any("\x1b" in line for line in lines)
    for each, session_id in zip(shown, session_ids(root), strict=True):
        assert session_id.startswith(each)
    assert run(root, "sessions", "show", shown[0]) == 0


def test_an_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "new", "sessions") == 0
    assert capsys.readouterr().out == "There are no conversations.\n"
    assert run(tmp_path / "new", "sessions", "verify") == 0


def test_one_is_shown(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [session_id] = session_ids(root)
    assert run(root, "sessions", "show", "Why is the sea salty?") == 0
    assert capsys.readouterr().out.startswith("# Why is the sea salty?\n")
    assert run(root, "sessions", "show", session_id[:10], "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["messages"]) == 5
    for name in ("zzz", ""):
        assert run(root, "sessions", "show", name) == 1
        assert "see `seamount sessions list`" in capsys.readouterr().err


def test_out_and_in_again(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [session_id] = session_ids(root)
    out = tmp_path / "out"
    out.mkdir()
    assert run(root, "sessions", "export", "--all", "--format", "json", "--to", str(out)) == 0
    [file] = out.iterdir()
    assert file.name == f"Why-is-the-sea-salty-{session_id}.json"
    if os.name == "posix":
        assert file.stat().st_mode & 0o777 == 0o600
    assert "plain text" in capsys.readouterr().err
    assert run(tmp_path / "other", "sessions", "import", str(file)) == 0
    assert capsys.readouterr().out == f"{session_id}  5 messages  Why is the sea salty?\n"
    assert (
        run(tmp_path / "other", "sessions", "export", session_id, "--format", "json", "--to", str(out / "x"))
        == 0
    )
    assert (out / "x").read_bytes() == file.read_bytes()


def test_to_the_terminal_byte_for_byte(root: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    [session_id] = session_ids(root)
    assert run(root, "sessions", "export", session_id) == 0
    assert capfdbinary.readouterr().out.startswith(b"# Why is the sea salty?\n\n- Date")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["export"], "conversations are to be named, or --all"),
        (["export", "01", "--all"], "conversations are to be named, or --all"),
        (["export", "--all"], "several files need a folder"),
        (["import", "nowhere.json"], "cannot be read"),
        (["import", "{root}/settings.toml"], "not the JSON of a conversation"),
    ],
)
def test_what_cannot_be(root: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    assert run(root, "sessions", *(each.format(root=root) for each in words)) in (1, 4)
    told = capsys.readouterr().err
    assert said in told and told.startswith("seamount: ") and len(told.splitlines()) == 1
    assert len(session_ids(root)) == 1


def test_a_file_that_is_there_stays(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "mine.md"
    target.write_text("mine")
    assert run(root, "sessions", "export", session_ids(root)[0], "--to", str(target)) == 1
    assert target.read_text() == "mine" and "is there already" in capsys.readouterr().err
    assert run(root, "sessions", "export", session_ids(root)[0], "--to", str(tmp_path / "no" / "x.md")) == 4


def test_whether_all_is_well(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, "sessions", "verify") == 1  # the journal and the state that tests put there are none
    told = capsys.readouterr().out
    assert told.startswith(
        "1 conversation with 5 messages: one thing is not as it should be.\n      The journal "
    )
    (root / "sessions/abc/journal").unlink()
    assert run(root, "sessions", "verify") == 0
    assert capsys.readouterr().out == "1 conversation with 5 messages: all is as it should be.\n"
    database = Database.open(root / "sessions.db")
    with database.transaction() as connection:
        connection.execute("UPDATE message SET token_ids = x'01'")
    database.close()
    assert run(root, "sessions", "verify") == 1
    assert "its token ids are cut off" in capsys.readouterr().out


def test_nothing_is_put_right_that_an_engine_puts_right(root: Path) -> None:
    """The last answer runs, as an engine that was killed leaves it: which one goes on with it must still be known."""
    for words in (["list"], ["verify"], ["compact"], ["export", "--all", "--to", str(root)]):
        run(root, "sessions", *words)
    store = SessionStore(Database.open(root / "sessions.db"))
    assert store.session(store.list_sessions()[0].id).messages[-1].status == "running"
    store.close()


def test_smaller(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, "sessions", "compact") == 0
    assert " won: conversations " in capsys.readouterr().out


def test_a_backup_and_back(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backup = tmp_path / "all.seamount"
    (root / "sessions.db-shm").unlink(missing_ok=True)
    before = contents(root)
    assert run(root, "backup", str(backup)) == 0
    assert capsys.readouterr().out.startswith("5 files of the data folder, ")
    store = SessionStore.open(root / "sessions.db")
    fill(store, "Something new?")
    store.close()
    (root / "settings.toml").unlink()
    assert run(root, "restore", "--check", str(backup)) == 0
    assert "is whole: 5 files, " in capsys.readouterr().out
    assert len(session_ids(root)) == 2
    assert run(root, "restore", str(backup)) == 0
    assert "A backup was restored; what was here before is in " in capsys.readouterr().out
    assert len(session_ids(root)) == 1
    assert (root / "settings.toml").read_bytes() == before["settings.toml"]
    [aside] = root.glob("before-restore-*")
    assert len(session_ids(aside)) == 2


def test_a_backup_that_is_damaged(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backup = tmp_path / "b"
    run(root, "backup", str(backup))
    content = bytearray(backup.read_bytes())
    content[100] ^= 1
    backup.write_bytes(content)
    for words in (["--check"], []):
        assert run(root, "restore", str(backup), *words) == 1
        told = capsys.readouterr().err
        assert told.startswith("seamount: The backup cannot be used: ") and told.count("\n") == 1
    assert not list(root.glob("before-restore-*"))
