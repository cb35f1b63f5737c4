"""What a conversion will do, known in full before it does anything: files, headers, places, groups.

Owns: putting checkpoint, shape, map and metadata together, and refusing what does not fit. Reads headers and
the small files of the checkpoint; writes nothing. `conversion` carries it out.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from convert.arrivals import Arrivals
from convert.checkpoint import Checkpoint, Shard, Source
from convert.conversion_error import ConversionError
from convert.expected_tensors import Expected, compare, expected_tensors
from convert.gguf_writer import Header, header
from convert.metadata import Origin, Vocabulary, metadata_of
from convert.model_shape import ModelShape
from convert.tensor_map import Matrix, Options, Role, Target, TensorMap, map_tensors

TOKENIZER_CONFIG = "tokenizer_config.json"
MAX_TOKENIZER_BYTES = 64 << 20
MAX_CONFIG_BYTES = 1 << 20


@dataclass(frozen=True)
class Job:
    """What a person asks for. `origin`: release, repository and revision; the plan adds the digests.
    `consume`: delete each shard once everything that is made of it is safe."""

    source: Path
    target: Path
    origin: Origin
    options: Options = field(default_factory=Options)
    consume: bool = False


@dataclass(frozen=True)
class PlannedFile:
    """One GGUF: its header, and its tensors with the place of each."""

    role: Role
    path: Path
    header: Header
    targets: tuple[Target, ...]

    @property
    def header_sha256(self) -> str:
        """Stands for options, release, types and places: all of it is in the header."""
        return hashlib.sha256(self.header.content).hexdigest()

    def offset(self, target: Target) -> int:
        """Where a tensor's data begin, from the start of the file."""
        return self.header.offsets[self.targets.index(target)]


@dataclass(frozen=True)
class Plan:
    """Everything that is to be done. `expected`: dtype and shape of every tensor of the checkpoint, also of
    those whose shard was consumed; `sources`: where those lie that are there."""

    job: Job
    origin: Origin
    mapped: TensorMap
    files: Mapping[Role, PlannedFile]
    expected: Mapping[str, Expected]
    sources: Mapping[str, Source]
    shards: tuple[Shard, ...]
    fingerprint: dict[str, Any]

    @property
    def total_bytes(self) -> int:
        """Of all tensor data that are written."""
        return sum(target.size_bytes for target in self.mapped.targets)

    def shards_of(self, targets: Iterable[Target]) -> set[Path]:
        """The shards that hold what `targets` are made of; without those that were consumed."""
        return {
            self.sources[source].shard
            for target in targets
            for source in target.sources
            if source in self.sources
        }

    @property
    def needless(self) -> frozenset[str]:
        """Names of the shards of which nothing but the header is needed: all in them is left out."""
        needed = self.shards_of(self.mapped.targets)
        return frozenset(shard.path.name for shard in self.shards if shard.path not in needed)


def make_plan(
    job: Job,
    consumed: Collection[str] = (),
    begun_with: Mapping[str, Any] | None = None,
    arrivals: Arrivals | None = None,
) -> Plan:
    """The plan for `job`. `consumed`: shards that may be gone; `begun_with`: the source's fingerprint from when
    the conversion began, of which those are still a part; `arrivals`: who brings shards that are not there yet.

    Raises CheckpointError and ConversionError.
    """
    checkpoint = Checkpoint.open(job.source, consumed=consumed, arrivals=arrivals)
    shape = ModelShape.from_config(checkpoint.config, job.source.name)
    expected = expected_tensors(shape)
    mapped = map_tensors(expected, job.options)
    gone = set(consumed) - {shard.path.name for shard in checkpoint.shards}
    _check_agreement(checkpoint, expected, may_lack=bool(gone))
    vocabulary = _vocabulary(checkpoint)
    fingerprint = checkpoint.fingerprint()
    origin = _origin(job.origin, begun_with or fingerprint, vocabulary)
    files: dict[Role, PlannedFile] = {}
    for role in mapped.roles:
        targets = mapped.of(role)
        metadata = metadata_of(role, shape, vocabulary, mapped, job.options, origin)
        files[role] = PlannedFile(role, path_of(job.target, role), header(metadata, targets), targets)
    return Plan(job, origin, mapped, files, expected, checkpoint.tensors, checkpoint.shards, fingerprint)


