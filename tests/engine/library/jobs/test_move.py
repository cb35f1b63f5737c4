"""Moving: on one disk, to another one, and killed at every step of the way."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from engine.errors import LibraryError, MoveStopped
from engine.library.jobs import move as moving
from engine.library.jobs.move import move, remove_partial, staging_of
from engine.protocol_jobs import JobProgress

MEBIBYTE = 1 << 20


def model(folder: Path) -> list[Path]:
    """A model's file, its second part and a receipt."""
    folder.mkdir()
    sizes = {
        "m-00001-of-00002.gguf": 3 * MEBIBYTE + 5,
        "m-00002-of-00002.gguf": MEBIBYTE,
        "m.receipt.json": 0,
    }
    for number, (name, size_bytes) in enumerate(sizes.items()):
        (folder / name).write_bytes(bytes([number + 1]) * size_bytes)
        os.utime(folder / name, ns=(1_000_000_007, 1_234_567_891_000_000_007))
    return sorted(folder.iterdir())


def checkpoint(folder: Path) -> Path:
    for name in (
        "config.json",
        "model-1.safetensors",
        "model-1.safetensors.part",
        ".cache/seamount/fetch.json",
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode() * 1000)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def quietly(takes: list[Path], folder: Path) -> list[Path]:
    return move(takes, folder, lambda _: None, lambda: False)


@pytest.fixture
def to(tmp_path: Path) -> Path:
    folder = tmp_path / "to"
    folder.mkdir()
    return folder


