"""What crosses the wire about models that another machine runs.

Owns: the shapes of `/api/remotes`. Does not know how a remote is spoken to. A key for one is in a request alone and in
no reply.
"""

from typing import Annotated, Literal

from pydantic import Field

from engine.protocol_base import ErrorBody, Wire

REMOTE_PREFIX = "remote:"
"""How the id of each model on another machine begins."""
Whereabouts = Literal["this machine", "local network", "elsewhere"]
"""Where a conversation goes: by the address, as far as an address tells."""
RemoteKind = Literal["openai", "deepseek", "seamount"]
"""openai: any server of that dialect (vLLM, SGLang, llama.cpp). deepseek: DeepSeek's own service. seamount: another
Seamount."""
CanDo = Literal["yes", "no", "unknown"]
ContinueWay = Literal["none", "prefix", "final_message", "tail"]
"""How a server is told to go on with an answer's beginning: `prefix` on the message (DeepSeek, Seamount),
`continue_final_message` beside the messages (vLLM, SGLang), or nothing but that it stands last (llama.cpp)."""
EffortWay = Literal["none", "thinking", "template", "effort"]
"""How a server is told how much to think: DeepSeek's `thinking`, `chat_template_kwargs` (vLLM, SGLang with V4), or
`reasoning_effort` alone."""


class RemotePrice(Wire):
    """What the person was told that it costs, for a million tokens; the engine asks nobody for prices."""

    read: Annotated[float, Field(ge=0, le=1e9)] = 0.0
    read_cached: Annotated[float, Field(ge=0, le=1e9)] | None = None
    written: Annotated[float, Field(ge=0, le=1e9)] = 0.0
    currency: Annotated[str, Field(min_length=1, max_length=8)] = "USD"


class RemoteFeatures(Wire):
    """What was found out by asking the server, and when; what was not, is unknown and tried when it is needed."""

    checked_at: float
    software: str = ""
    """What it says it is: "vLLM 0.12", "llama-cpp-python"; "" where it does not tell."""
    models: list[str] = []
    context_tokens: int | None = None
    reasoning: CanDo = "unknown"
    efforts: CanDo = "unknown"
    """Whether the reasoning can be chosen by a request."""
    tools: CanDo = "unknown"
    continues: CanDo = "unknown"
    """Whether an answer that broke off can be gone on with by giving its beginning."""
    usage: CanDo = "unknown"
    """Whether a stream tells what it cost."""
    continue_by: ContinueWay = "none"
    effort_by: EffortWay = "none"
    thinks_untold: bool = False
    """Its text begins inside the reasoning, whose end alone is marked."""
    spent_tokens: int | None = None
    """What finding this out cost, by the server's own count; None: it does not count."""


class RemoteAddress(Wire):
    """One address of the model; the first that answers is used, the others stand by."""

    url: Annotated[str, Field(min_length=1, max_length=500)]
    """Up to and including /v1, or whatever stands before /chat/completions. `https`, or `http` where the address is of
    this machine or a private network; `ssh://user@host[:port]` for a Seamount on that machine, by the system's ssh."""
    fingerprint: str | None = None
    """SHA-256 of the certificate that is trusted there though nobody vouches for it; a change is an error."""


class Remote(Wire):
    """One model on another machine. `id` is its id in the list of models: "remote:" and what follows."""

    id: str
    name: str
    kind: RemoteKind
    addresses: list[RemoteAddress]
    model: str
    """What the server calls it."""
    whereabouts: Whereabouts
    has_key: bool
    key_problem: str | None = None
    """Why the key is only kept for this run, a sentence."""
    price: RemotePrice | None = None
    features: RemoteFeatures | None = None
    problem: ErrorBody | None = None
    """Why it could not be reached or used when it was last tried."""
    used_address: int | None = None
    """The index of the address that answered last."""
    change: str | None = None
    """What is no longer as it was agreed to (its model, its certificate), a sentence; it is not used until a person
    agrees anew (`AgreeRemote`)."""
    offered_fingerprint: str | None = None
    """Of the certificate that `change` is about: to be compared by the person, and given back in AgreeRemote."""


class RemoteList(Wire):
    """`GET /api/remotes`."""

    remotes: list[Remote]


class SetRemote(Wire):
    """`POST /api/remotes` makes one (201), `PUT /api/remotes/{id}` changes it; both answer with the Remote. `DELETE`:
    204.

    `key` None: stays as it is; "": is forgotten. Nothing of a conversation is sent to find out what a server can do.
    """

    name: Annotated[str, Field(min_length=1, max_length=80)]
    kind: RemoteKind = "openai"
    addresses: Annotated[list[RemoteAddress], Field(min_length=1, max_length=8)]
    model: Annotated[str, Field(max_length=200)] = ""
    """"": the only one that the server has."""
    key: Annotated[str, Field(max_length=500)] | None = None
    price: RemotePrice | None = None


class CheckRemote(Wire):
    """`POST /api/remotes/check`: what a server at the first address is and can do, before it is kept; with `id`, the
    key that is kept is used where none is given. Answers with a CheckedRemote."""

    remote: SetRemote
    id: str | None = None


class CheckedRemote(Wire):
    """What was found. `fingerprint`: of a certificate that nobody vouches for, to be compared by the person."""

    whereabouts: Whereabouts
    features: RemoteFeatures | None = None
    fingerprint: str | None = None
    problem: ErrorBody | None = None


class AgreeRemote(Wire):
    """`POST /api/remotes/{id}/agree`: the person accepts what `Remote.change` says. Answers with the Remote."""

    fingerprint: str | None = None
