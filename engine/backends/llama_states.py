"""The form of a sequence's state as llama.cpp writes it, looked through before llama.cpp reads it.

Owns: what is known of that form, and the check that some bytes have it and hold the tokens they are said to hold.
Does not know how a state is taken or put back (`llama_memory`), and does not touch llama.cpp.

llama.cpp compares a state's types, layers and row sizes with its own and refuses what differs. What it takes on
trust is looked at here: that every length lies within the bytes, that nothing is left over, and that the cells are
those of one sequence whose positions have no gap and end with the last token. (A cell with a position of its own
choosing would not be noticed before it was attended to.)

    state     magic u32, sequence i32, then one or several caches; for DeepSeek-V4:
              magic u32, version u32, mode u32 (0 whole, 1 partial), caches, in a whole one the rows of three
              compressed caches, then three compressors
    cache     streams u32, cells u32, for each cell [position i32, sequences u32, sequence i32]; V transposed u32,
              layers u32, for each layer's K [type i32, row bytes u64, rows], and if it has V the same; transposed:
              [type i32, element bytes u32, elements u32, elements × cells]
    rows      version u32, rows u32, streams u32, layers u32, for each layer [its number u32, tensor]
    compressor  version u32, ratio u32, size u32, width u32, streams u32, layers u32, for each layer [its number
              u32, two tensors]
    tensor    type i32, width u64, rows u64, row bytes u64, the rows

All little-endian, without padding; from llama-kv-cache.cpp and llama-kv-cache-dsv4.cpp of llama.cpp as of
llama-cpp-python 0.3.36.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_MAGIC = 0xAF143CD8
_V4_MAGIC = 0x34565344
_V4_VERSION = 1
_V4_RATIOS = (4, 128, 4)
"""Tokens for a row of each compressed cache."""
_MOST_CACHES = 4
_CELL_BYTES = 12
_MOST_LAYERS = 4096


class StateFormError(ValueError):
    """Bytes that are not a state of what they are said to be; the text says what is wrong with them."""


class StateForm(NamedTuple):
    """What a state's bytes say of the memory that it was taken from."""

    in_order: bool
    """Every cache holds every token, one behind the other: a memory that is loaded with the state is laid out alike."""
    changing: tuple[slice, ...] = ()
    """Of a whole state of DeepSeek-V4: what a partial one has of it, behind its beginning."""


def check_state(state: NDArray[np.uint8], tokens: int, *, v4: bool, partial: bool = False) -> StateForm:
    """Look through a state of `tokens` tokens. `v4`: a DeepSeek-V4's; `partial`: without what is never changed.

    Raises StateFormError.
    """
    if state.dtype != np.uint8 or state.ndim != 1 or not state.flags.c_contiguous:
        raise StateFormError("it is no row of bytes")
    reader = _Reader(state.data)
    if reader.numbers("<Ii") != (_MAGIC, 0):
        raise StateFormError("it does not begin as one")
    if v4:
        form = _check_v4(reader, tokens, partial=partial)
        if reader.left:
            raise StateFormError(f"{reader.left:,} bytes are left over")
        return form
    for end, in_order in _cache_ends(reader, tokens, _MOST_CACHES):
        if end == len(state):
            return StateForm(in_order)
    raise StateFormError(f"{len(state):,} bytes are not the caches of {tokens:,} tokens")


def partial_state(whole: NDArray[np.uint8], tokens: int) -> NDArray[np.uint8]:
    """The partial state that DeepSeek-V4's memory would have given with this whole one. Raises StateFormError."""
    beginning = struct.pack("<IiIII", _MAGIC, 0, _V4_MAGIC, _V4_VERSION, 1)
    form = check_state(whole, tokens, v4=True)
    return np.concatenate([np.frombuffer(beginning, np.uint8), *(whole[part] for part in form.changing)])


class _Reader:
    """A place in the bytes that moves on as they are read."""

    def __init__(self, data: memoryview, at: int = 0) -> None:
        self._data = data
        self.at = at

    @property
    def left(self) -> int:
        return len(self._data) - self.at

    def at_place(self, place: int) -> "_Reader":
        return _Reader(self._data, place)

    def bytes(self, count: int) -> memoryview:
        if count > self.left:
            raise StateFormError("it ends too early")
        self.at += count
        return self._data[self.at - count : self.at]

    def since(self, begin: int) -> slice:
        return slice(begin, self.at)

    def numbers(self, form: str) -> tuple[int, ...]:
        return struct.unpack(form, self.bytes(struct.calcsize(form)))


