"""One line of text that gives way: what does not fit is left out, and told by its tooltip.

Owns: drawing and size of such a line. A new text never asks for a new layout, so that what changes several times a
second moves nothing else.
"""

from PySide6.QtCore import QEvent, QSize, Qt
from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import QLabel, QSizePolicy, QWidget

from app.wrapping import breakable


class ElidedLine(QLabel):
    """A label whose text is elided at the end, or in the middle as paths are."""

    def __init__(
        self, mode: Qt.TextElideMode = Qt.TextElideMode.ElideRight, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._mode = mode
        self._words = ""
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def set_words(self, words: str) -> None:
        """Show these."""
        words = " ".join(words.split())
        if words != self._words:
            self._words = words
            self.setToolTip(breakable(words))
            self.setAccessibleName(words)
            self.update()

    def words(self) -> str:
        """All of them."""
        return self._words

    def sizeHint(self) -> QSize:
        """One line; the width is what there is."""
        return QSize(self.fontMetrics().horizontalAdvance(self._words), self.fontMetrics().height())

    def minimumSizeHint(self) -> QSize:
        """One line, however narrow."""
        return QSize(0, self.fontMetrics().height())

    def changeEvent(self, event: QEvent) -> None:
        """Another font is another height."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.FontChange, QEvent.Type.StyleChange):
            self.updateGeometry()

    def paintEvent(self, _event: QPaintEvent) -> None:
        """The words that fit."""
        painter = QPainter(self)
        area = self.contentsRect()
        shown = self.fontMetrics().elidedText(self._words, self._mode, area.width())
        painter.setPen(self.palette().color(self.foregroundRole()))
        painter.drawText(area, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, shown)
