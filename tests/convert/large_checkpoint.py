"""Checkpoints of true shapes in the official layout, written as fast as the disk takes them.

`seeded_checkpoint` draws and rounds each number, which for a layer of Flash takes minutes. Here each format has one
stretch of numbers, of a fresh network's size, drawn once and repeated from a random place on; its length is a prime,
so that no two rows or experts begin alike. All bytes are valid, and all of it follows from the seed.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.expected_tensors import expected_tensors
from convert.model_shape import ModelShape
from tests.convert.seeded_checkpoint import (
    FP4_VALUES,
    fp8_values,
    write_index,
    write_shard,
    write_tokenizer,
)

Array = NDArray[Any]
PERIOD = 1_048_573
"""A prime."""
_FP4_SPREAD, _FP8_SPREAD = 2.0, 64.0
"""Deviation of the codes' values; what lies beyond the largest code becomes that."""


def write_large_checkpoint(folder: Path, config: dict[str, Any], *, seed: int = 0) -> Path:
    """Write a checkpoint of `config` (keys of config.json) into `folder`, which is made; returns it."""
    expected = expected_tensors(ModelShape.from_config(config))
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    numbers = _Numbers(seed)
    groups: dict[str, list[str]] = {}
    for name in expected:
        groups.setdefault(".".join(name.split(".")[:2]) if name[:2] == "la" else "ends", []).append(name)
    weight_map: dict[str, str] = {}
    for number, names in enumerate(groups.values(), 1):
        shard = f"model-{number:05d}-of-{len(groups):05d}.safetensors"
        tensors = {
            name: (expected[name].dtype, numbers.of(name, expected[name].dtype, expected)) for name in names
        }
        write_shard(folder / shard, tensors)
        weight_map |= dict.fromkeys(names, shard)
    write_index(folder, weight_map, sum(each.size_bytes for each in expected.values()))
    write_tokenizer(folder, "tiny", config["vocab_size"])
    return folder


class _Numbers:
    """The stretches, and where each tensor's begins."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._normal = self._random.standard_normal(PERIOD).astype(np.float32)
        self._fp8 = _nearest(fp8_values()[:127], self._normal * _FP8_SPREAD, 128)
        pairs = self._random.standard_normal((2, PERIOD)).astype(np.float32)
        low, high = (_nearest(FP4_VALUES, each * _FP4_SPREAD, 8) for each in pairs)
        self._fp4 = low | high << 4

    def of(self, name: str, dtype: str, expected: Any) -> Array:
        """A tensor's stored numbers."""
        shape = expected[name].shape
        if dtype == "F8_E8M0":
            return np.full(shape, self._scale(name, expected), np.uint8)
        if dtype == "F8_E4M3":
            return self._drawn(self._fp8, shape)
        if dtype == "I8":
            return self._drawn(self._fp4, shape)
        if dtype == "I64":
            experts = expected[name.removesuffix("tid2eid") + "weight"].shape[0]
            return self._random.random((shape[0], experts)).argsort(axis=1)[:, : shape[1]].astype("<i8")
        values = self._drawn(self._normal, shape)
        if name.endswith(("norm.weight", "_scale")):
            values = 1 + values / 10
        elif name.endswith(("_base", "attn_sink", ".ape")):
            values = values / 2
        elif name.endswith("gate.bias"):
            values = values / 100
        elif name != "embed.weight":
            values = values / np.float32(np.sqrt(shape[-1]))
        values = values.astype("<f4")
        return values if dtype == "F32" else (values.view("<u4") >> 16).astype("<u2")

    def _scale(self, name: str, expected: Any) -> int:
        """The power of two with which a matrix's numbers have the deviation 1/sqrt(columns), as an E8M0 byte."""
        weight = expected[name.removesuffix("scale") + "weight"]
        packed = weight.dtype == "I8"
        columns = weight.shape[1] * (2 if packed else 1)
        return round(-np.log2(columns**0.5 * (_FP4_SPREAD if packed else _FP8_SPREAD))) + 127

    def _drawn(self, period: Array, shape: tuple[int, ...]) -> Array:
        count = int(np.prod(shape))
        return np.resize(np.roll(period, -int(self._random.integers(PERIOD))), count).reshape(shape)


def _nearest(values: Array, numbers: Array, sign: int) -> Array:
    """The code of the nearest of the rising `values` to each number, with `sign` set for one below zero."""
    codes = np.searchsorted((values[1:] + values[:-1]) / 2, np.abs(numbers)).astype(np.uint8)
    return codes | np.where(numbers < 0, sign, 0).astype(np.uint8)
