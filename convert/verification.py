"""Whether a converted file is what it should be: against its checkpoint, or against its receipt.

Owns: which tensors are compared with what, and the verdict. `tensor_comparison` says what "the same" is. Any
GGUF of DeepSeek-V4 can be checked against a checkpoint, not only our own; of our own the header is, too.
"""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convert.checkpoint import Checkpoint
from convert.conversion_error import ConversionError
from convert.conversion_plan import Job, extents_of, make_plan
from convert.expected_tensors import expected_tensors
from convert.gguf_header import GgufHeader, TensorInfo, read_gguf_header
from convert.metadata import FORMAT, Origin
from convert.model_shape import ModelShape
from convert.receipt import read_receipt
from convert.shard_reader import ShardReader
from convert.target_file import READ_BYTES
from convert.tensor_comparison import compare_tensor
from convert.tensor_map import Dense, Draft, Matrix, Options, Role, Target, map_tensors
from kernels.formats import FormatError, Q8Error

Report = Callable[[int, int, str], None]
"""`report(bytes done, bytes in all, tensor)`."""


@dataclass(frozen=True)
class Difference:
    """A tensor that is not what it should be, or "header", and why."""

    tensor: str
    why: str


@dataclass(frozen=True)
class Verdict:
    """What a check found. `exact` and `approximate`: tensors that are the same to the bit, and those within the
    bound of Q8_0; `worst`: the largest relative RMS error of one of the latter."""

    exact: int
    approximate: int
    worst: float
    differences: tuple[Difference, ...]

    @property
    def good(self) -> bool:
        """Whether everything is as it should be."""
        return not self.differences

    @property
    def lossless(self) -> bool:
        """Whether every number of the checkpoint is there as it was."""
        return self.good and not self.approximate


def verify_receipt(
    gguf: Path, report: Report | None = None, cancelled: Callable[[], bool] = lambda: False
) -> Verdict:
    """Check every byte that counts of `gguf` against the digests in the receipt beside it.

    Raises ConversionError where there is no receipt to check against, or the file cannot be read.
    """
    receipt = read_receipt(gguf)
    differences: list[Difference] = []
    exact, worst = 0, 0.0
    with _opened(gguf) as file:
        if (size := file.seek(0, 2)) != receipt.size_bytes:
            differences.append(
                Difference("header", f"the file has {size:,} bytes, not {receipt.size_bytes:,}")
            )
        if _digest(file, 0, receipt.header_bytes) != receipt.header_sha256:
            differences.append(Difference("header", "its bytes differ from those that were written"))
        total = sum(tensor.size_bytes for tensor in receipt.tensors.values())
        done = 0
        for name, tensor in receipt.tensors.items():
            _stop(cancelled)
            if _digest(file, tensor.offset, tensor.size_bytes) != tensor.sha256:
                differences.append(Difference(name, "its bytes differ from those that were written"))
            elif tensor.error is None:
                exact += 1
            else:
                worst = max(worst, tensor.error[1])
            done += tensor.size_bytes
            if report is not None:
                report(done, total, name)
    bad = {difference.tensor for difference in differences}
    approximate = sum(1 for name, tensor in receipt.tensors.items() if tensor.error and name not in bad)
    return Verdict(exact, approximate, worst, tuple(differences))


def verify_source(
    source: Path, gguf: Path, report: Report | None = None, cancelled: Callable[[], bool] = lambda: False
) -> Verdict:
    """Check every tensor of `gguf` against the checkpoint in `source`, number by number.

    Raises CheckpointError, GgufError and ConversionError for what cannot be compared.
    """
    checkpoint = Checkpoint.open(source)
    shape = ModelShape.from_config(checkpoint.config, source.name)
    found = read_gguf_header(gguf)
    infos = {info.name: info for info in found.tensors}
    role, options = _kind(gguf, found, infos)
    expected = expected_tensors(shape)
    targets = map_tensors(expected, options).of(role)
    differences = _check_header(source, gguf, found, role, options)
    names = {target.name for target in targets}
    differences += [
        Difference(name, "the checkpoint has nothing like it") for name in infos if name not in names
    ]
    total = sum(target.size_bytes for target in targets)
    done, exact, approximate, worst = 0, 0, 0, 0.0
    with _opened(gguf) as file, ShardReader(checkpoint.tensors) as shards:
        for target in targets:
            _stop(cancelled)
            why, lost = _compare(target, infos, found, file, shards, extents_of(expected))
            if why:
                differences.append(Difference(target.name, why))
            elif infos[target.name].type_name == "Q8_0":
                approximate, worst = approximate + 1, max(worst, lost.relative_rms)
            else:
                exact += 1
            done += target.size_bytes
            if report is not None:
                report(done, total, target.name)
    return Verdict(exact, approximate, worst, tuple(differences))


