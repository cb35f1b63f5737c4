"""The tools that the model may call in the open conversation.

Owns: what is set, storing it with the session, and keeping it for a conversation that has no session yet. Does
not know how tools are written as text (`tool_text.py`), and never runs one.
"""

from collections.abc import Callable, Sequence

from PySide6.QtCore import QObject, Signal

from app.api import EngineApi, Failed
from engine.protocol import ChangeSession, SessionSummary, Tool


class SessionTools(QObject):
    """The tools of one conversation at a time."""

    changed = Signal()

    def __init__(self, api: EngineApi, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._api = api
        self._session_id: str | None = None
        self._tools: tuple[Tool, ...] = ()
        self._unsent = False

    @property
    def tools(self) -> tuple[Tool, ...]:
        """What is set."""
        return self._tools

    @property
    def unsent(self) -> tuple[Tool, ...] | None:
        """What no session has yet; None when there is nothing to send."""
        return self._tools if self._unsent else None

    def show(self, session_id: str | None, tools: Sequence[Tool]) -> None:
        """Another conversation is open, or the store has told its tools anew."""
        if self._unsent and session_id is not None and session_id == self._session_id:
            return
        self._session_id, self._unsent = session_id, False
        self._take(tuple(tools))

    def adopt(self, session_id: str) -> None:
        """The conversation has got its session."""
        self._session_id = session_id

    def save(self, tools: Sequence[Tool], ok: Callable[[], None], failed: Failed) -> None:
        """Set `tools`, in the store at once where there is a session."""
        wanted, session_id = tuple(tools), self._session_id
        if session_id is None:
            self._unsent = True
            self._take(wanted)
            ok()
            return

        def stored(_: SessionSummary) -> None:
            if self._session_id == session_id:
                self._unsent = False
                self._take(wanted)
            ok()

        self._patch(session_id, wanted, stored, failed)

    def send(
        self, session_id: str, unsent: tuple[Tool, ...] | None, then: Callable[[], None], failed: Failed
    ) -> None:
        """Before a turn of `session_id`: store what was `unsent` when the turn was asked for, then `then()`."""
        if unsent is None:
            then()
            return

        def stored(_: SessionSummary) -> None:
            if self._session_id == session_id:
                self._unsent = False
            then()

        self._patch(session_id, unsent, stored, failed)

    def _patch(
        self, session_id: str, tools: tuple[Tool, ...], ok: Callable[[SessionSummary], None], failed: Failed
    ) -> None:
        change = ChangeSession(tools=list(tools))
        self._api.send("PATCH", f"/api/sessions/{session_id}", change, SessionSummary, ok, failed)

    def _take(self, tools: tuple[Tool, ...]) -> None:
        if tools != self._tools:
            self._tools = tools
            self.changed.emit()
