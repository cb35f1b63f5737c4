"""What a server is sent: a conversation as the body of a chat completion, in the words that this server understands.

Owns: how modes, tools, forms, sampling and the beginning of an answer that goes on are said to each kind of server, and
which modes can be said at all. Pure. Does not know how a body travels (`remote_wire`) or what comes back.

The words follow the public references of DeepSeek's interface (`thinking`, `reasoning_effort`, `prefix` beneath /beta),
of vLLM and SGLang (`chat_template_kwargs`, `continue_final_message`) and of OpenAI's chat completions.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from engine.answer_form import ANY_FORM, AnswerForm
from engine.conversation import Message
from engine.encoding.dialects import to_openai
from engine.protocol import ModeChoice, ReasoningMode, Sampling, Settings
from engine.protocol_remote import RemoteFeatures, RemoteKind

Continuing = Literal["prefix", "asked"]
"""How an answer that was cut off goes on: from its beginning as the server's own, or by a request in words."""

GO_ON = "Your answer was cut off. Go on exactly where it ended, and repeat nothing of it."
"""What is said to a server that cannot be given the beginning of an answer."""

_EFFORTS: dict[ReasoningMode, str] = {"non-think": "none", "high": "high", "max": "max"}


@dataclass(frozen=True)
class RemoteRequest:
    """What is asked. `sampling` None: as the server does by itself. `so_far` and `reasoning_so_far`: of an answer that
    goes on. `effort`: a dialect's word, in the place of a mode. `text`: a bare text to go on with, no messages."""

    messages: Sequence[Message]
    functions: Sequence[Mapping[str, Any]] = ()
    sampling: Sampling | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    mode: ReasoningMode | None = None
    effort: str | None = None
    form: AnswerForm = ANY_FORM
    so_far: str = ""
    reasoning_so_far: str = ""
    text: str | None = None
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0


@dataclass(frozen=True)
class RemoteBody:
    """A body and where it goes: `path` behind the address's own. `continuing` None: nothing goes on."""

    path: str
    content: dict[str, Any]
    continuing: Continuing | None = None
    is_beta: bool = False
    """It is only understood beneath DeepSeek's /beta."""


def body_of(
    asked: RemoteRequest, *, model: str, kind: RemoteKind, features: RemoteFeatures | None
) -> RemoteBody:
    """The body of a request for a stream."""
    can = features or RemoteFeatures(checked_at=0.0)
    content: dict[str, Any] = {"model": model, "stream": True}
    if can.usage != "no":
        content["stream_options"] = {"include_usage": True}
    if asked.max_tokens is not None:
        content["max_tokens"] = asked.max_tokens
    if asked.stop:
        content["stop"] = list(asked.stop)
    if asked.sampling is not None:
        content |= _sampling(asked.sampling, kind)
    content |= {
        name: value for name in ("frequency_penalty", "presence_penalty") if (value := getattr(asked, name))
    }
    if asked.text is not None:
        return RemoteBody("/completions", content | {"prompt": asked.text})
    content |= _effort(asked, can)
    if asked.functions and asked.form.calls != "none":
        content["tools"] = [{"type": "function", "function": dict(each)} for each in asked.functions]
        content |= _choice(asked.form)
    if asked.form.json_schema is not None:
        content["response_format"] = _response_format(asked.form)
    messages = _shapes(asked.messages, with_reasoning=_takes_reasoning(kind, can, asked))
    continuing: Continuing | None = None
    if asked.so_far or asked.reasoning_so_far:
        # That an answer was still reasoning only Seamount is known to understand.
        is_begun = bool(asked.so_far) or can.software == "Seamount"
        continuing = "prefix" if can_continue(can) and is_begun else "asked"
        messages += _going_on(asked, continuing, can)
        if continuing == "prefix" and can.continue_by == "final_message":
            content |= {"continue_final_message": True, "add_generation_prompt": False}
    content["messages"] = messages
    is_beta = kind == "deepseek" and continuing == "prefix"
    return RemoteBody("/chat/completions", content, continuing, is_beta)


def can_continue(features: RemoteFeatures | None) -> bool:
    """Whether an answer's beginning can be given to the server."""
    return features is not None and features.continues == "yes" and features.continue_by != "none"


def chosen_sampling(sampling: Sampling, settings: Settings) -> Sampling | None:
    """What another machine is told of how to draw; None: nothing, since nobody chose. A server knows better what suits
    its model than this engine does."""
    is_usual = sampling.model_copy(update={"seed": None}) == Sampling()
    return None if settings.sampling is None and is_usual else sampling


