"""A model from GGUF files of `deepseek4`: ours, llama.cpp's own converter's, and what its tools make of either.

Owns: llama.cpp's names of the tensors (create_tensor in its src/models/deepseek4.cpp), which number formats are read
where, and that nothing is left over that should have had a part. Files are mapped and nothing is copied but small
tensors that are not F32 already.

What llama.cpp takes is taken: a model in several parts (`-00001-of-00003.gguf`), output projections as a matrix or as
one for each group, an MTP block in the model's own file or in a file beside it. A file with numbers that are not
read here (K-quants and the like) is refused, and says which.
"""

import re
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch

from convert import tensor_names
from convert.gguf_header import GgufError, GgufHeader, TensorInfo, read_gguf_header
from convert.wording import quoted
from engine.library.model_files import REMEDIES, parts_of
from engine.model.config import NetworkConfig
from engine.model.gguf_config import drafter_tensors, network_config, release_of
from engine.model.mapped_file import MappedFile, as_numbers
from engine.model.model_error import GET_AGAIN, NEWER, ModelError
from engine.model.tensor_source import OpenModel, begin_pass_of, close_all
from engine.model.weight_assembly import DRAFT, draft_weights, network_weights
from engine.model.weight_checks import FirstUse, check_loaded
from engine.model.weights import DraftWeights
from kernels.formats import FormatError, decode_mxfp4, decode_q8_0
from kernels.matrices import ExpertMatrices, Kind, Matrix, stored_columns

KINDS: dict[str, Kind] = {"F32": "f32", "F16": "f16", "BF16": "bf16", "Q8_0": "q8_0", "MXFP4": "mxfp4"}
"""The number formats that are read, in any place."""
_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I32": torch.int32}
_ROOT = {
    "embed.weight": "token_embd.weight",
    "norm.weight": "output_norm.weight",
    "head.weight": "output.weight",
    **tensor_names.HC_HEAD,
}
_BLOCK = {
    **tensor_names.BLOCK,
    **tensor_names.COMPRESSOR,
    **tensor_names.INDEXER,
    **tensor_names.SHARED,
    **tensor_names.HASHED,
    **tensor_names.SCORED,
    **tensor_names.MTP,
    "e_proj.weight": "nextn.eh_proj.weight",
    "h_proj.weight": "nextn.eh_proj.weight",
    "ffn.experts.w1": "ffn_gate_exps.weight",
    "ffn.experts.w2": "ffn_down_exps.weight",
    "ffn.experts.w3": "ffn_up_exps.weight",
}
_OTHER_NAMES = {"exp_probs_b.bias": ("exp_probs_b", "exp_probs_b.weight")}
"""Names that other converters have given."""
_LEFT_ALONE = re.compile(
    # Routing of the parts of an image; a routing bias where tokens route; a drafter's own embedding and head, which
    # V4's has not, and whose drafts are checked anyway.
    r"blk\.\d+\.(exp_probs_b_vl\.bias|exp_probs_b(\.bias|\.weight)?|"
    r"nextn\.(embed_tokens|shared_head_head)\.weight)"
)
_DRAFT_FIELDS = ("draft_blocks", "dspark_tensors", "expert_clamp", "shared_clamp", "num_hash_layers")
"""What the configuration of a drafter's file need not share with the model's."""
_EXPERT = re.compile(r"(?P<block>.*ffn\.experts\.)(?P<expert>\d+)\.(?P<part>w[123])(\..*)?")


def open_gguf(path: Path, draft: Path | None = None) -> OpenModel:
    """The model in the GGUF file `path` (of several parts: the first); `draft`: its drafter's own file.

    An MTP block is loaded from either, `draft` first; DSpark's drafter is recognised, counted and left alone. Raises
    ModelError for everything that cannot be used.
    """
    files: list[MappedFile] = []
    try:
        return _open(path, draft, files)
    except BaseException:
        close_all(files)
        raise


