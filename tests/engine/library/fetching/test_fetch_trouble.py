"""What a disk says, as sentences."""

import errno
import os
from pathlib import Path

import pytest

from engine.errors import FetchDiskFull, FetchFailed
from engine.library.fetching.fetch_trouble import told


@pytest.mark.parametrize(
    ("number", "why"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "you may not write more"),
        (errno.EFBIG, "cannot hold files of that size"),
        (errno.EROFS, "can only be read"),
        (errno.EACCES, "not permitted"),
        (errno.EIO, "does not do what it should"),
        (errno.ENODEV, "does not do what it should"),
        (errno.ENAMETOOLONG, "too long"),
        (errno.EBUSY, os.strerror(errno.EBUSY)),
    ],
)
def test_each_trouble_has_its_sentence(tmp_path: Path, number: int, why: str) -> None:
    error = told(OSError(number, os.strerror(number)), tmp_path)
    assert why in error.why
    assert isinstance(error, FetchDiskFull) == (number in (errno.ENOSPC, errno.EDQUOT))
    assert str(tmp_path) in error.text


def test_a_disk_that_was_pulled_is_told_as_that(tmp_path: Path) -> None:
    for number in (errno.ENOENT, errno.EIO):
        error = told(OSError(number, os.strerror(number)), tmp_path / "gone")
        assert isinstance(error, FetchFailed)
        assert "not there any more" in error.why
