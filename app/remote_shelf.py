"""Models on other machines as the engine last told them, and what is asked of it.

Owns: the list, and the requests that check, keep, change, agree to and forget one. Does not know how anything is shown
(`remote_words`, `views/`). A key passes through and is not kept.
"""

from collections.abc import Callable
from urllib.parse import quote

from PySide6.QtCore import QObject, Signal

from app.api import EngineApi, Failed
from engine.protocol import ErrorBody
from engine.protocol_remote import AgreeRemote, CheckedRemote, CheckRemote, Remote, RemoteList, SetRemote

CHECK_TIMEOUT_S = 120.0
"""A server that is far away, slow, or does not answer at all, asked several things."""
SAVE_TIMEOUT_S = 120.0


class RemoteShelf(QObject):
    """Remote models."""

    changed = Signal()
    refused = Signal(object)
    """ErrorBody."""

    def __init__(self, api: EngineApi, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._api = api
        self.remotes: list[Remote] = []
        self.error: ErrorBody | None = None
        """Why they could not be told, when they were asked for last."""
        self._asked = False
        self._stale = False

    def refresh(self) -> None:
        """Fetch them; once more afterwards if that is under way."""
        if self._asked:
            self._stale = True
            return
        self._asked = True

        def ok(answer: RemoteList) -> None:
            self.remotes, self.error = answer.remotes, None
            again()

        def failed(error: ErrorBody) -> None:
            self.error = error
            again()

        def again() -> None:
            self._asked = False
            self.changed.emit()
            stale, self._stale = self._stale, False
            if stale:
                self.refresh()

        self._api.get("/api/remotes", RemoteList, ok, failed)

    def remote(self, remote_id: str | None) -> Remote | None:
        """The one of that id, as it was told last."""
        return next((each for each in self.remotes if each.id == remote_id), None)

    def check(self, asked: CheckRemote, ok: Callable[[CheckedRemote], None], failed: Failed) -> None:
        """What a server is and can do, before it is kept."""
        self._api.send("POST", "/api/remotes/check", asked, CheckedRemote, ok, failed, CHECK_TIMEOUT_S)

    def save(
        self, remote_id: str | None, wanted: SetRemote, ok: Callable[[Remote], None], failed: Failed
    ) -> None:
        """Keep it: a new one where `remote_id` is None."""

        def kept(answer: Remote) -> None:
            self.refresh()
            ok(answer)

        method, path = ("POST", "/api/remotes") if remote_id is None else ("PUT", _path(remote_id))
        self._api.send(method, path, wanted, Remote, kept, failed, SAVE_TIMEOUT_S)

    def remove(self, remote_id: str) -> None:
        """Forget it, and its key."""
        self._api.command("DELETE", _path(remote_id), self.refresh, self.refused.emit)

    def agree(self, remote_id: str, fingerprint: str | None, ok: Callable[[Remote], None]) -> None:
        """The person accepts what it has become."""

        def agreed(answer: Remote) -> None:
            self.refresh()
            ok(answer)

        request = AgreeRemote(fingerprint=fingerprint)
        path = f"{_path(remote_id)}/agree"
        self._api.send("POST", path, request, Remote, agreed, self.refused.emit, SAVE_TIMEOUT_S)


def _path(remote_id: str) -> str:
    return f"/api/remotes/{quote(remote_id, safe='')}"
