"""Conversations in the shapes of other programs' interfaces, one into the other without loss.

Owns: OpenAI's chat messages (with `reasoning_content`, and the fields of DeepSeek's own test cases: `task`,
`wo_eos`, `tools` and `response_format` on a message) and Anthropic's content blocks (`thinking`, `tool_use`,
`tool_result`). Does not know HTTP or how a prompt is made. What comes in is not trusted: what is not
understood is a ConversationError that names its place.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast, get_args

from engine.conversation import Message, Role, Task, ToolCall, Written
from engine.encoding.dsml import to_json
from engine.errors import ConversationError

_ROLES = frozenset(get_args(Role))
_TASKS = frozenset(get_args(Task))
Shape = Mapping[str, Any]
_LONGEST_NAME = 200
"""Characters of a thinking block's signature; ours are shorter, and no other's is known here."""


# --- OpenAI -----------------------------------------------------------------------------------------------


def from_openai(messages: object, tools: object = None) -> list[Message]:
    """OpenAI's `messages` (and `tools`, declared in the system message, which is made if there is none)."""
    read = [_message(shape, f"messages.{number}") for number, shape in enumerate(_list(messages, "messages"))]
    declared = _functions(tools, "tools")
    if declared:
        if not read or read[0].role != "system":
            read.insert(0, Message("system"))
        read[0] = replace(read[0], tools=(*read[0].tools, *declared))
    return read


