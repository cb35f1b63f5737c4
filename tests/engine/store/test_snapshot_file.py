"""A file is whole and unchanged, or it is not used: every byte flipped, every cut, every lie."""

import errno
import hashlib
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import fault_points
from engine.store.sealing import Cipher, Ciphers, MasterKey
from engine.store.snapshot_blocks import BLOCK_BYTES
from engine.store.snapshot_file import (
    PREAMBLE,
    TRAILER,
    NewerSnapshotError,
    OtherSealError,
    SnapshotFileError,
    check_file,
    put_in_place,
    read_ids,
    read_index,
    read_snapshot,
    state_digest,
    write_snapshot,
)
from engine.store.snapshot_index import About
from tests.support.context_states import ABOUT, probe_of, same_state, state_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.kv"


@pytest.fixture
def cipher() -> Cipher:
    return Ciphers.of(MasterKey.new()).snapshots


def room(size_bytes: int) -> "np.ndarray[tuple[int], np.dtype[np.uint8]]":
    return np.empty(size_bytes, np.uint8)


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("size", [1, 5_000, BLOCK_BYTES, 2 * BLOCK_BYTES + 7])
def test_what_was_written_comes_back_bit_for_bit(
    path: Path, cipher: Cipher, size: int, compress: bool, sealed: bool
) -> None:
    state, probe, used = (
        state_of(range(700), size=size, marks=[300, 650]),
        probe_of(),
        cipher if sealed else None,
    )
    index = write_snapshot(path, state, probe, ABOUT, cipher=used, compress=compress)
    found, found_probe, found_index = read_snapshot(path, room, used)
    assert same_state(found, state)
    assert found_probe is not None
    assert (found_probe.token, found_probe.logits.tobytes()) == (probe.token, probe.logits.tobytes())
    assert found_index == index == read_index(path, used)
    assert index.digest == state_digest(state)
    assert (index.about, index.tokens, index.whole_bytes) == (ABOUT, 700, size)
    assert read_ids(path, used).tolist() == list(range(700))
    check_file(path, used)


def test_without_logits_probe_and_marks_there_are_none(path: Path) -> None:
    state = state_of([4, 2], logits=0)
    write_snapshot(path, state, None, ABOUT)
    found, probe, _ = read_snapshot(path, room)
    assert same_state(found, state)
    assert (found.logits, probe) == (None, None)


def test_the_file_is_its_owners_alone(path: Path) -> None:
    write_snapshot(path, state_of([1]), None, ABOUT)
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_probe_does_not_change_the_digest(path: Path) -> None:
    one = write_snapshot(path, state_of([1, 2]), None, ABOUT)
    other = write_snapshot(path.with_name("b"), state_of([1, 2]), probe_of(), About("other", "one", 1.0))
    assert one.digest == other.digest
    different = write_snapshot(path.with_name("c"), state_of([1, 2], seed=1), None, ABOUT)
    assert different.digest != one.digest


def refused(path: Path, cipher: Cipher | None = None) -> None:
    with pytest.raises(SnapshotFileError):
        read_snapshot(path, room, cipher)


@pytest.mark.parametrize("sealed", [False, True])
def test_a_file_with_any_single_byte_changed_is_refused(path: Path, cipher: Cipher, sealed: bool) -> None:
    used = cipher if sealed else None
    write_snapshot(path, state_of(range(20), size=100, marks=[7], logits=2), None, ABOUT, cipher=used)
    whole = path.read_bytes()
    for place in range(0, len(whole), 3 if sealed else 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :])
        refused(path, used)
        if place % 8 == 0:
            with pytest.raises(SnapshotFileError):
                check_file(path, used)
    path.write_bytes(whole)
    read_snapshot(path, room, used)


def boundaries(path: Path) -> list[int]:
    """Where the parts of a file begin: preamble, each block, index, trailer, and the end."""
    index = read_index(path)
    places = [0, PREAMBLE.size]
    for block in index.blocks:
        places.append(places[-1] + block.stored_bytes)
    size = path.stat().st_size
    return [*places, size - TRAILER.size, size]


def test_a_file_cut_off_or_zeroed_anywhere_is_refused(path: Path) -> None:
    state = state_of(range(300), size=2 * BLOCK_BYTES + 5, marks=[20, 200])
    write_snapshot(path, state, probe_of(), ABOUT)
    whole = path.read_bytes()
    for boundary in boundaries(path):
        for end in {boundary - 1, boundary, boundary + 1}:
            if 0 <= end < len(whole):
                path.write_bytes(whole[:end])
                refused(path)
                path.write_bytes(whole[:end] + bytes(len(whole) - end))
                refused(path)
    path.write_bytes(whole + b"\0")
    refused(path)


