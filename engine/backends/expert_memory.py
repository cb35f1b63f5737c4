"""The experts of a mapped model file, in memory of our own: read from the disk when they are chosen, kept by a rule.

Owns: for each layer whether its experts' pages are the file's or ours, which of ours hold an expert, and that what is
computed with is always the file's own bytes. Does not know llama.cpp, nor how it says what was chosen.

llama.cpp computes with the addresses of its file mapping. Put in the place of that mapping, memory of our own is read
at the disk's full rate instead of by page faults, and is kept by what the model asks for instead of by the system's
rule, within a budget. A matrix begins anywhere in a page, so that neighbours share one: whoever reads it writes the
file's bytes there, and it is dropped only when neither neighbour is held. Pages that a layer's experts share with
what is no expert stay the file's.

Every method may be called from any thread; what is being computed with is not dropped before `rest` or the next
`fetch`.
"""

import errno
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.backends.direct_reader import THREADS, DirectReader, ReadError, Reading, Wanted
from engine.backends.mapped_file import (
    PAGE_BYTES,
    available,
    drop,
    give_back,
    mappings_of,
    most_mappings,
    move,
    offset_at,
    take,
)
from engine.placement.expert_ranges import ExpertLayer, ExpertRanges, ExpertTensor
from engine.placement.resident_set import ResidentSet

PIECES_SHARE = 0.5
"""Of the pieces of memory that a process may have, those that moved pages may make."""
_PIECES_OF_A_MATRIX = 2
"""Its own pages once moved there, and the one that it shares with the next."""
LEAST_TOKENS = 2
"""A budget that holds a layer's experts of fewer tokens than this is left to the system's page cache."""


class _Matrices:
    """All experts' matrices of one tensor: where their whole pages lie."""

    def __init__(self, tensor: ExpertTensor, experts: int, address: int = 0) -> None:
        self.address = address
        self.offset, self.expert_bytes, self.file = tensor.offset, tensor.expert_bytes, tensor.file
        self.size_bytes = tensor.expert_bytes * experts
        # In the file; the same in memory, where pages are cut at the same bytes.
        self.first = _up(tensor.offset)
        self.end = max(self.first, _down(tensor.offset + self.size_bytes))

    def pages(self, expert: int, *, alone: tuple[bool, bool] = (False, False)) -> tuple[int, int]:
        """From and to where in the file an expert's pages go. `alone`: without a page that it shares with the
        expert before, or with the one after."""
        start = self.offset + expert * self.expert_bytes
        end = start + self.expert_bytes
        first = _up(start) if alone[0] else _down(start)
        last = _down(end) if alone[1] else _up(end)
        first = max(first, self.first)
        return first, max(first, min(last, self.end))

    def address_of(self, offset: int) -> int:
        """Where a place in the file lies in memory."""
        return self.address + offset - self.offset


class Fetch:
    """What one layer needs. Raises ReadError from both, where it cannot be had."""

    def __init__(self, memory: "ExpertMemory", layer: int, stages: Sequence[Reading]) -> None:
        self._memory, self._layer, self._stages = memory, layer, stages

    @property
    def ready(self) -> bool:
        """Whether all is there, and nothing failed."""
        return all(each.ready for each in self._stages)

    def wait_first(self) -> None:
        """Until all but the last tensor's matrices are there."""
        self._wait(self._stages[:1])

    def wait(self) -> None:
        """Until all is there."""
        self._wait(self._stages)

    def _wait(self, stages: Sequence[Reading]) -> None:
        try:
            for each in stages:
                each.wait()
        except ReadError:
            for each in self._stages:  # nothing may still be written there when it is forgotten
                try:
                    each.wait()
                except ReadError:
                    continue
            self._memory.forget(self._layer)
            raise


