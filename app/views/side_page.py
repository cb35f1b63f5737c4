"""A page that takes the place of the conversation until it is left.

Owns: that Escape leads back. Does not know what is on it, nor what stands behind it.
"""

from PySide6.QtCore import QEvent, Qt, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QWidget


class SidePage(QWidget):
    """The base of the Library and of Other programs."""

    left = Signal()
    """Back to the conversation."""

    def event(self, event: QEvent) -> bool:
        """Escape leads back here, and is not the window's shortcut to stop an answer."""
        if (
            event.type() == QEvent.Type.ShortcutOverride
            and isinstance(event, QKeyEvent)
            and event.key() == Qt.Key.Key_Escape
        ):
            event.accept()
            return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Escape, where nothing in the page had a use for it."""
        if event.key() == Qt.Key.Key_Escape:
            self.left.emit()
        else:
            super().keyPressEvent(event)
