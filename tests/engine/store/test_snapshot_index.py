"""An index comes back as it was; one that could not have been written is refused."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.backends.base import ContextState
from engine.store.snapshot_blocks import BLOCK_BYTES, PACKED, RAW, SPLIT, Block
from engine.store.snapshot_index import (
    MAX_TOKENS,
    About,
    MarkPlace,
    SnapshotIndex,
    SnapshotIndexError,
    check_state,
    content_digest,
    from_json,
    grid_lengths,
    sums_of_state,
    to_json,
    token_sums,
)
from tests.support.context_states import state_of

TOKENS = list(range(40, 340))
GRID = tuple(token_sums(TOKENS, grid_lengths(300)))
SUMS = dict(token_sums(TOKENS, [100, 200, 300]))


def index_of(**changes: Any) -> SnapshotIndex:
    index = SnapshotIndex(
        About("key", "exact", 2.5, True),
        "",
        300,
        SUMS[300],
        (MarkPlace(100, SUMS[100], 50), MarkPlace(200, SUMS[200], 60)),
        BLOCK_BYTES + 10,
        8,
        5,
        8,
        GRID,
        tuple(
            Block(kind, stored, 7, bytes([kind]) * 32)
            for kind, stored in [
                (SPLIT, 900),
                (RAW, 32),
                (RAW, 32),
                (RAW, 50),
                (PACKED, 30),
                (SPLIT, 1000),
                (RAW, 10),
            ]
        ),
    )
    index = replace(index, **changes)
    if "digest" not in changes:
        marks = [(mark.tokens, mark.size_bytes) for mark in index.marks]
        sums = sums_of_state(index.blocks, index.part_bytes)
        digest = content_digest(index.tokens, index.vocabulary, marks, index.whole_bytes, sums)
        index = replace(index, digest=digest)
    return index


def read(index: SnapshotIndex, *, blocks_bytes: int | None = None) -> SnapshotIndex:
    size = sum(block.stored_bytes for block in index.blocks) if blocks_bytes is None else blocks_bytes
    return from_json(to_json(index), blocks_bytes=size, sealed=False)


def test_it_comes_back_as_it_was() -> None:
    assert read(index_of()) == index_of()


def block_with(number: int, **changes: Any) -> tuple[Block, ...]:
    blocks = list(index_of().blocks)
    blocks[number] = replace(blocks[number], **changes)
    return tuple(blocks)


@pytest.mark.parametrize(
    "changes",
    [
        {"tokens": 10**9},
        {"tokens": MAX_TOKENS + 1},
        {"tokens": 0},
        {"whole_bytes": 10**15},
        {"whole_bytes": 10**12},
        {"whole_bytes": BLOCK_BYTES + 11},
        {"whole_bytes": -1, "digest": "0" * 64},
        {"vocabulary": 10**9},
        {"vocabulary": 9},
        {"probe_token": None},
        {"probe_token": -1},
        {"probe_vocabulary": 0},
        {"digest": "0" * 64},
        {"digest": "x"},
        {"tokens_sum": "0"},
        {"marks": (MarkPlace(200, SUMS[200], 60), MarkPlace(100, SUMS[100], 50))},
        {"marks": (MarkPlace(100, SUMS[100], 50), MarkPlace(300, SUMS[300], 60))},
        {"marks": (MarkPlace(100, SUMS[100], 50), MarkPlace(200, SUMS[200], 10**12))},
        {"grid": GRID[:-1]},
        {"grid": ()},
        {"grid": (*GRID, (300, SUMS[300]))},
        {"about": About("k" * 2000, "exact", 1.0)},
        {"about": About("key", "exact", float("inf"))},
        {"about": About("key", "exact", -1.0)},
        {"blocks": index_of().blocks[:-1]},
        {"blocks": (*index_of().blocks, index_of().blocks[-1])},
        {"blocks": block_with(0, stored_bytes=0)},
        {"blocks": block_with(0, stored_bytes=1200)},
        {"blocks": block_with(1, stored_bytes=31)},
        {"blocks": block_with(5, stored_bytes=BLOCK_BYTES)},
        {"blocks": block_with(5, stored_bytes=10**12)},
        {"blocks": block_with(0, kind=7)},
        {"blocks": block_with(0, stored_sum=1 << 32)},
        {"blocks": block_with(0, content_sum=b"short")},
    ],
    ids=repr,
)
def test_what_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(SnapshotIndexError):
        read(index_of(**changes))


def test_a_block_of_odd_size_cannot_have_been_split() -> None:
    index = index_of(whole_bytes=BLOCK_BYTES + 11, blocks=block_with(6, kind=SPLIT, stored_bytes=9))
    with pytest.raises(SnapshotIndexError, match="size of a block"):
        read(index)


def test_blocks_that_do_not_fill_their_place_are_refused() -> None:
    with pytest.raises(SnapshotIndexError, match="fill"):
        read(index_of(), blocks_bytes=2055)


@pytest.mark.parametrize(
    "written",
    [b"", b"{", b"[]", b"null", b"[" * 100_000, b"\xff", b'{"state_key":1}', b"1" * 100_000],
    ids=lambda written: repr(written[:8]),
)
def test_what_is_no_index_is_refused(written: bytes) -> None:
    with pytest.raises(SnapshotIndexError):
        from_json(written, blocks_bytes=0, sealed=False)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)


@given(st.sampled_from(sorted(json.loads(to_json(index_of())))), json_values)
def test_any_value_in_the_place_of_another_is_refused_or_harmless(name: str, value: object) -> None:
    table = json.loads(to_json(index_of()))
    same = table[name] == value
    table[name] = value
    try:
        read_back = from_json(json.dumps(table).encode(), blocks_bytes=2054, sealed=False)
    except SnapshotIndexError:
        assert not same
    else:
        assert replace(read_back, about=index_of().about, probe_token=5) == index_of()


def test_sums_stand_closely_at_first_then_every_256_tokens() -> None:
    assert grid_lengths(15) == []
    assert grid_lengths(600) == [16, 32, 64, 128, 256, 512]


def test_the_sum_of_a_beginning_does_not_depend_on_what_follows() -> None:
    assert list(token_sums([1, 2, 3], [1, 2])) == list(token_sums([1, 2, 9, 9], [1, 2]))
    assert dict(token_sums([1, 2], [2])) != dict(token_sums([2, 1], [2]))


def test_the_digest_depends_on_how_the_bytes_are_told_apart() -> None:
    digests = {
        content_digest(3, 0, [], 10, [b"a", b"b"]),
        content_digest(3, 0, [(1, 10)], 10, [b"a", b"b"]),
        content_digest(3, 2, [], 10, [b"a", b"b"]),
        content_digest(3, 0, [], 10, [b"b", b"a"]),
    }
    assert len(digests) == 4


@pytest.mark.parametrize(
    "state",
    [
        state_of([]),
        state_of([1], size=0),
        state_of([1, 2], marks=[2]),
        state_of([1, 2], marks=[0]),
        state_of([1, 2, 3, 4], marks=[3, 1]),
        state_of([1, 2, 3, 4], marks=[3, 3]),
    ],
)
def test_a_state_that_cannot_be_kept_is_the_callers_mistake(state: ContextState) -> None:
    with pytest.raises(ValueError, match=r"kept|marks"):
        check_state(state)
