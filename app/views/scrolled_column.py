"""A column in the middle of a page, that scrolls where it is too high.

Owns: its width, and that it is no higher than what stands in it.
"""

from PySide6.QtCore import QPoint, QSize, Qt, QTimer
from PySide6.QtWidgets import QFrame, QHBoxLayout, QScrollArea, QVBoxLayout, QWidget

SIDE_PX = 16
MOMENT_MS = 1000
ABOVE_PX = 8
"""Left free above what is brought to the top."""


class ScrolledColumn(QScrollArea):
    """Fill `rows`; `set_most_px` says how wide it may become."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("scrolledColumn")
        self._column = QWidget()
        self.rows = QVBoxLayout(self._column)
        self._inner = _Inner()
        row = QHBoxLayout(self._inner)
        row.setContentsMargins(SIDE_PX, 0, SIDE_PX, 0)
        row.addStretch(1)
        row.addWidget(self._column, 1000)
        row.addStretch(1)
        self.setWidget(self._inner)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAsNeeded)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._up: QWidget | None = None
        self._soon, self._moment = QTimer(self), QTimer(self)
        for timer, interval_ms, slot in (
            (self._soon, 0, self._bring_up),
            (self._moment, MOMENT_MS, self._let_go),
        ):
            timer.setSingleShot(True)
            timer.setInterval(interval_ms)
            timer.timeout.connect(slot)
        self.verticalScrollBar().rangeChanged.connect(lambda: self._soon.start())
        self.verticalScrollBar().actionTriggered.connect(self._let_go)

    def set_most_px(self, width_px: int) -> None:
        """Wider than this it does not become."""
        self._column.setMaximumWidth(width_px)

    def bring_up(self, part: QWidget) -> None:
        """Scroll so that `part` stands at the top, as far as there is something below it.

        What is above it may still be growing: for a moment it is followed, unless somebody scrolls.
        """
        self._up = part
        self._moment.start()
        self._bring_up()

    def _bring_up(self) -> None:
        if self._up is not None:
            self.verticalScrollBar().setValue(self._up.mapTo(self._inner, QPoint()).y() - ABOVE_PX)

    def _let_go(self) -> None:
        self._up = None


class _Inner(QWidget):
    def minimumSizeHint(self) -> QSize:
        """The least height of lines that wrap is that of a narrow column; what counts is this one's width."""
        least = super().minimumSizeHint()
        return QSize(least.width(), 0) if self.hasHeightForWidth() else least
