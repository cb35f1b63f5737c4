"""The library as the engine last told it, and what is asked of it.

Owns: the Library, and the requests that are no jobs: looking a repository up, keeping a token, adding, removing.
Does not know how it is shown (`library_words`, `views/`), nor jobs (`job_shelf`). News only says that something
has changed: the library is fetched anew, never twice at the same time. A token passes through and is not kept.
"""

from collections.abc import Callable

from PySide6.QtCore import QObject, Signal

from app.api import EngineApi, Failed
from engine.protocol import ErrorBody
from engine.protocol_library import (
    AddRequest,
    HubState,
    Library,
    LibraryItem,
    Lookup,
    LookupRequest,
    Removed,
    RemoveRequest,
    TokenRequest,
)

LOOKUP_TIMEOUT_S = 60.0
"""The hub is asked, over a line that may be slow."""
REMOVE_TIMEOUT_S = 120.0
"""A trash on another disk copies."""
HEADERS_TIMEOUT_S = 60.0


class LibraryShelf(QObject):
    """What lies here and what can be had."""

    changed = Signal()
    refused = Signal(object)
    """ErrorBody."""

    def __init__(self, api: EngineApi, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._api = api
        self.library: Library | None = None
        self.error: ErrorBody | None = None
        """Why the library could not be told, when it was asked for last."""
        self._asked = False
        self._stale = False

    def refresh(self) -> None:
        """Fetch it; once more afterwards if that is under way."""
        if self._asked:
            self._stale = True
            return
        self._asked = True

        def ok(answer: Library) -> None:
            self.library, self.error = answer, None
            self.changed.emit()
            again()

        def failed(error: ErrorBody) -> None:
            self.error = error
            self.changed.emit()
            again()

        def again() -> None:
            self._asked = False
            stale, self._stale = self._stale, False
            if stale:
                self.refresh()

        self._api.get("/api/library", Library, ok, failed)

    def look_up(self, what: str, ok: Callable[[Lookup], None], failed: Failed) -> None:
        """Ask the hub what `what` is: OWNER/NAME with or without @REVISION, or its address."""
        name, _, revision = what.partition("@") if "://" not in what else (what, "", "")
        request = LookupRequest(what=name.strip(), revision=revision.strip() or None)
        self._api.send("POST", "/api/library/lookup", request, Lookup, ok, failed, LOOKUP_TIMEOUT_S)

    def keep_token(self, token: str, ok: Callable[[HubState], None], failed: Failed) -> None:
        """Hand an access token to the engine."""
        self._api.send("PUT", "/api/library/token", TokenRequest(token=token), HubState, ok, failed)

    def forget_token(self, ok: Callable[[], None]) -> None:
        """Have the engine forget it."""
        self._api.command("DELETE", "/api/library/token", ok, self.refused.emit)

    def add(self, path: str, ok: Callable[[LibraryItem], None]) -> None:
        """Take in a file or folder where it lies."""

        def added(item: LibraryItem) -> None:
            self.refresh()
            ok(item)

        request = AddRequest(path=path)
        self._api.send(
            "POST", "/api/library/add", request, LibraryItem, added, self.refused.emit, HEADERS_TIMEOUT_S
        )

    def remove(self, item_id: str, *, for_good: bool, ok: Callable[[Removed], None]) -> None:
        """To the trash, or for good."""

        def removed(answer: Removed) -> None:
            self.refresh()
            ok(answer)

        request = RemoveRequest(item_id=item_id, for_good=for_good)
        self._api.send(
            "POST", "/api/library/remove", request, Removed, removed, self.refused.emit, REMOVE_TIMEOUT_S
        )
