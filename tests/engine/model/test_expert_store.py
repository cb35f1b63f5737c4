"""Experts computed where the file maps them, and what is counted of it."""

import mmap
import os
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the native engine needs torch")

from engine.model.expert_store import ExpertTraffic, MappedExperts  # noqa: E402
from kernels import ops  # noqa: E402
from kernels.matrices import ExpertMatrices, Matrix, stored_columns  # noqa: E402
from tests.engine.model.small_experts import HIDDEN, SmallBank  # noqa: E402

torch.set_num_threads(1)


def test_the_product_is_the_operators_and_choices_are_counted() -> None:
    banks = [SmallBank(5, seed) for seed in (1, 2)]
    store = MappedExperts(banks)
    x, weights = torch.randn(3, HIDDEN), torch.rand(3, 2)
    chosen = torch.tensor([[4, 0], [2, 4], [4, 1]])
    found = store.product(1, x, chosen, weights, 7.0)
    assert torch.equal(found, ops.experts(x, chosen, weights, banks[1], 7.0))
    assert store.counts == ExpertTraffic(ram=6)
    assert store.where(0, 3) == "ram"
    with store.passing():
        store.product(0, x[:1], chosen[:1], weights[:1], 0.0)
    assert store.counts - ExpertTraffic(ram=6) == ExpertTraffic(ram=2)


def test_no_tokens_choose_nothing() -> None:
    store = MappedExperts([SmallBank(5)])
    none = torch.zeros(0, 2, dtype=torch.int64)
    assert store.product(0, torch.zeros(0, HIDDEN), none, torch.zeros(0, 2), 0.0).shape == (0, HIDDEN)
    assert store.counts == ExpertTraffic()


class FileBank:
    """Experts of a mapped file that is not in the page cache."""

    SHAPES = ((256, 512), (256, 512), (512, 256))

    def __init__(self, path: Path, experts: int) -> None:
        sizes = [rows * stored_columns("mxfp4", columns) for rows, columns in self.SHAPES]
        self.expert_bytes = sum(sizes)
        numbers = np.random.default_rng(3).integers(0, 120, experts * self.expert_bytes, np.uint8)
        path.write_bytes(numbers.tobytes())
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        self._bytes = torch.frombuffer(mapping, dtype=torch.uint8)
        self._sizes, self._experts = sizes, experts

    def __len__(self) -> int:
        return self._experts

    def matrices(self, expert: int) -> ExpertMatrices:
        """See `ExpertBank`."""
        parts, at = [], expert * self.expert_bytes
        for (rows, columns), size in zip(self.SHAPES, self._sizes, strict=True):
            parts.append(Matrix("mxfp4", rows, columns, self._bytes[at : at + size].view(rows, -1)))
            at += size
        return ExpertMatrices(*parts)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what lies in memory")
def test_what_had_to_be_read_counts_as_from_the_disk_once(tmp_path: Path) -> None:
    bank = FileBank(tmp_path / "experts", 3)
    store = MappedExperts([bank])
    if store.where(0, 1) != "disk":
        pytest.skip("this file system keeps what it was told to drop")
    x, chosen, weights = torch.randn(2, 512), torch.tensor([[1], [1]]), torch.ones(2, 1)
    store.product(0, x, chosen, weights, 1.0)
    assert (store.counts.disk, store.counts.ram) == (2, 0)
    assert 0 < store.counts.read_bytes <= bank.expert_bytes
    assert store.where(0, 1) == "ram"
    store.product(0, x, chosen, weights, 1.0)
    assert (store.counts.disk, store.counts.ram) == (2, 2)
