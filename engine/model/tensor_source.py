"""Where weights come from, as far as the network's assembly knows it.

Owns: `TensorSource`, which gives tensors by the names of an official checkpoint, whatever the file calls them, and
`OpenModel`, what comes of opening one. Does not know formats of files.
"""

from collections.abc import Callable
from typing import Protocol

import torch

from engine.model.config import NetworkConfig
from engine.model.mapped_file import MappedFile
from engine.model.weights import ExpertBank, NetworkWeights
from kernels.matrices import Matrix


class TensorSource(Protocol):
    """A model's tensors. Everything raises ModelError for what is missing, or is not as it was asked for."""

    def matrix(self, name: str, rows: int, columns: int) -> Matrix:
        """A weight as it lies in the file; `name` as in "layers.0.attn.wq_a.weight"."""
        ...

    def pair(self, names: tuple[str, str], rows: int, columns: int) -> tuple[Matrix, Matrix]:
        """Two weights of one shape that a file may hold side by side."""
        ...

    def numbers(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        """A small tensor in F32: a view where the file has it so, else a copy."""
        ...

    def table(self, name: str, vocabulary: int, used: int) -> torch.Tensor:
        """int32 [vocabulary, used]: experts by token id, not checked yet."""
        ...

    def experts(self, prefix: str, count: int, hidden: int, intermediate: int) -> ExpertBank:
        """The routed experts of a layer; `prefix` as in "layers.0.ffn.experts."."""
        ...

    def told(self, name: str) -> str:
        """What the file calls it, for a sentence."""
        ...


class OpenModel:
    """A model whose files are mapped. `size_bytes`: of all its files; `name`: what it calls itself."""

    def __init__(
        self, config: NetworkConfig, weights: NetworkWeights, name: str, files: tuple[MappedFile, ...]
    ) -> None:
        self.config, self.name = config, name
        self.size_bytes = sum(file.size_bytes for file in files)
        self._weights: NetworkWeights | None = weights
        self._files = files

    @property
    def weights(self) -> NetworkWeights:
        """Views of the files. ValueError after `close`."""
        if self._weights is None:
            raise ValueError(f"{self.name} is closed")
        return self._weights

    def close(self) -> None:
        """Let go of the files. Whoever still holds a weight keeps it whole, and its file mapped, until it lets go."""
        self._weights = None
        close_all(self._files)


def close_all(files: tuple[MappedFile, ...] | list[MappedFile]) -> None:
    """Let go of each."""
    for file in files:
        file.close()


def begin_pass_of(files: tuple[MappedFile, ...]) -> Callable[[], None]:
    """What raises ModelError where one of the files changed since it was opened."""

    def check() -> None:
        for file in files:
            file.check()

    return check