def modes_of(features: RemoteFeatures | None, place: str) -> list[ModeChoice]:
    """The reasoning modes that can be asked for, with why one cannot; none where the model is not known to reason."""
    if features is None or (features.efforts != "yes" and features.reasoning != "yes"):
        return []
    if features.efforts != "yes":
        fixed = f"{place} offers no way to choose how much it reasons; it reasons as it does by itself (Think-High)."
        return [
            ModeChoice(mode="non-think", problem=fixed),
            ModeChoice(mode="high"),
            ModeChoice(mode="max", problem=fixed),
        ]
    is_known = features.effort_by in ("thinking", "template")
    unknown = f"{place} is not known to understand Think-Max; use Think-High."
    return [
        ModeChoice(mode="non-think"),
        ModeChoice(mode="high"),
        ModeChoice(mode="max", problem=None if is_known or features.software == "Seamount" else unknown),
    ]


def _effort(asked: RemoteRequest, can: RemoteFeatures) -> dict[str, Any]:
    effort = asked.effort if asked.mode is None else _EFFORTS[asked.mode]
    if effort is None or can.efforts == "no":
        return {}
    if can.effort_by == "thinking":
        if effort == "none":
            return {"thinking": {"type": "disabled"}}
        return {"thinking": {"type": "enabled"}, "reasoning_effort": effort}
    if can.effort_by == "template":
        if effort == "none":
            return {"chat_template_kwargs": {"thinking": False}}
        return {"chat_template_kwargs": {"thinking": True, "reasoning_effort": effort}}
    return {"reasoning_effort": effort} if can.effort_by == "effort" else {}


def _sampling(sampling: Sampling, kind: RemoteKind) -> dict[str, Any]:
    content: dict[str, Any] = {"temperature": sampling.temperature, "top_p": sampling.top_p}
    if kind == "seamount":
        content["min_p"] = sampling.min_p
    if sampling.seed is not None and kind != "deepseek":
        # Some keep it in 32 bits.
        content["seed"] = sampling.seed % 2**31
    return content


def _choice(form: AnswerForm) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if form.calls == "required":
        content["tool_choice"] = "required"
    elif form.calls == "named" and form.call_names:
        content["tool_choice"] = {"type": "function", "function": {"name": form.call_names[0]}}
    if not form.parallel:
        content["parallel_tool_calls"] = False
    return content


def _response_format(form: AnswerForm) -> dict[str, Any]:
    schema: Any = json.loads(form.json_schema or "{}")
    if schema == {}:
        return {"type": "json_object"}
    return {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": schema, "strict": True},
    }


def _takes_reasoning(kind: RemoteKind, can: RemoteFeatures, asked: RemoteRequest) -> bool:
    """Whether earlier reasoning is sent back. V4 is to see it again where there are tools; a server that is not known
    to understand the field may refuse it."""
    known = kind in ("deepseek", "seamount") or can.effort_by in ("thinking", "template")
    return known and (bool(asked.functions) or any(each.tool_calls for each in asked.messages))


def _shapes(messages: Sequence[Message], *, with_reasoning: bool) -> list[dict[str, Any]]:
    """OpenAI's shape of the messages, without what only Seamount's own encoder understands.

    Questions that follow each other become one, because many servers' templates insist that question and answer
    alternate.
    """
    plain: list[Message] = []
    for message in messages:
        bare = replace(
            message,
            tools=(),
            response_format=None,
            task=None,
            is_open=False,
            written=None,
            reasoning=message.reasoning if with_reasoning else "",
        )
        last = plain[-1] if plain else None
        if bare.role == "system" and not bare.text:
            continue
        if last is not None and last.role == bare.role == "user":
            plain[-1] = replace(last, text=f"{last.text}\n\n{bare.text}")
        else:
            plain.append(bare)
    return to_openai(plain)


def _going_on(asked: RemoteRequest, continuing: Continuing, can: RemoteFeatures) -> list[dict[str, Any]]:
    if continuing == "asked":
        if not asked.so_far:  # it was still reasoning: it reasons anew
            return []
        return [{"role": "assistant", "content": asked.so_far}, {"role": "user", "content": GO_ON}]
    beginning: dict[str, Any] = {"role": "assistant", "content": asked.so_far}
    if can.continue_by == "prefix":
        beginning["prefix"] = True
        if asked.reasoning_so_far:
            beginning["reasoning_content"] = asked.reasoning_so_far
    return [beginning]
