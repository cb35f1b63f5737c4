"""Mapped files: bytes without copies, ends that are kept to, changes that are noticed, and what stays after closing."""

import gc
import os
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the native engine needs torch")

from engine.model.mapped_file import MappedFile, as_numbers  # noqa: E402
from engine.model.model_error import ModelError  # noqa: E402

CONTENT = bytes(range(256)) * 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "weights.bin"
    path.write_bytes(CONTENT)
    return path


def mapped(path: Path) -> bool:
    """Whether this process has the file mapped."""
    return str(path) in Path("/proc/self/maps").read_text("utf-8")


def test_bytes_are_views_of_the_file(path: Path) -> None:
    file = MappedFile(path)
    one, other = file.bytes_at(3, 100, "a"), file.bytes_at(7, 10, "b")
    assert bytes(one.numpy()) == CONTENT[3:103]
    assert other.data_ptr() - one.data_ptr() == 4
    assert file.size_bytes == len(CONTENT)
    assert file.bytes_at(len(CONTENT), 0, "nothing at the end").numel() == 0


@pytest.mark.parametrize("place", [(-1, 4), (len(CONTENT) - 3, 4), (2**62, 1), (0, 2**63), (5, -1)])
def test_a_place_beyond_the_end_is_refused_by_name(path: Path, place: tuple[int, int]) -> None:
    with pytest.raises(ModelError, match=r"“weights.bin”.*“blk.0.x” would lie beyond its end"):
        MappedFile(path).bytes_at(*place, "blk.0.x")


def test_numbers_are_views_where_they_lie_on_their_own_size(path: Path) -> None:
    file = MappedFile(path)
    aligned, odd = file.bytes_at(8, 16, "a"), file.bytes_at(9, 16, "b")
    assert as_numbers(aligned, torch.float32).data_ptr() == aligned.data_ptr()
    copied = as_numbers(odd, torch.int32)
    assert copied.data_ptr() != odd.data_ptr()
    assert copied.numpy().tobytes() == CONTENT[9:25]
    assert as_numbers(odd, torch.uint8).data_ptr() == odd.data_ptr()


def test_a_file_that_is_written_to_is_noticed(path: Path) -> None:
    file = MappedFile(path)
    file.check()
    status = path.stat()
    with path.open("r+b") as other:
        other.write(b"x")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))  # where clocks are coarse
    with pytest.raises(
        ModelError, match="it was changed while it was loaded; load it again once nothing writes"
    ):
        file.check()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not let a mapped file be made shorter")
def test_a_file_that_shrinks_is_noticed_before_it_is_read(path: Path) -> None:
    file = MappedFile(path)
    os.truncate(path, 100)
    with pytest.raises(ModelError, match="it was changed while it was loaded"):
        file.check()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not let a mapped file be replaced")
def test_a_file_that_is_replaced_goes_on_showing_the_old_one(path: Path) -> None:
    file = MappedFile(path)
    assert file.is_at(path)
    other = path.with_name("other")
    other.write_bytes(b"y" * len(CONTENT))
    other.replace(path)
    assert not file.is_at(path)
    assert bytes(file.bytes_at(0, 256, "a").numpy()) == CONTENT[:256]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells what is mapped")
def test_the_mapping_ends_with_the_last_tensor_that_looks_at_it(path: Path) -> None:
    file = MappedFile(path)
    view = file.bytes_at(1000, 50, "a").view(5, 10)[2:]
    file.close()
    file.close()
    with pytest.raises(ValueError, match=r"weights\.bin is closed"):
        file.bytes_at(0, 1, "a")
    gc.collect()
    assert mapped(path)
    assert bytes(view.numpy()) == CONTENT[1020:1050]
    del view
    gc.collect()
    assert not mapped(path)


def test_what_cannot_be_mapped_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(ModelError, match="it is empty"):
        MappedFile(tmp_path / "empty")
    with pytest.raises(ModelError, match=r"cannot be read \(No such file or directory\)"):
        MappedFile(tmp_path / "nothing")
    with pytest.raises(ModelError, match="it is not an ordinary file"):
        MappedFile(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelError, match="it is not an ordinary file"):
        MappedFile(tmp_path / "pipe")