def _compare(
    target: Target,
    infos: Mapping[str, TensorInfo],
    found: GgufHeader,
    file: FileIO,
    shards: ShardReader,
    extents: Callable[[str], Matrix],
) -> tuple[str, Q8Error]:
    info = infos.get(target.name)
    if info is None:
        return "it is missing", Q8Error()
    allowed = ("Q8_0", "BF16") if target.how in ("dense", "join") else (target.type_name,)
    if info.type_name not in allowed:
        return f"it is {info.type_name}, not {' or '.join(allowed)}", Q8Error()
    if info.shape != target.shape:
        return f"its shape is {info.shape}, not {target.shape}", Q8Error()
    start = found.data_offset + info.offset

    def read(at: int, count: int) -> NDArray[np.uint8]:
        return _bytes(file, start + at, count)

    try:
        return compare_tensor(replace(target, type_name=info.type_name), extents, shards.read, read)
    except FormatError as error:
        return f"it holds what no number is ({error})", Q8Error()


def _kind(gguf: Path, found: GgufHeader, infos: Mapping[str, TensorInfo]) -> tuple[Role, Options]:
    """Which of the files that a checkpoint can become this is."""
    if found.architecture not in ("deepseek4", "dflash"):
        raise ConversionError(
            "options",
            f"{gguf.name} cannot be checked",
            f"it is a {found.architecture or 'nameless'} model, not a DeepSeek-V4",
            "choose a file that was made of this checkpoint",
        )
    alone = found.architecture == "dflash" or "blk.0.attn_norm.weight" not in infos
    keeps = bool(found.number("deepseek4.nextn_predict_layers")) and not alone
    own = found.text("seamount.dense")
    dense: Dense = "bf16" if own == "bf16" else "q8_0"
    drafts = found.text("seamount.draft")
    draft: Draft = "keep" if keeps else "skip" if drafts == "skip" else "separate"
    return ("draft" if alone else "model"), Options(dense, draft)


def _check_header(
    source: Path, gguf: Path, found: GgufHeader, role: Role, options: Options
) -> list[Difference]:
    """Our own files' headers are made anew from the checkpoint and compared byte for byte."""
    if found.number("seamount.format") != FORMAT:
        return []
    origin = Origin(
        release=found.text("seamount.release") or "",
        repository=found.text("general.source.huggingface.repository") or "",
        revision=found.text("seamount.source.revision") or "",
    )
    plan = make_plan(Job(source, gguf, origin, options))
    content = plan.files[role].header.content
    with _opened(gguf) as file:
        if found.data_offset == len(content) and bytes(_bytes(file, 0, len(content))) == content:
            return []
    return [Difference("header", "its metadata are not those of this checkpoint")]


def _opened(gguf: Path) -> FileIO:
    try:
        return gguf.open("rb", buffering=0)
    except OSError as error:
        raise _unreadable(gguf, error.strerror or str(error)) from error


def _bytes(file: FileIO, at: int, count: int) -> NDArray[np.uint8]:
    data = np.empty(count, np.uint8)
    view = memoryview(data.data)
    try:
        file.seek(at)
        while view:
            got = file.readinto(view)
            if not got:
                raise _unreadable(Path(str(file.name)), "it ends too soon")
            view = view[got:]
    except OSError as error:
        raise _unreadable(Path(str(file.name)), error.strerror or str(error)) from error
    return data


def _digest(file: FileIO, at: int, count: int) -> str:
    """SHA-256 of a stretch of the file; of as much of it as there is."""
    digest = hashlib.sha256()
    with suppress(ConversionError):
        while count:
            data = _bytes(file, at, min(count, READ_BYTES))
            digest.update(data.data)
            at, count = at + len(data), count - len(data)
    return digest.hexdigest()


def _stop(cancelled: Callable[[], bool]) -> None:
    if cancelled():
        raise ConversionError("stopped", "The check was stopped", "it was asked to", "begin it again")


def _unreadable(gguf: Path, why: str) -> ConversionError:
    return ConversionError(
        "target", f"{gguf.name} cannot be checked", why, "look after the file and its disk"
    )
