"""The journals of a data folder: synced together, made shorter when the store is safe, gone with their sessions."""

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import fault_points
from engine.errors import DataFolderError, DiskFull
from engine.protocol import Message, Sampling
from engine.store import journal_file
from engine.store.database import Database
from engine.store.journal import TurnJournal
from engine.store.journal_file import JournalFile
from engine.store.journals import COMPACTED_ABOVE_BYTES, Journals
from engine.store.sessions import SessionStore

SAMPLING = Sampling(seed=7)


class Desk:
    """A store and its journals."""

    def __init__(self, root: Path, sync_ms: int = 0) -> None:
        self.root = root
        self.sync_ms = sync_ms
        self.open()
        self.session_id = self.store.create_session().id
        self.journals.recover(self.store)

    def open(self) -> None:
        self.store = SessionStore.open(self.root / "sessions.db")
        self.journals = Journals(self.root / "sessions", lambda: self.sync_ms)

    def restart(self) -> None:
        """Start again after a kill: nothing is closed in order."""
        self.store._database._connection.close()
        self.open()

    @property
    def path(self) -> Path:
        return self.root / "sessions" / self.session_id / "journal"

    def begin(self) -> tuple[Message, TurnJournal]:
        answer = self.store.begin_turn(
            self.session_id, parent_id=None, question="Why?", model_id="m", sampling=SAMPLING
        )[1]
        return answer, self.journals.turn(self.session_id, answer, model_id="m", sampling=SAMPLING)

    def go_on(self, answer_id: str) -> TurnJournal:
        answer, already, _ = self.store.reopen_answer(self.session_id, answer_id)
        return self.journals.turn(
            self.session_id, answer, model_id="m", sampling=SAMPLING, already=len(already)
        )

    def write(self, answer: Message, journal: TurnJournal, text: str = "x") -> None:
        journal.tokens([5], text, "text")
        self.store.append(answer.id, text, [5])

    def end(self, answer: Message, journal: TurnJournal, reason: str = "stop") -> None:
        interrupted = reason == "interrupted"
        status = "interrupted" if interrupted else "complete"
        journal.ended(status, reason, None, None)  # pyright: ignore[reportArgumentType]
        self.store.end_turn(answer.id, status=status, finish_reason=reason)  # pyright: ignore[reportArgumentType]
        journal.close(settled=True)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.journals.close()
    made.store.close()


def test_an_answer_that_was_cut_off_is_found_and_one_that_ended_is_not(desk: Desk) -> None:
    ended, journal = desk.begin()
    desk.write(ended, journal)
    desk.end(ended, journal)
    cancelled, journal = desk.begin()
    desk.end(cancelled, journal, "cancelled")
    goodbye, journal = desk.begin()
    desk.end(goodbye, journal, "interrupted")
    cut, journal = desk.begin()
    desk.write(cut, journal)
    desk.restart()
    found = desk.journals.recover(desk.store)
    assert [each.answer_id for each in found] == [cut.id, goodbye.id]
    # And again, until somebody goes on with them.
    desk.restart()
    assert [each.answer_id for each in desk.journals.recover(desk.store)] == [cut.id, goodbye.id]
    for answer_id in (cut.id, goodbye.id):
        journal = desk.go_on(answer_id)
        desk.end(desk.store.message(desk.session_id, answer_id), journal)
    desk.restart()
    assert desk.journals.recover(desk.store) == []
    # What a person stopped can be gone on with, and how it came about is kept for that.
    known = [desk.journals.last(desk.session_id, each.id) for each in (ended, cancelled, goodbye, cut)]
    assert [turn is not None for turn in known] == [False, True, False, False]


def test_an_answer_whose_engine_died_before_its_journal_was_begun_is_found(desk: Desk) -> None:
    answer = desk.store.begin_turn(
        desk.session_id, parent_id=None, question="Why?", model_id="m", sampling=SAMPLING
    )[1]
    desk.restart()
    [found] = desk.journals.recover(desk.store)
    assert (found.session_id, found.answer_id, found.model_id) == (desk.session_id, answer.id, "m")


def test_going_on_in_vain_is_counted_over_deaths(desk: Desk) -> None:
    answer, _ = desk.begin()
    for resumes in range(3):
        desk.restart()
        [found] = desk.journals.recover(desk.store)
        assert found.resumes == resumes
        journal = desk.go_on(answer.id)
    desk.write(answer, journal)
    desk.restart()
    assert desk.journals.recover(desk.store)[0].resumes == 0
    desk.restart()
    assert desk.journals.recover(desk.store)[0].resumes == 0