class ExpertMemory:
    """The experts of one model; `open` makes one, and nothing is exchanged before `place`. `close` it."""

    def __init__(self, reader: DirectReader, ranges: ExpertRanges, budget_bytes: int) -> None:
        self._reader = reader
        self._ranges = ranges
        self._numbers = {layer: at for at, layer in enumerate(ranges.layers)}
        self._layers = list(ranges.layers)
        self._matrices: dict[int, list[_Matrices]] = {}
        self._lent: set[int] = set()  # placed, but the file's for now
        self._moved: dict[int, set[int]] = {}  # the experts of a layer that others' pages were moved to
        self._can_move = True
        self._may_move = int(most_mappings() * PIECES_SHARE) // _PIECES_OF_A_MATRIX
        self._allowed_bytes = budget_bytes
        self._resident = ResidentSet(
            budget_bytes,
            [_page_bytes(layer) for layer in ranges.layers.values()],
            max(layer.experts for layer in ranges.layers.values()),
        )
        self._lock = threading.RLock()
        self.wanted = 0
        self.in_memory = 0
        """Of the experts that were asked for one token at a time, those that needed no reading."""
        self.read_bytes = 0
        """For single tokens, as `wanted` and `in_memory`."""

    @classmethod
    def open(
        cls, paths: Sequence[Path], ranges: ExpertRanges, budget_bytes: int, *, threads: int = THREADS
    ) -> "ExpertMemory | None":
        """A memory for the model in these files. None where it cannot be done: another system than Linux, too small
        a budget, too small experts. Raises OSError."""
        layers = ranges.layers.values()
        least = max(_page_bytes(layer) for layer in layers) * ranges.used * LEAST_TOKENS
        # Of smaller matrices more than two could share a page.
        small = any(tensor.expert_bytes < PAGE_BYTES for layer in layers for tensor in layer.tensors)
        if not available() or small or budget_bytes < least:
            return None
        return cls(DirectReader(*paths, threads=threads), ranges, budget_bytes)

    @property
    def held_bytes(self) -> int:
        """What lies in memory of our own, at most: pages that two experts share are counted twice."""
        return self._resident.held_bytes

    @property
    def budget_bytes(self) -> int:
        """What it may hold now."""
        return self._resident.budget_bytes

    def placed(self, layer: int) -> bool:
        """Whether a layer's addresses are known and its pages exchanged, or can be."""
        return layer in self._matrices

    def lent(self, layer: int) -> bool:
        """Whether a placed layer is the file's for now, since what it needed was more than the budget."""
        return layer in self._lent

    def place(self, layer: int, addresses: Mapping[ExpertTensor, int]) -> bool:
        """Put our own memory in the place of a layer's experts. `addresses`: of each tensor.

        False, and nothing is changed, unless this process has the file mapped exactly so. Raises OSError when it was
        refused by the system; call `surrender` then.
        """
        wanted = self._ranges.layers[layer]
        if set(addresses) != set(wanted.tensors):
            return False
        mappings = list(map(mappings_of, self._reader.descriptors))
        matrices = [_Matrices(tensor, wanted.experts, addresses[tensor]) for tensor in wanted.tensors]
        for each in matrices:
            if (each.address - each.offset) % PAGE_BYTES or each.end == each.first:
                return False
            if offset_at(mappings[each.file], each.address, each.size_bytes) != each.offset:
                return False
        with self._lock:
            self._matrices[layer] = matrices
            self._lent.add(layer)
            self._take(layer)
        return True

    def fetch(self, layer: int, chosen: NDArray[np.int32]) -> Fetch:
        """Begin to read what a placed layer lacks of `chosen`, [tokens, used].

        Where all of it together is more than the budget, the layer is the file's again until it is less: then there
        is nothing to wait for, and pages are read as they are met. Raises OSError; call `surrender` then. Raises
        ReadError for a file that was changed.
        """
        with self._lock:
            number = self._numbers[layer]
            count = len(np.unique(chosen))
            if self._resident.wants(number, count) > self._resident.budget_bytes:
                self._lend(layer)
                return Fetch(self, layer, ())
            if layer in self._lent:
                self._take(layer)
            missing, dropped = self._resident.ask(number, chosen)
            self._reuse(layer, missing, dropped)
            parts = [
                [
                    Wanted(tensor.address_of(first), first, end - first, tensor.file)
                    for first, end in map(tensor.pages, missing)
                    if end > first
                ]
                for tensor in self._matrices[layer]
            ]
            try:
                stages = self._reader.read([part for tensor in parts[:-1] for part in tensor], parts[-1])
            except ReadError:
                self.forget(layer)
                raise
            if len(chosen) == 1:
                self.wanted += count
                self.in_memory += count - len(missing)
                self.read_bytes += sum(part.size_bytes for tensor in parts for part in tensor)
            return Fetch(self, layer, stages)

    def forget(self, layer: int) -> None:
        """Nothing of a layer is to be relied on: all of it is read again when it is wanted again."""
        with self._lock:
            self._resident.forget(self._numbers[layer])
            if layer not in self._lent:
                for each in self._matrices[layer]:
                    drop(each.address_of(each.first), each.end - each.first)

    def rest(self) -> None:
        """Nothing is being computed with."""
        with self._lock:
            self._resident.rest()
            self._drop(self._resident.resize(self._resident.budget_bytes))

    def relieve(self, wanted_bytes: int) -> int:
        """Hold so many bytes less from now on; returns how many will be given back, at the latest by `rest`."""
        with self._lock:
            before = self._resident.held_bytes
            budget = max(0, min(before, self._resident.budget_bytes) - wanted_bytes)
            self._drop(self._resident.resize(budget))
            return max(0, before - budget)

    def allow(self, wanted_bytes: int) -> int:
        """Hold so many bytes more from now on, but no more than at first; returns how many more they are."""
        with self._lock:
            before = self._resident.budget_bytes
            self._resident.resize(min(self._allowed_bytes, before + max(0, wanted_bytes)))
            return self._resident.budget_bytes - before

    def surrender(self) -> None:
        """Map the file everywhere again, as if nothing had been exchanged. Raises OSError where that fails."""
        with self._lock:
            for layer in list(self._matrices):
                self._lend(layer)
            self._matrices.clear()

    def close(self) -> None:
        """End the reading. The memory stays until the mapping that it lies in is unmapped. May be called again."""
        self._reader.close()

    def _take(self, layer: int) -> None:
        whole = self._moved.pop(layer, set())  # all of one piece again
        self._may_move += len(whole) * len(self._matrices[layer])
        self._lent.discard(layer)  # first: should the system refuse the second tensor, the first one is taken
        for each in self._matrices[layer]:
            take(each.address_of(each.first), each.end - each.first)

    def _lend(self, layer: int) -> None:
        if layer in self._lent:
            return
        self._resident.forget(self._numbers[layer])
        for each in self._matrices[layer]:
            give_back(
                each.address_of(each.first),
                each.end - each.first,
                self._reader.descriptors[each.file],
                each.first,
            )
        self._lent.add(layer)

    def _reuse(self, layer: int, missing: Sequence[int], dropped: Sequence[tuple[int, int]]) -> None:
        """Free what is dropped; as far as others come in its place, by moving its pages to them.

        A page that is freed and another that is filled with zeros before the disk writes to it take several times
        the processor's time that reading does. What cannot be moved is freed.
        """
        for expert, (number, gone) in zip(missing, dropped, strict=False):
            source = self._layers[number]
            if self._moves(source, gone, layer, expert):
                for old, new in zip(self._matrices[source], self._matrices[layer], strict=False):
                    self._move(old, gone, new, expert)
        self._drop(dropped)

    def _moves(self, source: int, gone: int, target: int, expert: int) -> bool:
        """Whether both may become pieces of their own; notes that they do."""
        here = [(layer, each) for layer, each in ((source, gone), (target, expert))]
        more = sum(
            len(self._matrices[layer]) for layer, each in here if each not in self._moved.get(layer, ())
        )
        if more > self._may_move:
            return False
        self._may_move -= more
        for layer, each in here:
            self._moved.setdefault(layer, set()).add(each)
        return True

    def _move(self, old: _Matrices, gone: int, new: _Matrices, expert: int) -> None:
        first, end = old.pages(gone, alone=(True, True))
        to_first, to_end = new.pages(expert, alone=(True, True))
        size_bytes = end - first
        if not self._can_move or size_bytes != to_end - to_first or not size_bytes:
            return
        try:
            move(old.address_of(first), new.address_of(to_first), size_bytes)
        except OSError as error:
            if error.errno == errno.EINVAL:  # nor will any other be
                self._can_move = False
            take(new.address_of(to_first), size_bytes)

    def _drop(self, dropped: Sequence[tuple[int, int]]) -> None:
        """Free the pages of experts that are not held any more, but for those that a held neighbour shares."""
        for number, expert in dropped:
            layer = self._layers[number]
            last = self._ranges.layers[layer].experts - 1
            alone = (
                expert > 0 and self._resident.holds(number, expert - 1),
                expert < last and self._resident.holds(number, expert + 1),
            )
            for each in self._matrices[layer]:
                first, end = each.pages(expert, alone=alone)
                if end > first:
                    drop(each.address_of(first), end - first)


def _page_bytes(layer: ExpertLayer) -> int:
    """What one expert of a layer takes in memory at most, whole pages."""
    return sum(_up(tensor.expert_bytes) + PAGE_BYTES for tensor in layer.tensors)


def _down(offset: int) -> int:
    return offset // PAGE_BYTES * PAGE_BYTES


def _up(offset: int) -> int:
    return -(-offset // PAGE_BYTES) * PAGE_BYTES
