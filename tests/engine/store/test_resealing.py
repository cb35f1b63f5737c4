"""A store turned from one form to the other says the same, in a file that never held anything else."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from engine.errors import DataFolderError, SealBroken
from engine.protocol import Sampling, ToolCall
from engine.store import resealing
from engine.store.migrations import APPLICATION_ID, SEALED_APPLICATION_ID
from engine.store.resealing import beside, remove_leftover, reseal
from engine.store.sealed_columns import sealed_with
from engine.store.sealing import AesCipher, Cipher, MasterKey
from engine.store.sessions import SessionStore

ROOT = Path(__file__).resolve().parents[3]
KEY = MasterKey(bytes(range(32)))
CIPHER = AesCipher(KEY, "rows")
MARK = "quixotic"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with a branch, an unfinished answer, calls in an order of their own, and a deleted session."""
    path = tmp_path / "sessions.db"
    with closing(SessionStore.open(path)) as store:
        session = store.create_session(f"{MARK} title")
        asked, answer = store.begin_turn(
            session.id, parent_id=None, question=f"{MARK} question", model_id="m", sampling=Sampling(seed=1)
        )
        store.append(answer.id, f"{MARK} answer", [70_001])
        store.end_turn(
            answer.id,
            status="complete",
            finish_reason="tool_calls",
            tool_calls=[ToolCall(id="b", name="n", arguments=f'"{MARK}"')],
        )
        assert asked is not None
        _, again = store.begin_turn(
            session.id, parent_id=asked.id, question=None, model_id="m", sampling=Sampling(seed=2)
        )
        store.append(again.id, f"{MARK} piece", [70_002], "reasoning")
        store.remember_calls(["z", "a"], f"{MARK} thought", [70_003])
        store.delete_session(store.create_session(f"{MARK} deleted").id)
        store.purge_session(store.create_session(f"{MARK} purged").id)
    return path


def content(path: Path, cipher: Cipher | None) -> Any:
    """All that a store says, by its own API and in the order of its rows."""
    with closing(SessionStore.open(path, cipher)) as store:
        sessions = [store.session(each.id) for each in store.list_sessions()]
        ids = [store.token_ids(message.id) for each in sessions for message in each.messages]
        with store._database.reading() as connection:
            calls = connection.execute("SELECT id FROM written_call ORDER BY rowid").fetchall()
        found = [each.id for each in store.list_sessions(f"{MARK} answer")]
        return sessions, ids, calls, store.recall(["a", "b", "z"]), found


def header(path: Path) -> tuple[int, int, str | None]:
    with closing(sqlite3.connect(path)) as connection:
        numbers = [
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        ]
        return numbers[0], numbers[1], sealed_with(connection)


def holds_mark(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir() if MARK.encode() in each.read_bytes()]


def test_there_and_back_it_says_the_same(path: Path) -> None:
    with closing(SessionStore.open(path)):
        pass  # what a start settles is settled
    before, (_, version, _) = content(path, None), header(path)
    assert holds_mark(path.parent) == ["sessions.db"]
    reseal(path, None, CIPHER, KEY.id)
    assert holds_mark(path.parent) == []
    assert header(path) == (SEALED_APPLICATION_ID, version, KEY.id)
    assert content(path, CIPHER) == before
    other = MasterKey.new()
    reseal(path, CIPHER, AesCipher(other, "rows"), other.id)
    assert header(path)[2] == other.id
    reseal(path, AesCipher(other, "rows"), None)
    assert header(path) == (APPLICATION_ID, version, None)
    assert content(path, None) == before
    assert not beside(path).exists()
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o600


def test_an_unfinished_answer_is_taken_along(path: Path) -> None:
    reseal(path, None, CIPHER, KEY.id)
    assert holds_mark(path.parent) == []
    with closing(SessionStore.open(path, CIPHER)) as store:
        [session] = store.list_sessions()
        unfinished = store.session(session.id).messages[-1]
        assert (unfinished.reasoning, unfinished.status) == (f"{MARK} piece", "interrupted")


