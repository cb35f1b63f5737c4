"""Quick instructions: small questions about a conversation, put to the model over a fork of its context.

Owns: which tokens ask, where the prefix before them ends, and how the answer is read (V4.md 2.6). The prefix
is what the context holds anyway, so the cost is the suffix and a few tokens. Does not know how a context is
forked (`backends`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from engine.conversation import Message, Task
from engine.encoding.segments import ids_of
from engine.encoding.v4_prompt import Style, control_id, render
from engine.errors import ConversationError

MOST_TOKENS: dict[Task, int] = {
    "action": 4,
    "query": 128,
    "authority": 16,
    "domain": 16,
    "title": 48,
    "read_url": 8,
}
"""An answer that is longer has gone astray."""


@dataclass(frozen=True)
class QuickQuestion:
    """`prefix + suffix` is the prompt; the fork is taken where `prefix` ends."""

    task: Task
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    most_tokens: int


def quick_question(
    messages: Sequence[Message],
    task: Task,
    style: Style,
    control: Mapping[str, int],
    text_ids: Callable[[str], Sequence[int]],
    *,
    url: str = "",
) -> QuickQuestion:
    """The tokens that ask `task` of a conversation.

    "title" wants a conversation that ends in an answer, the others one that ends in a question; "read_url"
    asks whether `url` is to be fetched. Raises ConversationError when it ends otherwise.
    """
    tokens = style.release.tokens
    wanted = "assistant" if task == "title" else "user"
    if not messages or messages[-1].role != wanted:
        raise ConversationError(
            "The quick instruction cannot be put",
            f"{task} is asked after {'an answer' if task == 'title' else 'a question'}",
            "ask it at another place",
        )
    # A user message fused to a tool result loses its task, so the question is rendered without one and cut.
    last = replace(messages[-1], task=None, is_open=False)
    ids = ids_of(render([*messages[:-1], last], style, control).segments, text_ids)
    mark = control_id(control, tokens.tasks[task])
    if task == "title":
        return _question(task, ids[:-1], (control_id(control, tokens.end), mark))
    ids = ids[:-2]  # the marks of an ordinary answer
    if task == "action":
        think = tokens.think if style.thinking else tokens.think_end
        return _question(task, ids, (control_id(control, tokens.assistant), control_id(control, think), mark))
    if task == "read_url":
        asked = (control_id(control, tokens.extracted_url), *text_ids(url), mark)
        return _question(task, ids, asked)
    return _question(task, ids, (mark,))


def _question(task: Task, prefix: Sequence[int], suffix: tuple[int, ...]) -> QuickQuestion:
    return QuickQuestion(task, tuple(prefix), suffix, MOST_TOKENS[task])


def read_action(text: str) -> Literal["search", "answer"] | None:
    """What the model would do with a question; None for anything but the two words it knows."""
    return {"search": "search", "answer": "answer"}.get(text.strip().casefold())  # type: ignore[return-value]


def read_title(text: str, most_characters: int = 80) -> str:
    """A title on one line, without the quotes and full stop that models like to add; "" for none."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    line = " ".join(line.split()).rstrip(".。").strip("\"'“”‘’「」《》*# ").rstrip(".。").strip()
    return line[:most_characters].rstrip()


def read_queries(text: str) -> list[str]:
    """Search queries: one a line, or divided by "||" as the model's own search tool takes them."""
    pieces = [piece.strip() for line in text.splitlines() for piece in line.split("||")]
    return list(dict.fromkeys(filter(None, pieces)))


def read_label(text: str) -> str:
    """The class that authority, domain or read_url names. Their vocabularies are not documented."""
    return text.strip()
