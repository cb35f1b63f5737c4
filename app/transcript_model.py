"""What the transcript shows of a conversation: one branch of its message tree, as pure values.

Owns: choosing the branch, counting the versions beside each message, and giving each call its result. Knows
the wire shapes; knows neither Qt nor how a message is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from app.remote_words import cost_words

if TYPE_CHECKING:
    from collections.abc import Iterable

    # For annotations alone, which stay text: the wire shapes take a tenth of a second to import.
    from engine import protocol
    from engine.protocol import MessageStatus, Thought

CUT_NOTES = {
    "length": "Stopped at the length limit.",
    "cancelled": "You stopped this answer.",
}
"""Why a stored answer may be cut though nothing failed, by its finish reason."""


CallStatus = Literal["writing", "exact", "repaired", "rejected"]


@dataclass(frozen=True)
class ShownCall:
    """A call of an answer. `arguments` is JSON text, unfinished while it is being written.

    `problem` says what was repaired, or why the call is rejected. `result` is None until one was given.
    """

    id: str
    name: str
    arguments: str
    status: CallStatus = "exact"
    problem: str | None = None
    result: str | None = None


@dataclass(frozen=True)
class ShownMessage:
    """One message as the transcript shows it.

    `error_text` says why an answer failed; `note` why it is cut though nothing failed. `version` counts from
    1 among the messages of the same role beneath the same message, results of calls not counted as one;
    `previous_id` and `next_id` are its neighbours there.
    """

    id: str
    role: Literal["user", "assistant"]
    text: str
    status: MessageStatus
    error_text: str | None
    note: str | None
    version: int
    version_count: int
    previous_id: str | None
    next_id: str | None
    reasoning: str = ""
    thought: Thought | None = None
    """What the reasoning took; None while it goes on, and when it was cut."""
    calls: tuple[ShownCall, ...] = ()
    unfinished_call: str = ""
    """The raw text of a call that was being written when the answer was cut."""
    notices: tuple[str, ...] = ()
    awaits_results: bool = False
    """The branch ends here, in calls that have no results yet."""
    is_begun: bool = True
    """An answer has something to go on from: text, reasoning, or calls."""
    differs: bool = False
    """It was cut off and gone on with, and may be another one than it would have been."""

    @property
    def is_cut(self) -> bool:
        """An answer that ended before its end."""
        return self.role == "assistant" and (
            self.status in ("interrupted", "failed") or self.note is not None
        )

    @property
    def is_continuable(self) -> bool:
        """A cut answer that has something to go on from."""
        return self.is_cut and self.is_begun


def shown_branch(session: protocol.Session) -> list[ShownMessage]:
    """The messages from the root to the session's leaf, system messages left out, results in their calls.

    A leaf that is missing or unknown: the branch of the newest message. A message whose parent is missing
    begins the branch; a cycle of parents is cut where it closes. Takes time in proportion to the tree.
    """
    by_id = {message.id: message for message in session.messages}
    if not by_id:
        return []
    leaf = by_id.get(session.leaf_id or "") or max(session.messages, key=lambda message: message.created_at)
    branch: list[protocol.Message] = []
    seen: set[str] = set()
    current: protocol.Message | None = leaf
    while current is not None and current.id not in seen:
        seen.add(current.id)
        branch.append(current)
        current = by_id.get(current.parent_id) if current.parent_id is not None else None
    branch.reverse()
    versions = _Versions(by_id)
    shown: list[ShownMessage] = []
    for place, message in enumerate(branch):
        if message.role == "tool" or message.role == "system":
            continue
        results = _results_after(branch, place) if message.role == "assistant" else {}
        shown.append(_shown(message, message.role, versions.beside(message), results, message is leaf))
    return shown


def costs_of(messages: Iterable[protocol.Message]) -> tuple[dict[str, float], bool]:
    """What answers cost together, by currency, where that is known of any; and whether it is known of all of them that
    another machine wrote."""
    from engine.protocol_remote import REMOTE_PREFIX

    costs: dict[str, float] = {}
    whole = True
    for message in messages:
        usage = message.usage
        if usage is not None and usage.cost is not None and usage.currency:
            costs[usage.currency] = costs.get(usage.currency, 0.0) + usage.cost
        elif (message.model_id or "").startswith(REMOTE_PREFIX) and message.status != "running":
            whole = whole and not (message.text or message.reasoning or message.tool_calls)
    return costs, whole


def newest_leaf(messages: Iterable[protocol.Message], message_id: str) -> str:
    """The end of the newest branch through `message_id`: at each fork the child that was made last."""
    newest: dict[str | None, protocol.Message] = {}
    for message in messages:
        rival = newest.get(message.parent_id)
        if rival is None or message.created_at >= rival.created_at:
            newest[message.parent_id] = message
    seen: set[str] = set()
    while message_id not in seen and (child := newest.get(message_id)) is not None:
        seen.add(message_id)
        message_id = child.id
    return message_id


def _results_after(branch: list[protocol.Message], place: int) -> dict[str, str]:
    """The results that stand right beneath the answer at `place`, by the ids of their calls."""
    results: dict[str, str] = {}
    for message in branch[place + 1 :]:
        if message.role != "tool":
            break
        results[message.tool_call_id or message.id] = message.text
    return results


class _Versions:
    """Which messages stand beside each other: an answer to other results of the same calls does too."""

    def __init__(self, by_id: dict[str, protocol.Message]) -> None:
        self._by_id = by_id
        groups: dict[tuple[str | None, str], list[protocol.Message]] = {}
        for message in by_id.values():
            if message.role != "tool":
                groups.setdefault((self._parent(message), message.role), []).append(message)
        # sorted() keeps the order of equal times, which is the order of the store.
        self._groups = {
            key: [message.id for message in sorted(group, key=lambda message: message.created_at)]
            for key, group in groups.items()
        }

    def beside(self, message: protocol.Message) -> list[str]:
        """The ids of all versions of `message`, itself among them."""
        return self._groups[self._parent(message), message.role]

    def _parent(self, message: protocol.Message) -> str | None:
        """The nearest message above that is no result of a call."""
        parent_id = message.parent_id
        seen: set[str] = set()
        while parent_id is not None and parent_id not in seen:
            seen.add(parent_id)
            parent = self._by_id.get(parent_id)
            if parent is None or parent.role != "tool":
                break
            parent_id = parent.parent_id
        return parent_id


def _shown(
    message: protocol.Message,
    role: Literal["user", "assistant"],
    versions: list[str],
    results: dict[str, str],
    is_leaf: bool,
) -> ShownMessage:
    place = versions.index(message.id)
    note = None
    if role == "assistant" and message.status in ("complete", "interrupted"):
        note = CUT_NOTES.get(message.finish_reason or "")
    whole = message.status == "complete" and note is None
    return ShownMessage(
        id=message.id,
        role=role,
        text=message.text,
        status=message.status,
        error_text=message.error.text if message.error else None,
        note=note,
        version=place + 1,
        version_count=len(versions),
        previous_id=versions[place - 1] if place > 0 else None,
        next_id=versions[place + 1] if place + 1 < len(versions) else None,
        reasoning=message.reasoning,
        thought=message.thought,
        calls=_calls(message, results),
        unfinished_call=message.unfinished_call,
        notices=tuple(dict.fromkeys([*message.notices, *_cost(message)])),
        awaits_results=is_leaf and whole and bool(message.tool_calls),
        is_begun=bool(message.text or message.reasoning or message.tool_calls or message.unfinished_call),
        differs=message.continued == "different",
    )


def _cost(message: protocol.Message) -> list[str]:
    """What it cost, where another machine computed it for money."""
    words = cost_words(message.usage) if message.usage else ""
    return [f"This answer cost {words}."] if words else []


def _calls(message: protocol.Message, results: dict[str, str]) -> tuple[ShownCall, ...]:
    """The calls of an answer with their results; a result of no call of it is shown as one without a name."""
    calls: list[ShownCall] = []
    last = len(message.tool_calls) - 1
    for place, call in enumerate(message.tool_calls):
        writing = message.status == "running" and place == last
        calls.append(
            ShownCall(
                id=call.id,
                name=call.name,
                arguments=call.arguments,
                status="writing" if writing else call.status,
                problem=call.problem,
                result=results.get(call.id),
            )
        )
    known = {call.id for call in calls}
    strays = [ShownCall(id=key, name="", arguments="", result=text) for key, text in results.items()
              if key not in known]  # fmt: skip
    return (*calls, *strays)
