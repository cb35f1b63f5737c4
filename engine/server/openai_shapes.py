"""What the routes of the OpenAI dialect have in common: fields, refusals, and pieces of their replies.

Owns: fields that mean the same in several requests, what is refused of them, usage, log probabilities, finish reasons.
Does not know a route (`openai_chat`, `openai_completions`, `openai_responses`) or the queue (`answers`). The shapes
follow OpenAI's API reference, with DeepSeek's and vLLM's additions to it.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, cast

from pydantic import BaseModel, ConfigDict, Field

from engine.completion_news import CompletionEnd, LoggedToken
from engine.errors import BadRequest
from engine.protocol import ToolCall
from engine.token_chances import MOST_TOP

MOST_STOPS = 16
LONGEST_STOP = 1024
"""Characters of a stop string: every token's text is looked at for what may begin one."""
MOST_BIASED = 1024
"""Tokens that one `logit_bias` may name."""

Temperature = Annotated[float, Field(ge=0, le=10)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
LogitBias = Annotated[dict[str, Annotated[float, Field(ge=-100, le=100)]], Field(max_length=MOST_BIASED)]
TopLogprobs = Annotated[int, Field(ge=0, le=MOST_TOP)]
StopString = Annotated[str, Field(max_length=LONGEST_STOP)]
Stop = StopString | Annotated[list[StopString], Field(max_length=MOST_STOPS)]

ENDED_BY_PERSON = "The answer was ended in Seamount before it was whole."


class Unsupported(BadRequest):
    """A feature of the dialect that this engine does not have."""

    code = "unsupported"

    def __init__(self, feature: str, why: str = "") -> None:
        super().__init__(
            "The request was refused",
            f"`{feature}` is not supported here" + (f" ({why})" if why else ""),
            "send the request without it",
        )
        self.param = feature


class TextOnly(BadRequest):
    """A picture, a sound, a file: something that is no text."""

    code = "unsupported"

    def __init__(self, place: str, kind: object) -> None:
        super().__init__(
            "The request was refused",
            f"`{place}` is of type {str(kind)[:80]}, and this model reads text alone",
            "send the request without it",
        )
        self.param = place


class WrongField(BadRequest):
    """A field whose value says nothing that can be done."""

    def __init__(self, field: str, why: str, remedy: str = "correct it") -> None:
        super().__init__("The request was refused", f"`{field}` {why}", remedy)
        self.param = field


class Shape(BaseModel):
    """Base of every request: what is not known is kept, and looked at where it would ask for something."""

    model_config = ConfigDict(extra="allow", frozen=True)


class StreamOptions(Shape):
    """What a stream carries besides text."""

    include_usage: bool = False


def refuse(asked: Shape, features: Mapping[str, tuple[Any, ...]]) -> None:
    """Raises Unsupported for a field that asks for what is not done; a value in its tuple asks for nothing."""
    extra = asked.model_extra or {}
    for feature, harmless in features.items():
        value = extra.get(feature)
        if value is not None and value not in harmless:
            raise Unsupported(feature)


def stops_of(stop: Stop | None) -> tuple[str, ...]:
    """The stop strings of a request."""
    return (stop,) if isinstance(stop, str) else tuple(stop or ())


def bias_of(logit_bias: Mapping[str, float] | None) -> dict[int, float]:
    """`logit_bias` by token id. Raises WrongField."""
    bias: dict[int, float] = {}
    for name, value in (logit_bias or {}).items():
        if not (name.isascii() and name.isdigit() and len(name) < 10):
            raise WrongField("logit_bias", f"names {name[:40]!r}, which is no token id")
        bias[int(name)] = value
    return bias


def finish_reason(end: CompletionEnd) -> str:
    """In the words of chat completions. What was cut off from outside is not whole, so it is no "stop"."""
    return {"cancelled": "length"}.get(end.reason, end.reason)


def notices_of(end: CompletionEnd) -> tuple[str, ...]:
    """What was done to the answer, each a sentence."""
    return (*end.notices, ENDED_BY_PERSON) if end.reason == "cancelled" else end.notices


def additions_of(end: CompletionEnd) -> dict[str, Any]:
    """What stands under `seamount` in a reply, which the dialect does not know."""
    said: dict[str, Any] = {"notices": notices_of(end), "steady": end.steady}
    return {name: value for name, value in said.items() if value}


def call_shape(call: ToolCall) -> dict[str, Any]:
    """A call in a message."""
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def usage_shape(end: CompletionEnd) -> dict[str, Any]:
    """What it cost, in the words of chat completions and completions."""
    usage = end.usage
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.generated_tokens,
        "total_tokens": usage.prompt_tokens + usage.generated_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.reused_tokens},
        "completion_tokens_details": {"reasoning_tokens": end.reasoning_tokens},
    }


def logprob_shapes(tokens: Sequence[LoggedToken]) -> list[dict[str, Any]]:
    """Tokens of a text with their log probabilities, as chat completions and responses tell them."""
    return [{**_logprob(token), "top_logprobs": [_logprob(other) for other in token.top]} for token in tokens]


def _logprob(token: LoggedToken) -> dict[str, Any]:
    return {"token": token.text, "logprob": token.log_probability, "bytes": list(token.data)}


def mapping(value: object, place: str) -> dict[str, Any]:
    """`value`, which has to be an object. Raises WrongField."""
    if not isinstance(value, dict):
        raise WrongField(place, "is not an object")
    return cast(dict[str, Any], value)