@pytest.fixture
def other_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Renaming is refused as between two disks."""

    def refuse(_takes: object, _folder: object, _staging: object) -> bool:
        return False

    monkeypatch.setattr(moving, "_renamed", refuse)


@pytest.fixture
def really_other_disk(tmp_path: Path) -> Iterator[Path]:
    shm = Path("/dev/shm")
    if not os.access(shm, os.W_OK) or shm.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("this machine has no second disk in memory, /dev/shm")
    folder = shm / f"seamount-test-{os.getpid()}"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def test_on_one_disk_it_is_renamed(tmp_path: Path, to: Path) -> None:
    takes = model(tmp_path / "from")
    before, numbers = content(tmp_path / "from"), [path.stat().st_ino for path in takes]
    told: list[JobProgress] = []
    assert move(takes, to, told.append, lambda: False) == [to / path.name for path in takes]
    assert content(to) == before
    assert [(to / path.name).stat().st_ino for path in takes] == numbers
    assert told[-1].done_bytes == told[-1].total_bytes > 4 * MEBIBYTE
    assert list((tmp_path / "from").iterdir()) == []


def test_to_another_disk_it_is_copied_read_back_and_then_deleted(
    tmp_path: Path, really_other_disk: Path
) -> None:
    takes = model(tmp_path / "from")
    before = content(tmp_path / "from")
    told: list[JobProgress] = []
    move(takes, really_other_disk, told.append, lambda: False)
    assert content(really_other_disk) == before
    assert (really_other_disk / takes[0].name).stat().st_mtime_ns == 1_234_567_891_000_000_007
    assert list((tmp_path / "from").iterdir()) == []
    assert told[-1].done_bytes == told[-1].total_bytes
    assert [each.done_bytes for each in told] == sorted(each.done_bytes for each in told)
    folder = checkpoint(tmp_path / "DeepSeek")
    before = content(folder)
    assert quietly([folder], really_other_disk) == [really_other_disk / "DeepSeek"]
    assert content(really_other_disk / "DeepSeek") == before
    assert not folder.exists()


@pytest.mark.usefixtures("other_disk")
def test_stopped_it_leaves_the_old_files_and_goes_on_where_the_copy_agrees(
    tmp_path: Path, to: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving, "PIECE_BYTES", MEBIBYTE)
    takes = model(tmp_path / "from")
    before = content(tmp_path / "from")
    told: list[JobProgress] = []
    with pytest.raises(MoveStopped):
        move(takes, to, told.append, lambda: len(told) == 2)
    assert content(tmp_path / "from") == before
    [part] = staging_of(takes, to).iterdir()
    kept = part.read_bytes()
    assert len(kept) >= 2 * MEBIBYTE
    part.write_bytes(kept[:MEBIBYTE] + b"\xff" + kept[MEBIBYTE + 1 :])  # torn by a power cut
    quietly(takes, to)
    assert content(to) == before


@pytest.mark.usefixtures("other_disk")
def test_given_up_it_leaves_no_copies(tmp_path: Path, to: Path) -> None:
    takes = model(tmp_path / "from")
    with pytest.raises(MoveStopped):
        move(takes, to, lambda _: None, lambda: True)
    remove_partial(takes, to)
    assert list(to.iterdir()) == []
    assert len(content(tmp_path / "from")) == 3
    remove_partial(takes, tmp_path / "nowhere")


@pytest.mark.usefixtures("other_disk")
@pytest.mark.parametrize("gone", [False, True])
def test_given_up_when_all_is_copied_it_leaves_no_copy_but_the_only_one(
    tmp_path: Path, to: Path, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    takes = model(tmp_path / "from")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(moving, "_name", killed)
    with pytest.raises(KeyboardInterrupt):
        move(takes, to, lambda _: None, lambda: False)
    before = content(staging_of(takes, to))
    if gone:
        takes[-1].unlink()
    remove_partial(takes, to)
    if gone:
        assert content(staging_of(takes, to)) == before
    else:
        assert list(to.iterdir()) == []


@pytest.mark.usefixtures("other_disk")
def test_a_copy_that_reads_differently_is_found(
    tmp_path: Path, to: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    takes = model(tmp_path / "from")
    before = content(tmp_path / "from")
    sync = os.fsync

    def rot(descriptor: int) -> None:
        if os.fstat(descriptor).st_size:
            os.pwrite(descriptor, b"\xff", 17)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", rot)
    with pytest.raises(LibraryError, match="reads differently; check that disk"):
        quietly(takes, to)
    assert content(tmp_path / "from") == before


@pytest.mark.usefixtures("other_disk")
def test_what_changes_or_comes_meanwhile_is_kept(
    tmp_path: Path, to: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = checkpoint(tmp_path / "DeepSeek")
    delete = moving._delete  # pyright: ignore[reportPrivateUsage]

    def late(source: Path, target: Path) -> None:
        (folder / "new.txt").write_text("mine")
        (folder / "config.json").write_text("changed")
        delete(source, target)

    monkeypatch.setattr(moving, "_delete", late)
    quietly([folder], to)
    assert content(folder) == {"config.json": b"changed", "new.txt": b"mine"}


def test_what_cannot_be_moved_is_refused_before_anything_is_touched(tmp_path: Path, to: Path) -> None:
    takes = model(tmp_path / "from")
    (to / takes[1].name).write_bytes(b"somebody's")
    with pytest.raises(LibraryError, match=r"there is a m-00002-of-00002\.gguf in .* already"):
        quietly(takes, to)
    (to / takes[1].name).unlink()
    with pytest.raises(LibraryError, match="there is no folder"):
        quietly(takes, tmp_path / "nowhere")
    folder = checkpoint(tmp_path / "DeepSeek")
    (folder / "inner").mkdir()
    with pytest.raises(LibraryError, match="lies in it"):
        quietly([folder], folder / "inner")
    with FileLock(to / f".{takes[0].name}.moving.lock"), pytest.raises(LibraryError, match="moved already"):
        quietly(takes, to)
    with pytest.raises(LibraryError, match="is not there any more"):
        quietly([tmp_path / "gone.gguf"], to)
    assert len(content(tmp_path / "from")) == 3


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_links_are_left_to_the_person(tmp_path: Path, to: Path) -> None:
    folder = checkpoint(tmp_path / "DeepSeek")
    (folder / "outside").symlink_to(tmp_path)
    with pytest.raises(LibraryError, match="outside is a link"):
        quietly([folder], to)
    assert folder.is_dir()


@pytest.mark.usefixtures("other_disk")
def test_a_disk_without_room_is_told_with_numbers(
    tmp_path: Path, to: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    takes = model(tmp_path / "from")
    usage = shutil.disk_usage(to)
    free_bytes = 5 * MEBIBYTE

    def told(_path: object) -> object:
        return usage._replace(free=free_bytes)

    monkeypatch.setattr(shutil, "disk_usage", told)
    with pytest.raises(LibraryError, match=r"71 MB are needed on that disk and 5\.2 MB are free"):
        quietly(takes, to)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    free_bytes = usage.free
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LibraryError, match="is full; free some space there and go on"):
        quietly(takes, to)
    assert len(content(tmp_path / "from")) == 3


PROGRAM = """
import os, signal, sys
from pathlib import Path
from engine.library.jobs import move as moving
steps = [int(sys.argv[1])]
def step(function):
    def stepped(*given, **named):
        steps[0] -= 1
        if steps[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*given, **named)
    return stepped
moving.PIECE_BYTES = 1 << 20
moving._renamed = lambda *_: False
for name in ("rename", "replace", "unlink", "rmdir", "mkdir"):
    setattr(os, name, step(getattr(os, name)))
report = step(lambda _: None)
takes = [Path(path) for path in sys.argv[3:]]
moving.move(takes, Path(sys.argv[2]), report, lambda: False)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no kill -9")
def test_killed_at_every_step_it_goes_on_and_nothing_is_ever_lost(tmp_path: Path, to: Path) -> None:
    takes = model(tmp_path / "from")
    before = content(tmp_path / "from")
    kills = 0
    for steps in range(1, 200):
        command = [sys.executable, "-c", PROGRAM, str(steps), str(to), *map(str, takes)]
        done = subprocess.run(command, cwd=Path(__file__).parents[4])
        here = content(tmp_path / "from") | content(to)
        assert {name: here[name] for name in before} == before
        if done.returncode == 0:
            break
        assert done.returncode == -9
        kills += 1
    assert kills > 3
    assert content(to) == before
    assert list((tmp_path / "from").iterdir()) == []
