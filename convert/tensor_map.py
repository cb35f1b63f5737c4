"""Which tensors a GGUF of DeepSeek-V4 has, in file order, and which tensors of the checkpoint each is made of.

Owns: the names and number formats that llama.cpp's `deepseek4` and `dflash` architectures load (read in its
src/models/deepseek4.cpp, dflash.cpp and src/llama-arch.cpp), and the rule that every tensor of the checkpoint
goes into exactly one target or is named as left out. Pure: knows names, types and shapes, no files, no bytes.

llama.cpp refuses a file with a tensor that it does not know, so nothing is carried along on the side. Two
facts shape what can be done with a drafter:

- MTP (preview) may stand in the model's own file as block L, but its graph then reads the *trunk's*
  `output_hc_*`; the head's own three `hc_head_*` have a place only in a file of their own, which repeats
  embedding, output norm and output head.
- DSpark is an architecture of its own (`dflash`), always in its own file; it borrows embedding and output
  from the model that it drafts for.

A group is what is made durable together: the embedding, one layer, the output, one stage of a drafter. Groups
come in the order of the official shards.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from convert import tensor_names as names
from convert.conversion_error import ConversionError
from convert.ggml_types import GGML_TYPES

Dense = Literal["q8_0", "bf16"]
Draft = Literal["keep", "skip", "separate"]
Drafter = Literal["mtp", "dspark"]
Role = Literal["model", "draft"]
How = Literal["copy", "widen", "narrow", "dense", "join", "experts"]
"""copy: the same bytes. widen: BF16 to F32. narrow: I64 to I32, refused where a value does not fit. dense: FP8
with its scales to BF16 or Q8_0. join: two dense matrices side by side. experts: FP4 repacked to MXFP4."""

_TYPES = {kind.name: kind for kind in GGML_TYPES.values()}
_PROJECTIONS = (("w1", "ffn_gate_exps"), ("w2", "ffn_down_exps"), ("w3", "ffn_up_exps"))

_PART = re.compile(
    r"(?P<block>(?P<kind>layers|mtp)\.(?P<at>\d{1,4}))\.(?:ffn\.experts\.(?P<expert>\d{1,4})\.)?"
)

_HC_LEFT_OUT = "llama.cpp's MTP uses the trunk's output_hc_* when both stand in one file"


class Tensor(Protocol):
    """What is to be known of a tensor of the checkpoint; `dtype` as safetensors calls it."""

    @property
    def dtype(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...


@dataclass(frozen=True)
class Matrix:
    """Extents of a matrix as the checkpoint stores it, in bytes or numbers."""

    rows: int
    columns: int


@dataclass(frozen=True)
class Options:
    """What a person chooses: the format of the FP8 dense weights, and what happens to the drafter."""

    dense: Dense = "q8_0"
    draft: Draft = "separate"


@dataclass(frozen=True)
class Target:
    """One tensor of a GGUF. `shape` in ggml's order, fastest-changing first; `sources` in the order in which
    they are read, every weight followed by its scale."""

    role: Role
    name: str
    type_name: str
    shape: tuple[int, ...]
    how: How
    sources: tuple[str, ...]
    group: str

    @property
    def size_bytes(self) -> int:
        """Bytes in the GGUF."""
        kind = _TYPES[self.type_name]
        return math.prod(self.shape) // kind.block_elements * kind.block_bytes

    @property
    def exact(self) -> bool:
        """Whether every number of the checkpoint is kept as it is."""
        return self.type_name != "Q8_0"


@dataclass(frozen=True)
class TensorMap:
    """Every target, group by group, and every tensor of the checkpoint that is left out, with the reason."""

    targets: tuple[Target, ...]
    left_out: Mapping[str, str] = field(hash=False)
    drafter: Drafter | None
    layers: int
    stages: int
    """Blocks of the drafter."""

    def of(self, role: Role) -> tuple[Target, ...]:
        """The tensors of one file, in file order."""
        return tuple(target for target in self.targets if target.role == role)

    @property
    def roles(self) -> tuple[Role, ...]:
        """The files there are."""
        return ("model", "draft") if self.of("draft") else ("model",)

    @property
    def groups(self) -> tuple[tuple[str, tuple[Target, ...]], ...]:
        """Each group with its targets, in order."""
        found: dict[str, list[Target]] = {}
        for target in self.targets:
            found.setdefault(target.group, []).append(target)
        return tuple((name, tuple(targets)) for name, targets in found.items())


def map_tensors(tensors: Mapping[str, Tensor], options: Options) -> TensorMap:
    """The targets that `tensors`, by their names in the checkpoint, become.

    Raises ConversionError for a tensor that is missing, left over, or of a type or shape that has no lossless
    place, each by its name; and for a drafter that cannot be treated as `options` say.
    """
    mapper = _Mapper(tensors, options)
    mapper.build()
    return mapper.result()


class _Mapper:
    """The map while it is built; `_used` is what has found its place."""

    def __init__(self, tensors: Mapping[str, Tensor], options: Options) -> None:
        self._tensors, self._options = tensors, options
        self._targets: list[Target] = []
        self._left_out: dict[str, str] = {}
        self._used: set[str] = set()
        self._parts = _parts(tensors)
        self._layers, self._stages = self._parts.get("layers", 0), self._parts.get("mtp", 0)
        self._drafter: Drafter | None = _drafter_of(tensors, self._stages)
        self._own_file = self._drafter is not None and options.draft == "separate"

    def build(self) -> None:
        if not self._layers:
            raise _gap("layers.0.attn_norm.weight")
        if self._drafter == "mtp" and self._stages > 1 and self._options.draft != "skip":
            raise ConversionError(
                "unsupported",
                "The drafter cannot be converted",
                f"it has {self._stages} MTP blocks, and llama.cpp reads one",
                "choose --draft skip",
            )
        if self._drafter == "dspark" and self._options.draft == "keep":
            raise ConversionError(
                "options",
                "The drafter cannot be kept in the model's own file",
                "llama.cpp reads DSpark only as a file of its own",
                "choose --draft separate, or skip",
            )
        repeats: tuple[Role, ...] = ("model",)
        if self._own_file and self._drafter == "mtp":
            repeats = ("model", "draft")
        self._plain("embed.weight", "token_embd.weight", "embedding", repeats)
        for layer in range(self._layers):
            group = f"layer {layer}"
            self._block("model", f"layers.{layer}.", f"blk.{layer}.", group)
        for suffix, name in names.HC_HEAD.items():
            self._plain(suffix, name, "output")
        self._plain("norm.weight", "output_norm.weight", "output", repeats)
        self._plain("head.weight", "output.weight", "output", repeats)
        if self._drafter is not None:
            self._add_drafter(self._drafter)

    def result(self) -> TensorMap:
        leftover = sorted(set(self._tensors) - self._used - set(self._left_out))
        if leftover:
            more = f" and {len(leftover) - 1:,} more" if len(leftover) > 1 else ""
            raise ConversionError(
                "checkpoint",
                "This checkpoint cannot be converted",
                f"its tensor {leftover[0][:120]}{more} has no place in a GGUF of DeepSeek-V4",
                "use a newer Seamount, or fetch the checkpoint again",
            )
        return TensorMap(tuple(self._targets), self._left_out, self._drafter, self._layers, self._stages)

    # --- parts of the network ----------------------------------------------------------------------

    def _block(self, role: Role, prefix: str, blk: str, group: str) -> None:
        """One transformer block: attention, hyper-connections, experts."""
        tables = [names.BLOCK]
        if self._any(prefix, names.COMPRESSOR):
            tables.append(names.COMPRESSOR)
        if self._any(prefix, names.INDEXER):
            tables.append(names.INDEXER)
        tables.append(names.HASHED if self._any(prefix, names.HASHED) else names.SCORED)
        tables.append(names.SHARED)
        for table in tables:
            for suffix, name in table.items():
                self._plain(prefix + suffix, blk + name, group, (role,))
        experts = self._parts.get(f"{prefix}ffn.experts", 0)
        if not experts:
            raise _gap(f"{prefix}ffn.experts.0.w1.weight")
        for projection, name in _PROJECTIONS:
            self._experts(role, f"{prefix}ffn.experts.", projection, experts, f"{blk}{name}.weight", group)

    def _add_drafter(self, drafter: Drafter) -> None:
        if self._options.draft == "skip":
            reason = "the drafter was to be skipped"
            self._left_out.update((n, reason) for n in self._tensors if n.startswith("mtp."))
            return
        role: Role = "draft" if self._own_file else "model"
        for stage in range(self._stages):
            prefix, group = f"mtp.{stage}.", f"draft {stage}"
            if drafter == "mtp":
                blk = f"blk.{self._layers + stage}."
                self._joined(role, prefix, f"{blk}nextn.eh_proj.weight", group)
                self._table(role, names.MTP, prefix, blk, group)
                if role == "draft":
                    self._table(role, names.HC_HEAD, prefix, "", group)
                else:
                    self._left_out.update((prefix + suffix, _HC_LEFT_OUT) for suffix in names.HC_HEAD)
            else:
                blk = f"blk.{stage}."
                if stage == 0:
                    self._table(role, names.DSPARK_FIRST, prefix, "", group)
                if stage == self._stages - 1:
                    self._table(role, {**names.DSPARK_LAST, **names.HC_HEAD}, prefix, "", group)
            self._block(role, prefix, blk, group)

    # --- single targets ----------------------------------------------------------------------------

    def _table(self, role: Role, table: Mapping[str, str], prefix: str, blk: str, group: str) -> None:
        for suffix, name in table.items():
            self._plain(prefix + suffix, blk + name, group, (role,))

    def _plain(self, source: str, name: str, group: str, roles: Sequence[Role] = ("model",)) -> None:
        """A tensor that is made of one weight, with its scales if it has any."""
        tensor = self._take(source)
        shape = tuple(reversed(tensor.shape))
        sources: tuple[str, ...] = (source,)
        how: How
        if tensor.dtype == "F8_E4M3":
            scale = self._scale_of(source, 128, 128)
            how, type_name, sources = "dense", self._dense_type(source, tensor), (source, scale)
        elif tensor.dtype == "F32":
            how, type_name = "copy", "F32"
        elif tensor.dtype == "BF16":
            # llama.cpp multiplies by norms and other vectors only in F32.
            how, type_name = ("widen", "F32") if len(shape) == 1 else ("copy", "BF16")
        elif tensor.dtype == "I64" and source.endswith("tid2eid"):
            how, type_name = "narrow", "I32"
        else:
            raise _unsupported(source, tensor)
        for role in roles:
            self._targets.append(Target(role, name, type_name, shape, how, sources, group))

    def _joined(self, role: Role, prefix: str, name: str, group: str) -> None:
        """`e_proj` and `h_proj` side by side along their inputs."""
        sources: list[str] = []
        tensors: list[Tensor] = []
        for weight in (f"{prefix}e_proj.weight", f"{prefix}h_proj.weight"):
            tensors.append(self._take(weight))
            if tensors[-1].dtype != "F8_E4M3":
                raise _unsupported(weight, tensors[-1])
            sources += (weight, self._scale_of(weight, 128, 128))
        rows, columns = tensors[0].shape
        if tensors[1].shape != (rows, columns):
            raise _unsupported(sources[2], tensors[1])
        kind = self._dense_type(sources[0], tensors[0])
        self._targets.append(Target(role, name, kind, (2 * columns, rows), "join", tuple(sources), group))

    def _experts(self, role: Role, prefix: str, projection: str, count: int, name: str, group: str) -> None:
        """All experts' matrices of one projection as one tensor."""
        sources: list[str] = []
        first: tuple[int, ...] = ()
        for expert in range(count):
            weight = f"{prefix}{expert}.{projection}.weight"
            tensor = self._take(weight)
            if tensor.dtype == "F8_E4M3":
                raise ConversionError(
                    "unsupported",
                    "This checkpoint cannot be converted without loss",
                    f"its experts are FP8 ({weight[:120]}), which llama.cpp has no format for",
                    "choose a checkpoint with FP4 experts, any but the Base ones",
                )
            first = first or tensor.shape
            if tensor.dtype not in ("I8", "U8") or tensor.shape != first:
                raise _unsupported(weight, tensor)
            sources += (weight, self._scale_of(weight, 1, 16))
        matrix = self._tensors[sources[0]].shape
        rows, columns = matrix[0], matrix[1] * 2
        if columns % 32:
            raise _unsupported(sources[0], self._tensors[sources[0]])
        shape = (columns, rows, count)
        self._targets.append(Target(role, name, "MXFP4", shape, "experts", tuple(sources), group))

    def _scale_of(self, weight: str, rows: int, columns: int) -> str:
        """The name of the scales of `weight`, one for each `rows` x `columns` of its stored elements."""
        name = f"{weight.removesuffix('weight')}scale"
        tensor, matrix = self._take(name), self._tensors[weight]
        if len(matrix.shape) != 2:
            raise _unsupported(weight, matrix)
        blocks = (-(-matrix.shape[0] // rows), -(-matrix.shape[1] // columns))
        if tensor.dtype not in ("F8_E8M0", "U8") or tensor.shape != blocks:
            raise _unsupported(name, tensor)
        return name

    def _dense_type(self, name: str, tensor: Tensor) -> str:
        if self._options.dense == "bf16":
            return "BF16"
        if tensor.shape[-1] % 32:
            raise _unsupported(name, tensor)
        return "Q8_0"

    def _take(self, name: str) -> Tensor:
        if name not in self._tensors:
            raise _gap(name)
        self._used.add(name)
        return self._tensors[name]

    def _any(self, prefix: str, table: Iterable[str]) -> bool:
        return any(prefix + suffix in self._tensors for suffix in table)


def _parts(tensors: Iterable[str]) -> dict[str, int]:
    """How many numbered parts each of `layers`, `mtp` and `….ffn.experts` has: the highest number and one.

    A number missing in between is found as a gap. Bounded, because each part is looked for.
    """
    parts: dict[str, int] = {}
    for name in tensors:
        if match := _PART.match(name):
            parts[match["kind"]] = max(parts.get(match["kind"], 0), int(match["at"]) + 1)
            if match["expert"] is not None:
                experts = f"{match['block']}.ffn.experts"
                parts[experts] = max(parts.get(experts, 0), int(match["expert"]) + 1)
    return parts


def _drafter_of(tensors: Mapping[str, Tensor], stages: int) -> Drafter | None:
    if not stages:
        return None
    return "dspark" if "mtp.0.main_proj.weight" in tensors else "mtp"


def _gap(name: str) -> ConversionError:
    return ConversionError(
        "checkpoint",
        "This checkpoint cannot be converted",
        f"its tensor {name[:120]} is missing",
        "fetch the checkpoint again",
    )


def _unsupported(name: str, tensor: Tensor) -> ConversionError:
    shape = " x ".join(map(str, tensor.shape)) or "a single number"
    return ConversionError(
        "unsupported",
        "This checkpoint cannot be converted",
        f"its tensor {name[:120]} is {tensor.dtype[:20]} {shape}, which has no place in a GGUF of DeepSeek-V4",
        "use a newer Seamount, or fetch the checkpoint again",
    )
