"""The memory under a mapping of Python's own, in place of llama.cpp's."""

import ctypes
import errno
import mmap
import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.backends import expert_memory
from engine.backends.direct_reader import DirectReader, ReadError
from engine.backends.expert_memory import ExpertMemory
from engine.backends.mapped_file import available
from engine.placement.expert_ranges import ExpertLayer, ExpertRanges, ExpertTensor

pytestmark = pytest.mark.skipif(not available(), reason="this system does not let mappings be exchanged")
PAGE = mmap.PAGESIZE
EXPERTS, USED, LAYERS = 6, 2, 3
EXPERT = PAGE * 2 + 544  # neighbours share a page
TENSOR = EXPERT * EXPERTS
GAP = 1000  # what lies between tensors is no expert's
ONE = 3 * (3 * PAGE + PAGE)  # an expert's pages, at most
RANGES = ExpertRanges(
    {
        2 * layer: ExpertLayer(
            EXPERTS,
            tuple(
                ExpertTensor(GAP + (3 * layer + at) * (TENSOR + GAP), EXPERT, part)
                for at, part in enumerate(("up", "gate", "down"))
            ),
        )
        for layer in range(LAYERS)
    },
    USED,
)


class Mapped:
    """A file, mapped; what is in it; and a memory over it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content = random.Random(3).randbytes(GAP + 3 * LAYERS * (TENSOR + GAP))
        path.write_bytes(self.content)
        with path.open("rb") as file:
            self._mapping = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
        view = np.frombuffer(self._mapping, np.uint8)
        self.address = view.ctypes.data

    def memory(self, budget_bytes: int) -> ExpertMemory:
        return ExpertMemory(DirectReader(self.path, threads=2, piece_bytes=PAGE), RANGES, budget_bytes)

    def addresses(self, layer: int) -> dict[ExpertTensor, int]:
        return {each: self.address + each.offset for each in RANGES.layers[layer].tensors}

    def place_all(self, memory: ExpertMemory) -> None:
        for layer in RANGES.layers:
            assert memory.place(layer, self.addresses(layer))

    def bytes_at(self, offset: int, size_bytes: int) -> bytes:
        return ctypes.string_at(self.address + offset, size_bytes)

    def has(self, layer: int, expert: int) -> bool:
        """Whether all of an expert is there, as it is in the file."""
        parts = [tensor.range_of(expert) for tensor in RANGES.layers[layer].tensors]
        return all(
            self.bytes_at(*part[:2]) == self.content[part.offset :][: part.size_bytes] for part in parts
        )

    def rest_is_untouched(self) -> bool:
        """Whether what is no expert's is as in the file."""
        ends = [0]
        for layer in RANGES.layers.values():
            for tensor in layer.tensors:
                ends += [tensor.offset, tensor.offset + TENSOR]
        ends.append(len(self.content))
        pairs = zip(ends[::2], ends[1::2], strict=True)
        return all(self.bytes_at(a, b - a) == self.content[a:b] for a, b in pairs)


@pytest.fixture
def mapped(tmp_path: Path) -> Iterator[Mapped]:
    yield Mapped(tmp_path / "file")


def chosen(*tokens: list[int]) -> "np.ndarray[tuple[int, int], np.dtype[np.int32]]":
    return np.array(tokens, np.int32)


def test_what_is_fetched_is_there_and_nothing_else_changes(mapped: Mapped) -> None:
    memory = mapped.memory(20 * ONE)
    mapped.place_all(memory)
    assert not mapped.has(2, 3)
    assert mapped.rest_is_untouched()
    memory.fetch(2, chosen([3, 0])).wait()
    assert [mapped.has(2, expert) for expert in range(EXPERTS)] == [True, False, False, True, False, False]
    assert mapped.rest_is_untouched()
    memory.fetch(2, chosen([3, 5])).wait()
    assert mapped.has(2, 0) and mapped.has(2, 5)
    assert (memory.wanted, memory.in_memory) == (4, 1)
    assert 3 * 3 * EXPERT <= memory.read_bytes <= 3 * ONE
    assert mapped.rest_is_untouched()
    memory.close()


