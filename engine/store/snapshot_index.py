"""What a snapshot's file says of itself: the values, and the index in which they stand.

Owns: `SnapshotIndex`, its form as JSON, and that nothing is believed of one which could not have been written. Does
not know files (`snapshot_file`) or which snapshots there are (`snapshots`).

Of the tokens the index keeps sums of their beginnings: of all, of those up to each mark, and, closely enough that a
common beginning is found without reading the ids, at the lengths of `grid`.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from engine.backends.base import ContextState, Logits
from engine.store.snapshot_blocks import (
    BLOCK_BYTES,
    PACKED,
    RAW,
    SEAL_BYTES,
    SPLIT,
    Block,
    block_sizes,
)

Ids = NDArray[np.uint32]
"""Token ids, [n], little-endian."""

GRID_TOKENS = 256
"""From here on, sums of the tokens stand at every multiple of this; before, at the lengths of FIRST_GRID."""
FIRST_GRID = (16, 32, 64, 128)
MAX_TOKENS = 1 << 24
MAX_VOCABULARY = 1 << 22
MAX_MARKS = 1 << 16
MAX_STATE_BYTES = 1 << 44
_SUM = re.compile(r"[0-9a-f]{32}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LONGEST_KEY = 1024


@dataclass(frozen=True)
class Probe:
    """By which a context that was loaded with a state is tried: `logits` are those after `token` behind the state, as
    a context computed them that was loaded with it too."""

    token: int
    logits: Logits


@dataclass(frozen=True)
class About:
    """Whose state it is, and what it is worth."""

    state_key: str
    exact_key: str
    cost_s: float
    """What reading its tokens anew would take on this machine."""
    cuttable: bool = False
    """Whether a context that was loaded with it can be cut back to any length (`ModelFacts.can_rewind`)."""


@dataclass(frozen=True)
class MarkPlace:
    """A mark's length in tokens, the sum of these, and the size of its state."""

    tokens: int
    tokens_sum: str
    size_bytes: int


@dataclass(frozen=True)
class SnapshotIndex:
    """All that is known of a snapshot without reading its blocks."""

    about: About
    digest: str
    """BLAKE2b-256 of what the state holds, hexadecimal: of the very bits."""
    tokens: int
    tokens_sum: str
    marks: tuple[MarkPlace, ...]
    whole_bytes: int
    vocabulary: int
    """How many logits lie in it, 0: none."""
    probe_token: int | None
    probe_vocabulary: int
    grid: tuple[tuple[int, str], ...]
    blocks: tuple[Block, ...]

    @property
    def part_bytes(self) -> list[int]:
        """Sizes of the parts in file order: ids, logits, the probe's logits, each mark, the whole state."""
        marks = [mark.size_bytes for mark in self.marks]
        return [4 * self.tokens, 4 * self.vocabulary, 4 * self.probe_vocabulary, *marks, self.whole_bytes]


class SnapshotIndexError(Exception):
    """An index that no Seamount wrote. Its text is a clause without a full stop."""


def token_sums(tokens: Sequence[int] | Ids, lengths: Iterable[int]) -> Iterator[tuple[int, str]]:
    """The sum of the first n tokens for each n of `lengths` (rising, at most all): BLAKE2b-128 of the ids as u32."""
    ids = np.asarray(tokens, dtype="<u4")
    running = hashlib.blake2b(digest_size=16)
    done = 0
    for length in lengths:
        running.update(ids[done:length].tobytes())
        done = length
        yield length, running.hexdigest()


def grid_lengths(tokens: int) -> list[int]:
    """The lengths up to `tokens` at which sums are kept for any beginning."""
    first = [length for length in FIRST_GRID if length <= tokens]
    return first + list(range(GRID_TOKENS, tokens + 1, GRID_TOKENS))


def content_digest(
    tokens: int, vocabulary: int, marks: Sequence[tuple[int, int]], whole_bytes: int, sums: Iterable[bytes]
) -> str:
    """The digest of a state: of its sizes (`marks`: tokens and bytes of each), then of its blocks' sums.

    `sums` are those of all blocks but the probe's, in order.
    """
    digest = hashlib.blake2b(digest_size=32, person=b"seamount kv 1")
    sizes = [tokens, vocabulary, len(marks), *(number for mark in marks for number in mark), whole_bytes]
    digest.update(b"".join(size.to_bytes(8, "little") for size in sizes))
    for each in sums:
        digest.update(each)
    return digest.hexdigest()


def sums_of_state(blocks: Sequence[Block], sizes: Sequence[int]) -> list[bytes]:
    """Of the blocks' sums those that count for the digest: all but the probe's, part 2 of `sizes`."""
    first = len(block_sizes(sizes[0])) + len(block_sizes(sizes[1]))
    behind = first + len(block_sizes(sizes[2]))
    return [block.content_sum for number, block in enumerate(blocks) if not first <= number < behind]


def check_state(state: ContextState) -> None:
    """Raise ValueError for a state that could not be read back: the caller's mistake."""
    lengths = [mark.tokens for mark in state.marks]
    if not 0 < len(state.tokens) <= MAX_TOKENS or not 0 < state.whole.nbytes <= MAX_STATE_BYTES:
        raise ValueError("a state of no tokens or of no bytes, or of too many, cannot be kept")
    if lengths != sorted(set(lengths)) or any(not 0 < length < len(state.tokens) for length in lengths):
        raise ValueError("marks have rising lengths, each shorter than the tokens")
    if len(lengths) > MAX_MARKS or any(mark.state.nbytes == 0 for mark in state.marks):
        raise ValueError("marks without bytes, or too many of them, cannot be kept")


