"""A journal's file on a disk that fills up, fails, or loses what was not synced."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from engine import fault_points
from engine.errors import DataFolderError, DiskFull
from engine.store import journal_file
from engine.store.journal_file import DAMAGED_KEPT, JournalFile, mend, read_journal, rewrite
from engine.store.journal_records import HEADER_BYTES, SUM_BYTES, Form, Kind, Record
from engine.store.sealing import AesCipher, MasterKey


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions" / "0123" / "journal"


def written(path: Path, *payloads: bytes) -> list[int]:
    """A journal with one turn; where each record ends, the header first."""
    file = JournalFile(path, None)
    ends, turn = [file.size_bytes], None
    for payload in payloads:
        sequence = file.append(Kind.RELAY, turn, payload)
        turn = turn or sequence
        ends.append(file.size_bytes)
    file.sync()
    file.close()
    return ends


def payloads(path: Path) -> list[bytes]:
    return [record.payload for record in read_journal(path, None).records]


def test_what_was_appended_is_there_and_more_follows_it(path: Path) -> None:
    written(path, b"one", b"two")
    again = JournalFile(path, None)
    assert again.append(Kind.RELAY, 1, b"three") == 3
    # Before it is synced or closed: the system has it.
    assert payloads(path) == [b"one", b"two", b"three"]
    again.close()
    again.close()
    with pytest.raises(DataFolderError, match="closed"):
        again.append(Kind.RELAY, 1, b"four")


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX's")
def test_it_is_for_its_owners_eyes(path: Path) -> None:
    written(path, b"one")
    assert [each.stat().st_mode & 0o077 for each in (path, path.parent, path.parent.parent)] == [0, 0, 0]


def test_a_file_cut_at_any_byte_goes_on_behind_its_last_whole_record(path: Path) -> None:
    ends = written(path, b"one", b"two")
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        file = JournalFile(path, None)
        turn = file.append(Kind.RELAY, None, b"more")
        file.close()
        whole = max(0, sum(end <= length for end in ends) - 1)
        assert payloads(path) == [*[b"one", b"two"][:whole], b"more"], length
        assert turn == whole + 1
        assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("shift", [-1, 0, 1])
def test_a_file_zeroed_around_any_record_goes_on_too(path: Path, shift: int) -> None:
    ends = written(path, b"one", b"two", b"three")
    content = path.read_bytes()
    for number, end in enumerate(ends[:-1]):
        start = end + shift  # a byte there may be zero already
        path.write_bytes(content[:start] + bytes(len(content) - start))
        mend(path, None)
        if start < HEADER_BYTES and any(content[start:HEADER_BYTES]):
            # Whose records they are cannot be said any more: kept, and begun anew.
            [aside] = path.parent.iterdir()
            assert aside.read_bytes()[:start] == content[:start]
            assert ".damaged-" in aside.name
            continue
        whole = number if shift >= 0 or content[start] == 0 else number - 1
        assert payloads(path) == [b"one", b"two", b"three"][:whole]


def test_a_file_of_nothing_but_zeros_was_never_begun(path: Path) -> None:
    written(path, b"one")
    path.write_bytes(bytes(4096))
    written(path, b"anew")
    assert payloads(path) == [b"anew"]


def test_a_changed_byte_in_the_middle_is_cut_off_and_kept_aside(path: Path) -> None:
    ends = written(path, b"one", b"two", b"three")
    content = bytearray(path.read_bytes())
    content[ends[1] + 25] ^= 4
    for number in range(DAMAGED_KEPT + 2):
        path.write_bytes(content)
        mend(path, None)
        assert payloads(path) == [b"one"], number
        aside = list(path.parent.glob("journal.damaged-*"))
        assert len(aside) == min(number + 1, DAMAGED_KEPT)
        assert all(each.read_bytes() == content[ends[1] :] for each in aside)


def test_what_is_no_journal_is_kept_aside(path: Path) -> None:
    written(path, b"one")
    path.write_bytes(b"Dear diary, " * 100)
    with pytest.raises(ValueError, match="does not begin like a journal"):
        read_journal(path, None)
    written(path, b"anew")
    assert payloads(path) == [b"anew"]
    [aside] = path.parent.glob("journal.damaged-*")
    assert aside.read_bytes() == b"Dear diary, " * 100


def test_what_a_newer_program_wrote_is_left_as_it_is(path: Path) -> None:
    form = Form.new(None)
    newer = bytearray(form.header()[:-SUM_BYTES])
    newer[8] = 2
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(newer) + form.sum_of(bytes(newer)) + b"who knows")
    before = path.read_bytes()
    with pytest.raises(DataFolderError) as caught:
        JournalFile(path, None)
    assert str(path) in caught.value.text and "newer Seamount" in caught.value.text
    assert path.read_bytes() == before


def full_disk(error: int = errno.ENOSPC, room: int = 0) -> Callable[[int, memoryview], int]:
    """An `os.write` that takes `room` more bytes."""
    left = [room]

    def write(descriptor: int, data: memoryview) -> int:
        if left[0] == 0:
            raise OSError(error, os.strerror(error))
        count = min(left[0], len(data))
        left[0] -= count
        return REAL_WRITE(descriptor, data[:count])

    return write


REAL_WRITE = os.write


def test_a_disk_that_is_full_at_any_byte_of_a_record_leaves_the_ones_before(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = written(path, b"one", b"two")
    record_bytes = ends[2] - ends[1]
    file = JournalFile(path, None)
    for room in range(record_bytes):
        monkeypatch.setattr(journal_file.os, "write", full_disk(room=room))
        with pytest.raises(DiskFull, match="what was shown is saved up to here"):
            file.append(Kind.RELAY, 1, b"six")
        monkeypatch.undo()
        assert path.stat().st_size == ends[2], room
    # With room again it goes on.
    assert file.append(Kind.RELAY, 1, b"three") == 3
    file.close()
    assert payloads(path) == [b"one", b"two", b"three"]


def test_a_full_disk_when_it_is_made_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for room in (0, 1, HEADER_BYTES - 1):
        monkeypatch.setattr(journal_file.os, "write", full_disk(errno.EDQUOT, room))
        with pytest.raises(DiskFull):
            JournalFile(path, None)
        monkeypatch.undo()
        assert list(path.parent.iterdir()) == []


def test_after_a_sync_that_failed_nothing_is_written_any_more(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(path, b"one")
    file = JournalFile(path, None)

    def fail(_descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(journal_file.os, "fsync", fail)
    with pytest.raises(DataFolderError, match="Input/output error"):
        file.sync()
    monkeypatch.undo()
    for step in (file.sync, lambda: file.append(Kind.RELAY, 1, b"two")):
        with pytest.raises(DataFolderError, match="Input/output error"):
            step()
    file.close()


def first(records: object) -> list[Record]:
    return list(records)[:1]  # pyright: ignore[reportArgumentType, reportUnknownVariableType]


def test_a_shorter_file_takes_its_place(path: Path) -> None:
    written(path, b"one", b"two")
    before = path.read_bytes()
    rewrite(path, None, list)
    assert path.read_bytes() == before
    rewrite(path, None, first)
    assert payloads(path) == [b"one"]
    rewrite(path, None, lambda _: [])
    assert not path.exists()
    rewrite(path, None, first)
    assert not path.exists()


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("point", ["journal-compacting", "journal-compacted"])
def test_a_kill_while_it_is_made_shorter_leaves_the_old_or_the_new(
    path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    written(path, b"one", b"two")

    def at(name: str) -> None:
        if name == point:
            raise Killed

    monkeypatch.setattr(fault_points, "at", at)
    with pytest.raises(Killed):
        rewrite(path, None, first)
    monkeypatch.undo()
    assert payloads(path) == ([b"one", b"two"] if point == "journal-compacting" else [b"one"])
    # What was half made is gone at the next look.
    mend(path, None)
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_while_it_is_made_shorter_leaves_the_old(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = written(path, b"one", b"two")
    before = path.read_bytes()
    for room in range(0, ends[1], 7):
        monkeypatch.setattr(journal_file.os, "write", full_disk(room=room))
        with pytest.raises(DiskFull):
            rewrite(path, None, first)
        monkeypatch.undo()
        assert path.read_bytes() == before
        assert list(path.parent.iterdir()) == [path]


def test_a_file_from_before_encryption_is_sealed_before_it_goes_on(path: Path) -> None:
    written(path, b"plain words")
    cipher = AesCipher(MasterKey.new(), "journals")
    file = JournalFile(path, cipher)
    file.append(Kind.RELAY, 1, b"more words")
    file.close()
    assert b"words" not in path.read_bytes()
    records = read_journal(path, cipher).records
    assert [record.payload for record in records] == [b"plain words", b"more words"]
    with pytest.raises(DataFolderError, match="encrypted"):
        JournalFile(path, None)
