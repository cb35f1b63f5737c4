"""What was said, as pure values.

Owns: the message values that prompts are made from, and the cleaning of text that comes from outside.
Does not know how a prompt is rendered (`encoding/`) or where messages are kept (`store/`).
"""

import re
from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "developer", "latest_reminder", "user", "assistant", "tool"]
Task = Literal["action", "query", "authority", "domain", "title", "read_url"]

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
REPLACEMENT = "�"


@dataclass(frozen=True)
class ToolCall:
    """A call that an answer makes. `arguments` is JSON text as it was given; it need not be an object."""

    name: str
    arguments: str
    id: str = ""


@dataclass(frozen=True)
class Written:
    """The very tokens of an answer that the model wrote here, without its end token.

    `thinking`: they begin inside the reasoning, which ends at the first `</think>`.
    """

    ids: tuple[int, ...]
    thinking: bool


@dataclass(frozen=True)
class Message:
    """One message of a conversation, in the order it is put to the model.

    Roles beyond system, user, assistant and tool are DeepSeek-V4's: "developer" asks like a user and may
    carry tools, "latest_reminder" tells date and place. What a role has no use for is empty.
    """

    role: Role
    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    """Of a tool result: the call it answers."""
    tools: tuple[str, ...] = ()
    """Tools declared here: the JSON text of each function, as it is put to the model."""
    response_format: str | None = None
    """JSON text of the schema that answers must follow."""
    task: Task | None = None
    """A quick instruction: the message after this one is its short output."""
    is_open: bool = False
    """An answer without its end, which the model goes on with."""
    written: Written | None = None
    """Put to the model in place of text, reasoning and calls, so that nothing is tokenised a second time."""
    kept_as: str = ""
    """A name under which what the model wrote may be known here; a client gave it back, so it proves nothing."""


def clean_text(text: str) -> tuple[str, int]:
    """`text` with NUL and lone surrogates replaced by U+FFFD, and how many there were.

    Neither can be stored or sent: UTF-8 has no lone surrogates (Unicode 3.9, D92), and NUL ends strings in
    many programs that text is copied to. Everything else, right-to-left marks included, stays as it is.
    """
    if "\0" not in text:
        # Far faster for long texts than looking at each character, and nearly all are in order.
        try:
            text.encode()
        except UnicodeEncodeError:
            pass
        else:
            return text, 0
    return _UNSTORABLE.subn(REPLACEMENT, text)