def to_json(index: SnapshotIndex) -> bytes:
    """The index as it stands in a file."""
    return json.dumps(
        {
            "state_key": index.about.state_key,
            "exact_key": index.about.exact_key,
            "cost_s": index.about.cost_s,
            "cuttable": index.about.cuttable,
            "digest": index.digest,
            "tokens": index.tokens,
            "tokens_sum": index.tokens_sum,
            "marks": [[mark.tokens, mark.tokens_sum, mark.size_bytes] for mark in index.marks],
            "whole_bytes": index.whole_bytes,
            "vocabulary": index.vocabulary,
            "probe_token": index.probe_token,
            "probe_vocabulary": index.probe_vocabulary,
            "grid": [list(each) for each in index.grid],
            "blocks": [
                [block.kind, block.stored_bytes, block.stored_sum, block.content_sum.hex()]
                for block in index.blocks
            ],
        },
        separators=(",", ":"),
    ).encode("ascii")


def from_json(written: bytes, *, blocks_bytes: int, sealed: bool) -> SnapshotIndex:
    """The index in `written`, for a file whose blocks take `blocks_bytes` in all. Raises SnapshotIndexError."""
    try:
        index = _parsed(json.loads(written))
    except SnapshotIndexError:
        raise
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        raise SnapshotIndexError("its index cannot be read") from error
    _check(index, blocks_bytes=blocks_bytes, seal_bytes=SEAL_BYTES if sealed else 0)
    return index


def _parsed(table: Any) -> SnapshotIndex:
    about = About(
        _text(table["state_key"]),
        _text(table["exact_key"]),
        _seconds(table["cost_s"]),
        table["cuttable"] is True,
    )
    probe = table["probe_token"]
    return SnapshotIndex(
        about,
        _hex(table["digest"], _DIGEST),
        _number(table["tokens"], 1, MAX_TOKENS),
        _hex(table["tokens_sum"], _SUM),
        tuple(_mark(*row) for row in _rows(table["marks"], 3)),
        _number(table["whole_bytes"], 1, MAX_STATE_BYTES),
        _number(table["vocabulary"], 0, MAX_VOCABULARY),
        None if probe is None else _number(probe, 0, (1 << 32) - 1),
        _number(table["probe_vocabulary"], 0, MAX_VOCABULARY),
        tuple((_number(length, 1, MAX_TOKENS), _hex(each, _SUM)) for length, each in _rows(table["grid"], 2)),
        tuple(_block(*row) for row in _rows(table["blocks"], 4)),
    )


def _check(index: SnapshotIndex, *, blocks_bytes: int, seal_bytes: int) -> None:
    lengths = [mark.tokens for mark in index.marks]
    if lengths != sorted(set(lengths)) or any(length >= index.tokens for length in lengths):
        raise SnapshotIndexError("its marks do not stand within its tokens")
    if [length for length, _ in index.grid] != grid_lengths(index.tokens):
        raise SnapshotIndexError("the sums of its tokens do not stand where they should")
    if (index.probe_token is None) != (index.probe_vocabulary == 0):
        raise SnapshotIndexError("its probe is only half there")
    if sum(index.part_bytes) > len(index.blocks) * BLOCK_BYTES:
        raise SnapshotIndexError("it says that it holds more than its blocks can")
    sizes = [size for part in index.part_bytes for size in block_sizes(part)]
    if len(sizes) != len(index.blocks):
        raise SnapshotIndexError("it has not the blocks that it should have")
    for size, block in zip(sizes, index.blocks, strict=True):
        stored = block.stored_bytes - seal_bytes
        right = stored == size if block.kind == RAW else 0 < stored < size
        if not right or (block.kind == SPLIT and size % 2):
            raise SnapshotIndexError("the size of a block cannot be right")
    if sum(block.stored_bytes for block in index.blocks) != blocks_bytes:
        raise SnapshotIndexError("its blocks do not fill the place that they should")
    marks = [(mark.tokens, mark.size_bytes) for mark in index.marks]
    sums = sums_of_state(index.blocks, index.part_bytes)
    if content_digest(index.tokens, index.vocabulary, marks, index.whole_bytes, sums) != index.digest:
        raise SnapshotIndexError("its digest is not that of its blocks")


def _rows(value: Any, width: int) -> list[list[Any]]:
    rows = cast(list[Any], value if isinstance(value, list) else [None])
    if any(not isinstance(row, list) or len(cast(list[Any], row)) != width for row in rows):
        raise SnapshotIndexError("its index has not the right form")
    return rows


def _mark(tokens: Any, tokens_sum: Any, size_bytes: Any) -> MarkPlace:
    return MarkPlace(
        _number(tokens, 1, MAX_TOKENS), _hex(tokens_sum, _SUM), _number(size_bytes, 1, MAX_STATE_BYTES)
    )


def _block(kind: Any, stored_bytes: Any, stored_sum: Any, content_sum: Any) -> Block:
    if kind not in (RAW, PACKED, SPLIT):
        raise SnapshotIndexError("a block is of a kind that this Seamount does not know")
    return Block(
        _number(kind, RAW, SPLIT),
        _number(stored_bytes, 1, 2 * BLOCK_BYTES),
        _number(stored_sum, 0, (1 << 32) - 1),
        bytes.fromhex(_hex(content_sum, _DIGEST)),
    )


def _number(value: Any, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise SnapshotIndexError("a number in its index cannot be right")
    return value


def _seconds(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
        raise SnapshotIndexError("a number in its index cannot be right")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_KEY:
        raise SnapshotIndexError("a key in its index cannot be right")
    return value


def _hex(value: Any, form: re.Pattern[str]) -> str:
    if not isinstance(value, str) or not form.fullmatch(value):
        raise SnapshotIndexError("a sum in its index cannot be right")
    return value