def _open(path: Path, draft: Path | None, files: list[MappedFile]) -> OpenModel:
    parts = [_part(each, files) for each in parts_of(path)]
    header = parts[0][1]
    _check_parts(path, header, len(parts))
    config = network_config(header if len(parts) == 1 else _joined(parts), name=path.name)
    source = GgufTensors(path.name, config.num_hidden_layers, parts)
    if config.draft_blocks and not source.has("layers.0.attn_norm.weight"):
        what = f"{quoted(path.name)} cannot be used as a model"
        raise ModelError(what, "it holds only a drafter (MTP)", "choose the model's own file")
    weights = network_weights(config, source)
    own = draft_weights(config, source) if config.draft_blocks else None
    source.check_nothing_left()
    if draft is not None:
        config, own = _with_draft_file(config, own, draft, files)
    checks = FirstUse(weights, own, config, begin_pass_of(tuple(files)), source.told)
    weights = check_loaded(weights, own, checks, config, source.told)
    name = release_of(header.metadata) or path.stem
    return OpenModel(config, weights, name, tuple(files))


def _part(path: Path, files: list[MappedFile]) -> tuple[MappedFile, GgufHeader]:
    """A file, mapped, with its header; noted in `files` so that it is let go of whatever comes."""
    try:
        file = MappedFile(path)
        files.append(file)
        header = read_gguf_header(path)
    except GgufError as error:
        raise ModelError(error.what, error.why, REMEDIES[error.problem]) from error
    if not file.is_at(path):
        why = "it was changed while it was being opened"
        raise ModelError(f"{quoted(path.name)} cannot be used as a model", why, "load it again")
    return file, header


def _check_parts(path: Path, header: GgufHeader, found: int) -> None:
    said = header.number("split.count")
    if isinstance(said, int) and max(said, 1) != found:
        raise ModelError(
            f"{quoted(path.name)} cannot be used as a model",
            f"it says that it is one of {said} parts, and its name stands for {found}",
            "choose the first part, under the name that it was published with",
        )


def _joined(parts: list[tuple[MappedFile, GgufHeader]]) -> GgufHeader:
    """The first part's header with the tensors of all."""
    first = parts[0][1]
    tensors = tuple(tensor for _, header in parts for tensor in header.tensors)
    return GgufHeader(
        first.version, first.metadata, first.arrays, tensors, first.alignment, first.data_offset,
        first.size_bytes, first.expected_size_bytes,
    )  # fmt: skip


def _with_draft_file(
    config: NetworkConfig, own: DraftWeights | None, path: Path, files: list[MappedFile]
) -> tuple[NetworkConfig, DraftWeights | None]:
    """Configuration and drafter with what the file beside the model holds."""
    part = _part(path, files)
    if count := drafter_tensors(part[1]):
        return replace(config, dspark_tensors=count), own
    theirs = network_config(part[1], name=path.name)
    what = f"{quoted(path.name)} cannot be used as this model's drafter"
    if not theirs.draft_blocks:
        raise ModelError(what, "it holds no MTP block", "choose the drafter's file, or none")
    layers = config.num_hidden_layers
    joined = replace(
        config,
        expert_clamp=config.expert_clamp[:layers] + theirs.expert_clamp[-1:],
        shared_clamp=config.shared_clamp[:layers] + theirs.shared_clamp[-1:],
        draft_blocks=1,
    )
    for field in fields(NetworkConfig):
        mine, other = getattr(config, field.name), getattr(theirs, field.name)
        if field.name not in _DRAFT_FIELDS and mine != other:
            why = f"it was made for another model: {field.name} is {other} there and {mine} here"
            raise ModelError(what, why, "choose the drafter that was converted together with this model")
    source = GgufTensors(path.name, layers, [part])
    return joined, draft_weights(joined, source)


