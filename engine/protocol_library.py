"""The shapes on the wire for the library: what is installed, what can be had, where it would go, who may fetch it.

Owns: `/api/library` as pydantic models, by the conventions of `protocol`. Jobs are `protocol_jobs`. Imports nothing
heavy.
"""

from typing import Annotated, Literal

from pydantic import Field

from engine.protocol import ErrorBody, Wire
from engine.protocol_jobs import Exactness, PathText, ResultBytes

ItemKind = Literal["model", "checkpoint"]
ItemId = Annotated[str, Field(min_length=1, max_length=5000)]


class LibraryItem(Wire):
    """Something that lies on this machine: a model that can be loaded, or a checkpoint that can be converted.

    `id` of a model is its id in `/api/models`; of a checkpoint "checkpoint:PATH".
    """

    id: str
    kind: ItemKind
    name: str
    release: str | None = None
    """The V4 release's title, for people; None for other models."""
    path: str
    files: int = 1
    size_bytes: int
    repository: str | None = None
    """Where it was fetched from, OWNER/NAME, where that is known; `revision` is the commit."""
    revision: str | None = None
    complete: bool = True
    """False: a checkpoint of which something has not arrived yet."""
    exactness: Exactness | None = None
    """From the receipt; None: there is none (it was not converted here)."""
    last_used_at: float | None = None
    in_use: bool = False
    """It is loaded, or a job works on it: it can neither be removed nor moved now."""
    removable: bool = True
    movable: bool = True
    problem: ErrorBody | None = None
    """Why it cannot be used, from its headers alone."""


class Fit(Wire):
    """What this machine could do with a model, by what is known now. `text`: one sentence with its numbers."""

    verdict: Literal["memory", "memory_and_disk", "disk", "too_large", "unknown"]
    text: str


class Offer(Wire):
    """Something that can be had: an entry of the catalogue, or a repository that was looked up."""

    name: str
    """What `FetchRequest.what` takes."""
    title: str
    about: str = ""
    kind: Literal["checkpoint", "gguf"]
    repository: str
    revision: str
    pinned: bool = False
    """The revision is a commit."""
    files: list[str] = Field(default_factory=list[str])
    """Patterns; empty: what a model needs."""
    release: str | None = None
    licence: str | None = None
    download_bytes: int | None = None
    """None: not known before the hub is asked."""
    results: list[ResultBytes] = Field(default_factory=list[ResultBytes])
    """Of a checkpoint: what it weighs once converted."""
    working_bytes: int | None = None
    """Of a checkpoint that is converted and consumed as it arrives: what the disk holds at most besides the
    result."""
    own: bool = False
    """From the person's own catalogue file."""
    fit: Fit | None = None
    item_id: str | None = None
    """The item of the library that came of it, where there is one."""


class DiskRoom(Wire):
    """A folder that things go into, and its disk."""

    role: Literal["models", "checkpoints"]
    path: str
    free_bytes: int
    total_bytes: int


class HubState(Wire):
    """How the hub is reached, and whether there is an access token for it; the token itself is never told.

    `token`: in the keyring, for this run of the engine only, as Hugging Face's own tools keep it, or none.
    """

    endpoint: str
    offline: bool = False
    token: Literal["none", "keyring", "this_run", "environment"] = "none"  # noqa: S105
    keyring_problem: str | None = None
    """Why a token could not be kept, as a sentence."""


class MachineSummary(Wire):
    """What was found on this machine, for the welcome."""

    processor: str
    cores: int
    memory_bytes: int
    gpus: list[str] = Field(default_factory=list[str])
    """Each a name with its memory, for people."""


class Library(Wire):
    """`GET /api/library`."""

    items: list[LibraryItem]
    offers: list[Offer]
    rooms: list[DiskRoom]
    hub: HubState
    machine: MachineSummary
    catalogue_problem: ErrorBody | None = None
    """What is wrong with the person's own catalogue file."""


class LookupRequest(Wire):
    """`POST /api/library/lookup`: ask the hub what `what` is (OWNER/NAME, its address, or a catalogue's name);
    answers with a Lookup. Error "token_needed": it is only for those who may."""

    what: Annotated[str, Field(min_length=1, max_length=500)]
    revision: Annotated[str, Field(max_length=200)] | None = None


class RemoteFileEntry(Wire):
    """One file of a repository."""

    path: str
    size_bytes: int


class Lookup(Wire):
    """A repository, as the hub tells of it now. Of several GGUFs in it a person chooses: `choices` are patterns,
    each one whole model with its size."""

    offer: Offer
    files: list[RemoteFileEntry]
    choices: list[RemoteFileEntry] = Field(default_factory=list[RemoteFileEntry])
    problem: str | None = None
    """Why it cannot be used here, as a sentence: no weights, another architecture."""


class TokenRequest(Wire):
    """`PUT /api/library/token`: keep this access token; answers with the HubState. `DELETE` forgets it."""

    token: Annotated[str, Field(min_length=1, max_length=500)]


class RemoveRequest(Wire):
    """`POST /api/library/remove`: to the trash, or for good; answers with Removed."""

    item_id: ItemId
    for_good: bool = False


class Removed(Wire):
    """What became of a removed item. `in_trash`: its bytes are free only once the trash is emptied."""

    size_bytes: int
    in_trash: bool


class AddRequest(Wire):
    """`POST /api/library/add`: take in the file or folder at `path` where it lies; answers with the LibraryItem."""

    path: PathText


class LlamaBuildEntry(Wire):
    """A build of llama.cpp; `folder` is what `Settings.llama_cpp_folder` takes, None: llama-cpp-python's own."""

    folder: str | None
    name: str
    devices: list[str]
    """The GPUs that it reaches, for people; it computes on the processor as well."""
    failed: list[str] = []
    """What of it did not survive being tried, such as a GPU's driver, each a sentence without its full stop."""
    problem: ErrorBody | None = None
    """Why it cannot be used."""


class LlamaBuildList(Wire):
    """`GET /api/llama-builds`. The answer may take seconds: each build is loaded in a process of its own."""

    builds: list[LlamaBuildEntry]
    in_use: str | None = None
    """The folder of the libraries that this engine uses until it ends; None: llama-cpp-python's own."""
    source: Literal["package", "environment", "command", "settings"] = "package"
    """Who named them. What the environment or the command says goes before the settings."""
    chosen: str | None = None
    """What the settings say: used from the next start on."""
    refused: ErrorBody | None = None
    """Why what was named at the start is not in use."""
