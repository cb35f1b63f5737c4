"""One file while it arrives: what a kill, a power cut or a broken disk leave of it, and what is made of that."""

import hashlib
import json
import os
import random
from pathlib import Path

import pytest

from engine.library.fetching import file_fetch
from engine.library.fetching.fetch_manifest import parts_folder, quarantine_folder, replaced_folder
from engine.library.fetching.file_fetch import PartFile, ReadStoppedError, is_noted, is_whole, set_aside
from engine.library.fetching.remote_file import RemoteFile

COMMIT = "7872f01b1d1fe23eabc4c98b48bffcef5a386062"
CONTENT = random.Random(1).randbytes(300_000)
FILE = RemoteFile("weights/m.safetensors", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
MODIFIED_NS = 1785484800_000_000_000


@pytest.fixture(autouse=True)
def small_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_fetch, "SURE_EVERY_BYTES", 100_000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    parts_folder(tmp_path).mkdir(parents=True)
    return tmp_path


def begun(folder: Path, count: int, file: RemoteFile = FILE) -> PartFile:
    """A part of which `count` bytes have arrived in pieces, left as a killed process leaves it."""
    part = PartFile(folder, file)
    part.open()
    for place in range(0, count, 10_000):
        part.write(CONTENT[place : min(place + 10_000, count)])
    part.close()
    return part


def resumed(folder: Path) -> PartFile:
    part = PartFile(folder, FILE)
    part.open()
    return part


def end(part: PartFile) -> Path:
    part.write(CONTENT[part.have_bytes :])
    assert part.is_right()
    return part.finish(COMMIT, MODIFIED_NS)


def test_a_file_arrives_and_gets_its_place_its_time_and_its_note(folder: Path) -> None:
    place = end(resumed(folder))
    assert place == folder / "weights" / "m.safetensors"
    assert place.read_bytes() == CONTENT
    assert place.stat().st_mtime_ns == MODIFIED_NS
    assert list(parts_folder(folder).iterdir()) == []
    assert is_noted(folder, FILE)


def test_hugging_faces_own_tools_take_the_file_for_one_of_theirs(folder: Path) -> None:
    from huggingface_hub._local_folder import read_download_metadata, write_download_metadata

    place = end(resumed(folder))
    noted = read_download_metadata(folder, FILE.path)
    assert noted is not None
    assert (noted.commit_hash, noted.etag) == (COMMIT, FILE.digest)
    (folder / ".cache").rename(folder / "away")
    assert not is_noted(folder, FILE)
    write_download_metadata(folder, FILE.path, COMMIT, FILE.digest)
    assert is_noted(folder, FILE)
    place.write_bytes(CONTENT[:-1])
    assert not is_noted(folder, FILE)


@pytest.mark.parametrize("count", [0, 5, 99_999, 100_000, 123_456, 299_999, 300_000])
def test_a_killed_process_loses_nothing_that_it_wrote(folder: Path, count: int) -> None:
    begun(folder, count)
    part = resumed(folder)
    assert part.have_bytes == count
    assert end(part).read_bytes() == CONTENT


@pytest.mark.parametrize("count", [50_000, 100_000, 123_456, 250_000])
def test_after_a_new_start_of_the_machine_only_what_was_sure_counts(
    folder: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = begun(folder, count)
    with part.path.open("r+b") as file:  # what a power cut leaves of the last stretch
        file.seek(count // 100_000 * 100_000)
        file.write(b"\0" * (count % 100_000))
    os.utime(part.path, (1, 1))
    monkeypatch.setattr(file_fetch, "_boot_s", lambda: 4e9)
    part = resumed(folder)
    assert part.have_bytes == count // 100_000 * 100_000
    part.write(CONTENT[part.have_bytes : part.have_bytes + 7])
    part.close()
    os.utime(part.path, (5e9, 5e9))
    again = resumed(folder)
    assert again.have_bytes == count // 100_000 * 100_000 + 7  # killed in this start: nothing is lost again
    assert end(again).read_bytes() == CONTENT


def test_a_prefix_that_is_not_what_was_noted_is_cut_back_to_what_is(folder: Path) -> None:
    part = begun(folder, 250_000)
    with part.path.open("r+b") as file:
        file.seek(150_000)
        file.write(b"\xff\xfe\xfd")
    part = resumed(folder)
    assert part.have_bytes == 100_000
    assert end(part).read_bytes() == CONTENT


def test_a_wrong_tail_is_found_at_the_end_and_only_it_is_fetched_again(folder: Path) -> None:
    part = begun(folder, 250_000)
    with part.path.open("r+b") as file:
        file.seek(240_000)
        file.write(b"\xff\xfe\xfd")
    part = resumed(folder)
    assert part.have_bytes == 250_000
    part.write(CONTENT[250_000:])
    assert not part.is_right()
    assert part.step_back()
    assert part.have_bytes == 200_000
    assert end(part).read_bytes() == CONTENT


def test_what_is_wrong_as_a_whole_goes_to_the_quarantine_until_the_right_one_is_there(folder: Path) -> None:
    part = resumed(folder)
    part.write(b"x" * FILE.size_bytes)
    assert not part.is_right()
    assert not part.step_back()
    aside = part.quarantine()
    assert aside.parent == quarantine_folder(folder)
    assert aside.stat().st_size == FILE.size_bytes
    part.open()
    assert part.have_bytes == 0
    end(part)
    assert not aside.exists()


@pytest.mark.parametrize("journal", [b"", b"{", b'{"digest": 5}\n', b"[]\n[]", b"\xff\n"])
def test_a_journal_that_cannot_be_read_costs_nothing_in_the_same_start(folder: Path, journal: bytes) -> None:
    part = begun(folder, 250_000)
    part.path.with_suffix(".journal").write_bytes(journal)
    part = resumed(folder)
    assert part.have_bytes == 250_000
    assert end(part).read_bytes() == CONTENT


def test_the_last_line_of_a_journal_may_be_half_written(folder: Path) -> None:
    part = begun(folder, 250_000)
    journal = part.path.with_suffix(".journal")
    whole = journal.read_bytes()
    assert [json.loads(line).get("offset") for line in whole.splitlines()] == [None, 100_000, 200_000]
    journal.write_bytes(whole[:-20])
    assert end(resumed(folder)).read_bytes() == CONTENT


def test_a_part_that_is_longer_than_the_file_is_begun_anew(folder: Path) -> None:
    part = begun(folder, 1000)
    part.path.write_bytes(b"x" * (FILE.size_bytes + 1))
    assert resumed(folder).have_bytes == 0


def test_reading_what_lies_there_can_be_stopped(folder: Path) -> None:
    begun(folder, 250_000)
    part = PartFile(folder, FILE)
    with pytest.raises(ReadStoppedError):
        part.open(lambda: True)
    assert resumed(folder).have_bytes == 250_000


def test_a_disk_that_fills_keeps_what_fitted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = resumed(folder)
    part.write(CONTENT[:50_000])
    real, room = os.write, [123]

    def short(descriptor: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(28, "No space left on device")
        written = real(descriptor, bytes(data[: room[0]]))
        room[0] -= written
        return written

    monkeypatch.setattr(os, "write", short)
    with pytest.raises(OSError, match="No space"):
        part.write(CONTENT[50_000:60_000])
    monkeypatch.setattr(os, "write", real)
    assert part.have_bytes == 50_123
    part.close()
    assert end(resumed(folder)).read_bytes() == CONTENT


def test_a_file_that_somebody_else_brought_is_hashed_once_and_taken(folder: Path) -> None:
    place = folder / "weights" / "m.safetensors"
    place.parent.mkdir()
    place.write_bytes(CONTENT)
    assert is_whole(folder, FILE, COMMIT, lambda: False)
    assert is_noted(folder, FILE)


def test_another_file_in_its_place_is_set_aside_and_not_deleted(folder: Path) -> None:
    place = folder / "weights" / "m.safetensors"
    place.parent.mkdir()
    place.write_bytes(b"mine")
    assert not is_whole(folder, FILE, COMMIT, lambda: False)
    assert not place.exists()
    assert [each.read_bytes() for each in replaced_folder(folder).iterdir()] == [b"mine"]
    place.write_bytes(b"mine too")
    set_aside(folder, place, FILE.path)
    assert len(list(replaced_folder(folder).iterdir())) == 2


def test_small_files_are_checked_by_what_git_calls_them(folder: Path) -> None:
    git = RemoteFile("config.json", 5, None, hashlib.sha1(b"blob 5\0hello").hexdigest())
    part = PartFile(folder, git)
    part.open()
    part.write(b"hello")
    assert part.is_right()
    part.finish(COMMIT, MODIFIED_NS)
    assert is_noted(folder, git)


def test_a_clock_that_jumped_back_does_not_make_a_finished_file_doubtful(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_fetch.time, "time", lambda: 1000.0)
    end(resumed(folder))
    assert is_noted(folder, FILE)