class GgufTensors:
    """The tensors of a model's files, by the names of a checkpoint (`TensorSource`). `layers`: of the model."""

    def __init__(self, name: str, layers: int, parts: list[tuple[MappedFile, GgufHeader]]) -> None:
        self._what = f"{quoted(name)} cannot be used as a DeepSeek-V4"
        self._layers = layers
        self._places: dict[str, tuple[MappedFile, int, TensorInfo]] = {}
        self._used: set[str] = set()
        for file, header in parts:
            for tensor in header.tensors:
                if tensor.name in self._places:
                    raise self._error(f"its tensor {quoted(tensor.name)} is there twice", GET_AGAIN)
                self._places[tensor.name] = file, header.data_offset + tensor.offset, tensor

    # --- what `TensorSource` promises ---------------------------------------------------------------

    def matrix(self, name: str, rows: int, columns: int) -> Matrix:
        info, data = self._take(name)
        shape = _logical(info)
        grouped = name.endswith("attn.wo_a.weight") and len(shape) == 3
        if (
            (shape[0] * shape[1], shape[2]) != (rows, columns)
            if grouped
            else shape != _trimmed((rows, columns))
        ):
            raise self._wrong_shape(info, (rows, columns))
        return self._matrix(info, data, rows, columns)

    def pair(self, names: tuple[str, str], rows: int, columns: int) -> tuple[Matrix, Matrix]:
        info, data = self._take(names[0])
        if _logical(info) != _trimmed((rows, 2 * columns)):
            raise self._wrong_shape(info, (rows, 2 * columns))
        both = self._matrix(info, data, rows, 2 * columns)
        half = stored_columns(both.kind, columns)
        return (
            Matrix(both.kind, rows, columns, both.data[:, :half]),
            Matrix(both.kind, rows, columns, both.data[:, half:]),
        )

    def numbers(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        info, data = self._take(name)
        if _logical(info) != _trimmed(shape):
            raise self._wrong_shape(info, shape)
        if info.type_name in ("Q8_0", "MXFP4"):
            decode = decode_q8_0 if info.type_name == "Q8_0" else decode_mxfp4
            try:
                return torch.as_tensor(decode(data.numpy().reshape(*shape[:-1], -1)))
            except FormatError as error:
                raise self._error(
                    f"its tensor {quoted(info.name)} holds no numbers ({error})", GET_AGAIN
                ) from error
        self._kind(info)
        return as_numbers(data, _DTYPES[info.type_name]).reshape(shape).to(torch.float32)

    def table(self, name: str, vocabulary: int, used: int) -> torch.Tensor:
        info, data = self._take(name)
        if info.type_name != "I32":
            raise self._error(
                f"its tensor {quoted(info.name)} is {info.type_name}, and I32 is read there", NEWER
            )
        if _logical(info) != _trimmed((vocabulary, used)):
            raise self._wrong_shape(info, (vocabulary, used))
        return as_numbers(data, torch.int32).reshape(vocabulary, used)

    def experts(self, prefix: str, count: int, hidden: int, intermediate: int) -> "GgufExperts":
        stacks: list[StackedMatrices] = []
        for part, rows, columns in (
            ("w1", intermediate, hidden),
            ("w3", intermediate, hidden),
            ("w2", hidden, intermediate),
        ):
            info, data = self._take(f"{prefix.removesuffix('.')}.{part}")
            if _logical(info) != _trimmed((count, rows, columns)):
                raise self._wrong_shape(info, (count, rows, columns))
            whole = self._matrix(info, data, count * rows, columns)
            stacks.append(StackedMatrices(whole.kind, rows, columns, whole.data.view(count, rows, -1)))
        return GgufExperts(*stacks)

    def told(self, name: str) -> str:
        if match := _EXPERT.fullmatch(name):
            name = f"{match['block'].removesuffix('.')}.{match['part']}"
            return f"{self._name(name)} (expert {match['expert']})"
        return self._name(name)

    # --- beyond it ----------------------------------------------------------------------------------

    def has(self, name: str) -> bool:
        """Whether there is such a tensor."""
        return self._name(name) in self._places

    def check_nothing_left(self) -> None:
        """Raise ModelError for a tensor that no part of the network is made of: something here is not understood."""
        left = [name for name in self._places if name not in self._used and not _LEFT_ALONE.fullmatch(name)]
        if left:
            more = f" and {len(left) - 1:,} more have" if len(left) > 1 else " has"
            raise self._error(f"its tensor {quoted(left[0])}{more} no place in the network known here", NEWER)

    def _error(self, why: str, hint: str) -> ModelError:
        return ModelError(self._what, why, hint)

    def _wrong_shape(self, info: TensorInfo, wanted: tuple[int, ...]) -> ModelError:
        found = " x ".join(map(str, reversed(info.shape)))
        expected = " x ".join(map(str, wanted))
        return self._error(
            f"its tensor {quoted(info.name)} is {found}, and its metadata calls for {expected}", GET_AGAIN
        )

    def _name(self, name: str) -> str:
        """What llama.cpp calls the tensor that a checkpoint calls `name`."""
        part, _, rest = name.partition(".")
        if part == "layers":
            layer, _, suffix = rest.partition(".")
        elif part == "mtp":
            layer, suffix = str(self._layers), rest.partition(".")[2]
            if suffix in tensor_names.HC_HEAD:
                return tensor_names.HC_HEAD[suffix]
        else:
            return _ROOT[name]
        found = f"blk.{layer}.{_BLOCK[suffix]}"
        if found not in self._places:
            for other in _OTHER_NAMES.get(_BLOCK[suffix], ()):
                if f"blk.{layer}.{other}" in self._places:
                    return f"blk.{layer}.{other}"
            if name == f"{DRAFT}norm.weight":
                return _ROOT["norm.weight"]  # llama.cpp takes the model's own in its place
        return found

    def _take(self, name: str) -> tuple[TensorInfo, torch.Tensor]:
        found = self._name(name)
        if found not in self._places:
            raise self._error(f"its tensor {quoted(found)} is missing", GET_AGAIN)
        self._used.add(found)
        file, offset, info = self._places[found]
        return info, file.bytes_at(offset, info.size_bytes, info.name)

    def _kind(self, info: TensorInfo) -> Kind:
        kind = KINDS.get(info.type_name)
        if kind is None:
            read = ", ".join(KINDS)
            raise self._error(
                f"its tensor {quoted(info.name)} is {info.type_name}, and only {read} are read by this backend",
                "choose a file with those, or the backend llamacpp",
            )
        return kind

    def _matrix(self, info: TensorInfo, data: torch.Tensor, rows: int, columns: int) -> Matrix:
        kind = self._kind(info)
        try:
            width = stored_columns(kind, columns)
        except ValueError as error:
            raise self._error(
                f"its tensor {quoted(info.name)} cannot be read ({error})", GET_AGAIN
            ) from error
        numbers = as_numbers(data, _DTYPES.get(info.type_name, torch.uint8))
        return Matrix(kind, rows, columns, numbers.view(rows, width))


@dataclass(frozen=True)
class StackedMatrices:
    """One matrix for each expert, one after the other: `data` [experts, rows, stored columns]."""

    kind: Kind
    rows: int
    columns: int
    data: torch.Tensor

    def matrix(self, expert: int) -> Matrix:
        """One expert's, a view."""
        return Matrix(self.kind, self.rows, self.columns, self.data[expert])


@dataclass(frozen=True)
class GgufExperts:
    """The routed experts of a layer (`ExpertBank`)."""

    gate: StackedMatrices
    up: StackedMatrices
    down: StackedMatrices

    def __len__(self) -> int:
        return len(self.gate.data)

    def matrices(self, expert: int) -> ExpertMatrices:
        """Views of the file; nothing is read by asking."""
        return ExpertMatrices(self.gate.matrix(expert), self.up.matrix(expert), self.down.matrix(expert))


def _logical(info: TensorInfo) -> tuple[int, ...]:
    """The shape with the slowest-changing extent first, without leading ones: they say nothing in ggml."""
    return _trimmed(tuple(reversed(info.shape)))


def _trimmed(shape: tuple[int, ...]) -> tuple[int, ...]:
    while len(shape) > 1 and shape[0] == 1:
        shape = shape[1:]
    return shape or (1,)
