"""A small button of plain words, for the margins of the text.

Owns: its painting, so that hundreds of them need no stylesheet. Does not know what it is for.
"""

from PySide6.QtCore import QRectF, QSize, Qt, QTimer
from PySide6.QtGui import QEnterEvent, QFontMetrics, QKeyEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QAbstractButton, QWidget

from app.page_style import PageStyle


class QuietButton(QAbstractButton):
    """Muted words; a tint under the mouse, a ring with the keyboard's focus. `strong`: with an outline.

    `filled`: it floats above text, which must not shine through.
    """

    def __init__(
        self,
        text: str,
        name: str,
        style: PageStyle,
        parent: QWidget,
        *,
        strong: bool = False,
        filled: bool = False,
        align: Qt.AlignmentFlag = Qt.AlignmentFlag.AlignHCenter,
    ) -> None:
        super().__init__(parent)
        self._style = style
        self._words = text
        self._strong = strong
        self._filled = filled
        self._align = align
        self.setText(text)
        self.setAccessibleName(name)
        if name != text:
            self.setToolTip(name)
        self._size: QSize | None = None
        self.setFont(style.small_font())
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self._back = QTimer(self)
        self._back.setSingleShot(True)
        self._back.timeout.connect(lambda: self.setText(self._words))

    def say_for(self, text: str, duration_ms: int) -> None:
        """Show other words for a while, also to a screen reader."""
        self.setText(text)
        self._back.start(duration_ms)

    def restyle(self, style: PageStyle) -> None:
        """Take another theme or zoom."""
        self._style = style
        self._size = None
        self.setFont(style.small_font())
        self.update()

    def sizeHint(self) -> QSize:
        # Asked for at every arranging of a page, of which one may hold a hundred buttons.
        if self._size is None:
            self._size = self._measured()
        return self._size

    def _measured(self) -> QSize:
        metrics = QFontMetrics(self.font())
        grid = self._style.theme.grid
        longest = max(self._words, "Copied" if self._words == "Copy" else "", key=len)
        padding = (3 if self._strong else 2) * grid
        return QSize(metrics.horizontalAdvance(longest) + padding, metrics.height() + grid)

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
        box = QRectF(self.rect()).adjusted(1, 1, -1, -1)
        hot = self.underMouse() and self.isEnabled()
        if hot or self._filled or self.isDown():
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(theme.border if self.isDown() else theme.surface if hot else theme.background)
            painter.drawRoundedRect(box, theme.radius / 2, theme.radius / 2)
        if self.hasFocus() or self._strong:
            painter.setBrush(Qt.BrushStyle.NoBrush)
            colour = theme.accent if self.hasFocus() else theme.border
            painter.setPen(QPen(colour, 2 if self.hasFocus() else 1))
            painter.drawRoundedRect(box, theme.radius / 2, theme.radius / 2)
        painter.setFont(self.font())
        if not self.isEnabled():
            colour = theme.muted if self._strong else theme.border
        else:
            colour = theme.text if hot or self._strong or self.hasFocus() else theme.muted
        painter.setPen(colour)
        box = self.rect().adjusted(theme.grid, 0, -theme.grid, 0)
        painter.drawText(box, self._align | Qt.AlignmentFlag.AlignVCenter, self.text())
