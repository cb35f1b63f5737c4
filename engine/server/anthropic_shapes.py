"""What a request of Anthropic's messages dialect looks like, and what may be in it.

Owns: the shapes of `POST /v1/messages` and `POST /v1/messages/count_tokens`, and the order of their blocks: which are
read, which are refused by name, which calls results answer. Does not know what is asked of a model with them
(`anthropic_asking`) or HTTP. The shapes follow Anthropic's API reference. Fields that are not here are let be.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field

from engine.errors import BadRequest

MOST_MESSAGES = 100_000
MOST_TOOLS = 2_000
_WHAT = "The request was refused"
_NAME = re.compile("[a-zA-Z0-9_-]{1,128}")
_QUOTED = 80
"""Characters of what a client wrote that an error repeats."""

_READ = {
    "user": ("text", "tool_result"),
    "assistant": ("text", "thinking", "redacted_thinking", "tool_use"),
    "system": ("text",),
}
"""By role: the kinds of blocks that are read."""
_TEXTS: dict[str, tuple[str, ...]] = {
    "text": ("text",),
    "thinking": ("thinking",),
    "redacted_thinking": (),
    "tool_use": ("id", "name"),
    "tool_result": ("tool_use_id",),
}
"""By kind of block: what must be a text in it."""
_UNREAD = {"image": "an image", "document": "a document"}


class _Shape(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class InputMessage(_Shape):
    """One message; `content` is a text or a list of blocks."""

    role: Literal["user", "assistant", "system"]
    content: str | list[dict[str, Any]]


class Tool(_Shape):
    """A tool that the client carries out. `type` names one of Anthropic's own, which are refused."""

    name: str
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None


class ToolChoice(_Shape):
    """Whether tools are called: as the model likes, at least one, the one called `name`, or none."""

    type: Literal["auto", "any", "tool", "none"] = "auto"
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(_Shape):
    """Whether it reasons, for how long, and whether the client is told what."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: Annotated[int, Field(ge=1, le=1_048_576)] | None = None
    display: Literal["summarized", "omitted"] | None = None


class JsonFormat(_Shape):
    """The JSON schema of the whole text."""

    type: Literal["json_schema"]
    json_schema: dict[str, Any] = Field(alias="schema")


class OutputConfig(_Shape):
    """How hard it thinks, where it does, and the form of its text."""

    effort: Annotated[str, Field(max_length=40)] | None = None
    format: JsonFormat | None = None


class Conversation(_Shape):
    """What both routes read: everything that makes a prompt. `POST /v1/messages/count_tokens`."""

    model: str
    messages: Annotated[list[InputMessage], Field(min_length=1, max_length=MOST_MESSAGES, fail_fast=True)]
    system: str | list[dict[str, Any]] | None = None
    tools: Annotated[list[Tool], Field(max_length=MOST_TOOLS, fail_fast=True)] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: JsonFormat | None = None

    @property
    def form_schema(self) -> dict[str, Any] | None:
        """The JSON schema that the text follows; the newer of the two places counts."""
        newer = self.output_config.format if self.output_config else None
        form = newer or self.output_format
        return form.json_schema if form else None

    @property
    def shows_reasoning(self) -> bool:
        """Whether the client wants to read the reasoning."""
        return self.thinking is None or self.thinking.display != "omitted"


class MessagesRequest(Conversation):
    """`POST /v1/messages`."""

    max_tokens: Annotated[int, Field(ge=1)]
    stream: bool = False
    stop_sequences: Annotated[list[str], Field(max_length=64)] | None = None
    temperature: Annotated[float, Field(ge=0, le=10)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: int | None = None
    top_k: int | None = None


class Unsupported(BadRequest):
    """A feature of the dialect that this engine does not have."""

    code = "unsupported"

    def __init__(
        self, place: str, why: str = "is not supported here", remedy: str = "send the request without it"
    ) -> None:
        super().__init__(_WHAT, f"`{place}` {why}", remedy)


class NoThreads(Unsupported):
    """A conversation that the server is to hold. By this code Anthropic's client goes on by sending all of it."""

    code = "thread_unsupported_request"

    def __init__(self) -> None:
        super().__init__("thread", remedy="send the whole conversation each time; what was read stays read")


def refuse(asked: MessagesRequest) -> None:
    """Raises Unsupported for what would change the answer and is not done here."""
    if (asked.model_extra or {}).get("thread"):
        raise NoThreads
    if asked.top_k:
        raise Unsupported("top_k", remedy="send the request without it, or use top_p or min_p")
    for name in ("mcp_servers", "container"):
        if (asked.model_extra or {}).get(name):
            raise Unsupported(name)


