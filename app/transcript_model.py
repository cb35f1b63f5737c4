"""What the transcript shows of a conversation: one branch of its message tree, as pure values.

Owns: choosing the branch and counting the versions beside each message. Knows the wire shapes; knows neither
Qt nor how a message is drawn.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    # For annotations alone, which stay text: the wire shapes take a tenth of a second to import.
    from engine import protocol
    from engine.protocol import MessageStatus

CUT_NOTES = {
    "length": "Stopped at the length limit.",
    "cancelled": "You stopped this answer.",
}
"""Why a stored answer may be cut though nothing failed, by its finish reason."""


@dataclass(frozen=True)
class ShownMessage:
    """One message as the transcript shows it.

    `error_text` says why an answer failed; `note` why it is cut though nothing failed. `version` counts from
    1 among the messages with the same parent and role; `previous_id` and `next_id` are its neighbours there.
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

    @property
    def is_cut(self) -> bool:
        """An answer that ended before its end, so that it can be continued."""
        return self.role == "assistant" and (
            self.status in ("interrupted", "failed") or self.note is not None
        )


def shown_branch(session: protocol.Session) -> list[ShownMessage]:
    """The messages from the root to the session's leaf, system messages left out.

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
    versions = _versions(by_id.values())
    return [
        _shown(message, message.role, versions[message.parent_id, message.role])
        for message in branch
        if message.role != "system"
    ]


def _versions(messages: Iterable[protocol.Message]) -> dict[tuple[str | None, str], list[str]]:
    siblings: dict[tuple[str | None, str], list[protocol.Message]] = {}
    for message in messages:
        siblings.setdefault((message.parent_id, message.role), []).append(message)
    # sorted() keeps the order of equal times, which is the order of the store.
    return {
        key: [message.id for message in sorted(group, key=lambda message: message.created_at)]
        for key, group in siblings.items()
    }


def _shown(
    message: protocol.Message, role: Literal["user", "assistant"], versions: list[str]
) -> ShownMessage:
    place = versions.index(message.id)
    note = None
    if role == "assistant" and message.status in ("complete", "interrupted"):
        note = CUT_NOTES.get(message.finish_reason or "")
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
    )
