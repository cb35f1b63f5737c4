"""The shapes on the wire between the engine and its clients.

Owns: our own resources under `/api/` (sessions, turns, models, settings, status) as pydantic models; the
public dialects' shapes live in `server/`. Imports nothing heavy: the window reads it before its
first paint. Times are Unix seconds (float, UTC); sizes are bytes; identifiers are opaque strings.
"""

from typing import Annotated, Any, Literal

from pydantic import FailFast, Field

from engine.protocol_about import UpdateFound
from engine.protocol_base import BackendChoice as BackendChoice
from engine.protocol_base import CacheType as CacheType
from engine.protocol_base import ErrorBody as ErrorBody
from engine.protocol_base import FinishReason as FinishReason
from engine.protocol_base import MessageStatus as MessageStatus
from engine.protocol_base import ModeChoice as ModeChoice
from engine.protocol_base import Part as Part
from engine.protocol_base import ReasoningMode as ReasoningMode
from engine.protocol_base import Role as Role
from engine.protocol_base import Sampling as Sampling
from engine.protocol_base import Wire as Wire
from engine.protocol_remote import RemotePrice, Whereabouts
from engine.protocol_settings import Settings as Settings


class RemotePlace(Wire):
    """Where a model runs that is not here, as it is said at the point of use."""

    host: str
    whereabouts: Whereabouts
    price: RemotePrice | None = None


class LoadedModel(Wire):
    """The model the engine holds now. `modes` is empty for a model without reasoning modes (not a V4)."""

    id: str
    name: str
    context_tokens: int
    threads: int
    backend: str
    """What computes it: "llama.cpp", "native", "remote" (another machine; `threads` and `context_tokens` are
    then 0 where nothing is known of them), or "scripted" for a test's."""
    suited_sampling: Sampling | None = None
    """How its answers are drawn where the person has not chosen."""
    release: str | None = None
    """The V4 release profile that its prompts are made by; None for a model with a chat template."""
    modes: list[ModeChoice] = []
    cache_type: CacheType | None = None
    """How it keeps a conversation; None from an engine that does not say."""
    own_choices: list[Literal["context_tokens", "cache_type", "threads"]] = []
    """Settings that this model has its own choices for (`protocol_placement.Choices`)."""
    remote: RemotePlace | None = None
    """Set where another machine computes it: what is said in the conversation leaves this engine."""


class EngineStatus(Wire):
    """`GET /api/status`, and the payload of an `EngineEvent` of kind "status"."""

    version: str
    pid: int
    started_at: float
    data_folder: str
    model: LoadedModel | None = None
    loading_model_id: str | None = None
    loading_fraction: float | None = None
    error: ErrorBody | None = None
    """Why the last load failed, until another load is asked for."""
    active_turn_id: str | None = None
    active_answer_id: str | None = None
    """The message that the active turn writes, for a client that did not ask for it itself."""
    queue_length: int = 0
    notice: str | None = None
    """What a person should know of this machine now, such as that its memory is short: a sentence."""
    update: UpdateFound | None = None
    """A newer version of Seamount, where a person wants to be told of one."""


class EngineEvent(Wire):
    """One server-sent event of `GET /api/events`: keeps every window of one engine in step.

    status: `status` is set. session: `session_id` changed; `change` says how. job: `job_id` changed. library: what
    `GET /api/library` would say has changed. hardware: what `GET /api/hardware` would say has changed.
    access: what `GET /api/access` would say has changed.
    """

    kind: Literal["status", "session", "job", "library", "hardware", "access"]
    status: EngineStatus | None = None
    session_id: str | None = None
    change: Literal["created", "updated", "deleted", "restored", "purged"] | None = None
    job_id: str | None = None


class ModelEntry(Wire):
    """One row of `GET /api/models`."""

    id: str
    name: str
    path: str
    size_bytes: int
    source: Literal["starter", "folder", "file", "remote"]
    architecture: str | None = None
    context_train_tokens: int | None = None
    remote: RemotePlace | None = None
    """Set for `source` "remote", whose `path` is its address and whose `size_bytes` is 0."""
    problem: ErrorBody | None = None
    """Why it cannot be loaded, from its headers alone; None when they are in order."""


class ModelList(Wire):
    """`GET /api/models`: the starter, the models folder, and files added by path."""

    models: list[ModelEntry]


class LoadRequest(Wire):
    """`POST /api/models/load`: answers 202 with the status; progress comes over `/api/events`."""

    model_id: str
    backend: BackendChoice | None = None
    """What computes it, and every model that this engine loads afterwards, until the settings name another; None: as
    before."""


class AddModelRequest(Wire):
    """`POST /api/models/add`: register a GGUF file where it lies. Answers 201 with its ModelEntry."""

    path: str


