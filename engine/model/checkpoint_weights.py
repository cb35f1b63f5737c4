"""A model from the folder of an official checkpoint, as it was published: nothing is converted.

Owns: which formats of safetensors are read where, and that nothing is left over that should have had a part. Shards
are mapped; only small tensors in BF16 and the tables of hash layers (64-bit there, 32-bit here) are copied.

FP8 with a scale for 128 x 128 and FP4 with one for 32 are multiplied as they lie there; routed experts may be either
(those of the Base checkpoints are FP8). An MTP block is loaded; the stages of DSpark are counted and left alone.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import torch

from convert.checkpoint import Checkpoint, Source
from convert.checkpoint_error import CheckpointError
from convert.model_shape import ModelShape
from convert.wording import quoted
from engine.checkpoint_remedies import REMEDIES
from engine.model.checkpoint_config import network_config
from engine.model.mapped_file import MappedFile, as_numbers
from engine.model.model_error import GET_AGAIN, NEWER, ModelError
from engine.model.tensor_source import OpenModel, begin_pass_of, close_all
from engine.model.weight_assembly import draft_weights, network_weights
from engine.model.weight_checks import FirstUse, check_loaded
from kernels.matrices import BLOCK, TILE, ExpertMatrices, Kind, Matrix

_PLAIN: dict[str, tuple[Kind, torch.dtype]] = {
    "F32": ("f32", torch.float32),
    "BF16": ("bf16", torch.bfloat16),
    "F16": ("f16", torch.float16),
}
_BYTES = ("U8", "I8")
_SCALES = ("F8_E8M0", "U8")
_LEFT_ALONE = re.compile(r"(layers|mtp)\.\d+\.ffn\.gate\.(bias|bias_vl)")
"""Routing of the parts of an image; a routing bias where tokens route."""


def open_checkpoint(folder: Path) -> OpenModel:
    """The model in a checkpoint's folder, MTP block included. Raises ModelError for all that cannot be used."""
    files: dict[Path, MappedFile] = {}
    try:
        return _open(folder, files)
    except CheckpointError as error:
        close_all(tuple(files.values()))
        raise ModelError(error.what, error.why, REMEDIES[error.problem]) from error
    except BaseException:
        close_all(tuple(files.values()))
        raise


def _open(folder: Path, files: dict[Path, MappedFile]) -> OpenModel:
    checkpoint = Checkpoint.open(folder)
    shape = ModelShape.from_config(checkpoint.config, folder.name)
    for shard in checkpoint.shards:
        file = files[shard.path] = MappedFile(shard.path)
        if not (file.is_at(shard.path) and shard.is_unchanged()):
            why = "it was changed while it was being opened"
            raise ModelError(f"{quoted(shard.path.name)} cannot be used as a model", why, "load it again")
    drafter = [name for name in checkpoint.tensors if name.startswith("mtp.")] if shape.dspark else []
    config = network_config(shape, name=folder.name, dspark_tensors=len(drafter))
    source = CheckpointTensors(folder.name, checkpoint, files)
    weights = network_weights(config, source)
    draft = draft_weights(config, source) if config.draft_blocks else None
    source.check_nothing_left(but=drafter)
    mapped = tuple(files.values())
    checks = FirstUse(weights, draft, config, begin_pass_of(mapped), source.told)
    weights = check_loaded(weights, draft, checks, config, source.told)
    return OpenModel(config, weights, folder.name, mapped)


