"""From a conversation in Anthropic's dialect to what is asked of a model.

Owns: what `thinking`, `effort`, `tool_choice`, tools and schemas of the dialect mean here, for a V4 model, for one with
a chat template and for one on another machine. Does not know the shapes' own rules (`anthropic_shapes`), the queue or
HTTP.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from engine.answer_form import AnswerForm
from engine.conversation import Message
from engine.encoding.dialects import from_anthropic
from engine.encoding.dsml import to_json
from engine.encoding.tool_schemas import schema_fault
from engine.errors import BadRequest
from engine.server.anthropic_shapes import (
    Conversation,
    Tool,
    ToolChoice,
    Unsupported,
    checked_tools,
    merged,
    system_text,
)

Way = Literal["v4", "template", "remote", "unknown"]
NO_THINKING = "none"
_CALLS: dict[str, Literal["auto", "none", "required", "named"]] = {
    "auto": "auto",
    "any": "required",
    "tool": "named",
    "none": "none",
}


@dataclass(frozen=True)
class Asked:
    """What is asked, free of the dialect; see `completions.CompletionRequest`."""

    messages: list[Message]
    functions: tuple[Mapping[str, Any], ...]
    effort: str | None
    thinking_tokens: int | None
    form: AnswerForm


def asked_of(request: Conversation, way: Way) -> Asked:
    """What `request` asks of a model of that way. Raises BadRequest, with the place that cannot be understood."""
    tools = checked_tools(request.tools)
    choice = request.tool_choice or ToolChoice()
    if way == "template":
        # Other models have no agreed way to write a call.
        _refuse_calls(request, tools, choice)
        tools = []
    messages = _messages(request, tools)
    form = _form(request, tools, choice)
    if form.json_schema is not None and way == "v4":
        messages = _told(messages, form.json_schema)
    return Asked(
        messages=messages,
        functions=tuple(map(_function, tools)),
        effort=_effort(request),
        thinking_tokens=request.thinking.budget_tokens if request.thinking else None,
        form=form,
    )


def _messages(request: Conversation, tools: list[Tool]) -> list[Message]:
    turns = merged(request.messages)
    system = system_text(request.system)
    if turns[0]["role"] == "system":
        blocks = turns.pop(0)["content"]
        system = [
            *([{"type": "text", "text": system}] if isinstance(system, str) and system else system),
            *blocks,
        ]
        if not turns:
            raise BadRequest(
                "The request was refused", "it has a system message and no other", "send what is asked, too"
            )
    declared = [
        tool.model_dump(include={"name", "description", "input_schema"}, exclude_none=True) for tool in tools
    ]
    messages = from_anthropic({"system": system, "messages": turns, "tools": declared})
    if messages[-1].role == "assistant":
        messages[-1] = replace(messages[-1], is_open=True)
    return messages


def _function(tool: Tool) -> dict[str, Any]:
    """As OpenAI calls it. `strict` is for who checks a call; the model is not told."""
    function: dict[str, Any] = {"name": tool.name, "parameters": tool.input_schema}
    if tool.description is not None:
        function["description"] = tool.description
    return function | {"strict": True} if tool.strict else function


def _form(request: Conversation, tools: list[Tool], choice: ToolChoice) -> AnswerForm:
    names = [tool.name for tool in tools]
    for number, tool in enumerate(tools):
        if problem := schema_fault(tool.input_schema):
            raise BadRequest(
                "The request was refused",
                f"`tools.{number}.input_schema` is not in order ({problem})",
                "correct it",
            )
    if choice.type in ("any", "tool") and not names:
        raise BadRequest(
            "The request was refused", "`tool_choice` asks for a call, and there are no tools", "declare some"
        )
    if choice.type == "tool" and choice.name not in names:
        raise BadRequest(
            "The request was refused",
            f"`tool_choice.name` is {str(choice.name)[:80]!r}, which is none of the tools",
            "name one of them",
        )
    schema = request.form_schema
    if schema is not None and (problem := schema_fault(schema)):
        raise BadRequest(
            "The request was refused", f"the schema of its output is not in order ({problem})", "correct it"
        )
    return AnswerForm(
        json_schema=None if schema is None else to_json(schema),
        calls=_CALLS[choice.type] if names else "auto",
        call_names=(choice.name,) if choice.type == "tool" and choice.name else (),
        parallel=not choice.disable_parallel_tool_use,
    )


def _told(messages: list[Message], schema: str) -> list[Message]:
    """With the schema in the system message, where V4's own encoder puts it."""
    if messages[0].role == "system":
        return [replace(messages[0], response_format=schema), *messages[1:]]
    return [Message("system", response_format=schema), *messages]


def _effort(request: Conversation) -> str | None:
    """Nothing is thought unless it is asked for: programs that know no thinking read the first block as the text."""
    if request.thinking is None or request.thinking.type == "disabled":
        return NO_THINKING
    return request.output_config.effort if request.output_config else None


def _refuse_calls(request: Conversation, tools: list[Tool], choice: ToolChoice) -> None:
    if tools and choice.type != "none":
        raise Unsupported(
            "tools",
            "are for models that have a way to write calls, and the loaded one has a chat template alone",
            "load a DeepSeek-V4, or send the request without tools",
        )
    for number, message in enumerate(request.messages):
        for block in message.content if isinstance(message.content, list) else ():
            if block.get("type") in ("tool_use", "tool_result"):
                raise Unsupported(
                    f"messages.{number}",
                    f"has a block of type {block['type']!r}, and the loaded model has no way to write calls",
                    "load a DeepSeek-V4, or begin anew without tools",
                )
