"""A block comes back as it was, or is refused; nothing is opened that would become larger than it should."""

import zlib

import numpy as np
import pytest
import zstandard

from engine.store.sealing import Ciphers, MasterKey
from engine.store.snapshot_blocks import (
    BLOCK_BYTES,
    PACKED,
    RAW,
    SEAL_BYTES,
    SPLIT,
    Block,
    BlockError,
    BlockPacker,
    Bytes,
    block_sizes,
    sum_of,
    unpack,
)
from tests.support.context_states import bytes_like_a_cache

NOISE = np.frombuffer(np.random.default_rng(5).bytes(4096), np.uint8)


def unpacked(block: Block, stored: bytes, size: int, number: int = 0) -> Bytes:
    into = np.empty(size, np.uint8)
    unpack(block, number, stored, into, cipher=None, file_id=b"")
    return into


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (bytes_like_a_cache(4096), SPLIT),
        (bytes_like_a_cache(4095), PACKED),
        (np.zeros(4097, np.uint8), PACKED),
    ],
)
def test_what_gets_smaller_is_compressed_and_comes_back(content: Bytes, kind: int) -> None:
    if kind == PACKED and content.any():
        content = np.repeat(content[:1365], 3)
    block, stored = BlockPacker().packed(0, content)
    assert block.kind == kind
    assert len(stored) == block.stored_bytes < content.nbytes
    assert (unpacked(block, bytes(stored), content.nbytes) == content).all()


def test_what_does_not_get_smaller_is_kept_as_it_is() -> None:
    block, stored = BlockPacker().packed(0, NOISE)
    assert (block.kind, bytes(stored)) == (RAW, NOISE.tobytes())
    assert (unpacked(block, bytes(stored), NOISE.nbytes) == NOISE).all()


def test_without_compression_nothing_is_compressed() -> None:
    block, _ = BlockPacker(compress=False).packed(0, np.zeros(4096, np.uint8))
    assert block.kind == RAW


def test_after_many_blocks_in_vain_only_some_are_tried() -> None:
    packer = BlockPacker()
    for number in range(8):
        packer.packed(number, NOISE)
    tried = [packer.packed(8 + number, np.zeros(4096, np.uint8))[0].kind != RAW for number in range(8)]
    assert tried == [True] * 8  # the first is tried, and what helped once is tried again
    packer = BlockPacker()
    for number in range(9):
        packer.packed(number, NOISE)
    tried = [packer.packed(9 + number, np.zeros(4096, np.uint8))[0].kind != RAW for number in range(8)]
    assert tried == [False] * 7 + [True]


@pytest.mark.parametrize("content", [NOISE, bytes_like_a_cache(4096)], ids=["raw", "compressed"])
def test_a_changed_byte_is_found_wherever_it_is(content: Bytes) -> None:
    block, stored = BlockPacker().packed(0, content)
    for index in range(0, len(stored), 17):
        changed = bytearray(stored)
        changed[index] ^= 0x10
        with pytest.raises(BlockError, match="not what was written"):
            unpacked(block, bytes(changed), content.nbytes)


def entry(kind: int, stored: bytes, content: Bytes) -> Block:
    return Block(kind, len(stored), zlib.crc32(stored), sum_of(content))


def test_a_block_that_would_become_larger_is_never_opened() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(64 << 20))
    with pytest.raises(BlockError, match="would not have 4,096 bytes"):
        unpacked(entry(PACKED, bomb, NOISE), bomb, 4096)


def test_a_block_that_hides_its_size_is_never_opened() -> None:
    hiding = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(64 << 20))
    with pytest.raises(BlockError, match="would not have"):
        unpacked(entry(PACKED, hiding, NOISE), hiding, 4096)


def test_a_block_that_lies_about_its_size_is_found() -> None:
    honest = zstandard.ZstdCompressor(write_checksum=False).compress(bytes(4096))
    lying = zstandard.ZstdCompressor(write_checksum=False).compress(bytes(4352))
    mixed = honest[: zstandard.frame_header_size(honest)] + lying[zstandard.frame_header_size(lying) :]
    with pytest.raises(BlockError, match=r"cannot be decompressed|instead of|does not hold"):
        unpacked(entry(PACKED, mixed, NOISE), mixed, 4096)


def test_bytes_behind_a_compressed_block_are_refused() -> None:
    two = zstandard.ZstdCompressor().compress(bytes(4096)) * 2
    with pytest.raises(BlockError, match="decompressed"):
        unpacked(entry(PACKED, two, np.zeros(4096, np.uint8)), two, 4096)


@pytest.mark.parametrize("kind", [RAW, PACKED, 3])
def test_what_is_not_what_its_kind_says_is_refused(kind: int) -> None:
    stored = NOISE[:100].tobytes()
    with pytest.raises(BlockError):
        unpacked(entry(kind, stored, NOISE), stored, NOISE.nbytes)


def test_other_content_under_a_right_stored_sum_is_refused() -> None:
    with pytest.raises(BlockError, match="does not hold what was written"):
        unpacked(entry(RAW, NOISE.tobytes(), bytes_like_a_cache(4096)), NOISE.tobytes(), 4096)


def test_a_sealed_block_opens_at_its_place_in_its_file_only() -> None:
    cipher = Ciphers.of(MasterKey.new()).snapshots
    content = bytes_like_a_cache(4096)
    block, stored = BlockPacker(cipher=cipher, file_id=b"one").packed(4, content)
    plain, _ = BlockPacker().packed(4, content)
    assert block.stored_bytes == plain.stored_bytes + SEAL_BYTES
    into = np.empty(4096, np.uint8)
    unpack(block, 4, bytes(stored), into, cipher=cipher, file_id=b"one")
    assert (into == content).all()
    for number, file_id in ((5, b"one"), (4, b"two")):
        with pytest.raises(BlockError, match="cannot be decrypted"):
            unpack(block, number, bytes(stored), into, cipher=cipher, file_id=file_id)


def test_all_blocks_are_full_but_the_last() -> None:
    assert block_sizes(0) == []
    assert block_sizes(BLOCK_BYTES) == [BLOCK_BYTES]
    assert block_sizes(2 * BLOCK_BYTES + 1) == [BLOCK_BYTES, BLOCK_BYTES, 1]
