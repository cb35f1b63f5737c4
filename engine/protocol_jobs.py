"""The shapes on the wire for work that outlives a window: conversions, and looking at a checkpoint before one.

Owns: `/api/jobs` and `/api/inspect` as pydantic models, by the conventions of `protocol`. Imports nothing heavy.
"""

from typing import Annotated, Literal

from pydantic import Field

from engine.protocol import ErrorBody, Wire

JobState = Literal["queued", "running", "paused", "done", "failed", "cancelled"]
DenseFormat = Literal["q8_0", "bf16"]
DraftPlace = Literal["separate", "keep", "skip"]
PathText = Annotated[str, Field(min_length=1, max_length=4096)]


class StartJob(Wire):
    """`POST /api/jobs`: convert the checkpoint in the folder `source` to the file `target`; 201 with the Job.

    Both are whole paths on the engine's machine. `release`: the model's name, where the folder's does not tell.
    """

    kind: Literal["convert"] = "convert"
    source: PathText
    target: PathText
    dense: DenseFormat = "q8_0"
    draft: DraftPlace = "separate"
    consume: bool = False
    """Delete each shard of the checkpoint once everything in it is written and read back."""
    release: Annotated[str, Field(max_length=200)] | None = None


class CancelJob(Wire):
    """`POST /api/jobs/{id}/cancel`: answers 202 with the Job. `remove_partial`: delete what was written."""

    remove_partial: bool = False


class JobProgress(Wire):
    """How far it is; of a job that does not run, how far it was. Bytes are of the result."""

    done_bytes: int
    total_bytes: int
    bytes_per_s: float
    seconds_left: float | None = None
    tensor: str = ""
    """The one it is at."""
    group: str = ""
    tensors_done: int = 0
    tensors: int = 0
    """Of the result; 0: not told."""


class Exactness(Wire):
    """What the receipts of a job's files say. `worst_relative_rms`: of the tensors that are rounded."""

    lossless: bool
    exact: int
    approximate: int
    worst_relative_rms: float


class Job(Wire):
    """One row of `GET /api/jobs`."""

    id: str
    kind: Literal["convert"] = "convert"
    state: JobState
    stopping: bool = False
    """It runs still, and was asked to stop."""
    created_at: float
    source: str
    target: str
    dense: DenseFormat
    draft: DraftPlace
    consume: bool
    release: str | None = None
    progress: JobProgress | None = None
    files: list[str] = Field(default_factory=list[str])
    """Of a job that is done: the results, the model's first."""
    exactness: Exactness | None = None
    error: ErrorBody | None = None
    """Why it failed, or could not do all that it was asked for at its end."""


class JobList(Wire):
    """`GET /api/jobs`: the newest first."""

    jobs: list[Job]


class InspectRequest(Wire):
    """`POST /api/inspect`: look at the checkpoint in the folder `path`; answers with an Inspection.

    `target`: where the result would go; its disk is the one whose free space counts.
    """

    path: PathText
    target: PathText | None = None


class InspectedFormat(Wire):
    """Tensors of one number format."""

    name: str
    tensors: int
    size_bytes: int


class ResultBytes(Wire):
    """What the result would weigh; `draft_bytes` is the drafter's part."""

    dense: DenseFormat
    model_bytes: int
    draft_bytes: int


class Inspection(Wire):
    """A checkpoint, told from its headers. `problems`: what is not well, each a sentence; empty: convert away."""

    path: str
    name: str
    release: str | None = None
    """Its title, for people."""
    release_problem: str | None = None
    shards: int
    tensors: int
    tensor_bytes: int
    parameters: int | None = None
    active_parameters: int | None = None
    drafter: Literal["none", "mtp", "dspark"] = "none"
    formats: list[InspectedFormat] = Field(default_factory=list[InspectedFormat])
    problems: list[str] = Field(default_factory=list[str])
    results: list[ResultBytes] = Field(default_factory=list[ResultBytes])
    free_bytes: int = 0