def test_without_a_store_an_encrypted_one_is_begun(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    reseal(path, None, CIPHER, KEY.id)
    with closing(SessionStore.open(path, CIPHER)) as store:
        assert store.list_sessions() == []
        store.create_session("x")


@pytest.mark.parametrize("point", ["store-resealed", "store-replaced"])
@pytest.mark.parametrize("on", [True, False])
def test_killed_at_any_moment_it_is_the_old_one_or_the_new_one(path: Path, point: str, on: bool) -> None:
    before = content(path, None)
    if not on:
        reseal(path, None, CIPHER, KEY.id)
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from pathlib import Path\n"
        "from engine.store.resealing import reseal\n"
        "from engine.store.sealing import AesCipher, MasterKey\n"
        "key = MasterKey(bytes(range(32)))\n"
        "cipher = AesCipher(key, 'rows')\n"
        f"reseal(Path({str(path)!r}), *({'None, cipher, key.id' if on else 'cipher, None'},))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], env={**os.environ, "SEAMOUNT_FAULT": f"{point}:1"})
    assert done.returncode < 0
    changed = point == "store-replaced"
    assert header(path)[2] == (KEY.id if changed == on else None)
    assert content(path, CIPHER if changed == on else None) == before
    # What is left of it is deleted before the next pass, which comes to its end.
    remove_leftover(path)
    if changed != on:
        reseal(path, None, CIPHER, KEY.id)
    assert content(path, CIPHER) == before
    assert holds_mark(path.parent) == []


def broken_by(monkeypatch: pytest.MonkeyPatch, path: Path, name: str, does: Callable[..., None]) -> None:
    before, there = path.read_bytes(), sorted(each.name for each in path.parent.iterdir())
    monkeypatch.setattr(resealing, name, does)
    with pytest.raises(DataFolderError):
        reseal(path, None, CIPHER, KEY.id)
    assert path.read_bytes() == before
    assert sorted(each.name for each in path.parent.iterdir()) == there


def test_a_row_that_reads_back_otherwise_keeps_the_old_store(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content(path, None)
    fill = resealing._fill

    def changed(new: Path, *rest: Any) -> None:
        fill(new, *rest)
        with closing(sqlite3.connect(new)) as connection, connection:
            connection.execute("UPDATE message SET created_at = 0 WHERE number = 2")

    def shorter(new: Path, *rest: Any) -> None:
        fill(new, *rest)
        with closing(sqlite3.connect(new)) as connection, connection:
            connection.execute("DELETE FROM written_call WHERE id = 'a'")

    for each in (changed, shorter):
        broken_by(monkeypatch, path, "_fill", each)


def test_a_full_disk_keeps_the_old_store(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content(path, None)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    broken_by(monkeypatch, path, "_fill", full)


def test_a_sealed_store_that_was_changed_is_not_rewritten(path: Path) -> None:
    reseal(path, None, CIPHER, KEY.id)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE message SET text = (SELECT title FROM session) WHERE number = 1")
    SessionStore.open(path, CIPHER).close()
    before = path.read_bytes()
    with pytest.raises(SealBroken):
        reseal(path, CIPHER, None)
    assert path.read_bytes() == before


@pytest.mark.skipif(os.name != "posix", reason="only there is the old file overwritten")
def test_what_the_old_file_held_is_overwritten_unless_it_has_another_name(path: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    linked.hardlink_to(path)
    reseal(path, None, CIPHER, KEY.id)
    assert MARK.encode() in linked.read_bytes()
    linked.unlink()
    reseal(path, CIPHER, None)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        reseal(path, None, CIPHER, KEY.id)
        old = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    finally:
        os.close(descriptor)
    assert len(old) > 10_000
    assert set(old) == {0}