# --- sessions ---------------------------------------------------------------------------------------


class SessionSummary(Wire):
    """One row of the sidebar."""

    id: str
    title: str
    created_at: float
    updated_at: float
    message_count: int = 0
    deleted_at: float | None = None


class SessionList(Wire):
    """`GET /api/sessions[?query=TEXT]`: newest first, the deleted left out; `query` searches titles and texts."""

    sessions: list[SessionSummary]


class CreateSession(Wire):
    """`POST /api/sessions`: answers 201 with the SessionSummary. An empty title: first words of the first message."""

    title: str = ""


class Tool(Wire):
    """A tool that the model may call, in OpenAI's shape; `function` is kept whole, in its order of keys."""

    type: Literal["function"] = "function"
    function: dict[str, Any]


class ChangeSession(Wire):
    """`PATCH /api/sessions/{id}`: what is None stays. `leaf_id` chooses the shown branch of the tree."""

    title: str | None = None
    leaf_id: str | None = None
    tools: Annotated[list[Tool], Field(max_length=256)] | None = None
    """The tools of every turn from now on; an empty list takes them away."""


class Usage(Wire):
    """What a turn cost. Rates are tokens per second."""

    prompt_tokens: int
    reused_tokens: int
    generated_tokens: int
    context_tokens: int
    first_token_s: float
    prefill_rate: float
    generation_rate: float
    seed: int
    disk_bytes_per_token: float | None = None
    """Of experts read from the disk while the answer was written; None where nobody counts them."""
    experts_in_memory: float | None = None
    """The share of the experts chosen meanwhile that lay in memory already."""
    cost: float | None = None
    """In `currency`, by the prices that the person gave for a model on another machine; None: not known, or nothing."""
    currency: str | None = None


class ToolCall(Wire):
    """A call that an answer makes. `arguments` is JSON text, an object unless `status` is "rejected".

    exact: as the format wants it. repaired: written with a slip that leaves one meaning. rejected: not to be
    carried out; `problem` is the reason, a sentence that the model can be given as the call's result.
    """

    id: str
    name: str
    arguments: str
    status: Literal["exact", "repaired", "rejected"] = "exact"
    problem: str | None = None


class Thought(Wire):
    """What the reasoning of an answer took."""

    tokens: int
    elapsed_s: float


class Message(Wire):
    """A node of the message tree. An edit or a retry is a sibling: the same `parent_id`, a later `created_at`.

    role "tool": the result of the call `tool_call_id`, beneath the answer that made it or beneath another
    result of the same answer.
    """

    id: str
    parent_id: str | None
    role: Role
    text: str
    status: MessageStatus
    created_at: float
    model_id: str | None = None
    finish_reason: FinishReason | None = None
    error: ErrorBody | None = None
    usage: Usage | None = None
    mode: ReasoningMode | None = None
    """The reasoning mode it was written in; None where the model has none."""
    reasoning: str = ""
    thought: Thought | None = None
    """Set when the reasoning has ended."""
    tool_calls: Annotated[list[ToolCall], FailFast()] = []
    unfinished_call: str = ""
    """The raw text of a call that was being written when the answer was cut."""
    tool_call_id: str | None = None
    notices: Annotated[list[str], FailFast()] = []
    """What was done to the answer, each a sentence: reasoning was ended early."""
    continued: Literal["identical", "different"] | None = None
    """Cut off and gone on with: token for token as it would have been, or perhaps not."""


class Session(Wire):
    """`GET /api/sessions/{id}`: the whole tree, parents before children; the shown branch ends in `leaf_id`."""

    summary: SessionSummary
    leaf_id: str | None
    messages: list[Message]
    tools: list[Tool] = []
    costs: dict[str, float] = {}
    """What all its answers cost together, by currency, where that is known of any."""


# --- turns ------------------------------------------------------------------------------------------


class Ask(Wire):
    """A new user message under `parent_id` (None: the root; omitted: the session's leaf)."""

    kind: Literal["ask"] = "ask"
    session_id: str
    text: str
    parent_id: str | None = None
    at_leaf: bool = True
    """True: `parent_id` is ignored and the session's leaf is the parent."""


class Retry(Wire):
    """Another answer beside the answer `message_id`."""

    kind: Literal["retry"] = "retry"
    session_id: str
    message_id: str


class Edit(Wire):
    """Another user message beside the user message `message_id`, and an answer to it."""

    kind: Literal["edit"] = "edit"
    session_id: str
    message_id: str
    text: str


class Continue(Wire):
    """Go on with the unfinished answer `message_id` (status interrupted, failed, or finished by length/cancel)."""

    kind: Literal["continue"] = "continue"
    session_id: str
    message_id: str


class ToolResult(Wire):
    """What a call gave."""

    tool_call_id: str
    text: str


