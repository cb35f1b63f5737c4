"""The shapes on the wire for placement: what of a model lies where on this machine, why, and how fast that is.

Owns: `/api/models/{id}/placement`, `/api/library/offers/{name}/placement` and `/api/hardware` as pydantic models, by
the conventions of `protocol`. Imports nothing heavy. Rates are per second.
"""

from typing import Annotated, Literal

from pydantic import Field

from engine.protocol import CacheType, ErrorBody, Wire

Favour = Literal["balanced", "answers", "prompts"]
PartKind = Literal["experts", "dense", "embedding", "output", "cache", "states", "compute", "driver"]
LEAST_CONTEXT_TOKENS = 256
MOST_CONTEXT_TOKENS = 1_048_576
ContextTokens = Annotated[int, Field(ge=LEAST_CONTEXT_TOKENS, le=MOST_CONTEXT_TOKENS)]
Budget = Annotated[int, Field(ge=0, le=1 << 50)]


class Choices(Wire):
    """What a person has chosen for one model: `PUT /api/models/{id}/placement`. None: what the settings say.

    `gpu_budget_bytes` None: all that is free; 0: no GPU. `favour`: what the GPU's memory is rather used for where
    it does not hold everything.
    """

    context_tokens: ContextTokens | None = None
    cache_type: CacheType | None = None
    gpu_budget_bytes: Budget | None = None
    favour: Favour = "balanced"
    threads: Annotated[int, Field(ge=0, le=1024)] | None = None
    """0: as many as suit this machine."""


class PlacedPart(Wire):
    """All of one kind in one place. `layers`: how many layers it is of; 0 for what belongs to none."""

    what: PartKind
    size_bytes: int
    layers: int = 0


class Place(Wire):
    """A place with what the plan puts there. `used_bytes`: taken by others; `reserve_bytes`: of what is free, left
    free. On the disk `parts` are read from there while answers are written, and `file_bytes` is the whole file."""

    kind: Literal["gpu", "ram", "disk"]
    name: str
    total_bytes: int
    used_bytes: int
    reserve_bytes: int = 0
    limited: bool = False
    """RAM: by a container, below the machine's own."""
    file_bytes: int = 0
    parts: list[PlacedPart] = Field(default_factory=list[PlacedPart])


class Reason(Wire):
    """Something that was decided, and why; without full stops."""

    what: str
    why: str


class Span(Wire):
    """A figure with what it may as well be."""

    low: float
    likely: float
    high: float


class Foretelling(Wire):
    """How fast it would be. `first_token_s`: for a prompt of `prompt_tokens`; `long_prompt_s`: of `long_tokens`, None
    where the context does not hold them."""

    decode_tokens_per_s: Span
    prefill_tokens_per_s: Span
    prompt_tokens: int
    first_token_s: Span
    long_tokens: int
    long_prompt_s: Span | None = None
    load_s: Span
    ram_bytes: int
    gpu_bytes: int = 0
    disk_bytes: int
    disk_bytes_per_token: Span
    seen: bool = False
    """It rests on what this model gave here before."""


class Limits(Wire):
    """How far the sliders go. `gpu_budget_bytes` 0: there is no GPU that can be used."""

    context_tokens: int
    gpu_budget_bytes: int = 0


class Taken(Wire):
    """What the loaded model has really taken, and what its plan said of the same. `host_bytes`: RAM, and the pages of
    the mapped file; the room for states is left out, which fills as a conversation grows."""

    gpu_bytes: int
    host_bytes: int
    planned_gpu_bytes: int
    planned_host_bytes: int


class Placement(Wire):
    """`GET /api/models/{id}/placement`: by what was chosen for the model.

    A query with any field of Choices stands in the place of all that was chosen; `exact=true` rehearses the load, in
    a second or two. `PUT` keeps Choices, answers with the same, and loads a loaded model again.
    Where the model does not fit, `problem` is the sentence, no place holds a part, and the disk is left out.
    """

    model_id: str
    name: str
    choices: Choices
    """What is kept for this model."""
    context_tokens: int
    """What this plan is for, as the next four."""
    cache_type: CacheType
    gpu_budget_bytes: int | None = None
    favour: Favour = "balanced"
    threads: int
    micro_batch_tokens: int | None = None
    """Tokens of a prompt that are read at a time."""
    places: list[Place]
    reasons: list[Reason] = Field(default_factory=list[Reason])
    forecast: Foretelling | None = None
    forecast_problem: str | None = None
    """Why nothing is foretold, as a sentence."""
    limits: Limits
    problem: ErrorBody | None = None
    loaded: bool = False
    """The model is loaded, by this very plan."""
    taken: Taken | None = None


class HardwareState(Wire):
    """`GET /api/hardware`, and what `POST /api/hardware/measure` answers with (202; `DELETE` breaks it off)."""

    measuring: bool = False
    step: str | None = None
    """What is measured now."""
    measured_at: float | None = None
    """When this machine was measured last, as it is now; None: never."""
    error: ErrorBody | None = None
    """Why the last measurement failed, until another one is begun."""