def merged(messages: Sequence[InputMessage]) -> list[dict[str, Any]]:
    """The messages with their contents as blocks, neighbours of one role made one, every block looked at.

    A system message behind others becomes the user's: V4 knows no place for it there. Raises BadRequest for a block
    that cannot be read and for a result that answers no call of the message before it.
    """
    turns: list[dict[str, Any]] = []
    places: list[str] = []
    for number, message in enumerate(messages):
        place = f"messages.{number}"
        blocks = _blocks(message.content, f"{place}.content")
        for at, block in enumerate(blocks):
            _check(block, message.role, f"{place}.content.{at}")
        role = "user" if message.role == "system" and turns else message.role
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
            places.append(place)
    for number, place in enumerate(places):
        _check_results(turns[number], turns[number - 1] if number else {"content": ()}, place)
    if turns[-1]["role"] == "assistant" and any(b["type"] == "tool_use" for b in turns[-1]["content"]):
        raise BadRequest(
            _WHAT,
            "its last message is an answer that calls tools, which cannot be gone on with",
            "send the results of the calls, or leave the message out",
        )
    return turns


def checked_tools(tools: Iterable[Tool] | None) -> list[Tool]:
    """The tools, each one that the client carries out itself, by names that are no two alike. Raises BadRequest."""
    names: set[str] = set()
    whole = list(tools or ())
    for number, tool in enumerate(whole):
        place = f"tools.{number}"
        if tool.type not in (None, "custom"):
            raise Unsupported(
                f"{place}.type",
                f"is {tool.type[:_QUOTED]!r}: tools of Anthropic's own, on its servers or known to its models alone, "
                "are not here",
                "leave it out, or declare a tool of your own with an input_schema",
            )
        if not _NAME.fullmatch(tool.name):
            raise BadRequest(
                _WHAT,
                f"`{place}.name` is {tool.name[:_QUOTED]!r}",
                "use letters, digits, _ and -, at most 128 of them",
            )
        if tool.name in names:
            raise BadRequest(_WHAT, f"`{place}.name`: there are two tools {tool.name!r}", "rename one")
        names.add(tool.name)
        if tool.input_schema is None or tool.input_schema.get("type") != "object":
            raise BadRequest(
                _WHAT, f'`{place}.input_schema` is not a JSON schema of type "object"', "correct it"
            )
    return whole


def system_text(system: str | list[dict[str, Any]] | None) -> str | list[dict[str, Any]]:
    """The system message's texts. Raises BadRequest for a block of another kind."""
    if isinstance(system, list):
        for number, block in enumerate(system):
            _check(block, "system", f"system.{number}")
    return system or ""


def _blocks(content: str | list[dict[str, Any]], place: str) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    for at, block in enumerate(content):
        if not isinstance(block.get("type"), str):
            raise BadRequest(_WHAT, f"`{place}.{at}` has no type", "give it one")
    return list(content)


def _check(block: Mapping[str, Any], role: str, place: str) -> None:
    """Raises BadRequest for a block that a message of that role does not have here, or that is not whole."""
    kind = block.get("type")
    if not isinstance(kind, str) or kind not in _READ[role]:
        if kind in _UNREAD:
            raise Unsupported(place, f"is {_UNREAD[kind]}, and the model reads text alone", "send text")
        raise Unsupported(place, f"is of type {str(kind)[:_QUOTED]!r}, which is not read here")
    for name in _TEXTS[kind]:
        value = block.get(name)
        if not isinstance(value, str) or (not value and name not in ("text", "thinking")):
            raise BadRequest(_WHAT, f"`{place}.{name}` is not a text", "correct it")
    if kind == "tool_use" and not isinstance(block.get("input", {}), dict):
        raise BadRequest(_WHAT, f"`{place}.input` is not an object", "correct it")
    if kind == "tool_result":
        _check_result(block.get("content"), f"{place}.content")


def _check_result(content: object, place: str) -> None:
    """A result is a text or blocks; those that are no text reach the model as their kind's name, as V4's own encoder
    puts them, so that one picture does not end a whole conversation of an agent."""
    if content is None or isinstance(content, str):
        return
    if not isinstance(content, list):
        raise BadRequest(_WHAT, f"`{place}` is neither a text nor a list of blocks", "correct it")
    for at, block in enumerate(cast(list[Any], content)):
        fields = cast(dict[str, Any], block) if isinstance(block, dict) else {}
        kind, text = fields.get("type"), fields.get("text")
        if not isinstance(kind, str) or (kind == "text" and not isinstance(text, str)):
            raise BadRequest(_WHAT, f"`{place}.{at}` is no block of a result", "correct it")


def _check_results(turn: Mapping[str, Any], before: Mapping[str, Any], place: str) -> None:
    """Raises BadRequest when `turn` has a result of no call in the turn before it, or a second one."""
    open_calls = {block["id"] for block in before["content"] if block["type"] == "tool_use"}
    for block in turn["content"]:
        if block["type"] != "tool_result":
            continue
        call_id = block["tool_use_id"]
        if call_id not in open_calls:
            raise BadRequest(
                _WHAT,
                f"`{place}` has a result of the call {call_id[:_QUOTED]!r}, which the answer before it does not make "
                "or which has its result already",
                "send each result once, right behind the answer that calls",
            )
        open_calls.discard(call_id)
