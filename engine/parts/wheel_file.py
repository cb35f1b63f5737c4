"""One wheel, taken apart safely: a zip whose list of files (RECORD) says what may be in it.

Owns: which names are refused, that every file has the size and the sum of the list, and where each goes. Nothing of a
wheel is run, and what it would put outside of the packages' folder (commands, manuals, C headers) is left out. Does not
know where the wheel came from or whether it is the right one (`installation` has seen its sum by then).

Format: packaging.python.org, "Binary distribution format" and "Recording installed projects".
"""

import base64
import binascii
import csv
import hashlib
import io
import os
import re
import stat
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from zipfile import BadZipFile, ZipFile, ZipInfo

from engine import fault_points
from engine.errors import PartError, TaskStopped

CHUNK_BYTES = 1 << 20
MOST_FILES = 100_000
LARGEST_LIST_BYTES = 32 << 20
_UNLISTED = ("RECORD", "RECORD.jws", "RECORD.p7s")
"""Of the wheel's own folder: the list has no sums of itself and its signatures."""
_PACKAGES = ("purelib", "platlib")
_ODD = re.compile(r"[\x00-\x1f\x7f\\:]")


@dataclass(frozen=True)
class Listed:
    """What RECORD says of a file."""

    sha256: bytes
    size_bytes: int | None


def unpack(
    wheel: Path,
    into: Path,
    *,
    most_bytes: int,
    written: dict[str, bytes],
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Write the packages of `wheel` into the folder `into`.

    `most_bytes`: more than that is not unpacked. `written`: path → SHA-256 of what other wheels of the part have put
    there; a wheel may bring the same file again, but not another one of that name.
    Raises PartError for a wheel that is not in order, TaskStopped, OSError.
    """
    try:
        with ZipFile(wheel) as archive:
            _unpack(archive, wheel.name, into, most_bytes, written, stopped)
    except (BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        # RuntimeError: zipfile's word for an encrypted member.
        raise _refused(wheel.name, f"it is not a whole archive ({error})") from error


def _unpack(
    archive: ZipFile,
    wheel: str,
    into: Path,
    most_bytes: int,
    written: dict[str, bytes],
    stopped: Callable[[], bool],
) -> None:
    members = [each for each in archive.infolist() if not each.is_dir()]
    if len(members) > MOST_FILES:
        raise _refused(wheel, f"it holds more than {MOST_FILES:,} files")
    if len({each.filename for each in members}) != len(members):
        raise _refused(wheel, "it holds two files of one name")
    for each in members:
        _check_name(each, wheel)
    listed = _listed(archive, members, wheel)
    left_bytes = most_bytes
    for each in members:
        if stopped():
            raise TaskStopped("The part was not installed", "it was stopped", "begin again when it suits")
        target = _target(each.filename)
        expected = listed.get(each.filename)
        if expected is None:  # the list itself and its signatures
            expected = Listed(b"", None)
        content_bytes = each.file_size
        if expected.size_bytes is not None and content_bytes != expected.size_bytes:
            raise _refused(wheel, f"{each.filename} has another size than its list says")
        left_bytes -= content_bytes
        if left_bytes < 0:
            raise _refused(wheel, f"unpacked it is larger than the {most_bytes:,} bytes that are known of it")
        if target is not None:
            fault_points.at("part-unpacking")
            _write(archive, each, into / target, str(target), expected.sha256, written, wheel)


def _check_name(member: ZipInfo, wheel: str) -> None:
    """Raises PartError for a name that leads elsewhere, and for what is no plain file."""
    name = member.filename
    parts = name.split("/")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if _ODD.search(name) or name.startswith("/") or any(part in ("", ".", "..") for part in parts):
        raise _refused(wheel, f"a name in it leads elsewhere ({name!r})")
    if kind not in (0, stat.S_IFREG):
        raise _refused(wheel, f"{name} is a link or device")


def _listed(archive: ZipFile, members: list[ZipInfo], wheel: str) -> dict[str, Listed]:
    """RECORD as it is: exactly the members of the wheel. Raises PartError."""
    lists = [each for each in members if re.fullmatch(r"[^/]+\.dist-info/RECORD", each.filename)]
    if len(lists) != 1:
        raise _refused(wheel, "it has no list of its files")
    own, info = lists[0], lists[0].filename.partition("/")[0]
    if own.file_size > LARGEST_LIST_BYTES:
        raise _refused(wheel, "the list of its files is too long")
    found: dict[str, Listed] = {}
    try:
        for row in csv.reader(io.StringIO(archive.read(own).decode("utf-8"), newline="")):
            name, digest, size = row
            if name in {f"{info}/{each}" for each in _UNLISTED}:
                continue
            algorithm, _, text = digest.partition("=")
            if algorithm != "sha256":
                raise ValueError(f"{name} has no SHA-256")
            padded = text + "=" * (-len(text) % 4)
            found[name] = Listed(base64.urlsafe_b64decode(padded), int(size) if size else None)
    except (ValueError, csv.Error, binascii.Error) as error:
        raise _refused(wheel, f"the list of its files cannot be read ({error})") from error
    there = {each.filename for each in members} - {f"{info}/{each}" for each in _UNLISTED}
    if odd := sorted(there ^ found.keys()):
        where = "is not in the list of its files" if odd[0] in there else "is in the list of its files only"
        raise _refused(wheel, f"{odd[0]} {where}")
    return found


def _target(name: str) -> PurePosixPath | None:
    """Where a file goes below the packages' folder; None for what goes elsewhere and is left out."""
    path = PurePosixPath(name)
    if not path.parts[0].endswith(".data"):
        return path
    if len(path.parts) > 2 and path.parts[1] in _PACKAGES:
        return PurePosixPath(*path.parts[2:])
    return None


def _write(
    archive: ZipFile,
    member: ZipInfo,
    target: Path,
    name: str,
    expected: bytes,
    written: dict[str, bytes],
    wheel: str,
) -> None:
    digest = hashlib.sha256()
    before = written.get(name)
    if before is not None and before != expected:
        raise _refused(wheel, f"another wheel of the part has already brought another {name}")
    target.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    flags |= os.O_TRUNC if before is not None else os.O_EXCL
    # Some start programs of their own (Triton its assembler); of permissions nothing else is asked.
    mode = 0o755 if (member.external_attr >> 16) & stat.S_IXUSR else 0o644
    descriptor = os.open(target, flags, mode)
    with os.fdopen(descriptor, "wb") as file, archive.open(member) as source:
        while chunk := source.read(CHUNK_BYTES):
            digest.update(chunk)
            file.write(chunk)
    if expected and digest.digest() != expected:
        raise _refused(wheel, f"{member.filename} has another sum than its list says")
    written[name] = expected or digest.digest()


def _refused(wheel: str, why: str) -> PartError:
    return PartError(
        f"{wheel} cannot be installed", why, "it is not the file that Seamount knows; report this"
    )
