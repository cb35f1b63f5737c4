"""What makes a tree of messages a conversation, as rules that any tree can be held against.

Owns: the rules for a message and what stands above it, for a file from outside (`import_json`) and for what is stored
(`inspection`). Does not know rows, files or who broke a rule. Remembers of each message only what the rules for those
beneath it need.
"""

import math
import re
from dataclasses import dataclass

from engine.protocol import Message

_ID = re.compile(r"[0-9A-Za-z_-]{1,128}", re.ASCII)
LATEST_S = 1e11
"""Unix seconds: about the year 5138, well within what dates can show."""
MOST_COUNTED = 1 << 53
"""The most that JSON counts without loss."""
LONGEST_CURRENCY = 8
"""As a person may call one (`protocol_remote.RemotePrice`)."""


@dataclass(frozen=True)
class _Above:
    """Of a message, what those beneath it are judged by. `calls`: of a tool's result, those of its answer."""

    role: str
    status: str
    calls: frozenset[str]


class TreeRules:
    """The rules of one conversation's tree; its messages are added parents first."""

    def __init__(self) -> None:
        self._known: dict[str, _Above] = {}

    def __contains__(self, message_id: str) -> bool:
        """Whether that message was added."""
        return message_id in self._known

    def add(self, message: Message) -> str | None:
        """Take in the next message; the rule it breaks as a clause, None when it breaks none."""
        above = None if message.parent_id is None else self._known.get(message.parent_id)
        problem = self._identity(message) or self._place(message, above) or _content(message)
        calls = frozenset(call.id for call in message.tool_calls)
        if message.role == "tool" and above is not None:
            calls = above.calls
        self._known.setdefault(message.id, _Above(message.role, message.status, calls))
        return problem

    def _identity(self, message: Message) -> str | None:
        if not is_id(message.id):
            return "its id is not made of letters, digits, - and _, at most 128"
        if message.id in self._known:
            return "another message has the same id"
        if message.parent_id is not None and message.parent_id not in self._known:
            return "it stands beneath a message that is not there, or not before it"
        return None

    def _place(self, message: Message, above: _Above | None) -> str | None:
        if above is not None and above.status == "running":
            return "it stands beneath an answer that is still being written"
        if message.role == "assistant" and (above is None or above.role not in ("user", "tool")):
            return "it is an answer, but stands beneath neither a question nor the result of a tool"
        if message.role == "tool":
            if not message.tool_call_id:
                return "it is the result of a tool, but does not say of which call"
            if above is None or message.tool_call_id not in above.calls:
                return "it is the result of a call that the answer above it did not make"
        return None


def is_id(text: str) -> bool:
    """Whether `text` can be the id of anything: ids are names of folders too."""
    return bool(_ID.fullmatch(text))


def _content(message: Message) -> str | None:
    if not 0 <= message.created_at <= LATEST_S:  # nor is it NaN
        return "its time is none that could be"
    if message.role != "tool" and message.tool_call_id is not None:
        return "it names the call of a tool, but is not its result"
    if message.role == "assistant":
        return _answer(message)
    if message.status != "complete":
        return "it is not an answer and can only be complete"
    if (
        message.tool_calls
        or message.reasoning
        or message.unfinished_call
        or message.thought
        or message.continued
    ):
        return "it is not an answer, but holds what only an answer has"
    return None


def _answer(message: Message) -> str | None:
    ids = [call.id for call in message.tool_calls]
    if len(set(ids)) != len(ids):
        return "two of its calls have the same id"
    if not all(is_id(each) for each in ids):
        return "the id of one of its calls is not made of letters, digits, - and _, at most 128"
    usage, thought = message.usage, message.thought
    told = list(usage.model_dump(exclude={"currency"}).values()) if usage else []
    figures = [float(each) for each in told if each is not None]
    if not all(math.isfinite(each) and abs(each) < 2**64 for each in figures):
        return "its usage holds a number that cannot be"
    if usage and usage.currency is not None and len(usage.currency) > LONGEST_CURRENCY:
        return "the currency of its cost is none that could be"
    if thought and not (0 <= thought.tokens <= MOST_COUNTED and 0 <= thought.elapsed_s <= LATEST_S):
        return "what its reasoning took is a number that cannot be"
    return None
