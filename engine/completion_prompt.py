"""What a program's request puts to the loaded model, token by token.

Owns: the three ways to a prompt (a bare text that goes on, a model's chat template, DeepSeek-V4), with what is still
known of answers that the model wrote, and counting it without asking for an answer. Does not know how the answer comes
about (`completion_answer`) or in which dialect it is asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from engine.backends.base import Backend
from engine.completions import CallMemory, CompletionRequest
from engine.conversation import Message, Written
from engine.encoding.dialects import reattach
from engine.encoding.prompt import encode_chat
from engine.encoding.reasoning import require_effort_context, style_of_effort
from engine.encoding.v4_chat import V4Chat, v4_chat
from engine.errors import BadRequest


@dataclass(frozen=True)
class Prompt:
    """`thinking`: what the model writes behind it begins in its reasoning. `begun`: the text of the answer that stands
    at its end and is gone on with."""

    tokens: list[int]
    thinking: bool = False
    begun: str = ""


def count_tokens(
    backend: Backend, asked: CompletionRequest, memory: CallMemory | None, named_release: str | None = None
) -> int:
    """How many tokens `asked` would put to the model. Raises what making the prompt raises.

    Asks the backend for its vocabulary alone, so any thread may, while the model writes something else.
    """
    chat = v4_chat(backend, named_release)
    if asked.text is not None:
        return len(text_prompt(backend, asked.text))
    if chat is None:
        return len(template_prompt(backend, asked).tokens)
    return len(v4_prompt(backend, chat, asked, memory).tokens)


def text_prompt(backend: Backend, text: str) -> list[int]:
    """`text`, behind the model's begin token if it wants one. Raises BadRequest when that is nothing."""
    begin = backend.facts.begin_token_id
    prompt = [*([] if begin is None else [begin]), *backend.tokenize(text)]
    if not prompt:
        raise BadRequest("The text cannot be gone on with", "it is empty", "send at least one character")
    return prompt


def template_prompt(backend: Backend, asked: CompletionRequest) -> Prompt:
    """By the model's own chat template. Raises BadRequest for what it has no place for."""
    messages = [_for_template(number, message) for number, message in enumerate(asked.messages)]
    begun = messages.pop().text if _is_begun(messages) else ""
    tokens = encode_chat(backend, messages)
    return Prompt([*tokens, *backend.tokenize(begun)] if begun else tokens, begun=begun)


def v4_prompt(backend: Backend, chat: V4Chat, asked: CompletionRequest, memory: CallMemory | None) -> Prompt:
    """By DeepSeek-V4's rules. Raises BadRequest, ContextTooSmall for an effort that cannot be had."""
    style = style_of_effort(chat.release, asked.effort)
    require_effort_context(style, backend.facts.context_tokens)
    messages = [
        # A client that changed what the model wrote means what it sends.
        message if chat.says(message) else replace(message, written=None)
        for message in (reattach(asked.messages, memory.recall) if memory else asked.messages)
    ]
    thinking = style.thinking
    if _is_begun(messages):
        thinking = _go_on(backend, messages, thinking=thinking)
    begun = messages[-1].text if _is_begun(messages) and not thinking else ""
    return Prompt(chat.prompt(messages, style), thinking, begun)


def _go_on(backend: Backend, messages: list[Message], *, thinking: bool) -> bool:
    """Have the last answer of `messages` gone on with; whether what comes next is reasoning."""
    last = messages[-1]
    if not thinking or last.text or last.tool_calls:
        return False
    if not last.reasoning:  # nothing is begun
        messages.pop()
    elif last.written is None:
        ids = tuple(backend.tokenize(last.reasoning))
        messages[-1] = replace(last, written=Written(ids, thinking=True))
    return True


def _for_template(number: int, message: Message) -> Message:
    """The same, if a chat template has a place for all of it. Raises BadRequest."""
    if message.role not in ("system", "user", "assistant") or message.tool_calls or message.tools:
        raise BadRequest(
            "The answer was not begun",
            f"message {number + 1} has to do with tools, and the loaded model has no agreed way to call any",
            "send the request without them, or load a DeepSeek-V4",
        )
    return message


def _is_begun(messages: Sequence[Message]) -> bool:
    """Whether the last message is an answer to be gone on with."""
    return bool(messages) and messages[-1].role == "assistant" and messages[-1].is_open
