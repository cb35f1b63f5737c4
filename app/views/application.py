"""The Qt application around the window.

Owns: making it, once, handing over what is opened from outside, and closing it when the terminal or the system asks.
Does not know what the window shows.
"""

import contextlib
import signal
import socket
import sys
from collections.abc import Callable, Generator
from types import FrameType
from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QObject, QSocketNotifier
from PySide6.QtGui import QFileOpenEvent
from PySide6.QtWidgets import QApplication

from app.views.window import MainWindow
from engine.paths import DataFolder

if TYPE_CHECKING:
    from app.front_door import FrontDoor


def open_window(folder: DataFolder, request: str | None = None) -> int:
    """Show the window and run until it is closed; returns the exit status. `request`: what it is to open at once."""
    app = QApplication([sys.argv[0] if sys.argv else "seamount"])
    app.setApplicationName("seamount")
    app.setApplicationDisplayName("Seamount")
    app.setDesktopFileName("seamount")
    app.setStyle("Fusion")
    window = MainWindow(folder)
    window.show()
    opened = OpenedFiles(window.open_outside, app)
    app.installEventFilter(opened)
    if request is not None:
        window.open_outside(request)
    asked = _AskedToEnd()
    with _attended_door(window):
        status = app.exec()
    asked.close()
    return status


@contextlib.contextmanager
def _attended_door(window: MainWindow) -> Generator[None, None, None]:
    """Other starts of the program are heard once the window is seen, which does not wait for that."""
    doors: list[FrontDoor] = []

    def attend() -> None:
        from app.front_door import FrontDoor

        door = FrontDoor(window.folder.root)
        door.asked.connect(window.open_outside)
        door.open()
        doors.append(door)

    window.shown_first.connect(attend)
    try:
        yield
    finally:
        for door in doors:
            door.close()


class OpenedFiles(QObject):
    """What macOS says of a double click or a link, which comes as an event of the application."""

    def __init__(self, take: Callable[[str], None], parent: QObject) -> None:
        super().__init__(parent)
        self._take = take

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Take it."""
        if isinstance(event, QFileOpenEvent):
            self._take(event.file() or event.url().toString())
            return True
        return super().eventFilter(watched, event)


class _AskedToEnd:
    """Ctrl-C in the terminal, or a polite end of the process, closes the window as its button does.

    Python runs a signal's handler between two of its own instructions, and Qt's event loop has none: so the
    signal's number is written to a socket that the loop watches (`signal.set_wakeup_fd`).
    """

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._before = signal.set_wakeup_fd(self._writer.fileno())
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)
        self._notifier = QSocketNotifier(self._reader.fileno(), QSocketNotifier.Type.Read)
        self._notifier.activated.connect(self._end)

    def close(self) -> None:
        """Watch no longer."""
        self._notifier.setEnabled(False)
        signal.set_wakeup_fd(self._before)
        self._reader.close()
        self._writer.close()

    def _end(self) -> None:
        self._reader.recv(16)
        QApplication.closeAllWindows()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """The socket tells; without a handler the signal would end the process at once."""
