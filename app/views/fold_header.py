"""The line that opens and closes a part of a message.

Owns: its painting, its keys, and what it tells a screen reader. Does not know what it opens.
"""

from PySide6.QtCore import QRect, QRectF, QSize, Qt
from PySide6.QtGui import QEnterEvent, QFontMetrics, QKeyEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QAbstractButton, QWidget

from app.icons import icon
from app.page_style import PageStyle
from app.views.part_column import RigidPart

CHEVRON_PX = 12


class FoldHeader(RigidPart, QAbstractButton):
    """A chevron and muted words; checked while what it belongs to is open."""

    def __init__(self, style: PageStyle, parent: QWidget, *, opened: bool) -> None:
        super().__init__(parent)
        self._style = style
        self._name = ""
        self.setCheckable(True)
        self.setChecked(opened)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.setFont(style.small_font())
        self.toggled.connect(self._tell_state)

    def set_words(self, words: str, name: str = "") -> None:
        """What it says; `name` is what a screen reader says, where that should not change as often."""
        if words != self.text():
            self.setText(words)
        self._name = name or words
        self._tell_state()

    def _tell_state(self) -> None:
        self.setAccessibleName(f"{self._name}, {'open' if self.isChecked() else 'closed'}")
        self.setAccessibleDescription("Closes this part" if self.isChecked() else "Opens this part")

    def restyle(self, style: PageStyle) -> None:
        self._style = style
        self.setFont(style.small_font())
        self.update()

    def height_for(self, _width: int, /) -> int:
        return QFontMetrics(self.font()).height() + self._style.theme.grid

    def sizeHint(self) -> QSize:
        return QSize(self._words_px + CHEVRON_PX + self._style.theme.grid, self.height_px)

    @property
    def _words_px(self) -> int:
        return QFontMetrics(self.font()).horizontalAdvance(self.text())

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.click()
        elif event.key() == Qt.Key.Key_Space:
            super().keyPressEvent(event)
        else:
            event.ignore()  # arrows scroll the page; they do not walk between buttons

    def enterEvent(self, event: QEnterEvent) -> None:
        super().enterEvent(event)
        self.update()

    def paintEvent(self, _event: QPaintEvent) -> None:
        theme = self._style.theme
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        hot = self.underMouse() or self.hasFocus()
        colour = theme.text if hot else theme.muted
        picture = icon("chevron-down" if self.isChecked() else "chevron-right", colour, size_px=CHEVRON_PX)
        picture.paint(painter, QRect(2, (self.height() - CHEVRON_PX) // 2, CHEVRON_PX, CHEVRON_PX))
        painter.setFont(self.font())
        painter.setPen(colour)
        left = CHEVRON_PX + theme.grid // 2  # in line with what opens below it
        area = self.rect().adjusted(left, 0, 0, 0)
        words = QFontMetrics(self.font()).elidedText(self.text(), Qt.TextElideMode.ElideRight, area.width())
        painter.drawText(area, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, words)
        if self.hasFocus():
            painter.setPen(QPen(theme.accent, 2))
            ring = QRectF(1, 1, min(self.width(), left + self._words_px + theme.grid) - 2, self.height() - 2)
            painter.drawRoundedRect(ring, theme.radius / 2, theme.radius / 2)
