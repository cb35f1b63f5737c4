"""What a checkpoint folder or a GGUF file holds, told from headers alone.

Owns: the figures (parameters, tensors by format, what is missing, what the result would weigh). Does not know
releases, which have names and prompts, nor how the figures are shown.
"""

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from convert.checkpoint import Checkpoint
from convert.checkpoint_error import CheckpointError
from convert.expected_tensors import (
    Comparison,
    Expected,
    Parameters,
    compare,
    expected_tensors,
    is_draft,
    is_packed_fp4,
    parameters,
)
from convert.ggml_types import GGML_TYPES
from convert.gguf_header import GgufHeader, read_gguf_header
from convert.model_shape import ModelShape

Dense = Literal["q8_0", "bf16"]

_TYPES = {each.name: each for each in GGML_TYPES.values()}
_ALIGNMENT = 32


@dataclass(frozen=True)
class FormatTotal:
    """How many tensors have one number format, and what they take."""

    name: str
    tensors: int
    size_bytes: int


@dataclass(frozen=True)
class ResultSize:
    """What the GGUF would weigh with its dense matrices in one format; its vocabulary adds a few megabytes."""

    dense: Dense
    model_bytes: int
    draft_bytes: int


@dataclass(frozen=True)
class CheckpointInspection:
    """A checkpoint folder. Where the config is of no V4, `shape_problem` says so and what follows from it is None."""

    checkpoint: Checkpoint
    formats: tuple[FormatTotal, ...]
    shape: ModelShape | None
    shape_problem: CheckpointError | None
    parameters: Parameters | None
    comparison: Comparison | None
    results: tuple[ResultSize, ...]
    """Empty for a checkpoint whose experts are not FP4: they have no exact form in a GGUF of that size."""
    free_bytes: int
    """On the disk that holds the folder."""


@dataclass(frozen=True)
class GgufInspection:
    """A GGUF file, or all parts of a split one."""

    paths: tuple[Path, ...]
    headers: tuple[GgufHeader, ...]
    formats: tuple[FormatTotal, ...]
    tensors: int
    parameters: int
    """All numbers in it, whatever they are for."""
    size_bytes: int
    surplus_bytes: int
    """What the files hold beyond their last tensors and the padding after them."""


def inspect_checkpoint(folder: Path) -> CheckpointInspection:
    """Look at a checkpoint folder. Raises CheckpointError where nothing can be said about it."""
    checkpoint = Checkpoint.survey(folder)
    formats = _totals((source.dtype, source.size_bytes) for source in checkpoint.tensors.values())
    shape: ModelShape | None = None
    problem: CheckpointError | None = None
    try:
        shape = ModelShape.from_config(checkpoint.config, folder.name)
    except CheckpointError as error:
        problem = error
    expected = expected_tensors(shape) if shape else {}
    return CheckpointInspection(
        checkpoint=checkpoint,
        formats=formats,
        shape=shape,
        shape_problem=problem,
        parameters=parameters(shape) if shape else None,
        comparison=compare(checkpoint.tensors, expected) if shape else None,
        results=result_sizes(expected) if shape and shape.expert_dtype == "fp4" else (),
        free_bytes=shutil.disk_usage(folder).free,
    )


def inspect_gguf(paths: Sequence[Path]) -> GgufInspection:
    """Look at a GGUF file, or at all parts of a split one in their order. Raises GgufError."""
    headers = tuple(read_gguf_header(path) for path in paths)
    tensors = [tensor for header in headers for tensor in header.tensors]
    return GgufInspection(
        paths=tuple(paths),
        headers=headers,
        formats=_totals((tensor.type_name, tensor.size_bytes) for tensor in tensors),
        tensors=len(tensors),
        parameters=sum(_elements(tensor.shape) for tensor in tensors),
        size_bytes=sum(header.size_bytes for header in headers),
        surplus_bytes=sum(_surplus(header) for header in headers),
    )


def result_sizes(expected: dict[str, Expected]) -> tuple[ResultSize, ...]:
    """What the GGUF of a checkpoint with these tensors would weigh, for each choice of dense format."""
    return (_result_size(expected, "q8_0"), _result_size(expected, "bf16"))


def result_format(name: str, each: Expected, dense: Dense) -> str | None:
    """The format that a tensor has in the GGUF; None for a scale, which is part of its weight there."""
    if each.dtype == "F8_E8M0":
        return None
    if is_packed_fp4(name, each):
        return "MXFP4"
    if each.dtype == "F8_E4M3":
        # A row of Q8_0 is a whole number of blocks.
        fits = each.shape[-1] % _TYPES["Q8_0"].block_elements == 0
        return "Q8_0" if dense == "q8_0" and fits else "BF16"
    if each.dtype == "I64":
        return "I32"
    # llama.cpp computes with vectors in F32 only.
    return "F32" if each.dtype == "F32" or len(each.shape) == 1 else "BF16"


def _result_size(expected: dict[str, Expected], dense: Dense) -> ResultSize:
    totals = {False: 0, True: 0}
    for name, each in expected.items():
        kind = _TYPES.get(result_format(name, each, dense) or "")
        if kind is None:
            continue
        numbers = _elements(each.shape) * (2 if is_packed_fp4(name, each) else 1)
        size_bytes = numbers // kind.block_elements * kind.block_bytes
        totals[is_draft(name)] += -(-size_bytes // _ALIGNMENT) * _ALIGNMENT
    return ResultSize(dense, totals[False], totals[True])


def _surplus(header: GgufHeader) -> int:
    padded = -(-header.expected_size_bytes // header.alignment) * header.alignment
    return max(0, header.size_bytes - padded)


def _totals(tensors: Iterable[tuple[str, int]]) -> tuple[FormatTotal, ...]:
    """By format, the one that takes most first."""
    totals: dict[str, FormatTotal] = {}
    for name, size_bytes in tensors:
        before = totals.get(name, FormatTotal(name, 0, 0))
        totals[name] = FormatTotal(name, before.tensors + 1, before.size_bytes + size_bytes)
    return tuple(sorted(totals.values(), key=lambda each: (-each.size_bytes, each.name)))


def _elements(shape: tuple[int, ...]) -> int:
    count = 1
    for extent in shape:
        count *= extent
    return count