def test_the_turn_that_goes_on_is_told_what_there_was_before(desk: Desk) -> None:
    answer, journal = desk.begin()
    assert journal.before is None
    journal.prompt(3, "digest", "state", "exact")
    journal.base(None, 0, 1, 3)
    journal.snapshot(64, "d")
    desk.restart()
    desk.journals.recover(desk.store)
    journal = desk.go_on(answer.id)
    assert journal.before is not None and journal.before.base is not None
    assert [each.digest for each in journal.before.snapshots] == ["d"]
    last = desk.journals.last(desk.session_id, answer.id)
    assert last is not None and last.begun.resumes == 1
    assert desk.journals.last(desk.session_id, "none") is None
    assert desk.journals.last("0" * 28, "none") is None


def test_two_turns_of_a_session_at_once_keep_apart(desk: Desk) -> None:
    one, first = desk.begin()
    two, second = desk.begin()
    desk.write(one, first, "one")
    desk.write(two, second, "two")
    desk.write(one, first, " more")
    desk.end(one, first)
    desk.write(two, second, " words")
    last = desk.journals.last(desk.session_id, two.id)
    assert last is not None and [piece.text for piece in last.pieces] == ["two", " words"]
    desk.restart()
    [found] = desk.journals.recover(desk.store)
    assert found.answer_id == two.id
    assert desk.store.message(desk.session_id, two.id).text == "two words"


