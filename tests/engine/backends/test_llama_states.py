"""What is taken for a state of llama.cpp's and what is not, on small states that are written here field by field."""

import struct
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.backends.llama_states import StateFormError, check_state, partial_state

BEGINNING = ("Ii", 0xAF143CD8, 0)
V4_MAGIC = 0x34565344
F16, F32 = 1, 0

Field = tuple[object, ...]
"""The form of some numbers and the numbers, or bytes that may be anything."""


def cells(places: list[int]) -> Iterator[Field]:
    yield ("II", 1, len(places))
    for place in places:
        yield ("iIi", place, 1, 0)


def rows(count: int, row_bytes: int) -> Field:
    return (bytes(range(count * row_bytes % 251)) + bytes(count * row_bytes - count * row_bytes % 251),)


def cache(places: list[int], *, values: bool = True, transposed: bool = False) -> Iterator[Field]:
    """A cache of two layers."""
    yield from cells(places)
    yield ("II", int(transposed), 2)
    for _ in range(2):
        yield ("iQ", F16, 6)
        yield rows(len(places), 6)
    for _ in range(2 if values else 0):
        if transposed:
            yield ("iII", F16, 2, 3)
        else:
            yield ("iQ", F16, 6)
        yield rows(len(places), 6)


def tensor(count: int) -> Iterator[Field]:
    yield ("iQQQ", F32, 2, count, 8)
    yield rows(count, 8)


def compressed(count: int) -> Iterator[Field]:
    yield ("IIII", 2, count, 1, 1)
    yield ("I", 3)
    yield from tensor(count)


def compressor(ratio: int) -> Iterator[Field]:
    yield ("IIIIII", 1, ratio, 4, 2, 1, 1)
    yield ("I", 3)
    yield from tensor(4)
    yield from tensor(4)


def v4(tokens: int, *, partial: bool = False) -> Iterator[Field]:
    yield BEGINNING
    yield ("III", V4_MAGIC, 1, int(partial))
    if not partial:
        yield from cells(list(range(tokens)))
        yield ("II", 0, 0)
    ring = list(range(max(0, tokens - 128), tokens))
    yield from cache(ring[40:] + ring[:40], values=False)
    for ratio in () if partial else (4, 128, 4):
        yield from compressed(tokens // ratio)
    for ratio in (4, 128, 4):
        yield from compressor(ratio)


def usual(*caches: Iterator[Field]) -> Iterator[Field]:
    yield BEGINNING
    for each in caches:
        yield from each


def packed(fields: Iterator[Field]) -> tuple[NDArray[np.uint8], list[tuple[int, int]]]:
    """A state's bytes, and where its numbers stand: place and size of each."""
    data, places = b"", list[tuple[int, int]]()
    for field in fields:
        if isinstance(field[0], bytes):
            data += field[0]
            continue
        for form, number in zip(str(field[0]), field[1:], strict=True):
            one = struct.pack("<" + form, number)
            places.append((len(data), len(one)))
            data += one
    return np.frombuffer(data, np.uint8), places


Writer = Callable[[], Iterator[Field]]
USUAL: dict[str, tuple[int, Writer]] = {
    "keys and values": (5, lambda: usual(cache([0, 1, 2, 3, 4]))),
    "values across": (5, lambda: usual(cache([0, 1, 2, 3, 4], transposed=True))),
    "keys alone": (5, lambda: usual(cache([0, 1, 2, 3, 4], values=False))),
    "two caches": (5, lambda: usual(cache([0, 1, 2, 3, 4]), cache([0, 1, 2, 3, 4], values=False))),
}


@pytest.mark.parametrize("kind", USUAL)
def test_a_state_of_every_token_is_taken(kind: str) -> None:
    tokens, write = USUAL[kind]
    assert check_state(packed(write())[0], tokens, v4=False).in_order


def test_a_window_and_another_order_are_told() -> None:
    for places in ([2, 3, 4], [4, 2, 3], [1, 0, 2, 3, 4]):
        assert not check_state(packed(usual(cache(places)))[0], 5, v4=False).in_order
    both = packed(usual(cache([0, 1, 2, 3, 4]), cache([3, 4])))[0]
    assert not check_state(both, 5, v4=False).in_order


@pytest.mark.parametrize(
    "places", [[0, 1, 2, 3], [0, 1, 2, 4, 5], [0, 1, 1, 3, 4], [-1, 0, 1, 2, 3], [0, 2, 4]]
)
def test_positions_that_are_not_those_of_the_tokens_are_refused(places: list[int]) -> None:
    with pytest.raises(StateFormError):
        check_state(packed(usual(cache(places)))[0], 5, v4=False)


@pytest.mark.parametrize("tokens", [3, 4, 130, 300])
@pytest.mark.parametrize("partial", [False, True])
def test_v4s_states_are_taken(tokens: int, partial: bool) -> None:
    state = packed(v4(tokens, partial=partial))[0]
    check_state(state, tokens, v4=True, partial=partial)
    for other, kind in ((tokens + 1, partial), (tokens - 1, partial), (tokens, not partial)):
        with pytest.raises(StateFormError):
            check_state(state, other, v4=True, partial=kind)
    with pytest.raises(StateFormError):
        check_state(state, tokens, v4=False)


@pytest.mark.parametrize("tokens", [3, 130, 300])
def test_a_whole_state_has_the_partial_one_in_it(tokens: int) -> None:
    whole, partial = packed(v4(tokens))[0], packed(v4(tokens, partial=True))[0]
    assert np.array_equal(partial_state(whole, tokens), partial)


def test_every_cut_and_every_addition_is_refused() -> None:
    for tokens, write, is_v4 in ((5, USUAL["two caches"][1], False), (9, lambda: v4(9), True)):
        state = packed(write())[0]
        ends = {len(state)}
        if not is_v4:  # a state of the first cache alone is one too
            ends |= {8 + sum(len(packed(iter([each]))[0]) for each in cache([0, 1, 2, 3, 4], values=has))
                     for has in (True, False)}  # fmt: skip
        for length in set(range(len(state))) - ends:
            with pytest.raises(StateFormError):
                check_state(state[:length], tokens, v4=is_v4)
        with pytest.raises(StateFormError):
            check_state(np.append(state, np.uint8(0)), tokens, v4=is_v4)


@pytest.mark.parametrize("number", [0, 1, 7, 0xFFFFFFFF, 0x7FFFFFFF])
def test_no_number_leads_beyond_the_bytes(number: int) -> None:
    """Each is replaced by another one; then the state is refused or none of its lengths has changed: it was a type,
    a width or a version, which llama.cpp compares with its own."""
    for tokens, write, is_v4 in ((5, USUAL["keys and values"][1], False), (5, USUAL["values across"][1], False),
                                 (9, lambda: v4(9), True)):  # fmt: skip
        state, places = packed(write())
        tried = refused = 0
        for at, size in places:
            changed = state.copy()
            changed[at : at + size] = np.frombuffer(struct.pack("<Q", number)[:size], np.uint8)
            tried += not np.array_equal(changed, state)
            try:
                form = check_state(changed, tokens, v4=is_v4)
            except StateFormError:
                refused += 1
                continue
            if is_v4:
                assert form.changing[-1].stop == len(state)
        assert refused > tried / 2


def test_what_is_no_row_of_bytes_is_refused() -> None:
    state = packed(v4(9))[0]
    for other in (state.astype(np.int32), state[::-1], state.reshape(1, -1), state[:0]):
        with pytest.raises(StateFormError):
            check_state(other, 9, v4=True)  # type: ignore[arg-type]
