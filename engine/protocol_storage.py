"""The shapes of what is kept and taken along: a conversation as a file, what keeping takes, and work on all of it.

Owns: `/api/storage`, `/api/sessions/{id}/export`, `/api/sessions/import`, and the JSON that a conversation is exported
as (docs/sessions.md documents it). Imports nothing heavy. Times are Unix seconds, sizes are bytes.

What a file may hold many of is looked at up to the first that is wrong (FailFast): an error for each of a million
would take gigabytes.
"""

from typing import Annotated, Literal

from pydantic import FailFast, Field

from engine.protocol import ErrorBody, Message, Sampling, Tool, Wire

DOCUMENT_FORMAT = "seamount-conversation"
DOCUMENT_VERSION = 1

TitleBy = Literal["question", "model", "person"]
TaskKind = Literal["verify", "compact", "backup"]
TaskState = Literal["running", "done", "failed", "stopped"]


class KeptMessage(Message):
    """A message with what the wire leaves out: how its tokens were drawn, and the tokens themselves."""

    sampling: Sampling | None = None
    token_ids: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**32)], ...], FailFast()] = ()
    """Of an answer: what the model wrote, control tokens and all."""


class KeptSession(Wire):
    """The session itself."""

    id: str
    title: str = ""
    title_by: TitleBy = "question"
    created_at: float
    updated_at: float
    leaf_id: str | None = None
    """The message that the shown branch ends in."""
    tools: Annotated[tuple[Tool, ...], Field(max_length=256), FailFast()] = ()


class SessionDocument(Wire):
    """A conversation as a file: the whole tree, parents before children, siblings in the order they were made in."""

    format: Literal["seamount-conversation"]
    version: Literal[1]
    seamount: str = ""
    """The version that wrote it; of no consequence."""
    session: KeptSession
    messages: Annotated[tuple[KeptMessage, ...], FailFast()] = ()


class ImportRequest(Wire):
    """`POST /api/sessions/import`: take in the conversation in the file `path`. 201 with its SessionSummary."""

    path: str


class StorageUsage(Wire):
    """`GET /api/storage`: what keeping takes on the disk, and what is there.

    `states_*`: what models have read, kept so that it is not read again; `states_damaged` of its files are set aside.
    """

    sessions_bytes: int
    journals_bytes: int
    states_bytes: int
    states_count: int
    states_damaged: int
    states_budget_bytes: int
    free_bytes: int
    notice: str | None = None
    """What a restore that was finished at the start of this engine has to say: a sentence."""


class StartStorageTask(Wire):
    """`POST /api/storage/tasks`: 202 with the StorageTask. One runs at a time.

    verify: everything that is kept is read and checked. compact: what is not needed is given back to the disk.
    backup: everything into the one file `path`, `with_states` or without what models have read.
    """

    kind: TaskKind
    path: str | None = None
    with_states: bool = False


class StorageTask(Wire):
    """`GET /api/storage/task`: the last task, also once it is over. `DELETE` stops it: 202 with what it then is.

    `lines`: the result for a person. `problems`: of verify, each a sentence; empty when all is well.
    """

    id: str
    kind: TaskKind
    state: TaskState
    done_bytes: int = 0
    total_bytes: int = 0
    note: str = ""
    lines: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    error: ErrorBody | None = None


class RestoreRequest(Wire):
    """`POST /api/storage/restore`: check the backup at `path` and have it take effect at the engine's next start.

    Answers 202 with a RestorePrepared.
    """

    path: str


class RestorePrepared(Wire):
    """What will be there at the next start; what is there now will be in the folder `aside`."""

    created_at: float
    sessions_bytes: int
    aside: str
