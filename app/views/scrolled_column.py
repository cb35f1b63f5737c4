"""A column in the middle of a page, that scrolls where it is too high.

Owns: its width, and that it is no higher than what stands in it.
"""

from PySide6.QtCore import QPoint, QSize, Qt
from PySide6.QtWidgets import QFrame, QHBoxLayout, QScrollArea, QVBoxLayout, QWidget

SIDE_PX = 16
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

    def set_most_px(self, width_px: int) -> None:
        """Wider than this it does not become."""
        self._column.setMaximumWidth(width_px)

    def bring_up(self, part: QWidget) -> None:
        """Scroll so that `part` stands at the top, as far as there is something below it."""
        self.verticalScrollBar().setValue(part.mapTo(self._inner, QPoint()).y() - ABOVE_PX)


class _Inner(QWidget):
    def minimumSizeHint(self) -> QSize:
        """The least height of lines that wrap is that of a narrow column; what counts is this one's width."""
        return QSize(super().minimumSizeHint().width(), 0)
