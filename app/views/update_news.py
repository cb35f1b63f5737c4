"""That there is a newer version, said quietly and once.

Owns: the notice, and remembering that it was put away. Does not look for versions, and downloads nothing: the engine
tells of one where a person turned that on, and a button opens the page about it in the browser.
"""

from PySide6.QtCore import QObject, QUrl
from PySide6.QtGui import QDesktopServices

from app.engine_watch import EngineWatch
from app.views.notice import NoticeBar
from app.window_state import WindowState
from engine.protocol import EngineStatus
from engine.protocol_about import UpdateFound

NOTICE = "update"


class UpdateNews(QObject):
    """Listens to the engine's status."""

    def __init__(
        self, watch: EngineWatch, notices: NoticeBar, memory: WindowState, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._notices, self._memory = notices, memory
        self._told = ""
        watch.status_changed.connect(self._status)

    def _status(self, status: EngineStatus) -> None:
        update = status.update
        if update is None:
            self._told = ""
            self._notices.dismiss(NOTICE)
        elif update.version not in (self._told, self._memory.update_seen):
            self._told = update.version
            self._tell(update, status.version)

    def _tell(self, update: UpdateFound, own: str) -> None:
        page = QUrl(update.notes_url or "", QUrl.ParsingMode.StrictMode)
        has_page = page.isValid() and page.scheme() == "https" and bool(page.host())
        self._notices.tell(
            NOTICE,
            f"Seamount {update.version} is there; this is {own}. Nothing is downloaded by itself.",
            kind="info",
            button=f"What is new, at {page.host()}" if has_page else "",
            on_button=(lambda: self._open(page)) if has_page else None,
        )
        notice = self._notices.notice(NOTICE)
        if notice is not None:
            notice.dismissed.connect(lambda: self._put_away(update.version))

    def _open(self, page: QUrl) -> None:
        if not QDesktopServices.openUrl(page):
            self._notices.tell(
                NOTICE, f"No browser could be opened; the page is {page.toString()}.", kind="info"
            )

    def _put_away(self, version: str) -> None:
        self._memory.update_seen = version
        self._memory.save()
