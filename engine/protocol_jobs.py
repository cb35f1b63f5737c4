"""The shapes on the wire for work that outlives a window: fetching, converting, checking, moving.

Owns: `/api/jobs` and `/api/inspect` as pydantic models, by the conventions of `protocol`. What lies in the library
and what can be had is `protocol_library`. Imports nothing heavy.
"""

from typing import Annotated, Literal

from pydantic import Field

from engine.protocol import ErrorBody, Wire

JobKind = Literal["fetch", "convert", "verify", "move"]
JobState = Literal["queued", "running", "paused", "interrupted", "done", "failed", "cancelled"]
"""`interrupted`: its process went without a word (a kill, a power cut); it can be resumed as a paused one can."""
Stage = Literal["listing", "fetching", "converting", "checking", "moving"]
DenseFormat = Literal["q8_0", "bf16"]
DraftPlace = Literal["separate", "keep", "skip"]
PathText = Annotated[str, Field(min_length=1, max_length=4096)]


class ConvertRequest(Wire):
    """Convert the checkpoint in the folder `source` to the file `target`.

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


class ConvertAfter(Wire):
    """What is made of a checkpoint while it arrives. `target` None: NAME.gguf in the models folder."""

    target: PathText | None = None
    dense: DenseFormat = "q8_0"
    draft: DraftPlace = "separate"
    consume: bool = False
    """Delete each shard as soon as it is converted: the disk holds the result and a few shards at most."""


class FetchRequest(Wire):
    """Fetch a model: `what` is the name of an entry of the catalogue, or a repository as OWNER/NAME.

    `revision`: a commit, tag or branch; None: the one the catalogue pins, else "main". `files`: patterns of the
    repository's files; empty: what the catalogue says, else what a model needs. `folder`: where it goes, a whole
    path; None: in the folder of the settings. The engine fills in what is None before it notes the job down.
    """

    kind: Literal["fetch"] = "fetch"
    what: Annotated[str, Field(min_length=1, max_length=300)]
    revision: Annotated[str, Field(max_length=200)] | None = None
    files: Annotated[list[Annotated[str, Field(min_length=1, max_length=500)]], Field(max_length=100)] = (
        Field(default_factory=list[str])
    )
    folder: PathText | None = None
    convert: ConvertAfter | None = None
    release: Annotated[str, Field(max_length=200)] | None = None
    """The model's name, where neither catalogue nor repository tells it."""


class VerifyRequest(Wire):
    """Check a GGUF against its receipt, or the files of a fetched folder against the hub's digests."""

    kind: Literal["verify"] = "verify"
    path: PathText


class MoveRequest(Wire):
    """Move the item `item_id` of the library into `folder`, on this disk or another one; copies are read back."""

    kind: Literal["move"] = "move"
    item_id: Annotated[str, Field(min_length=1, max_length=5000)]
    folder: PathText


JobRequest = Annotated[
    FetchRequest | ConvertRequest | VerifyRequest | MoveRequest, Field(discriminator="kind")
]


class StartJob(Wire):
    """`POST /api/jobs`: 201 with the Job."""

    asked: JobRequest


class CancelJob(Wire):
    """`POST /api/jobs/{id}/cancel`: answers 202 with the Job. `remove_partial`: delete what was written."""

    remove_partial: bool = False


class JobProgress(Wire):
    """How far it is; of a job that does not run, how far it was.

    Bytes are of all that is to be done: of the files to fetch, of the result to write, of both where one job does
    both. `seconds_left` None: not known yet.
    """

    done_bytes: int
    total_bytes: int
    bytes_per_s: float
    seconds_left: float | None = None
    stage: Stage = "converting"
    item: str = ""
    """The file or tensor that it is at."""
    items_done: int = 0
    items: int = 0
    """Files or tensors in all; 0: not told."""
    fetched_bytes: int | None = None
    """Of a job that fetches: what has arrived, of `fetch_bytes`; the rest of `done_bytes` is converted."""
    fetch_bytes: int | None = None
    note: str = ""
    """What it waits for, as a sentence: no network, a busy server, a full disk. Empty while it gets on."""


class Exactness(Wire):
    """What the receipts of a job's files say. `worst_relative_rms`: of the tensors that are rounded."""

    lossless: bool
    exact: int
    approximate: int
    worst_relative_rms: float


class Verdict(Wire):
    """What a check found. `differences`: each a sentence, at most a hundred of them."""

    good: bool
    checked_bytes: int
    differences: list[str] = Field(default_factory=list[str])


class Job(Wire):
    """One row of `GET /api/jobs`."""

    id: str
    state: JobState
    stopping: bool = False
    """It runs still, and was asked to stop."""
    created_at: float
    title: str
    """What it is about, for people: a model's name."""
    asked: JobRequest
    place: str
    """The file or folder that it writes or checks."""
    progress: JobProgress | None = None
    files: list[str] = Field(default_factory=list[str])
    """Of a job that is done: the results, the model's first."""
    exactness: Exactness | None = None
    verdict: Verdict | None = None
    error: ErrorBody | None = None
    """Why it failed, or could not do all that it was asked for at its end. Its code "token_needed": the
    repository wants an access token; `PUT /api/library/token`, then resume."""


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
