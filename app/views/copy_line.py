"""A value that is copied elsewhere: its name, the value to be selected, and a button that copies it.

Owns: these widgets. Does not know what the value is.
"""

from PySide6.QtCore import QTimer, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QHBoxLayout, QLabel, QLineEdit, QPushButton, QWidget

COPIED_MS = 1500


class CopyButton(QPushButton):
    """Copies `text`, and says so for a moment."""

    copied = Signal()

    def __init__(self, what: str, parent: QWidget | None = None) -> None:
        """`what`: what is copied, for a screen reader: "the OpenAI base URL"."""
        super().__init__("Copy", parent)
        self._text = ""
        self.setAutoDefault(False)
        self.setAccessibleName(f"Copy {what}")
        self.setToolTip(f"Copy {what}")
        self._back = QTimer(self)
        self._back.setSingleShot(True)
        self._back.setInterval(COPIED_MS)
        self._back.timeout.connect(lambda: self.setText("Copy"))
        # "Copied" is the wider word; nothing moves for it.
        self.setText("Copied")
        self.setMinimumWidth(self.sizeHint().width())
        self.setText("Copy")
        self.clicked.connect(self._copy)

    def set_text(self, text: str) -> None:
        """What a click copies."""
        self._text = text
        self.setEnabled(bool(text))

    def _copy(self) -> None:
        QGuiApplication.clipboard().setText(self._text)
        self.setText("Copied")
        self._back.start()
        self.copied.emit()


class CopyLine(QWidget):
    """`caption`: the value's name; it stands above it, where it is not placed elsewhere."""

    def __init__(self, caption: str, what: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.caption = QLabel(caption)
        self.caption.setProperty("muted", True)
        self.field = QLineEdit()
        self.field.setReadOnly(True)
        self.field.setAccessibleName(caption)
        self.caption.setBuddy(self.field)
        self.button = CopyButton(what)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(8)
        row.addWidget(self.field, 1)
        row.addWidget(self.button)

    def set_value(self, value: str) -> None:
        """Show and copy this."""
        if value != self.field.text():
            self.field.setText(value)
            self.field.setCursorPosition(0)
            self.field.setToolTip(value)
        self.button.set_text(value)

    def value(self) -> str:
        """What it shows."""
        return self.field.text()