def to_openai(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages in OpenAI's shape; `from_openai` gives the same messages again."""
    return [_to_openai(message) for message in messages]


def _message(shape: object, place: str) -> Message:
    fields = _mapping(shape, place)
    role, task = fields.get("role"), fields.get("task")
    if not isinstance(role, str) or role not in _ROLES:
        raise _unreadable(place, f"its role is {str(role)[:80]!r}")
    if task is not None and (not isinstance(task, str) or task not in _TASKS):
        raise _unreadable(place, f"its task is {str(task)[:80]!r}")
    form = fields.get("response_format")
    return Message(
        role=cast(Role, role),
        text=_text(fields.get("content"), f"{place}.content"),
        reasoning=_optional_text(fields, "reasoning_content", place),
        tool_calls=tuple(
            _call(call, f"{place}.tool_calls.{number}")
            for number, call in enumerate(_list(fields.get("tool_calls") or [], f"{place}.tool_calls"))
        ),
        tool_call_id=_optional_text(fields, "tool_call_id", place),
        # The official encoder loses what a user's or a tool's message declares.
        tools=() if role in ("user", "tool") else _functions(fields.get("tools"), f"{place}.tools"),
        response_format=_json_text(form, f"{place}.response_format") if form else None,
        task=cast("Task | None", task),
        is_open=bool(fields.get("wo_eos", False)),
    )


def _call(shape: object, place: str) -> ToolCall:
    fields = _mapping(shape, place)
    function = _mapping(fields.get("function"), f"{place}.function")
    name, arguments = function.get("name"), function.get("arguments", "{}")
    if not isinstance(name, str):
        raise _unreadable(place, "its function has no name")
    text = arguments if isinstance(arguments, str) else _json_text(arguments, place)
    call_id = _optional_text(fields, "id", place) or _optional_text(function, "id", f"{place}.function")
    return ToolCall(name, text, call_id)


def _functions(tools: object, place: str) -> tuple[str, ...]:
    """The JSON text of each tool's function, its keys in the order they were given."""
    found: list[str] = []
    for number, shape in enumerate(_list(tools or [], place)):
        fields = _mapping(shape, f"{place}.{number}")
        function = _mapping(fields.get("function"), f"{place}.{number}.function")
        if not isinstance(function.get("name"), str):
            raise _unreadable(f"{place}.{number}", "its function has no name")
        found.append(_json_text(function, f"{place}.{number}"))
    return tuple(found)


def _to_openai(message: Message) -> dict[str, Any]:
    shape: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.reasoning:
        shape["reasoning_content"] = message.reasoning
    if message.tool_calls:
        shape["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        shape["tool_call_id"] = message.tool_call_id
    if message.tools:
        shape["tools"] = [{"type": "function", "function": json.loads(text)} for text in message.tools]
    if message.response_format is not None:
        shape["response_format"] = json.loads(message.response_format)
    if message.task is not None:
        shape["task"] = message.task
    if message.is_open:
        shape["wo_eos"] = True
    return shape


def _text(content: object, place: str) -> str:
    """A text, or a list of parts: texts with an empty line between, others as "[Unsupported kind]"."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    parts: list[str] = []
    for number, shape in enumerate(_list(content, place)):
        part = _mapping(shape, f"{place}.{number}")
        if part.get("type") == "text":
            parts.append(_text(part.get("text"), f"{place}.{number}.text"))
        else:
            parts.append(f"[Unsupported {part.get('type')}]")
    return "\n\n".join(parts)


# --- Anthropic --------------------------------------------------------------------------------------------


def from_anthropic(body: object) -> list[Message]:
    """The conversation in a body of Anthropic's messages interface: `system`, `messages`, `tools`."""
    fields = _mapping(body, "the body")
    tools = tuple(
        _json_text(_function(shape, f"tools.{number}"), f"tools.{number}")
        for number, shape in enumerate(_list(fields.get("tools") or [], "tools"))
    )
    system = _text(fields.get("system"), "system")
    messages = [Message("system", system, tools=tools)] if system or tools else []
    for number, shape in enumerate(_list(fields.get("messages"), "messages")):
        messages += _turn(shape, f"messages.{number}")
    return messages


def to_anthropic(messages: Sequence[Message]) -> dict[str, Any]:
    """The conversation as `system`, `messages` and `tools`; `from_anthropic` gives the same messages again.

    Results and the user's text after them become one message. Roles that Anthropic does not have raise
    ConversationError.
    """
    body: dict[str, Any] = {"messages": []}
    turns: list[dict[str, Any]] = body["messages"]
    for number, message in enumerate(messages):
        if message.role == "system" and number == 0:
            if message.text:
                body["system"] = message.text
            if message.tools:
                body["tools"] = [_anthropic_tool(json.loads(text)) for text in message.tools]
        elif message.role == "assistant":
            turns.append({"role": "assistant", "content": _answer_blocks(message)})
        elif message.role == "tool":
            result = {
                "type": "tool_result",
                "tool_use_id": message.tool_call_id,
                "content": message.text,
            }
            _join(turns, result, opens=not number or messages[number - 1].role != "tool")
        elif message.role == "user":
            block = {"type": "text", "text": message.text}
            _join(turns, block, opens=not number or messages[number - 1].role != "tool")
        else:
            raise _unreadable(f"messages.{number}", f"Anthropic's messages have no role {message.role}")
    return body


def _join(turns: list[dict[str, Any]], block: dict[str, Any], *, opens: bool) -> None:
    if opens:
        turns.append({"role": "user", "content": [block]})
    else:
        turns[-1]["content"].append(block)


def _answer_blocks(message: Message) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if message.reasoning:
        blocks.append({"type": "thinking", "thinking": message.reasoning, "signature": message.kept_as})
    if message.text:
        blocks.append({"type": "text", "text": message.text})
    for call in message.tool_calls:
        try:
            given: Any = json.loads(call.arguments)
        except (ValueError, RecursionError):
            given = {"arguments": call.arguments}
        blocks.append({"type": "tool_use", "id": call.id, "name": call.name, "input": given})
    return blocks


def _turn(shape: object, place: str) -> list[Message]:
    fields = _mapping(shape, place)
    role, content = fields.get("role"), fields.get("content")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    blocks = [
        _mapping(block, f"{place}.content.{number}")
        for number, block in enumerate(_list(content, f"{place}.content"))
    ]
    if role == "assistant":
        return [_answer(blocks, place)]
    if role != "user":
        raise _unreadable(place, f"its role is {str(role)[:80]!r}")
    messages: list[Message] = []
    texts: list[str] = []

    def end_text() -> None:
        if texts:
            messages.append(Message("user", "\n\n".join(texts)))
            texts.clear()

    for block in blocks:
        kind = block.get("type")
        if kind == "tool_result":
            end_text()
            text = _text(block.get("content"), f"{place}.content")
            messages.append(Message("tool", text, tool_call_id=_optional_text(block, "tool_use_id", place)))
        else:
            texts.append(_text([block], f"{place}.content"))
    end_text()
    return messages or [Message("user")]


def _answer(blocks: Sequence[Shape], place: str) -> Message:
    reasoning: list[str] = []
    texts: list[str] = []
    calls: list[ToolCall] = []
    kept_as = ""
    for block in blocks:
        kind = block.get("type")
        if kind == "thinking":
            reasoning.append(_optional_text(block, "thinking", place))
            kept_as = kept_as or _optional_text(block, "signature", place)[:_LONGEST_NAME]
        elif kind == "tool_use":
            name = block.get("name")
            if not isinstance(name, str):
                raise _unreadable(place, "a tool_use block has no name")
            given = _json_text(block.get("input", {}), place)
            calls.append(ToolCall(name, given, _optional_text(block, "id", place)))
        elif kind != "redacted_thinking":
            texts.append(_text([block], place))
    return Message("assistant", "\n\n".join(texts), "\n\n".join(reasoning), tuple(calls), kept_as=kept_as)


def _function(shape: object, place: str) -> dict[str, Any]:
    """Anthropic's tool as OpenAI's function, which is what V4 was trained on."""
    fields = _mapping(shape, place)
    if not isinstance(fields.get("name"), str):
        raise _unreadable(place, "it has no name")
    function: dict[str, Any] = {"name": fields["name"]}
    if "description" in fields:
        function["description"] = fields["description"]
    function["parameters"] = fields.get("input_schema", {"type": "object", "properties": {}})
    return function


def _anthropic_tool(function: Shape) -> dict[str, Any]:
    tool: dict[str, Any] = {"name": function["name"]}
    if "description" in function:
        tool["description"] = function["description"]
    tool["input_schema"] = function.get("parameters", {"type": "object", "properties": {}})
    return tool


# --- what clients lose ------------------------------------------------------------------------------------

Recall = Callable[[Sequence[str]], Mapping[str, tuple[str, Sequence[int]]]]
"""By ids of calls and names of answers: the reasoning of the answer, and its tokens."""


def reattach(messages: Sequence[Message], recall: Recall) -> list[Message]:
    """The messages with what is still known of the answers among them: their own tokens, and reasoning that a client
    has stripped.

    With tools, V4 must see its earlier reasoning. An answer whose client sent other reasoning keeps what it sent; white
    space at its ends makes it no other.
    Whether tokens still say what the message does is for who renders it (`V4Chat.says`).
    """
    names = [name for message in messages for name in _names(message)]
    known: Mapping[str, tuple[str, Sequence[int]]] = recall(names) if names else {}
    return [_reattached(message, known) for message in messages] if known else list(messages)


def _names(message: Message) -> list[str]:
    """By what an answer may be known."""
    if message.role != "assistant" or message.written is not None:
        return []
    return [name for name in (message.kept_as, *(call.id for call in message.tool_calls)) if name]


def _reattached(message: Message, known: Mapping[str, tuple[str, Sequence[int]]]) -> Message:
    found = next((known[name] for name in _names(message) if name in known), None)
    if found is None:
        return message
    reasoning, ids = found
    if message.reasoning and message.reasoning.strip() != reasoning.strip():
        return message
    written = Written(tuple(ids), thinking=bool(reasoning)) if ids else None
    return replace(message, reasoning=reasoning, written=written)


# --- reading ----------------------------------------------------------------------------------------------


def _mapping(value: object, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _unreadable(place, "it is not an object")
    return cast(dict[str, Any], value)


def _list(value: object, place: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise _unreadable(place, "it is not a list")
    return list(cast(Sequence[Any], value))


def _json_text(value: object, place: str) -> str:
    try:
        return to_json(value)
    except RecursionError:
        raise _unreadable(place, "it is nested too deeply") from None


def _optional_text(fields: Shape, key: str, place: str) -> str:
    value = fields.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _unreadable(place, f"its {key} is not a text")
    return value


def _unreadable(place: str, why: str) -> ConversationError:
    return ConversationError("The conversation cannot be read", f"{place}: {why}", "correct it")
