"""What crosses the wire about other programs that use the engine.

Owns: the shapes of `/api/access`: keys, who is connected, the network's socket, what keeps a client's beginnings from
being read once. Does not know how a key is checked or kept. Times are Unix seconds.
"""

from typing import Annotated, Literal

from pydantic import Field

from engine.protocol_base import ErrorBody, Wire

Dialect = Literal["chat", "completions", "responses", "messages"]


class KeyLimits(Wire):
    """What one key may take. 0: without a limit of its own."""

    answer_tokens: Annotated[int, Field(ge=0, le=1_048_576)] = 0
    """Of one answer, whatever the client asks for."""
    prompt_tokens: Annotated[int, Field(ge=0, le=1_048_576)] = 0
    waiting: Annotated[int, Field(ge=0, le=1024)] = 64
    """Requests that wait or run at the same time."""
    seconds: Annotated[int, Field(ge=0, le=7 * 86_400)] = 0
    """Of computing time of one answer, reading its prompt included."""


class SteadyRules(Wire):
    """What may be done to what a client says, so that a beginning that changes with each request is not read anew each
    time. Every one changes what the model is told, so none holds before a person has said so for a key."""

    pin: bool = False
    """A line of the system message that differs in numbers, dates or ids alone from the line before it stood there in
    the same conversation is put as it stood at first."""
    move: bool = False
    """Such a line is put at the end of the newest message instead, where it costs nothing."""


class ClientKey(Wire):
    """A key for other programs. Its secret is in no list."""

    id: str
    name: str
    created_at: float
    last_used_at: float | None = None
    last_used_by: str = ""
    """What the program that used it last calls itself."""
    is_network: bool = False
    """It is for the network's socket, and only for that; the others are for this machine alone."""
    is_kept: bool = False
    """Its secret lies in this account's keyring: `GET /api/access/keys/{id}/secret` answers with the MadeKey again."""
    limits: KeyLimits = KeyLimits()
    steady: SteadyRules = SteadyRules()


class NewKey(Wire):
    """`POST /api/access/keys`: answers 201 with a MadeKey."""

    name: Annotated[str, Field(min_length=1, max_length=80)]
    is_network: bool = False
    keep: bool = True
    """Its secret is also put into this account's keyring, where there is one."""


class MadeKey(Wire):
    """The only reply that carries a key's secret.

    `problem`: why the keyring does not have it though it was to, as a sentence; this is then the only time it is shown.
    """

    key: ClientKey
    secret: str
    problem: str | None = None


class ChangeKey(Wire):
    """`PATCH /api/access/keys/{id}`: what is None stays. Answers with the ClientKey. `DELETE` revokes it: 204, and what
    it runs is ended."""

    name: Annotated[str, Field(min_length=1, max_length=80)] | None = None
    limits: KeyLimits | None = None
    steady: SteadyRules | None = None


class ClientRequest(Wire):
    """One answer that a client waits for. `DELETE /api/access/requests/{id}` ends it: 204."""

    id: str
    dialect: Dialect
    model_id: str
    state: Literal["queued", "reading", "writing"]
    place: int = 0
    """Answers that stand before it in the queue."""
    done: int = 0
    total: int = 0
    """Tokens of its prompt that are read, while it reads."""
    generated_tokens: int = 0
    since: float


class ConnectedClient(Wire):
    """A program that has something running or waiting, or had within the last minutes."""

    key_id: str
    key_name: str
    program: str
    address: str
    last_at: float
    requests: list[ClientRequest] = []


class SteadyOffer(Wire):
    """A client's beginning changes with each request: `reread_tokens` are read again each time for `line`'s sake.

    `suggestion`: the rule that would spare it, if the person agrees for that key.
    """

    key_id: str
    key_name: str
    program: str
    line: str
    """The line as it stood last, cut to what fits a window."""
    reread_tokens: int
    times: int
    suggestion: Literal["pin", "move"]


class NetworkDoor(Wire):
    """The socket for the local network. `fingerprint`: SHA-256 of the certificate, hexadecimal in pairs with colons."""

    wanted: bool = False
    is_open: bool = False
    port: int = 0
    addresses: list[str] = []
    """The URLs by which others reach it."""
    interfaces: list[str] = []
    """As they were chosen (`OpenNetwork`)."""
    fingerprint: str | None = None
    certificate: Literal["none", "generated", "own"] = "none"
    expires_at: float | None = None
    problem: ErrorBody | None = None
    """Why it is not open though it is wanted."""
    notice: str | None = None
    """What is to be known though it is open: another certificate than before, an address that it does not name."""


class OpenNetwork(Wire):
    """`PUT /api/access/network`: answers with the NetworkDoor. Paths are of files on the engine's machine (PEM);
    without them a certificate is generated and kept."""

    wanted: bool
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """0: the one before, else any that is free."""
    certificate_path: Annotated[str, Field(max_length=4096)] | None = None
    key_path: Annotated[str, Field(max_length=4096)] | None = None
    interfaces: Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=16)] = []
    """Addresses of this machine to listen at; none named: at all of them."""


class Access(Wire):
    """`GET /api/access`. It has changed when an EngineEvent of kind "access" comes."""

    base_url: str
    """For clients of the OpenAI dialect: ends in /v1. Those of Anthropic's take it without."""
    keys: list[ClientKey]
    clients: list[ConnectedClient]
    offers: list[SteadyOffer] = []
    network: NetworkDoor = NetworkDoor()
    origins: list[str] = []
    """Web pages' origins that may call the engine from a browser (settings: `allowed_origins`)."""
    problem: ErrorBody | None = None
    """Why no client's key counts, or why the engine is not at the port that was chosen."""