class Results(Wire):
    """The results of all calls of the answer `message_id`, in any order, and the answer that follows."""

    kind: Literal["results"] = "results"
    session_id: str
    message_id: str
    results: Annotated[list[ToolResult], Field(min_length=1), FailFast()]


class TurnRequest(Wire):
    """`POST /api/turns`: answers 201 with a Turn. `sampling` None: settings, else what suits the model.

    `mode` and `thinking_tokens` None: the settings'. Both are ignored by a model without reasoning modes, and
    by Continue, which goes on in the mode the answer was begun in.

    `told_place`: the `RemotePlace.host` that the person was told the conversation goes to, "" where nothing was said to
    leave; 409 where it would go to another place than that. None: it is not compared.
    """

    turn: Annotated[Ask | Retry | Edit | Continue | Results, Field(discriminator="kind")]
    sampling: Sampling | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    mode: ReasoningMode | None = None
    thinking_tokens: Annotated[int, Field(ge=0, le=1_048_576)] | None = None
    told_place: Annotated[str, Field(max_length=4096)] | None = None


class Turn(Wire):
    """A recorded turn; its events are at `GET /api/turns/{id}/events`, `DELETE /api/turns/{id}` cancels it."""

    id: str
    session_id: str
    question: Message | None
    """The user message that was recorded for Ask and Edit."""
    answer: Message
    """The assistant message being written, status running."""
    results: list[Message] = []
    """The tool messages that were recorded for Results."""


class ReuseRequest(Wire):
    """`POST /api/reuse`: what a turn would cost in `mode` before its first token. Answers with a Reuse.

    ask: the next question, beneath `message_id` (None: the shown branch's end). retry: another answer in the place of
    the answer `message_id`. edit: another question in the place of the question `message_id`. continue: the answer
    `message_id` goes on, in the mode that it was begun in.
    """

    session_id: str
    mode: ReasoningMode
    kind: Literal["ask", "retry", "edit", "continue"] = "ask"
    message_id: str | None = None


class Reuse(Wire):
    """Of the `total` tokens before the next question, `kept` are in the context or a kept state, and `reread` are not.

    `seconds`: about how long it takes until the answer begins, as far as that can be foretold. `from_disk`: of those
    kept, so many are read back from a file.
    """

    total: int
    kept: int
    reread: int
    seconds: float | None = None
    from_disk: int = 0


class Queued(Wire):
    """`place` turns stand before this one (0: it begins now)."""

    kind: Literal["queued"] = "queued"
    place: int


class Prefill(Wire):
    """Reading the prompt: `done` of `total` tokens, `reused` of them were already in the context."""

    kind: Literal["prefill"] = "prefill"
    done: int
    total: int
    reused: int


class Text(Wire):
    """More text of one `part`. `offset` is its first character's index in that part of the whole answer, so a
    repeat is recognised. All of the reasoning comes before the text."""

    kind: Literal["text"] = "text"
    offset: int
    text: str
    generated_tokens: int
    part: Part = "text"


class ThoughtEvent(Wire):
    """The reasoning has ended, once, before the text begins."""

    kind: Literal["thought"] = "thought"
    thought: Thought


class CallEvent(Wire):
    """More of call number `index` (from 0): `arguments` is JSON text that goes on at `offset`.

    The whole of it, checked, is in `done`'s message.
    """

    kind: Literal["call"] = "call"
    index: int
    id: str
    name: str
    offset: int
    arguments: str
    generated_tokens: int


class Notice(Wire):
    """The reasoning was ended from outside, or what is to be known of an answer that another machine writes: a
    sentence. What is wrong with a call stands in the call."""

    kind: Literal["notice"] = "notice"
    code: Literal["budget", "loop", "remote"]
    text: str


class Counters(Wire):
    """What writing costs of late (some seconds), at most twice a second, where experts may come from the disk.

    `disk_bytes_per_token`: read for experts. `experts_in_memory`: the share of those chosen that lay in memory.
    """

    kind: Literal["counters"] = "counters"
    tokens_per_s: float
    disk_bytes_per_token: float
    experts_in_memory: float


class UsageEvent(Wire):
    """The cost, once, before `done`."""

    kind: Literal["usage"] = "usage"
    usage: Usage


class Done(Wire):
    """The turn has ended; `message` is the answer as it is stored."""

    kind: Literal["done"] = "done"
    finish_reason: FinishReason
    message: Message


class Failed(Wire):
    """The turn has ended in an error; the text so far is stored in `message`."""

    kind: Literal["error"] = "error"
    error: ErrorBody
    message: Message


TurnEvent = Annotated[
    Queued | Prefill | Text | ThoughtEvent | CallEvent | Notice | Counters | UsageEvent | Done | Failed,
    Field(discriminator="kind"),
]
