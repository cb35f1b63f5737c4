"""The optional parts, as the engine tells them.

Owns: these requests, and following an installation until it is over. Does not know how anything is shown (`part_words`,
`views/`), nor how a part is installed.
"""

from PySide6.QtCore import QObject, QTimer, Signal
from shiboken6 import isValid

from app.api import EngineApi
from engine.protocol import ErrorBody
from engine.protocol_parts import InstallPart, PartEntry, PartList, PartTask

TASK_PAUSE_MS = 400
REMOVE_TIMEOUT_S = 300.0
"""Some ten thousand files are deleted."""


class PartsShelf(QObject):
    """Asks about one part; `told` follows it while it is being installed."""

    told = Signal(object)
    """PartEntry."""
    refused = Signal(object)
    """ErrorBody: something was not done, or cannot be told."""

    def __init__(self, api: EngineApi, name: str = "native", parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._api, self._name = api, name
        self._again = QTimer(self)
        self._again.setSingleShot(True)
        self._again.setInterval(TASK_PAUSE_MS)
        self._again.timeout.connect(self.refresh)

    def refresh(self) -> None:
        """Find out what is there; again after a moment while it is being installed."""
        self._api.get("/api/parts", PartList, self._take, self._refuse)

    def install(self, variant: str) -> None:
        """Begin to install that variant; "": the one that suits."""
        request = InstallPart(variant=variant or None)
        path = f"/api/parts/{self._name}/install"
        self._api.send("POST", path, request, PartTask, lambda _: self._refresh_again(), self._refuse)

    def stop(self) -> None:
        """Have the installation end; `told` says so."""
        self._api.command("DELETE", f"/api/parts/{self._name}/task", self._refresh_again, self._refuse)

    def remove(self) -> None:
        """Delete what is installed."""
        path = f"/api/parts/{self._name}/remove"
        self._api.send("POST", path, None, PartEntry, self._tell, self._refuse, REMOVE_TIMEOUT_S)

    # The row that this belongs to, and this with it, may be gone before an answer comes.

    def _refresh_again(self) -> None:
        if isValid(self):
            self.refresh()

    def _tell(self, entry: PartEntry) -> None:
        if isValid(self):
            self.told.emit(entry)

    def _refuse(self, error: ErrorBody) -> None:
        if isValid(self):
            self.refused.emit(error)

    def _take(self, found: PartList) -> None:
        if not isValid(self):
            return
        entry = next((each for each in found.parts if each.name == self._name), None)
        if entry is None:
            text = "The engine knows of no such part, so it may be of another version; restart it."
            self.refused.emit(ErrorBody(code="not_found", text=text))
            return
        if entry.task is not None and entry.task.state == "running":
            self._again.start()
        self.told.emit(entry)
