"""What runs in the library, as a quiet line with a bar that is always in sight; a click leads there.

Owns: the strip. Hidden while nothing runs. Does not know jobs: their shapes take time to import, and this is made
before the first paint.
"""

from PySide6.QtCore import QSize, Qt
from PySide6.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from app.views.elided_line import ElidedLine

BAR_STEPS = 1000


class JobStrip(QPushButton):
    """One line and one bar."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("jobStrip")
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("What is under way")
        self.line = ElidedLine()
        self.share = QLabel()
        self.share.setTextFormat(Qt.TextFormat.PlainText)
        self.bar = QProgressBar()
        self.bar.setRange(0, BAR_STEPS)
        self.bar.setTextVisible(False)
        for part in (self.line, self.share, self.bar):
            part.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(8, 8, 8, 8)
        self._column.setSpacing(6)
        head = QHBoxLayout()
        head.setSpacing(8)
        head.addWidget(self.line, 1)
        head.addWidget(self.share)
        self._column.addLayout(head)
        self._column.addWidget(self.bar)
        self.hide()

    def sizeHint(self) -> QSize:
        """Line and bar; a button asks for its text alone."""
        return self._column.sizeHint()

    def minimumSizeHint(self) -> QSize:
        """Line and bar, however narrow."""
        return self._column.minimumSize()

    def show_words(self, words: str, explanation: str, share: float, more: int = 0) -> None:
        """`words` and how much is done, 0 to 1; "" hides it. `more`: so many others run as well."""
        self.setVisible(bool(words))
        if words:
            self.line.set_words(words)
            self.bar.setValue(round(share * BAR_STEPS))
            self.share.setText(f"{share:.0%}" + (f" +{more}" if more else ""))
            if explanation != self.toolTip():
                self.setToolTip(explanation)
                self.setAccessibleName(explanation)