def test_random_choices_in_a_small_memory_are_always_whole(mapped: Mapped) -> None:
    """Neighbours come and go in every order, and share pages."""
    memory = mapped.memory(4 * ONE)
    mapped.place_all(memory)
    draws = random.Random(4)
    for step in range(120):
        layer = list(RANGES.layers)[step % LAYERS]
        tokens = [draws.sample(range(EXPERTS), USED) for _ in range(draws.choice([1, 1, 2]))]
        memory.fetch(layer, chosen(*tokens)).wait()
        assert all(mapped.has(layer, expert) for token in tokens for expert in token)
        assert memory.held_bytes <= 4 * ONE
        held = {(at, each) for at in RANGES.layers for each in range(EXPERTS)
                if memory._resident.holds(at // 2, each)}  # fmt: skip
        assert all(mapped.has(*each) for each in held)
    assert mapped.rest_is_untouched()
    memory.close()


def resident_bytes(mapped: Mapped) -> int:
    """Anonymous memory of this process in the range of the mapping."""
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        fields = line.split()
        if "-" in fields[0] and not fields[0].endswith(":"):
            start = int(fields[0].split("-")[0], 16)
            inside = mapped.address <= start < mapped.address + len(mapped.content)
        elif inside and fields[0] == "Anonymous:":
            total += int(fields[1]) << 10
    return total


@pytest.mark.slow
def test_what_the_system_counts_is_within_the_budget_and_is_given_back(mapped: Mapped) -> None:
    memory = mapped.memory(5 * ONE)
    mapped.place_all(memory)
    draws = random.Random(5)
    most = 0
    for step in range(60):
        memory.fetch(step % LAYERS * 2, chosen(draws.sample(range(EXPERTS), USED))).wait()
        most = max(most, resident_bytes(mapped))
    assert 4 * 3 * EXPERT <= most <= 5 * ONE
    memory.rest()
    assert memory.relieve(3 * ONE) > 0
    assert memory.budget_bytes == memory.held_bytes or memory.held_bytes <= 2 * ONE
    assert resident_bytes(mapped) <= 2 * ONE
    memory.allow(100 * ONE)
    assert memory.budget_bytes == 5 * ONE
    memory.relieve(100 * ONE)
    assert resident_bytes(mapped) == 0
    memory.close()


def test_what_is_computed_with_is_not_given_back_before_rest(mapped: Mapped) -> None:
    memory = mapped.memory(5 * ONE)
    mapped.place_all(memory)
    memory.fetch(0, chosen([1, 2])).wait()
    memory.fetch(2, chosen([3, 4])).wait()
    assert memory.relieve(1 << 40) == 4 * ONE
    assert not mapped.has(0, 1)
    assert mapped.has(2, 3) and mapped.has(2, 4)
    memory.rest()
    assert not mapped.has(2, 3)
    memory.close()


def test_a_batch_that_needs_more_than_there_may_be_is_the_files_until_it_is_less(mapped: Mapped) -> None:
    memory = mapped.memory(4 * ONE)
    mapped.place_all(memory)
    memory.fetch(0, chosen([0, 1])).wait()
    memory.fetch(2, chosen([0, 1], [2, 3], [4, 5])).wait()
    assert all(mapped.has(2, expert) for expert in range(EXPERTS))
    assert mapped.has(0, 1)
    assert (memory.wanted, memory.held_bytes) == (2, 2 * ONE)
    memory.fetch(2, chosen([2, 3])).wait()
    assert mapped.has(2, 2) and not mapped.has(2, 5)
    memory.close()


def test_a_failed_read_is_told_and_what_it_left_is_read_again(
    mapped: Mapped, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = mapped.memory(10 * ONE)
    mapped.place_all(memory)
    memory.fetch(0, chosen([0, 1])).wait()
    whole = DirectReader._read

    def fails(reader: DirectReader, piece: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(DirectReader, "_read", fails)
        for wait in ("wait_first", "wait"):
            fetch = memory.fetch(0, chosen([2, 3]))
            with pytest.raises(ReadError, match="Input/output error"):
                getattr(fetch, wait)()
        assert memory.held_bytes == 0
    assert DirectReader._read is whole
    memory.fetch(0, chosen([2, 1])).wait()
    assert mapped.has(0, 1) and mapped.has(0, 2)
    os.utime(mapped.path, ns=(1, 1))
    with pytest.raises(ReadError, match="changed"):
        memory.fetch(0, chosen([2, 5]))
    assert memory.held_bytes == 0
    memory.close()


def test_surrender_leaves_everything_as_it_was(mapped: Mapped) -> None:
    memory = mapped.memory(10 * ONE)
    mapped.place_all(memory)
    memory.fetch(0, chosen([0, 1])).wait()
    memory.surrender()
    assert mapped.bytes_at(0, len(mapped.content)) == mapped.content
    assert resident_bytes(mapped) == memory.held_bytes == 0
    assert not memory.placed(0)
    memory.close()


@pytest.mark.parametrize("refused", [None, errno.EINVAL, errno.EFAULT])
def test_the_pages_of_what_goes_are_moved_to_what_comes(
    mapped: Mapped, monkeypatch: pytest.MonkeyPatch, refused: int | None
) -> None:
    moved = 0
    real = expert_memory.move

    def move(source: int, target: int, size_bytes: int) -> None:
        nonlocal moved
        moved += 1
        if refused:
            raise OSError(refused, os.strerror(refused))
        real(source, target, size_bytes)

    monkeypatch.setattr(expert_memory, "move", move)
    memory = mapped.memory(4 * ONE)
    mapped.place_all(memory)
    for experts in ([0, 1], [2, 3], [4, 5], [0, 2], [1, 3]):
        memory.fetch(2, chosen(experts)).wait()
        assert all(mapped.has(2, each) for each in experts)
        assert resident_bytes(mapped) <= 4 * ONE
    assert moved == 1 if refused == errno.EINVAL else moved > 3
    assert mapped.rest_is_untouched()
    memory.surrender()
    assert mapped.bytes_at(0, len(mapped.content)) == mapped.content
    memory.close()


def test_no_more_pieces_are_made_than_the_process_may_have(
    mapped: Mapped, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expert_memory, "most_mappings", lambda: 40)
    memory = mapped.memory(4 * ONE)
    mapped.place_all(memory)
    before = len(Path("/proc/self/maps").read_text().splitlines())
    draws = random.Random(6)
    for step in range(60):
        experts = draws.sample(range(EXPERTS), USED)
        memory.fetch(step % LAYERS * 2, chosen(experts)).wait()
        assert all(mapped.has(step % LAYERS * 2, each) for each in experts)
    assert len(Path("/proc/self/maps").read_text().splitlines()) - before <= 40
    assert memory._may_move < 3
    memory.close()


@pytest.mark.parametrize("wrong", ["address", "shift", "tensor", "unmapped"])
def test_what_is_not_mapped_as_the_file_says_is_not_touched(mapped: Mapped, wrong: str) -> None:
    memory = mapped.memory(10 * ONE)
    addresses = mapped.addresses(0)
    first, second, *_ = addresses
    copy = np.frombuffer(mapped.content + bytes(2 * PAGE), np.uint8)
    if wrong == "address":
        addresses[first] += PAGE
    elif wrong == "shift":
        addresses[first] += 8
    elif wrong == "tensor":
        del addresses[second]
    else:
        shift = -copy.ctypes.data % PAGE
        addresses[first] = copy.ctypes.data + shift + first.offset
    assert not memory.place(0, addresses)
    assert not memory.placed(0)
    assert mapped.bytes_at(0, len(mapped.content)) == mapped.content
    assert resident_bytes(mapped) == 0
    memory.close()


def test_it_is_not_opened_for_too_little_memory_or_too_small_experts(
    mapped: Mapped, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ExpertMemory.open([mapped.path], RANGES, 4 * ONE - 1) is None
    small = ExpertRanges({0: ExpertLayer(6, (ExpertTensor(0, PAGE - 1, "up"),))}, 2)
    assert ExpertMemory.open([mapped.path], small, 1 << 30) is None
    memory = ExpertMemory.open([mapped.path], RANGES, 4 * ONE)
    assert memory is not None
    memory.close()
    memory.close()
    monkeypatch.setattr(expert_memory, "available", lambda: False)
    assert ExpertMemory.open([mapped.path], RANGES, 1 << 30) is None
