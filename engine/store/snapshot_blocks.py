"""The blocks that a snapshot's bytes are cut into: how one is packed, sealed, checked and unpacked.

Owns: the ways to pack a block and when each is worth it, and the sums that find a changed one. Does not know what
is in a block or where in a file it lies (`snapshot_file`).

The numbers in a context's memory are 16 bits wide, of which one byte, sign and exponent, takes few values, while
the other is nearly random. So a block is split into its even and its odd bytes before it is compressed. What does
not get smaller by a twentieth is kept as it is: reading it back then costs a copy.

Everything that takes long here (sums, compression, encryption, large copies) runs without the interpreter's lock.
"""

import hashlib
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from engine.store.sealing import Cipher

Bytes = NDArray[np.uint8]
"""[n], contiguous."""

BLOCK_BYTES = 1 << 20
SEAL_BYTES = 28
"""What sealing adds to a block: a nonce of 12 bytes and a tag of 16."""
RAW, PACKED, SPLIT = 0, 1, 2
"""As it is; compressed (Zstandard); split into even and odd bytes, then compressed."""

_LEVEL = 1
_WORTH = 0.95
"""A block is kept compressed when it is at most this much of what it was."""
_GIVEN_UP_AFTER, _TRIED_EVERY = 8, 8
"""After so many blocks in a row that compression did not help, only each eighth is tried."""
_WINDOW_BYTES = 8 << 20


@dataclass(frozen=True)
class Block:
    """What the index says of one block."""

    kind: int
    stored_bytes: int
    stored_sum: int
    """CRC-32 (zlib's) of the bytes in the file."""
    content_sum: bytes
    """BLAKE2b-256 of what is in it."""


class BlockError(Exception):
    """A block that is not what was written. Its text is a clause without a full stop."""


class BlockPacker:
    """Packs blocks one after the other. `compress`: whether to try at all."""

    def __init__(
        self, *, compress: bool = True, cipher: "Cipher | None" = None, file_id: bytes = b""
    ) -> None:
        import zstandard

        self._compressor = zstandard.ZstdCompressor(
            level=_LEVEL, write_checksum=False, write_content_size=True
        )
        self._compress = compress
        self._cipher = cipher
        self._file_id = file_id
        self._in_vain = 0

    def packed(self, number: int, content: Bytes) -> tuple[Block, memoryview | bytes]:
        """The block's entry, and the bytes to write. `content` has at most BLOCK_BYTES and is not changed."""
        kind, stored = self._smallest(content)
        if self._cipher is not None:
            stored = self._cipher.seal(bytes(stored), about_block(self._file_id, number))
        size = len(stored)
        return Block(kind, size, zlib.crc32(stored), sum_of(content)), stored

    def _smallest(self, content: Bytes) -> tuple[int, memoryview | bytes]:
        if not self._compress or (self._in_vain >= _GIVEN_UP_AFTER and self._in_vain % _TRIED_EVERY):
            self._in_vain += 1
            return RAW, content.data
        kind, plain = (PACKED, content) if content.nbytes % 2 else (SPLIT, _split(content))
        small = self._compressor.compress(plain.data)
        if len(small) > _WORTH * content.nbytes:
            self._in_vain += 1
            return RAW, content.data
        self._in_vain = 0
        return kind, small


def unpack(
    block: Block, number: int, stored: bytes, into: Bytes, *, cipher: "Cipher | None", file_id: bytes
) -> None:
    """Write the content of a block into `into`, which has its size. Raises BlockError; `into` is then undefined.

    Nothing that a file says is believed before it was checked: a compressed block is opened only when it says that
    it will have exactly the size it should have.
    """
    if len(stored) != block.stored_bytes or zlib.crc32(stored) != block.stored_sum:
        raise BlockError(f"block {number} is not what was written")
    if cipher is not None:
        stored = _opened(stored, number, cipher, file_id)
    if block.kind == RAW:
        if len(stored) != into.nbytes:
            raise BlockError(f"block {number} has {len(stored):,} bytes instead of {into.nbytes:,}")
        into[:] = np.frombuffer(stored, np.uint8)
    elif block.kind in (PACKED, SPLIT):
        plain = np.frombuffer(_decompressed(stored, into.nbytes, number), np.uint8)
        if block.kind == PACKED:
            into[:] = plain
        else:
            half = into.nbytes // 2
            into[0::2], into[1::2] = plain[:half], plain[half:]
    else:
        raise BlockError(f"block {number} is of a kind that this Seamount does not know")
    if sum_of(into) != block.content_sum:
        raise BlockError(f"block {number} does not hold what was written")


def sum_of(content: Bytes) -> bytes:
    """The sum by which a block's content is known, 32 bytes."""
    return hashlib.blake2b(content.data, digest_size=32).digest()


def about_block(file_id: bytes, number: int) -> bytes:
    """What a sealed block is bound to: its file, and its place there."""
    return b"seamount snapshot block" + file_id + number.to_bytes(8, "little")


def block_sizes(size_bytes: int) -> list[int]:
    """The sizes of the blocks that so many bytes are cut into: all full but the last."""
    full, rest = divmod(size_bytes, BLOCK_BYTES)
    return [BLOCK_BYTES] * full + ([rest] if rest else [])


def _split(content: Bytes) -> Bytes:
    half = content.nbytes // 2
    plain = np.empty_like(content)
    plain[:half], plain[half:] = content[0::2], content[1::2]
    return plain


def _opened(sealed: bytes, number: int, cipher: "Cipher", file_id: bytes) -> bytes:
    from engine.errors import SeamountError

    try:
        return cipher.open(sealed, about_block(file_id, number))
    except SeamountError as error:
        raise BlockError(f"block {number} cannot be decrypted ({error.why})") from error


def _decompressed(stored: bytes, size_bytes: int, number: int) -> bytes:
    import zstandard

    try:
        # The library makes room for what a frame says it holds, before it looks whether that is so.
        if zstandard.frame_content_size(stored) != size_bytes:
            raise BlockError(f"block {number} would not have {size_bytes:,} bytes")
        plain = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES).decompress(
            stored, max_output_size=size_bytes, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise BlockError(f"block {number} cannot be decompressed") from error
    if len(plain) != size_bytes:
        raise BlockError(f"block {number} has {len(plain):,} bytes instead of {size_bytes:,}")
    return plain
