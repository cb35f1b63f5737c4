"""Backups that somebody else may have made, or that a disk has damaged."""

import hashlib
import json
import os
import random
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from pydantic import ValidationError

from engine.errors import BackupRefused, DataFolderError, TaskStopped
from engine.store import backup_reader
from engine.store.backup import Progress, write_backup
from engine.store.backup_reader import BackupReader
from tests.engine.store.data_folders import filled


def checked(path: Path) -> None:
    with BackupReader(path) as reader:
        reader.check(Progress())


def member(name: str, content: bytes, **more: Any) -> dict[str, Any]:
    packed = more.pop("packed", name)
    return {
        "name": name,
        "packed": packed,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        **more,
    }


def crafted(
    path: Path,
    files: list[tuple[str, bytes]],
    members: list[dict[str, Any]],
    entry: Callable[[zipfile.ZipInfo], None] = lambda _entry: None,
    **manifest: Any,
) -> Path:
    """A ZIP with any names and any manifest."""
    table = {
        "format": "seamount-backup",
        "version": 1,
        "seamount": "0",
        "created_at": 1.0,
        "store_version": 0,
        "with_states": False,
        "members": members,
        **manifest,
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files:
            info = zipfile.ZipInfo(name)
            entry(info)
            archive.writestr(info, content)
        archive.writestr("manifest.json", json.dumps(table))
    return path


SETTINGS = ("settings.toml", b"format = 1\n")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "b"


def test_a_whole_one_is_read(tmp_path: Path, path: Path) -> None:
    write_backup(filled(tmp_path / "data"), path, with_states=True, progress=Progress())
    told: list[tuple[int, int]] = []
    with BackupReader(path) as reader:
        reader.check(Progress(lambda done, total, _: told.append((done, total))))
        assert told[-1] == (reader.content_bytes, reader.content_bytes)
        with pytest.raises(TaskStopped):
            reader.check(Progress(stopping=lambda: True))


def test_one_that_was_made_by_hand_with_plain_members_is_read(path: Path) -> None:
    checked(crafted(path, [SETTINGS], [member(*SETTINGS)]))


@pytest.mark.parametrize(
    "name",
    [
        "../settings.toml",
        "/etc/passwd",
        "C:\\settings.toml",
        "..\\settings.toml",
        "models/../../x",
        "models/other.json",
        "sessions/../journal",
        "sessions/a/../../settings.toml",
        "sessions/a/b/c",
        "sessions/a/..",
        "sessions/./journal",
        "sessions/ä/journal",
        "sessions/a\n/journal",
        "sessions//journal",
        "snapshots/../x.kv",
        "snapshots/x.kv.txt",
        "snapshots/damaged/x.kv",
        "settings.toml\x00",
        "engine.json",
        "sessions.db-wal",
        "",
        # Names that Windows takes for others.
        "sessions/a/journal.",
        "sessions/CON/journal",
        "sessions/a/nul",
        "sessions/a/Com1.damaged-1",
        "snapshots/aux.kv",
        "sessions/a/journal:stream",
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(path: Path, name: str) -> None:
    with pytest.raises(BackupRefused):
        checked(crafted(path, [(name, b"x")], [member(name, b"x")]))


def as_link(entry: zipfile.ZipInfo) -> None:
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16


def as_folder(entry: zipfile.ZipInfo) -> None:
    entry.external_attr = (stat.S_IFDIR | 0o777) << 16


def deflated(entry: zipfile.ZipInfo) -> None:
    entry.compress_type = zipfile.ZIP_DEFLATED


@pytest.mark.parametrize(
    ("entry", "said"),
    [(as_link, "no ordinary file"), (as_folder, "no ordinary file"), (deflated, "not stored")],
)
def test_what_is_no_ordinary_file_is_refused(
    path: Path, entry: Callable[[zipfile.ZipInfo], None], said: str
) -> None:
    with pytest.raises(BackupRefused, match=said):
        checked(crafted(path, [SETTINGS], [member(*SETTINGS)], entry))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicates_are_refused(path: Path) -> None:
    with pytest.raises(BackupRefused, match="the same name"):
        checked(crafted(path, [SETTINGS, SETTINGS], [member(*SETTINGS)]))
    with pytest.raises(BackupRefused, match="names a file twice"):
        checked(crafted(path, [SETTINGS], [member(*SETTINGS)] * 2))
    alike = [("sessions/a/journal", b"x"), ("sessions/A/journal", b"x")]
    with pytest.raises(BackupRefused, match="names a file twice"):
        checked(crafted(path, alike, [member(*each) for each in alike]))
    both = [SETTINGS, ("settings.toml.zst", zstandard.compress(SETTINGS[1]))]
    with pytest.raises(BackupRefused, match="names a file twice"):
        checked(crafted(path, both, [member(*SETTINGS), member(*SETTINGS, packed="settings.toml.zst")]))


def test_bombs_are_refused_before_they_go_off(path: Path) -> None:
    bomb = zstandard.compress(b"\0" * 50_000_000)
    assert len(bomb) < 10_000
    told = member("settings.toml", b"\0" * 10, packed="settings.toml.zst")
    with BackupReader(crafted(path, [("settings.toml.zst", bomb)], [told])) as reader:
        given = 0
        with pytest.raises(BackupRefused, match="longer than its manifest says"):
            for piece in reader.pieces(reader.manifest.members[0]):
                given += len(piece)
        assert given <= 1 << 20


def test_a_window_that_takes_much_memory_is_refused(path: Path) -> None:
    wide = zstandard.ZstdCompressionParameters.from_level(1, window_log=30, write_content_size=0)
    packed = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    content = packed.compress(b"ab" * 300_000) + packed.flush()
    told = member("settings.toml", b"ab" * 300_000, packed="settings.toml.zst")
    with pytest.raises(BackupRefused, match="is damaged"):
        checked(crafted(path, [("settings.toml.zst", content)], [told]))


def test_members_that_overlap_are_refused(path: Path) -> None:
    content = b"x" * 10_000
    names = [f"sessions/s{number}/journal" for number in range(20)]
    crafted(
        path,
        [(name, content if name == names[0] else b"") for name in names],
        [member(name, content) for name in names],
    )
    with zipfile.ZipFile(path) as archive:
        first = archive.infolist()[0]
    raw = bytearray(path.read_bytes())
    directory = struct.unpack("<I", raw[-6:-2])[0]
    place = directory
    for _ in names:  # each entry of the directory: the first one's sizes, sum and place
        raw[place + 16 : place + 28] = struct.pack("<III", first.CRC, first.compress_size, first.file_size)
        raw[place + 42 : place + 46] = struct.pack("<I", first.header_offset)
        place += 46 + sum(struct.unpack("<HHH", raw[place + 28 : place + 34]))
    path.write_bytes(raw)
    with pytest.raises(BackupRefused, match="overlap"):
        checked(path)


def test_a_directory_that_would_fill_the_memory_is_refused_before_it_is_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crafted(path, [SETTINGS], [member(*SETTINGS)])
    monkeypatch.setattr(backup_reader, "_MOST_DIRECTORY_BYTES", 10)
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("it was read"))
    with pytest.raises(BackupRefused, match="directory"):
        BackupReader(path)
    # ZIP64: the sizes stand in another record.
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    record = struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, 1, 1, 1 << 40, 0)
    place = struct.pack("<IIQI", 0x07064B50, 0, 0, 1)
    path.write_bytes(record + place + end)
    with pytest.raises(BackupRefused, match="directory"):
        BackupReader(path)
    # What is pointed at is harmless, or the short form is; the record that is read stands right before.
    decoy = struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, 1, 1, 5, 0)
    path.write_bytes(decoy + record + place + end)
    with pytest.raises(BackupRefused, match="directory"):
        BackupReader(path)
    small = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 1, 1, 5, 0, 0)
    path.write_bytes(record + place + small)
    with pytest.raises(BackupRefused, match="directory"):
        BackupReader(path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": "other"}, "not that of a backup"),
        ({"version": 2}, "install the newer Seamount"),
        ({"members": [member("settings.toml", b"x", bytes=-1)]}, "not that of a backup"),
        ({"members": [member("settings.toml", b"x", sha256="zz")]}, "not that of a backup"),
        ({"members": []}, "does not name the files"),
        ({"members": [member(*SETTINGS), member("catalogue.toml", b"")]}, "does not name the files"),
        ({"members": [member(*SETTINGS, packed="catalogue.toml")]}, "wrong name"),
        ({"store_version": 2}, "what its database is"),
    ],
)
def test_a_manifest_that_does_not_fit(path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(BackupRefused, match=said):
        checked(crafted(path, [SETTINGS], changes.pop("members", [member(*SETTINGS)]), **changes))


def test_of_many_wrong_members_one_is_told(path: Path) -> None:
    crafted(path, [SETTINGS], [member(*SETTINGS), *[{}] * 100_000])
    with pytest.raises(BackupRefused, match="not that of a backup") as caught:
        checked(path)
    cause = caught.value.__cause__
    assert isinstance(cause, ValidationError) and cause.error_count() < 10


@pytest.mark.skipif(os.name == "nt", reason="no such pipes there")
def test_a_pipe_is_not_waited_for(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(DataFolderError, match="no ordinary file"):
        BackupReader(path)


def test_a_file_that_is_no_backup(tmp_path: Path, path: Path) -> None:
    with pytest.raises(DataFolderError, match="cannot be read"):
        BackupReader(tmp_path / "nowhere")
    with pytest.raises(DataFolderError, match="cannot be read"):
        BackupReader(tmp_path)
    for content in (
        b"",
        b"hello",
        b"PK\x05\x06",
        b"PK\x05\x06" + b"\0" * 18,
        random.Random(1).randbytes(100_000),
    ):
        path.write_bytes(content)
        with pytest.raises(BackupRefused):
            checked(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("settings.toml", "x")
    with pytest.raises(BackupRefused, match=r"no manifest\.json"):
        checked(path)


@pytest.mark.parametrize("told", [0, 1, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_directory_that_points_outside_of_the_file_is_refused_as_damaged(path: Path, told: int) -> None:
    """A reader that takes the places for offsets from the directory's end may be led before the file's beginning."""
    crafted(path, [SETTINGS], [member(*SETTINGS)])
    for place in (12, 16):
        whole = bytearray(path.read_bytes())
        end = whole.rfind(b"PK\x05\x06") + place
        whole[end : end + 4] = told.to_bytes(4, "little")
        broken = path.with_name(f"{place}")
        broken.write_bytes(whole)
        with pytest.raises(BackupRefused):
            checked(broken)


def test_no_changed_byte_and_no_cut_goes_unnoticed(tmp_path: Path, path: Path) -> None:
    """Each byte of what the members hold; in the ZIP's own headers some bytes mean nothing (times, comments)."""
    write_backup(filled(tmp_path / "data"), path, with_states=True, progress=Progress())
    whole = path.read_bytes()
    with BackupReader(path) as reader:
        good = [(each.name, b"".join(reader.pieces(each))) for each in reader.manifest.members]
    source = random.Random(7)
    unnoticed = 0
    for _ in range(400):
        place = source.randrange(len(whole))
        damaged = bytearray(whole)
        damaged[place] ^= 1 << source.randrange(8)
        path.write_bytes(damaged)
        try:
            with BackupReader(path) as reader:
                found = [(each.name, b"".join(reader.pieces(each))) for each in reader.manifest.members]
        except BackupRefused:
            continue
        unnoticed += 1
        assert found == good  # it was a byte that means nothing
    assert unnoticed < 200
    for cut in {0, 1, len(whole) - 1, *(source.randrange(len(whole)) for _ in range(50))}:
        path.write_bytes(whole[:cut])
        with pytest.raises(BackupRefused):
            checked(path)