def rewritten(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the index, and make every sum right that a liar could make right."""
    whole = path.read_bytes()
    offset, length, *_ = TRAILER.unpack(whole[-TRAILER.size :])
    table = json.loads(whole[offset : offset + length])
    change(table)
    index = json.dumps(table).encode()
    size = offset + len(index) + TRAILER.size
    path.write_bytes(whole[:offset] + index + trailer(whole[: PREAMBLE.size], index, offset, size))


def trailer(preamble: bytes, index: bytes, offset: int, size: int, end: bytes = b"SMNTKVE1") -> bytes:
    places = offset.to_bytes(8, "little") + len(index).to_bytes(8, "little") + size.to_bytes(8, "little")
    return places + hashlib.blake2b(preamble + index + places, digest_size=32).digest() + end


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tokens", 10**9),
        ("whole_bytes", 1 << 40),
        ("marks", [[7, "0" * 32, 1 << 40]]),
        ("vocabulary", 1 << 40),
    ],
)
def test_a_size_that_lies_is_refused_before_any_memory_is_taken(path: Path, name: str, value: Any) -> None:
    write_snapshot(path, state_of(range(20), marks=[7]), probe_of(), ABOUT)
    rewritten(path, lambda table: table.__setitem__(name, value))

    def never(size_bytes: int) -> "np.ndarray[tuple[int], np.dtype[np.uint8]]":
        raise AssertionError(size_bytes)

    with pytest.raises(SnapshotFileError):
        read_snapshot(path, never)


def test_tokens_that_are_not_those_of_the_index_are_refused(path: Path) -> None:
    write_snapshot(path, state_of(range(20)), None, ABOUT)
    rewritten(path, lambda table: table.__setitem__("tokens_sum", "0" * 32))
    with pytest.raises(SnapshotFileError, match="tokens"):
        read_ids(path)
    refused(path)


def test_an_index_that_says_nothing_else_still_reads(path: Path) -> None:
    """The way in which the tests above lie would work, if what they say were true."""
    write_snapshot(path, state_of(range(20)), None, ABOUT)
    rewritten(path, lambda table: table.update(tokens=20))
    assert same_state(read_snapshot(path, room)[0], state_of(range(20)))


@pytest.mark.parametrize(
    ("offset", "length"), [(0, 100), (1 << 62, 100), (32, 1 << 62), (32, 17 << 20), (2**64 - 1, 2**64 - 1)]
)
def test_an_index_that_lies_elsewhere_is_refused(path: Path, offset: int, length: int) -> None:
    write_snapshot(path, state_of(range(20)), None, ABOUT)
    whole = path.read_bytes()
    end = TRAILER.pack(offset, length, len(whole), bytes(32), b"SMNTKVE1")
    path.write_bytes(whole[: -TRAILER.size] + end)
    with pytest.raises(SnapshotFileError, match="lie where"):
        read_index(path)


@pytest.mark.parametrize("content", [b"", b"x", bytes(96), bytes(5000), b"SMNTKV\0\1" * 100])
def test_what_is_no_snapshot_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(SnapshotFileError):
        read_index(path)


def test_a_whole_file_of_a_newer_version_is_told_apart(path: Path) -> None:
    write_snapshot(path, state_of(range(20)), None, ABOUT)
    whole = path.read_bytes()
    offset, length, size, *_ = TRAILER.unpack(whole[-TRAILER.size :])
    newer = PREAMBLE.pack(b"SMNTKV\0\1", 2, 0, bytes(16))
    body, index = whole[PREAMBLE.size : offset], whole[offset : offset + length]
    path.write_bytes(newer + body + index + trailer(newer, index, offset, size))
    with pytest.raises(NewerSnapshotError):
        read_index(path)


def test_sealed_and_plain_files_are_told_apart(path: Path, cipher: Cipher) -> None:
    write_snapshot(path, state_of(range(20)), None, ABOUT)
    with pytest.raises(OtherSealError):
        read_index(path, cipher)
    sealed = path.with_name("b")
    write_snapshot(sealed, state_of(range(20)), None, ABOUT, cipher=cipher)
    with pytest.raises(OtherSealError):
        read_index(sealed)


def test_another_key_opens_nothing(path: Path, cipher: Cipher) -> None:
    write_snapshot(path, state_of(range(20)), None, ABOUT, cipher=cipher)
    with pytest.raises(SnapshotFileError, match="decrypted"):
        read_index(path, Ciphers.of(MasterKey.new()).snapshots)


def test_a_sealed_file_shows_neither_tokens_nor_state_nor_key(path: Path, cipher: Cipher) -> None:
    state = state_of(range(1000, 1400), size=4000)
    write_snapshot(path, state, None, About("a secret fingerprint", "e", 1.0), cipher=cipher, compress=False)
    sealed = path.read_bytes()
    ids = np.asarray(state.tokens, "<u4").tobytes()
    for plain in (b"a secret fingerprint", ids[:16], ids[800:816], state.whole.tobytes()[:16], b"tokens"):
        assert plain not in sealed


def test_a_disk_that_fills_up_leaves_no_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = 0

    def at(name: str) -> None:
        nonlocal passes
        passes += name == "snapshot-write"
        if passes == 3:
            raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(fault_points, "at", at)
    with pytest.raises(OSError, match="full"):
        write_snapshot(path, state_of(range(20), size=3 * BLOCK_BYTES), None, ABOUT)
    assert not path.exists()


def test_a_state_that_could_not_be_read_back_leaves_no_file(path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be kept"):
        write_snapshot(path, state_of(range(20)), None, About("k", "e", float("nan")))
    assert not path.exists()


def test_a_name_is_given_to_the_whole_file(path: Path) -> None:
    part = path.with_name("x.part")
    write_snapshot(part, state_of(range(20)), None, ABOUT)
    put_in_place(part, path)
    assert not part.exists()
    check_file(path)


def test_memory_that_is_refused_is_told_as_it_is(path: Path) -> None:
    write_snapshot(path, state_of(range(20)), None, ABOUT)

    def full(size_bytes: int) -> "np.ndarray[tuple[int], np.dtype[np.uint8]]":
        raise MemoryError

    with pytest.raises(MemoryError):
        read_snapshot(path, full)
