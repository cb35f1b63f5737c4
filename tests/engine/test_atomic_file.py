"""The old file or the new one, never half of each."""

import errno
import os
from pathlib import Path

import pytest

from engine.atomic_file import is_disk_full, name_beside, sync_folder, write_atomically


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"one")
    write_atomically(path, b"two\r\n\x00")
    assert path.read_bytes() == b"two\r\n\x00"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_it_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    path.chmod(0o644)
    write_atomically(path, b"secret")
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_bytes_are_on_disk_before_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    order: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(descriptor: int) -> None:
        order.append("fsync")
        fsync(descriptor)

    def noted_replace(self: Path, target: Path) -> Path:
        order.append("replace")
        return replace(self, target)

    monkeypatch.setattr("engine.atomic_file.os.fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    write_atomically(path, b"x")
    assert order[:2] == ["fsync", "replace"]


def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def refuse(_: Path, __: Path) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(OSError, match="missing"):
        write_atomically(tmp_path / "missing" / "file", b"new")


def test_a_name_beside_is_always_free(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    names: set[str] = set()
    for _ in range(3):
        free = name_beside(path, "broken")
        assert free.name.startswith("settings.toml.broken-") and not free.exists()
        assert ":" not in free.name
        free.touch()
        names.add(free.name)
    assert len(names) == 3


def test_a_folder_that_cannot_be_synced_is_no_failure(tmp_path: Path) -> None:
    sync_folder(tmp_path)
    sync_folder(tmp_path / "missing")


def test_a_full_disk_is_told_from_other_trouble() -> None:
    assert is_disk_full(OSError(errno.ENOSPC, ""))
    assert is_disk_full(OSError(errno.EDQUOT, ""))
    assert not is_disk_full(OSError(errno.EACCES, ""))
