"""From a stored conversation to what is put to the model.

Owns: which messages count, in what role, and what the next question would cost. Does not know how a prompt
is rendered (`encoding/`) or how an answer is written (`turn_job`).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from engine.conversation import Message as PromptMessage
from engine.conversation import ToolCall as PromptCall
from engine.conversation import Written
from engine.protocol import Message, ReasoningMode, Reuse, Settings, Tool
from engine.reuse import reuse
from engine.store.sessions import SessionStore

if TYPE_CHECKING:
    from engine.contexts.keeper import ContextKeeper

_THINKING: tuple[ReasoningMode, ...] = ("high", "max")


def prompt_messages(system_message: str, branch: Iterable[Message]) -> list[PromptMessage]:
    """What is put to a model with a chat template: the system message (unless empty) and the texts in order.

    An answer without text says nothing and is left out; the questions that then follow each other become one,
    because many templates insist that question and answer alternate. So does a tool's result, which such a
    model has no other place for.
    """
    messages: list[PromptMessage] = []
    if system_message.strip():
        messages.append(PromptMessage("system", system_message))
    for message in branch:
        if message.role == "assistant" and not message.text:
            continue
        role = "user" if message.role == "tool" else message.role
        if messages and messages[-1].role == role == "user":
            messages[-1] = PromptMessage("user", f"{messages[-1].text}\n\n{message.text}")
        else:
            messages.append(PromptMessage(role, message.text))
    return messages


def v4_messages(
    system_message: str,
    tools: Sequence[Tool],
    branch: Iterable[Message],
    token_ids: Mapping[str, Sequence[int]],
    model_id: str,
) -> list[PromptMessage]:
    """What is put to a V4 model. An answer that it wrote itself is put as the tokens it wrote (`token_ids`).

    An answer without text and calls says nothing and is left out.
    """
    from engine.encoding.dsml import to_json

    messages: list[PromptMessage] = []
    if system_message.strip() or tools:
        declared = tuple(to_json(tool.function) for tool in tools)
        messages.append(PromptMessage("system", system_message.strip() and system_message, tools=declared))
    for message in branch:
        if message.role != "assistant":
            messages.append(
                PromptMessage(message.role, message.text, tool_call_id=message.tool_call_id or "")
            )
        elif message.text or message.tool_calls:
            ids = token_ids.get(message.id, ()) if message.model_id == model_id else ()
            messages.append(
                PromptMessage(
                    "assistant",
                    message.text,
                    message.reasoning,
                    tuple(PromptCall(call.name, call.arguments, call.id) for call in message.tool_calls),
                    written=Written(tuple(ids), message.mode in _THINKING) if ids else None,
                )
            )
    return messages


def cost_of_mode(
    settings: Settings,
    store: SessionStore,
    keeper: "ContextKeeper",
    branch: Sequence[Message],
    tools: Sequence[Tool],
    model_id: str,
    mode: ReasoningMode,
    *,
    answered: bool = False,
    already: Sequence[int] = (),
) -> Reuse:
    """What the next question after `branch` would cost in `mode`: the tokens before it, and those kept.

    `answered`: the branch ends with a question, and what an answer to it would cost is asked, of which there are these
    tokens `already`.
    """
    from engine.encoding.prompt import encode_chat
    from engine.encoding.reasoning import style_of
    from engine.encoding.v4_chat import v4_chat

    chat = v4_chat(keeper.backend, settings.release)
    if chat is None:
        ids = encode_chat(keeper.backend, prompt_messages(settings.system_message, branch)) if branch else []
        return _of_answer(keeper, ids, already) if answered else reuse(keeper, ids)
    tokens = store.branch_tokens(branch)
    messages = v4_messages(settings.system_message, tools, branch, tokens, model_id)
    if answered:
        return _of_answer(keeper, chat.prompt(messages, style_of(chat.release, mode)), already)
    # A question to come: it decides what reasoning is dropped. What begins with its own token is not counted.
    ids = chat.prompt([*messages, PromptMessage("user", "?")], style_of(chat.release, mode))
    user = chat.control[chat.release.tokens.user]
    before = len(ids) - 1 - ids[::-1].index(user)
    return reuse(keeper, ids[:before])


def _of_answer(keeper: "ContextKeeper", prompt: Sequence[int], already: Sequence[int]) -> Reuse:
    """What it takes until an answer goes on. What it wrote already is not read as a prompt is, but a token at a time,
    as it was written: nothing is foretold of how long that takes."""
    cost = reuse(keeper, [*prompt, *already], more=False)
    return cost.model_copy(update={"seconds": None}) if min(cost.reread, len(already)) > 1 else cost