class CheckpointTensors:
    """The tensors of a checkpoint by their names (`TensorSource`)."""

    def __init__(self, name: str, checkpoint: Checkpoint, files: dict[Path, MappedFile]) -> None:
        self._what = f"{quoted(name)} cannot be used as a DeepSeek-V4"
        self._tensors, self._files = checkpoint.tensors, files
        self._used: set[str] = set()

    # --- what `TensorSource` promises ---------------------------------------------------------------

    def matrix(self, name: str, rows: int, columns: int) -> Matrix:
        return self.read(self.format_of(name, rows, columns))

    def pair(self, names: tuple[str, str], rows: int, columns: int) -> tuple[Matrix, Matrix]:
        return self.matrix(names[0], rows, columns), self.matrix(names[1], rows, columns)

    def numbers(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        source = self._take(name)
        if source.dtype not in _PLAIN:
            raise self._wrong_type(name, source, ", ".join(_PLAIN))
        if source.shape != shape:
            raise self._wrong_shape(name, source, shape)
        return as_numbers(self._bytes(name, source), _PLAIN[source.dtype][1]).view(shape).to(torch.float32)

    def table(self, name: str, vocabulary: int, used: int) -> torch.Tensor:
        source = self._take(name)
        if source.dtype not in ("I64", "I32"):
            raise self._wrong_type(name, source, "I64 or I32")
        if source.shape != (vocabulary, used):
            raise self._wrong_shape(name, source, (vocabulary, used))
        wide = source.dtype == "I64"
        table = as_numbers(self._bytes(name, source), torch.int64 if wide else torch.int32)
        if wide and table.numel() and max(abs(int(each)) for each in torch.aminmax(table)) >= 1 << 31:
            why = f"its tensor {quoted(name)} names an expert by a number beyond 32 bits"
            raise ModelError(self._what, why, GET_AGAIN)
        return table.view(vocabulary, used).to(torch.int32)

    def experts(self, prefix: str, count: int, hidden: int, intermediate: int) -> "CheckpointExperts":
        extents = {"w1": (intermediate, hidden), "w3": (intermediate, hidden), "w2": (hidden, intermediate)}
        return CheckpointExperts(
            self,
            tuple(
                tuple(
                    self.format_of(f"{prefix}{expert}.{part}.weight", *extent)
                    for part, extent in extents.items()
                )
                for expert in range(count)
            ),
        )

    def told(self, name: str) -> str:
        return name

    # --- beyond it ----------------------------------------------------------------------------------

    def format_of(self, name: str, rows: int, columns: int) -> "StoredMatrix":
        """How a matrix of that shape lies there; nothing of it is read. Raises ModelError."""
        source = self._take(name)
        if source.dtype in _PLAIN:
            found = StoredMatrix(name, _PLAIN[source.dtype][0], rows, columns, source, None)
        elif source.dtype == "F8_E4M3":
            scale = self._scale(name, (-(-rows // TILE), -(-columns // TILE)))
            found = StoredMatrix(name, "fp8", rows, columns, source, scale)
        elif source.dtype in _BYTES:
            found = StoredMatrix(name, "fp4", rows, columns, source, None)
            if columns % BLOCK == 0:
                found = StoredMatrix(
                    name, "fp4", rows, columns, source, self._scale(name, (rows, columns // BLOCK))
                )
        else:
            raise self._wrong_type(name, source, "F32, BF16, F16, F8_E4M3 or packed FP4 (I8)")
        stored = (rows, columns // 2) if found.kind == "fp4" else (rows, columns)
        if source.shape != stored or (found.kind == "fp4" and found.scale is None):
            raise self._wrong_shape(name, source, stored)
        return found

    def read(self, stored: "StoredMatrix") -> Matrix:
        """The matrix, a view of its shard."""
        data = self._bytes(stored.name, stored.source)
        if stored.scale is None:
            data = as_numbers(data, _PLAIN[stored.source.dtype][1])
            return Matrix(stored.kind, stored.rows, stored.columns, data.view(stored.source.shape))
        scale = self._bytes(stored.name, stored.scale).view(stored.scale.shape)
        return Matrix(stored.kind, stored.rows, stored.columns, data.view(stored.source.shape), scale)

    def check_nothing_left(self, but: list[str]) -> None:
        """Raise ModelError for a tensor that no part of the network is made of: something here is not understood."""
        alone = set(but)
        left = [
            name
            for name in self._tensors
            if name not in self._used and name not in alone and not _LEFT_ALONE.fullmatch(name)
        ]
        if left:
            more = f" and {len(left) - 1:,} more have" if len(left) > 1 else " has"
            why = f"its tensor {quoted(left[0])}{more} no place in the network known here"
            raise ModelError(self._what, why, NEWER)

    def _take(self, name: str) -> Source:
        source = self._tensors.get(name)
        if source is None:
            raise ModelError(self._what, f"its tensor {quoted(name)} is missing", GET_AGAIN)
        self._used.add(name)
        return source

    def _scale(self, weight: str, shape: tuple[int, int]) -> Source:
        name = f"{weight.removesuffix('weight')}scale"
        source = self._take(name)
        if source.dtype not in _SCALES:
            raise self._wrong_type(name, source, "F8_E8M0")
        if source.shape != shape:
            raise self._wrong_shape(name, source, shape)
        return source

    def _bytes(self, name: str, source: Source) -> torch.Tensor:
        return self._files[source.shard].bytes_at(source.offset, source.size_bytes, name)

    def _wrong_type(self, name: str, source: Source, wanted: str) -> ModelError:
        why = f"its tensor {quoted(name)} is {source.dtype}, and only {wanted} can be read there"
        return ModelError(self._what, why, NEWER)

    def _wrong_shape(self, name: str, source: Source, wanted: tuple[int, ...]) -> ModelError:
        found, expected = (" x ".join(map(str, shape)) or "one number" for shape in (source.shape, wanted))
        why = f"its tensor {quoted(name)} is {found}, and its configuration calls for {expected}"
        return ModelError(self._what, why, GET_AGAIN)


@dataclass(frozen=True, slots=True)
class StoredMatrix:
    """Where a matrix and its scales lie."""

    name: str
    kind: Kind
    rows: int
    columns: int
    source: Source
    scale: Source | None


class CheckpointExperts:
    """The routed experts of a layer (`ExpertBank`): for each, where w1, w3 and w2 lie."""

    def __init__(self, tensors: CheckpointTensors, stored: tuple[tuple[StoredMatrix, ...], ...]) -> None:
        self._tensors, self._stored = tensors, stored

    def __len__(self) -> int:
        return len(self._stored)

    def matrices(self, expert: int) -> ExpertMatrices:
        """Views of the shards; nothing is read by asking."""
        gate, up, down = (self._tensors.read(each) for each in self._stored[expert])
        return ExpertMatrices(gate, up, down)
