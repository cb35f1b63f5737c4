"""A file that a person asked for, written beside the window.

Owns: writing it whole or not at all, on a thread of its own, because a disk may take its time. Does not know what is in
it.
"""

import threading

from PySide6.QtCore import QIODevice, QObject, QSaveFile, Signal


class KeptFile(QObject):
    """`write` once; one of the signals comes, on the window's thread."""

    written = Signal(str)
    """Its path."""
    failed = Signal(str)
    """What the system says is wrong."""

    def __init__(self, path: str, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._path = path

    def write(self, data: bytes) -> None:
        """Begin to write; what was there is replaced when all of it is on the disk."""
        threading.Thread(target=self._write, args=(data,), daemon=True).start()

    def _write(self, data: bytes) -> None:
        file = QSaveFile(self._path)
        if file.open(QIODevice.OpenModeFlag.WriteOnly) and file.write(data) == len(data) and file.commit():
            self.written.emit(self._path)
        else:
            self.failed.emit(file.errorString())