def _check_v4(reader: _Reader, tokens: int, *, partial: bool) -> StateForm:
    if reader.numbers("<III") != (_V4_MAGIC, _V4_VERSION, int(partial)):
        raise StateFormError("it is of another version or kind")
    if not partial:  # a cache of no layers: nothing in V4 attends to every token itself
        _check_keys(reader, _check_cells(reader, tokens)[0])
    begin = reader.at
    _check_keys(reader, _check_cells(reader, tokens)[0])
    window = reader.since(begin)
    if not partial:
        for ratio in _V4_RATIOS:
            _check_rows(reader, tokens // ratio)
    begin = reader.at
    for ratio in _V4_RATIOS:
        _check_compressor(reader, ratio)
    return StateForm(in_order=False, changing=(window, reader.since(begin)))


def _check_cells(reader: _Reader, tokens: int) -> tuple[int, bool]:
    """How many cells a cache has, and whether they are all of `tokens`, in order. Else they are the last of them."""
    streams, count = reader.numbers("<II")
    if streams != 1:
        raise StateFormError(f"it is of {streams} streams")
    if not 1 <= count <= tokens:
        raise StateFormError(f"it has {count:,} cells for {tokens:,} tokens")
    cells = np.frombuffer(reader.bytes(count * _CELL_BYTES), "<i4").reshape(count, 3)
    if not ((cells[:, 1] == 1).all() and (cells[:, 2] == 0).all()):
        raise StateFormError("a cell is not of its one sequence")
    places, last = cells[:, 0], np.arange(tokens - count, tokens)
    if np.array_equal(places, last):
        return count, count == tokens
    if not np.array_equal(np.sort(places), last):
        raise StateFormError("the positions are not those of its tokens")
    return count, False


def _check_keys(reader: _Reader, cells: int) -> tuple[bool, int]:
    """The K of a cache's layers; whether V is transposed, and how many layers there are."""
    transposed, layers = reader.numbers("<II")
    if transposed > 1 or layers > _MOST_LAYERS:
        raise StateFormError("a cache is of another kind")
    for _ in range(layers):
        _type, row_bytes = reader.numbers("<iQ")
        reader.bytes(row_bytes * cells)
    return bool(transposed), layers


def _check_values(reader: _Reader, cells: int, layers: int, *, transposed: bool) -> None:
    for _ in range(layers):
        if transposed:
            _type, element_bytes, elements = reader.numbers("<iII")
            reader.bytes(element_bytes * elements * cells)
        else:
            _type, row_bytes = reader.numbers("<iQ")
            reader.bytes(row_bytes * cells)


def _cache_ends(reader: _Reader, tokens: int, most: int) -> Iterator[tuple[int, bool]]:
    """Where up to `most` caches can end that begin at a place: with V and, as some models have none, without. And
    whether the cells of all of them are in order."""
    cells, in_order = _check_cells(reader, tokens)
    transposed, layers = _check_keys(reader, cells)
    ends = [reader.at]
    try:
        _check_values(reader, cells, layers, transposed=transposed)
        ends.insert(0, reader.at)
    except StateFormError:
        pass
    for end in ends:
        yield end, in_order
        if most > 1:
            try:
                for last, others in _cache_ends(reader.at_place(end), tokens, most - 1):
                    yield last, in_order and others
            except StateFormError:
                continue


def _check_rows(reader: _Reader, rows: int) -> None:
    _version, found, streams, layers = reader.numbers("<IIII")
    if found != rows or streams != 1 or layers > _MOST_LAYERS:
        raise StateFormError(f"it has {found:,} rows of a compressed cache in the place of {rows:,}")
    for _ in range(layers):
        reader.numbers("<I")
        _check_tensor(reader, rows)


def _check_compressor(reader: _Reader, ratio: int) -> None:
    _version, found, size, _width, streams, layers = reader.numbers("<IIIIII")
    if found != ratio or streams != 1 or layers > _MOST_LAYERS:
        raise StateFormError("a compressor is of another kind")
    for _ in range(layers):
        reader.numbers("<I")
        _check_tensor(reader, size)
        _check_tensor(reader, size)


def _check_tensor(reader: _Reader, rows: int) -> None:
    _type, _width, found, row_bytes = reader.numbers("<iQQQ")
    if found != rows:
        raise StateFormError(f"a tensor has {found:,} rows in the place of {rows:,}")
    reader.bytes(rows * row_bytes)
