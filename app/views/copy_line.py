"""A value that is copied elsewhere: its name, the value to be selected, and a button that copies it.

Owns: these widgets. Does not know what the value is.
"""

from PySide6.QtCore import QEvent, Qt, QTimer, Signal
from PySide6.QtGui import QGuiApplication, QResizeEvent, QTextOption
from PySide6.QtWidgets import QHBoxLayout, QLabel, QLineEdit, QPlainTextEdit, QPushButton, QWidget

COPIED_MS = 1500
FRAME_PX = 20
"""What a field has around its lines, above and below."""


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


class WrappedValue(QPlainTextEdit):
    """A read-only value that is broken wherever the line ends, so that all of it is seen, and copied unbroken."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("recipe")
        self.setReadOnly(True)
        self.setTabChangesFocus(True)
        self.setWordWrapMode(QTextOption.WrapMode.WrapAnywhere)
        for bar in (self.setHorizontalScrollBarPolicy, self.setVerticalScrollBarPolicy):
            bar(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.document().documentLayout().documentSizeChanged.connect(self._fit)
        self._fit()

    def _fit(self) -> None:
        # Its layout measures height in lines, broken ones counted.
        lines = max(1, round(self.document().size().height()))
        height = self.fontMetrics().lineSpacing() * lines + FRAME_PX
        if height != self.minimumHeight() or height != self.maximumHeight():
            self.setFixedHeight(height)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Another width breaks it elsewhere."""
        super().resizeEvent(event)
        self._fit()

    def changeEvent(self, event: QEvent) -> None:
        """Another font has other lines."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.FontChange, QEvent.Type.StyleChange):
            self._fit()


class CopyLine(QWidget):
    """`caption`: the value's name; it stands above it, where it is not placed elsewhere. `wraps`: all of it is to
    be seen, because it is compared."""

    def __init__(
        self, caption: str, what: str, parent: QWidget | None = None, *, wraps: bool = False
    ) -> None:
        super().__init__(parent)
        self.caption = QLabel(caption)
        self.caption.setProperty("muted", True)
        self._value = ""
        if wraps:
            self.field: QLineEdit | WrappedValue = WrappedValue()
        else:
            self.field = QLineEdit()
            self.field.setReadOnly(True)
        self.field.setAccessibleName(caption)
        self.caption.setBuddy(self.field)
        self.button = CopyButton(what)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(8)
        row.addWidget(self.field, 1)
        row.addWidget(self.button, 0, Qt.AlignmentFlag.AlignTop)

    def set_value(self, value: str) -> None:
        """Show and copy this."""
        if value != self._value:
            self._value = value
            if isinstance(self.field, QLineEdit):
                self.field.setText(value)
                self.field.setCursorPosition(0)
                self.field.setToolTip(value)
            else:
                self.field.setPlainText(value)
        self.button.set_text(value)

    def value(self) -> str:
        """What it shows."""
        return self._value
