"""The input of responses, which is a list of items, as the messages of chat completions.

Owns: which items are taken, and how items that lie beside each other become one answer with its reasoning, its text and
its calls; tools and `include` as responses write them; reasoning in a form that clients keep and give back unread. Does
not know what is made of the messages (`openai_conversation`).
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any, cast

from engine.conversation import clean_text
from engine.server.openai_shapes import TextOnly, Unsupported, WrongField, mapping

KEPT = "seamount:"
"""What `encrypted_content` of ours begins with. It is not encrypted: it goes to who may read the reasoning anyway."""

_TEXT_PARTS = frozenset({"input_text", "output_text", "text", "refusal"})


def messages_of(instructions: str | None, items: str | Sequence[object]) -> list[dict[str, Any]]:
    """Chat completions' messages. Raises Unsupported or WrongField, which name the item."""
    messages: list[dict[str, Any]] = []
    if instructions:
        messages.append({"role": "system", "content": instructions})
    if isinstance(items, str):
        items = [{"role": "user", "content": items}] if items else []
    answer: dict[str, Any] | None = None
    for number, shape in enumerate(items):
        place = f"input.{number}"
        item = mapping(shape, place)
        kind = item.get("type", "message")
        if kind == "function_call_output":
            answer = None
            messages.append(_result(item, place))
        elif kind == "message" and item.get("role") != "assistant":
            answer = None
            messages.append({"role": item.get("role"), "content": _content(item, place)})
        elif kind in ("message", "reasoning", "function_call"):
            if answer is None or _begins_another(answer, kind):
                answer = {"role": "assistant"}
                messages.append(answer)
            _add(answer, item, kind, place)
        elif kind == "item_reference":
            raise Unsupported(f"{place}.type = item_reference", "nothing is kept here; send the item itself")
        else:
            raise Unsupported(f"{place}.type = {str(kind)[:80]}")
    # Reasoning that nobody here can read leaves an answer with nothing in it.
    messages = [message for message in messages if len(message) > 1]
    if not messages:
        raise WrongField("input", "is empty", "send at least one message")
    return messages


def functions_of(tools: Sequence[object] | None) -> list[dict[str, Any]] | None:
    """Chat completions' tools. Those that a service would carry out itself are refused by name."""
    if tools is None:
        return None
    read: list[dict[str, Any]] = []
    for number, shape in enumerate(tools):
        tool = mapping(shape, f"tools.{number}")
        kind = tool.get("type")
        if kind != "function":
            raise Unsupported(f"tools.{number}.type = {str(kind)[:80]}", "functions alone can be called")
        function = {
            key: tool[key]
            for key in ("name", "description", "parameters", "strict")
            # Nothing is put to the model that says nothing.
            if tool.get(key) is not None and tool[key] is not False
        }
        read.append({"type": "function", "function": function})
    return read


def kept_reasoning(reasoning: str) -> str:
    """`encrypted_content`: the reasoning for a client that gives it back and does not look at it."""
    return KEPT + base64.b64encode(reasoning.encode()).decode()


def _begins_another(answer: Mapping[str, Any], kind: str) -> bool:
    """Whether an item of that kind is no more of the answer before it: an answer is reasoning, text, calls."""
    if kind == "reasoning":
        return len(answer) > 1
    return kind == "message" and "tool_calls" in answer


def _add(answer: dict[str, Any], item: dict[str, Any], kind: str, place: str) -> None:
    if kind == "reasoning":
        if reasoning := _reasoning(item, place):
            answer["reasoning_content"] = reasoning
    elif kind == "message":
        answer.setdefault("content", []).extend(_parts(item, place))
        if item.get("prefix") is True:
            answer["prefix"] = True
    else:
        name, arguments = item.get("name"), item.get("arguments")
        if not isinstance(name, str) or not isinstance(arguments, str):
            raise WrongField(place, "has no name or no arguments, each a text")
        call = {"id": _call_id(item, place), "function": {"name": name, "arguments": arguments}}
        answer.setdefault("tool_calls", []).append(call)


def _content(item: dict[str, Any], place: str) -> str | list[dict[str, Any]]:
    content = item.get("content")
    return content if isinstance(content, str) else _parts(item, place)


def _parts(item: dict[str, Any], place: str) -> list[dict[str, Any]]:
    """A message's parts. Raises TextOnly for one that is no text."""
    content = item.get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise WrongField(f"{place}.content", "is neither a text nor a list of parts")
    parts: list[dict[str, Any]] = []
    for number, shape in enumerate(cast(list[object], content)):
        part = mapping(shape, f"{place}.content.{number}")
        if part.get("type") not in _TEXT_PARTS:
            raise TextOnly(f"{place}.content.{number}", part.get("type"))
        parts.append(part)
    return parts


def _result(item: dict[str, Any], place: str) -> dict[str, Any]:
    output = item.get("output")
    if not isinstance(output, str):
        output = _parts({"content": output}, place)
    return {"role": "tool", "tool_call_id": _call_id(item, place), "content": output}


def _call_id(item: dict[str, Any], place: str) -> str:
    call_id = item.get("call_id")
    if not isinstance(call_id, str):
        raise WrongField(f"{place}.call_id", "is not a text")
    return call_id


def _reasoning(item: dict[str, Any], place: str) -> str:
    """The reasoning itself, where the item has it; a summary is not what the model wrote, and is left out."""
    content = item.get("content")
    if isinstance(content, list) and content:
        parts = [mapping(part, f"{place}.content") for part in cast(list[object], content)]
        return "".join(str(part.get("text", "")) for part in parts)
    kept = item.get("encrypted_content")
    if isinstance(kept, str) and kept.startswith(KEPT):
        try:
            return clean_text(base64.b64decode(kept[len(KEPT) :], validate=True).decode())[0]
        except ValueError:  # no base64, or no UTF-8
            raise WrongField(f"{place}.encrypted_content", "is not as this engine wrote it") from None
    return ""  # another service's, which nobody else can read
