"""The Qt application around the window.

Owns: making it, once, and closing it when the terminal or the system asks. Does not know what the window shows.
"""

import signal
import socket
import sys
from types import FrameType

from PySide6.QtCore import QSocketNotifier
from PySide6.QtWidgets import QApplication

from app.views.window import MainWindow
from engine.paths import DataFolder


def open_window(folder: DataFolder) -> int:
    """Show the window and run until it is closed; returns the exit status."""
    app = QApplication([sys.argv[0] if sys.argv else "seamount"])
    app.setApplicationName("seamount")
    app.setApplicationDisplayName("Seamount")
    app.setDesktopFileName("seamount")
    app.setStyle("Fusion")
    window = MainWindow(folder)
    window.show()
    asked = _AskedToEnd()
    status = app.exec()
    asked.close()
    return status


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