def extents_of(expected: Mapping[str, Expected]) -> Callable[[str], Matrix]:
    """Rows and columns of each tensor as the checkpoint stores it; a vector is a matrix of one row."""

    def extents(name: str) -> Matrix:
        shape = expected[name].shape
        return Matrix(*shape) if len(shape) == 2 else Matrix(1, shape[0])

    return extents


def path_of(target: Path, role: Role) -> Path:
    """The file of a role: `target` itself, or `NAME-draft.gguf` beside it."""
    return target if role == "model" else target.with_name(f"{target.name.removesuffix('.gguf')}-draft.gguf")


def _check_agreement(checkpoint: Checkpoint, expected: Mapping[str, Expected], *, may_lack: bool) -> None:
    """Raise for tensors that are missing, unexpected, or other than the config says."""
    comparison = compare(checkpoint.tensors, expected)
    if comparison.missing and not may_lack:
        raise _disagreement(f"its tensor {comparison.missing[0]} is missing", len(comparison.missing))
    if comparison.unexpected:
        why = f"its tensor {comparison.unexpected[0][:120]} has no place in a model of its config"
        raise _disagreement(why, len(comparison.unexpected))
    for wrong in comparison.wrong:
        why = f"its tensor {wrong.name} is {_shown(wrong.found)}, and by its config {_shown(wrong.expected)}"
        raise _disagreement(why, len(comparison.wrong))


def _shown(tensor: Expected) -> str:
    return f"{tensor.dtype} {' x '.join(map(str, tensor.shape))}"


def _disagreement(why: str, count: int) -> ConversionError:
    more = f" (and {count - 1:,} more are like it)" if count > 1 else ""
    return ConversionError(
        "checkpoint", "This checkpoint cannot be converted", why + more, "fetch the checkpoint again"
    )


def _vocabulary(checkpoint: Checkpoint) -> Vocabulary:
    if checkpoint.tokenizer is None:
        raise ConversionError(
            "checkpoint",
            "This checkpoint cannot be converted",
            "it has no tokenizer.json",
            "fetch the checkpoint again",
        )
    config = checkpoint.folder / TOKENIZER_CONFIG
    return Vocabulary(
        _small_file(checkpoint.tokenizer, MAX_TOKENIZER_BYTES),
        _small_file(config, MAX_CONFIG_BYTES) if config.is_file() else None,
    )


def _small_file(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(limit + 1)
    except OSError as error:
        why = error.strerror or str(error)
        raise ConversionError(
            "checkpoint",
            "The checkpoint could not be read",
            f"{path.name}: {why}",
            "fetch the checkpoint again",
        ) from error
    if len(raw) > limit:
        raise ConversionError(
            "checkpoint",
            "This checkpoint cannot be converted",
            f"its {path.name} is longer than {limit:,} bytes",
            "fetch the checkpoint again",
        )
    return raw


def _origin(given: Origin, fingerprint: Mapping[str, Any], vocabulary: Vocabulary) -> Origin:
    """`given` with the digests of the source. Times are no part of them: a copy of a checkpoint is the same."""
    shards = {name: [size, digest] for name, (size, _, digest) in fingerprint["shards"].items()}
    content = json.dumps([fingerprint["files"], shards], sort_keys=True)
    return replace(
        given,
        fingerprint=hashlib.sha256(content.encode()).hexdigest(),
        config_sha256=fingerprint["files"]["config.json"],
        tokenizer_sha256=hashlib.sha256(vocabulary.tokenizer_json).hexdigest(),
    )
