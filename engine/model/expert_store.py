"""The routed experts of a model and where copies of them lie: routing in, weighted sum out.

Owns: the contract `ExpertStore`, what is counted, and the simplest store, which computes every expert from where the
file maps it. Does not know how tokens are routed, nor any rule by which experts are kept (`expert_policies`,
`tiered_experts`).

What is counted are choices: one token going to one expert. "gpu": computed on the device, from a copy in its memory.
"ram": computed by the processor from bytes that lay in memory when they were asked for, be they a copy of ours or the
system's own of the file's pages. "disk": a part of the bytes had to be read from the file first.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch

from engine.model.mapped_pages import missing_bytes, want
from engine.model.weights import ExpertBank
from kernels import ops
from kernels.matrices import ExpertMatrices

Place = Literal["gpu", "ram", "disk"]


@dataclass(frozen=True)
class ExpertTraffic:
    """Choices of experts by where the expert was found, and bytes of the file that were not in memory then."""

    gpu: int = 0
    ram: int = 0
    disk: int = 0
    read_bytes: int = 0

    def __add__(self, other: "ExpertTraffic") -> "ExpertTraffic":
        return ExpertTraffic(
            self.gpu + other.gpu,
            self.ram + other.ram,
            self.disk + other.disk,
            self.read_bytes + other.read_bytes,
        )

    def __sub__(self, other: "ExpertTraffic") -> "ExpertTraffic":
        return ExpertTraffic(
            self.gpu - other.gpu,
            self.ram - other.ram,
            self.disk - other.disk,
            self.read_bytes - other.read_bytes,
        )


class ExpertStore(Protocol):
    """The routed experts of all layers; the draft block's come after the last layer's. One thread computes at once."""

    @property
    def counts(self) -> ExpertTraffic:
        """Since the model was opened. Any thread."""
        ...

    def where(self, layer: int, expert: int) -> Place:
        """Where an expert would be found now. Any thread."""
        ...

    def passing(self) -> AbstractContextManager[None]:
        """Within it (a pass of the network) no expert moves; what is to be moved is moved at its end."""
        ...

    def product(
        self,
        layer: int,
        x: torch.Tensor,
        chosen: torch.Tensor,
        weights: torch.Tensor,
        limit: float,
        look: Callable[[], None] | None = None,
    ) -> torch.Tensor:
        """x [T, D], chosen int64 [T, K], weights F32 [T, K] → [T, D] in x.dtype on x's device.

        The sum over a token's experts of `kernels.ops.expert`, each weighted before its last matrix, in the order of
        `chosen`. limit: of the SwiGLU; 0: none. look: whoever reads the chosen experts before they are computed with
        does it here, once it was seen where they are; what it raises comes through. The result does not depend on
        where on one device an expert lies.
        """
        ...


class MappedExperts:
    """Every expert where the file maps it: nothing of it is copied, the system keeps in memory what it has room for.

    banks: of each layer, the draft block's last.
    """

    def __init__(self, banks: Sequence[ExpertBank]) -> None:
        self._banks = list(banks)
        self._counts = ExpertTraffic()

    @property
    def counts(self) -> ExpertTraffic:
        """See `ExpertStore`."""
        return self._counts

    def where(self, layer: int, expert: int) -> Place:
        """See `ExpertStore`."""
        return "disk" if absent_bytes(self._banks[layer].matrices(expert)) else "ram"

    def passing(self) -> AbstractContextManager[None]:
        """See `ExpertStore`: nothing ever moves."""
        return nullcontext()

    def product(
        self,
        layer: int,
        x: torch.Tensor,
        chosen: torch.Tensor,
        weights: torch.Tensor,
        limit: float,
        look: Callable[[], None] | None = None,
    ) -> torch.Tensor:
        """See `ExpertStore`."""
        bank = self._banks[layer]
        for expert, choices in choices_of(chosen):
            self._counts += found_mapped(bank.matrices(expert), choices)
        if look is not None:
            look()
        return ops.experts(x, chosen, weights, bank, limit)


def choices_of(chosen: torch.Tensor) -> list[tuple[int, int]]:
    """The experts that occur in `chosen`, by rising number, and how often."""
    times: list[int] = np.bincount(chosen.reshape(-1).cpu().numpy()).tolist()
    return [(expert, count) for expert, count in enumerate(times) if count]


def found_mapped(expert: ExpertMatrices, choices: int) -> ExpertTraffic:
    """What `choices` of an expert count that is computed from the file's mapping; what is missing is begun to be read.

    Asking takes about 0.02 ms.
    """
    missing = absent_bytes(expert)
    if not missing:
        return ExpertTraffic(ram=choices)
    for tensor in tensors_of(expert):
        want(tensor.data_ptr(), tensor.nbytes)
    return ExpertTraffic(disk=choices, read_bytes=missing)


def absent_bytes(expert: ExpertMatrices) -> int:
    """How many bytes of an expert would have to be read from the file now."""
    return sum(missing_bytes(tensor.data_ptr(), tensor.nbytes) for tensor in tensors_of(expert))


def tensors_of(expert: ExpertMatrices) -> list[torch.Tensor]:
    """What an expert's bytes lie in, in the processor's memory."""
    parts = [part for matrix in (expert.gate, expert.up, expert.down) for part in (matrix.data, matrix.scale)]
    return [part for part in parts if part is not None and part.device.type == "cpu"]
