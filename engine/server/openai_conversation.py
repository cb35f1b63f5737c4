"""What the OpenAI dialect says to a model, read into a conversation, tools and the form of the answer.

Owns: which parts of messages are taken, roles, `prefix`, `tool_choice`, `response_format`, reasoning efforts. Does not
know HTTP or how a prompt is made. The messages themselves are read by `encoding.dialects`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, cast

from engine.answer_form import ANY_FORM, AnswerForm
from engine.conversation import Message
from engine.encoding.dialects import from_openai
from engine.encoding.dsml import to_json
from engine.server.answers import Served
from engine.server.openai_shapes import TextOnly, Unsupported, WrongField, mapping

_TEXT_PARTS = ("text", "input_text", "output_text")


@dataclass(frozen=True)
class Said:
    """A conversation, the functions that may be called in the answer, and its form."""

    messages: Sequence[Message]
    functions: tuple[Mapping[str, Any], ...] = ()
    form: AnswerForm = ANY_FORM


@dataclass(frozen=True)
class Wanted:
    """What a request says of the answer, each as it came."""

    tools: object = None
    tool_choice: object = None
    parallel: bool | None = None
    json_schema: str | None = None


def said(
    served: Served, messages: Sequence[dict[str, Any]], wanted: Wanted, *, goes_on: bool = False
) -> Said:
    """The conversation for the model that is served. Raises BadRequest that names the place.

    `messages`: in the shape of chat completions. `goes_on`: the last of them is to be gone on with.
    """
    shapes = [_checked(shape, f"messages.{number}") for number, shape in enumerate(messages)]
    if goes_on:
        if not shapes or shapes[-1].get("role") != "assistant":
            raise WrongField(
                "continue_final_message", "is set, and the last message is no answer", "send the answer last"
            )
        shapes[-1]["wo_eos"] = True
    if any(shape.get("wo_eos") for shape in shapes[:-1]):
        raise WrongField("prefix", "is set on a message that is not the last", "set it on the last one alone")
    return _by_template(shapes, wanted) if served.way == "template" else _by_rules(served, shapes, wanted)


def _by_template(shapes: Sequence[dict[str, Any]], wanted: Wanted) -> Said:
    if wanted.tools or wanted.tool_choice not in (None, "none", "auto"):
        raise Unsupported(
            "tools" if wanted.tools else "tool_choice", "a chat template has no agreed way to call"
        )
    messages: list[Message] = []
    for number, shape in enumerate(shapes):
        if shape["role"] == "tool":
            raise Unsupported(f"messages.{number}.role = tool")
        if shape.get("tool_calls"):
            raise Unsupported(f"messages.{number}.tool_calls")
        parts = shape.get("content")
        texts = cast(list[dict[str, str]], parts) if isinstance(parts, list) else [{"text": parts or ""}]
        text = "".join(part["text"] for part in texts)
        messages.append(Message(shape["role"], text, is_open=bool(shape.get("wo_eos"))))
    return Said(messages, form=AnswerForm(json_schema=wanted.json_schema))


def _by_rules(served: Served, shapes: Sequence[dict[str, Any]], wanted: Wanted) -> Said:
    tools = _tools(wanted.tools)
    form, names = _form(wanted, {str(tool["function"].get("name")) for tool in tools})
    if form.calls == "none":
        tools = []
    messages = _one_instruction(from_openai(shapes, tools))
    last = messages[-1]
    if served.way == "v4" and last.role == "assistant" and not last.is_open:
        raise WrongField(
            f"messages.{len(shapes) - 1}",
            "is an answer that is whole, and nothing asks for another",
            "end with a user's or a tool's message, or set `prefix` on the answer to have it gone on with",
        )
    if last.is_open and last.tool_calls:
        raise WrongField("prefix", "is set on an answer that makes calls", "send their results")
    if wanted.json_schema is not None and wanted.json_schema != "{}":
        messages = _told_schema(messages, wanted.json_schema)
    declared = [json.loads(text) for message in messages for text in message.tools]
    functions = tuple(function for function in declared if names is None or function.get("name") in names)
    return Said(messages, functions, form)


def _checked(shape: dict[str, Any], place: str) -> dict[str, Any]:
    """A message with its roles and parts as `encoding.dialects` knows them."""
    role = shape.get("role")
    if role == "function":
        raise Unsupported(f"{place}.role = function", "it has given way to tool")
    for feature in ("function_call", "audio"):
        if shape.get(feature):
            raise Unsupported(f"{place}.{feature}")
    checked = dict(shape)
    # What other programs call an instruction of the developer is V4's system message: its own developer messages
    # belong to a search pipeline.
    if role == "developer":
        checked["role"] = "system"
    content = shape.get("content")
    if isinstance(content, list):
        parts = cast(list[object], content)
        checked["content"] = [
            {"type": "text", "text": _part(part, f"{place}.content.{number}")}
            for number, part in enumerate(parts)
        ]
    elif content is None and isinstance(shape.get("refusal"), str):
        checked["content"] = shape["refusal"]
    if shape.get("reasoning_content") is None and isinstance(shape.get("reasoning"), str):
        checked["reasoning_content"] = shape["reasoning"]  # as vLLM calls it
    if shape.get("prefix") is True:
        if role != "assistant":
            raise WrongField(f"{place}.prefix", "is set on a message that is no answer")
        checked["wo_eos"] = True
    return checked


def _part(part: object, place: str) -> str:
    fields = mapping(part, place)
    kind = fields.get("type")
    text = fields.get("refusal") if kind == "refusal" else fields.get("text")
    if kind not in (*_TEXT_PARTS, "refusal"):
        raise TextOnly(place, kind)
    if not isinstance(text, str):
        raise WrongField(place, "has no text")
    return text


def _tools(tools: object) -> list[dict[str, Any]]:
    if tools is None:
        return []
    if not isinstance(tools, list):
        raise WrongField("tools", "is not a list")
    read: list[dict[str, Any]] = []
    for number, tool in enumerate(cast(list[object], tools)):
        fields = mapping(tool, f"tools.{number}")
        if fields.get("type", "function") != "function":
            raise Unsupported(
                f"tools.{number}.type = {str(fields['type'])[:80]}", "functions alone can be called"
            )
        mapping(fields.get("function"), f"tools.{number}.function")
        read.append(fields)
    return read


def _form(wanted: Wanted, known: set[str]) -> tuple[AnswerForm, frozenset[str] | None]:
    """The form of the answer, and which functions alone may be called in it; None: all."""
    form = AnswerForm(json_schema=wanted.json_schema, parallel=wanted.parallel is not False)
    choice = wanted.tool_choice
    if choice is None or choice == "auto":
        return form, None
    if choice == "none":
        return replace(form, calls="none"), None
    if choice == "required":
        _require(known)
        return replace(form, calls="required"), None
    fields = mapping(choice, "tool_choice")
    kind = fields.get("type")
    if kind == "function":
        name = _function_name(fields, "tool_choice", known)
        return replace(form, calls="named", call_names=(name,)), None
    if kind == "allowed_tools":
        return _allowed(form, fields, known)
    raise Unsupported(f"tool_choice of type {str(kind)[:80]}")


def _allowed(
    form: AnswerForm, choice: dict[str, Any], known: set[str]
) -> tuple[AnswerForm, frozenset[str] | None]:
    """`allowed_tools`: all stay declared, so that the prompt stays the same, and some may be called."""
    # Chat completions have one object more than responses.
    fields = mapping(choice.get("allowed_tools", choice), "tool_choice.allowed_tools")
    listed = fields.get("tools")
    if not isinstance(listed, list) or not listed:
        raise WrongField("tool_choice.allowed_tools.tools", "is not a list of tools")
    names = tuple(
        _function_name(mapping(tool, place), place, known)
        for number, tool in enumerate(cast(list[object], listed))
        for place in (f"tool_choice.allowed_tools.tools.{number}",)
    )
    if fields.get("mode", "auto") == "required":
        return replace(form, calls="named", call_names=names), frozenset(names)
    return form, frozenset(names)


def _function_name(fields: dict[str, Any], place: str, known: set[str]) -> str:
    function = fields.get("function", fields)
    name = mapping(function, f"{place}.function").get("name")
    if not isinstance(name, str) or name not in known:
        raise WrongField(place, f"names {str(name)[:80]!r}, and no such tool is declared")
    return name


def _require(known: set[str]) -> None:
    if not known:
        raise WrongField("tool_choice", "wants a call, and no tool is declared", "declare one")


def _one_instruction(messages: Sequence[Message]) -> list[Message]:
    """System messages that stand beside each other as one, with an empty line between: V4 puts nothing between them."""
    whole: list[Message] = []
    for role, run in groupby(messages, key=lambda message: message.role):
        beside = list(run)
        if role != "system" or len(beside) == 1:
            whole += beside
            continue
        forms = [each.response_format for each in beside if each.response_format]
        whole.append(
            replace(
                beside[0],
                text="\n\n".join(each.text for each in beside if each.text),
                tools=tuple(tool for each in beside for tool in each.tools),
                response_format=forms[0] if forms else None,
            )
        )
    return whole


def _told_schema(messages: Sequence[Message], schema: str) -> list[Message]:
    """V4 is told the schema, in the words it was trained on; that the answer follows it is seen to elsewhere."""
    told = to_json(json.loads(schema))
    if messages[0].role != "system":
        return [Message("system", response_format=told), *messages]
    first = messages[0]
    return [first if first.response_format else replace(first, response_format=told), *messages[1:]]


def schema_of(form: object, place: str = "response_format") -> str | None:
    """The JSON text of what the answer's format at `place` wants, "{}" for any object; None: any text.

    Raises BadRequest.
    """
    if form is None:
        return None
    fields = mapping(form, place)
    kind = fields.get("type")
    if kind == "text":
        return None
    if kind == "json_object":
        return "{}"
    if kind != "json_schema":
        raise Unsupported(f"{place} of type {str(kind)[:80]}")
    # Responses have the schema in the format itself, chat completions in an object of its own.
    inner = mapping(fields.get("json_schema", fields), f"{place}.json_schema")
    schema = inner.get("schema")
    if schema is None:
        return "{}"
    try:
        return json.dumps(mapping(schema, f"{place}.schema"), ensure_ascii=False)
    except RecursionError:
        raise WrongField(place, "is nested too deeply") from None


def effort_of(reasoning_effort: object, extra: Mapping[str, Any]) -> tuple[str | None, int | None]:
    """(the reasoning effort, the most tokens of reasoning). Raises Unsupported.

    DeepSeek's `thinking: {"type": "disabled"}` and vLLM's `chat_template_kwargs: {"thinking": false}` are none.
    """
    budget: int | None = None
    if (thinking := extra.get("thinking")) is not None:
        fields = cast(dict[str, Any], thinking) if isinstance(thinking, dict) else {}
        if fields.get("type") not in ("enabled", "disabled"):
            raise Unsupported("thinking", 'it is {"type": "enabled"} or {"type": "disabled"}')
        if fields["type"] == "disabled":
            return "none", None
        budget = _budget(fields.get("budget_tokens"))
    kwargs = extra.get("chat_template_kwargs")
    if isinstance(kwargs, dict):
        named = cast(dict[str, Any], kwargs)
        if named.get("thinking", named.get("enable_thinking")) is False:
            return "none", None
        reasoning_effort = named.get("reasoning_effort") if reasoning_effort is None else reasoning_effort
    if reasoning_effort is not None and not isinstance(reasoning_effort, str):
        raise Unsupported("reasoning_effort", "it is a word")
    return reasoning_effort, budget


def _budget(value: object) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 1_048_576:
        raise WrongField("thinking.budget_tokens", "is not a number of tokens up to 1,048,576")
    return value
