"""Where in a GGUF each routed expert's numbers lie.

Owns: finding the expert tensors by llama.cpp's names, and cutting each into its experts. Works on a header that
`convert.gguf_header` has read and checked against the file; opens nothing itself. Does not know what is done with
the ranges.

A layer has its experts in two or three tensors (up and gate, or both in one, and down), each the matrices of all
experts one after the other, so the expert's number is the slowest-changing extent (src/llama-arch.cpp).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from convert.gguf_header import GgufHeader, TensorInfo

_NAME = re.compile(r"blk\.(?P<layer>\d{1,4})\.ffn_(?P<part>up|gate|gate_up|down)_exps\.weight")
_BLOCKS = ("block_count", "nextn_predict_layers")
_MAX_EXPERTS = 1 << 16
"""Of a layer; llama.cpp takes 512."""
_ORDER = ("up", "gate", "gate_up", "down")
"""The order in which llama.cpp multiplies by them (build_moe_ffn in src/llama-graph.cpp)."""


class ByteRange(NamedTuple):
    """A part of a file, in bytes from its start. `file`: of a model in several files the number of this one, from 0."""

    offset: int
    size_bytes: int
    file: int = 0


@dataclass(frozen=True)
class ExpertTensor:
    """The matrices of all experts of a layer for one multiplication; `expert_bytes` is the size of one. `part`: of
    "up", "gate", "gate_up" and "down" the one that it is."""

    offset: int
    expert_bytes: int
    part: str
    file: int = 0

    def range_of(self, expert: int) -> ByteRange:
        """Where one expert's matrix lies."""
        return ByteRange(self.offset + expert * self.expert_bytes, self.expert_bytes, self.file)


@dataclass(frozen=True)
class ExpertLayer:
    """The experts of one layer; `tensors` in the order in which they are used."""

    experts: int
    tensors: tuple[ExpertTensor, ...]

    def ranges(self, chosen: Iterable[int]) -> list[ByteRange]:
        """The matrices of the chosen experts in the order in which they are used.

        Raises ValueError for a number that is no expert's.
        """
        wanted = list(chosen)
        for expert in wanted:
            if not 0 <= expert < self.experts:
                raise ValueError(f"expert {expert} of {self.experts}")
        return [tensor.range_of(expert) for tensor in self.tensors for expert in wanted]

    @property
    def size_bytes(self) -> int:
        """All experts of the layer."""
        return self.experts * sum(tensor.expert_bytes for tensor in self.tensors)


@dataclass(frozen=True)
class ExpertRanges:
    """Every layer that has routed experts, by its number; `used` of them are asked for each token."""

    layers: Mapping[int, ExpertLayer]
    used: int

    @property
    def size_bytes(self) -> int:
        """All routed experts."""
        return sum(layer.size_bytes for layer in self.layers.values())

    @property
    def token_bytes(self) -> int:
        """What one token reads of them."""
        return sum(layer.size_bytes // layer.experts * self.used for layer in self.layers.values())


def expert_ranges(*headers: GgufHeader) -> ExpertRanges | None:
    """The routed experts of a model, of the headers of all its files in their order; None if it has none, or these
    are not all of its files.

    Those of a drafter in the same file (MTP, the last blocks) are left out: writing a token does not ask for them.
    A layer whose tensors do not agree on how many experts there are is an error that llama.cpp finds, too; here
    it counts as a model without experts.
    """
    header = headers[0]  # of several, the first says what the model is
    used = header.number(f"{header.architecture}.expert_used_count")
    if not isinstance(used, int) or used < 1 or max(1, _count(header, "split.count")) != len(headers):
        return None
    blocks, drafts = (_count(header, f"{header.architecture}.{key}") for key in _BLOCKS)
    end = blocks - drafts if drafts else None
    found: dict[int, dict[str, _Found]] = {}
    for number, each in enumerate(headers):
        for tensor in each.tensors:
            match = _NAME.fullmatch(tensor.name)
            if match and (end is None or int(match["layer"]) < end):
                place = _Found(tensor, each.data_offset + tensor.offset, number)
                found.setdefault(int(match["layer"]), {})[match["part"]] = place
    layers: dict[int, ExpertLayer] = {}
    for number in sorted(found):
        layer = _layer(found[number])
        if layer is None or layer.experts < used:
            return None
        layers[number] = layer
    return ExpertRanges(layers, used) if layers else None


def _count(header: GgufHeader, key: str) -> int:
    """A whole number of the metadata; 0 for one that is missing or cannot be, such as an infinite one."""
    value = header.number(key)
    return max(0, value) if isinstance(value, int) else 0


class _Found(NamedTuple):
    """A tensor, and where it begins in which file."""

    tensor: TensorInfo
    offset: int
    file: int


def _layer(parts: Mapping[str, _Found]) -> ExpertLayer | None:
    counts = {each.tensor.shape[2] if len(each.tensor.shape) == 3 else 0 for each in parts.values()}
    experts = counts.pop()
    if (
        counts
        or not 1 <= experts <= _MAX_EXPERTS
        or any(each.tensor.size_bytes % experts for each in parts.values())
    ):
        return None
    return ExpertLayer(
        experts,
        tuple(
            ExpertTensor(each.offset, each.tensor.size_bytes // experts, part, each.file)
            for part in _ORDER
            if (each := parts.get(part)) is not None
        ),
    )
