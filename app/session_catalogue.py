"""The conversations the engine keeps: fetched, searched, renamed, deleted and brought back.

Owns: the list's content and what this window deleted. Does not know which conversation is open, nor any
widget.
"""

from collections.abc import Callable
from urllib.parse import quote

from PySide6.QtCore import QObject, QTimer, Signal

from app.api import EngineApi
from app.session_list import UNTITLED, SessionList
from engine.conversation import clean_text
from engine.protocol import ChangeSession, ErrorBody, SessionSummary
from engine.protocol import SessionList as SessionListAnswer

REFRESH_PAUSE_MS = 80
SEARCH_PAUSE_MS = 180


class SessionCatalogue(QObject):
    """Keeps `rows` in step with the engine, whoever changes it."""

    refreshed = Signal()
    deleted = Signal(str, str)
    """Session id and title of what this window has deleted."""
    restored = Signal(str)
    refused = Signal(object)
    """ErrorBody."""

    def __init__(self, api: EngineApi, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._api = api
        self.rows = SessionList(self)
        self.rows.rename_requested.connect(self.rename)
        self._query = ""
        self._summaries: dict[str, SessionSummary] = {}
        self._deleted: list[str] = []
        self._deleting: set[str] = set()
        self._asked = 0
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.timeout.connect(self.refresh)

    @property
    def query(self) -> str:
        """What is searched for; "" shows all."""
        return self._query

    @property
    def can_undo(self) -> bool:
        """Something was deleted in this window and can come back."""
        return bool(self._deleted)

    def title(self, session_id: str | None) -> str:
        """Title of a listed conversation."""
        summary = self._summaries.get(session_id or "")
        return (summary.title if summary else "") or UNTITLED

    def search(self, query: str) -> None:
        """Show conversations that hold `query`, a moment after the last key."""
        self._query = clean_text(query.strip())[0]
        self._soon.start(SEARCH_PAUSE_MS)

    def refresh_soon(self) -> None:
        """Something changed; several changes in a row are one fetch."""
        if not self._soon.isActive():
            self._soon.start(REFRESH_PAUSE_MS)

    def refresh(self) -> None:
        """Fetch the list."""
        self._asked += 1
        asked = self._asked

        def ok(answer: SessionListAnswer) -> None:
            if asked != self._asked:
                return  # a later search has overtaken this one
            self._summaries = {summary.id: summary for summary in answer.sessions}
            self.rows.show(answer.sessions)
            self.refreshed.emit()

        path = "/api/sessions" + (f"?query={quote(self._query, safe='')}" if self._query else "")
        # A list that cannot be read now is read again with the next change; the watch tells what is wrong.
        self._api.get(path, SessionListAnswer, ok, lambda _: None)

    def rename(self, session_id: str, title: str) -> None:
        """Give a conversation another title."""
        change = ChangeSession(title=clean_text(title)[0])
        self._api.send(
            "PATCH",
            f"/api/sessions/{session_id}",
            change,
            SessionSummary,
            lambda _: self.refresh_soon(),
            self.refused.emit,
        )

    def delete(self, session_id: str) -> None:
        """Delete; can be undone until `purge_deleted`."""
        if self.is_ours(session_id):
            return
        title = self.title(session_id)
        self._deleting.add(session_id)

        def ok() -> None:
            self._deleting.discard(session_id)
            self._deleted.append(session_id)
            self.refresh_soon()
            self.deleted.emit(session_id, title)

        def failed(error: ErrorBody) -> None:
            self._deleting.discard(session_id)
            self.refused.emit(error)

        self._api.command("DELETE", f"/api/sessions/{session_id}", ok, failed)

    def is_ours(self, session_id: str) -> bool:
        """This window has deleted it, or is about to."""
        return session_id in self._deleting or session_id in self._deleted

    def undo_delete(self) -> None:
        """Bring back what was deleted last."""
        if not self._deleted:
            return
        session_id = self._deleted.pop()

        def ok() -> None:
            self.refresh_soon()
            self.restored.emit(session_id)

        def failed(error: ErrorBody) -> None:
            self._deleted.append(session_id)
            self.refused.emit(error)

        self._api.command("POST", f"/api/sessions/{session_id}/restore", ok, failed)

    def purge_deleted(self, done: Callable[[], None]) -> None:
        """Delete for good what this window deleted, then `done()`. The next engine purges what fails."""
        waiting = len(self._deleted)
        if not waiting:
            done()
            return

        def one_more(_: ErrorBody | None = None) -> None:
            nonlocal waiting
            waiting -= 1
            if waiting == 0:
                done()

        for session_id in self._deleted:
            self._api.command("POST", f"/api/sessions/{session_id}/purge", one_more, one_more)
        self._deleted.clear()