def test_with_no_delay_each_record_is_synced_before_it_is_told(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    sync, durable = JournalFile.sync, Database.make_durable
    monkeypatch.setattr(JournalFile, "sync", lambda self: (order.append("journal"), sync(self)))
    monkeypatch.setattr(Database, "make_durable", lambda self: (order.append("store"), durable(self)))
    answer, journal = desk.begin()
    # What the journal tells of is in the store then.
    assert order == ["store", "journal"]
    desk.write(answer, journal)
    assert order == ["store", "journal", "journal"]


def test_what_is_written_meanwhile_is_synced_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(tmp_path, sync_ms=60_000)
    synced: list[int] = []
    sync = JournalFile.sync
    monkeypatch.setattr(JournalFile, "sync", lambda self: (synced.append(self.size_bytes), sync(self)))
    answer, journal = desk.begin()
    for _ in range(50):
        desk.write(answer, journal)
    assert synced == []
    # Its end does not wait for a minute.
    desk.journals.close()
    assert synced == [desk.path.stat().st_size]
    # Nor is anything written later left unsynced.
    desk.write(answer, journal)
    assert len(synced) == 2
    desk.store.close()


def test_a_short_delay_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(tmp_path, sync_ms=1)
    synced = threading.Event()
    sync = JournalFile.sync
    monkeypatch.setattr(JournalFile, "sync", lambda self: (sync(self), synced.set()))
    desk.begin()
    assert synced.wait(30)
    desk.journals.close()
    desk.store.close()


def test_a_sync_that_fails_is_told_and_ends_the_next_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk(tmp_path, sync_ms=60_000)
    answer, journal = desk.begin()

    def fail(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(journal_file.os, "fsync", fail)
    with caplog.at_level(logging.ERROR):
        desk.journals._syncing.close()
    monkeypatch.undo()
    assert "Input/output error" in caplog.text
    with pytest.raises(DataFolderError, match="Input/output error"):
        desk.write(answer, journal)
    desk.store.close()


def test_a_long_journal_is_made_shorter_when_its_turn_has_ended(desk: Desk) -> None:
    answer, journal = desk.begin()
    for _ in range(COMPACTED_ABOVE_BYTES // 1000 + 1):
        journal.tokens([5], "x" * 1000, "text")
        desk.store.append(answer.id, "x" * 1000, [5])
    journal.snapshot(70, "d")
    assert desk.path.stat().st_size > COMPACTED_ABOVE_BYTES
    desk.end(answer, journal, "length")
    desk.journals._syncing.close()  # its thread has done what it was asked
    assert desk.path.stat().st_size < 1000
    last = desk.journals.last(desk.session_id, answer.id)
    assert last is not None and last.tokens == 66 and last.snapshots


def test_what_the_store_has_not_got_stays(desk: Desk) -> None:
    answer, journal = desk.begin()
    desk.write(answer, journal, "kept words")
    journal.ended("complete", "stop", None, None)
    journal.close(settled=False)
    desk.journals.close()
    assert b"kept words" in desk.path.read_bytes()
    journal.close(settled=True)
    desk.journals.compact(desk.session_id)
    assert not desk.path.parent.exists()


def test_the_store_is_made_durable_before_anything_is_left_out(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, journal = desk.begin()
    desk.end(answer, journal)
    desk.journals._syncing.close()

    def fail(_self: Database) -> None:
        raise DiskFull("It cannot be saved", "the disk is full", "free some space")

    monkeypatch.setattr(Database, "make_durable", fail)
    before = desk.path.read_bytes()
    with pytest.raises(DiskFull):
        desk.journals.compact(desk.session_id)
    desk.journals.compact_all()
    assert desk.path.read_bytes() == before


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("point", ["journal-compacting", "journal-compacted", "recovery", "journal-written"])
def test_a_kill_in_the_middle_of_a_recovery_costs_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    done, journal = desk.begin()
    desk.end(done, journal)
    answer, journal = desk.begin()
    desk.write(answer, journal, "One")
    journal.tokens([6], " two", "text")
    desk.restart()

    def at(name: str) -> None:
        if name == point:
            raise Killed

    monkeypatch.setattr(fault_points, "at", at)
    with pytest.raises(Killed):
        desk.journals.recover(desk.store)
    monkeypatch.undo()
    desk.restart()
    [found] = desk.journals.recover(desk.store)
    assert found.answer_id == answer.id
    assert desk.store.message(desk.session_id, answer.id).text == "One two"
    assert desk.journals.verify() == []


def test_a_purged_session_leaves_nothing(desk: Desk) -> None:
    answer, journal = desk.begin()
    desk.write(answer, journal)
    (desk.path.parent / "journal.damaged-20250101-000000").write_bytes(b"words")
    desk.end(answer, journal)
    desk.store.purge_session(desk.session_id)
    desk.journals.purge(desk.session_id)
    desk.journals.purge(desk.session_id)
    assert list((desk.root / "sessions").iterdir()) == []


def test_journals_of_sessions_that_are_gone_go_too(desk: Desk) -> None:
    answer, journal = desk.begin()
    desk.write(answer, journal)
    desk.store.delete_session(desk.session_id)
    stranger = desk.root / "sessions" / "not ours"
    stranger.mkdir()
    desk.restart()  # which purges what was deleted
    assert desk.journals.recover(desk.store) == []
    assert list((desk.root / "sessions").iterdir()) == [stranger]


def test_a_journal_that_cannot_be_read_stops_nothing(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.begin()
    desk.restart()
    content = desk.path.read_bytes()
    desk.path.unlink()
    desk.path.mkdir()
    with caplog.at_level(logging.ERROR):
        assert [each.resumes for each in desk.journals.recover(desk.store)] == [0]
    assert str(desk.path) in caplog.text
    assert str(desk.path) in desk.journals.verify()[0]
    with pytest.raises(DataFolderError):
        desk.journals.recover(desk.store, strict=True)
    desk.path.rmdir()
    desk.path.write_bytes(content)
    assert len(desk.journals.recover(desk.store)) == 1


def test_verify_names_what_is_wrong_and_changes_nothing(desk: Desk) -> None:
    answer, journal = desk.begin()
    desk.write(answer, journal)
    assert desk.journals.verify() == []
    whole = desk.path.read_bytes()
    for content, words in (
        (whole[:-1], "not written whole"),
        (whole[:60] + b"\xff" + whole[61:], "is damaged"),
        (b"nonsense" + whole[8:], "does not begin like a journal"),
    ):
        desk.path.write_bytes(content)
        [problem] = desk.journals.verify()
        assert str(desk.path) in problem and words in problem
        assert desk.path.read_bytes() == content


def test_a_session_id_is_no_path(desk: Desk) -> None:
    for session_id in ("..", "a/b", "", "x" * 65):
        with pytest.raises(ValueError, match="no session"):
            desk.journals.last(session_id, "a")


def test_a_full_disk_ends_a_turn_and_not_the_journal(tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    if sys.platform != "linux":
        pytest.skip("needs Linux's mount")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "none", mount], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
    try:
        desk = Desk(tmp_path)
        desk.journals = Journals(mount, lambda: 0)
        desk.journals.recover(desk.store)
        answer, journal = desk.begin()
        shown = ""
        with pytest.raises(DiskFull, match="what was shown is saved up to here"):
            while True:
                journal.tokens([5], "word " * 50, "text")
                shown += "word " * 50
        assert shown
        last = desk.journals.last(desk.session_id, answer.id)
        assert last is not None and "".join(piece.text for piece in last.pieces) == shown
        (mount / "filler").unlink(missing_ok=True)
        subprocess.run(["mount", "-o", "remount,size=1m", mount], check=True)
        journal.ended("failed", "error", None, None)
        journal.close(settled=True)
        desk.journals.close()
        desk.store.close()
    finally:
        subprocess.run(["umount", "--lazy", mount], check=True)
