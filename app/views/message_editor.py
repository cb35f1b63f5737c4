"""The editor that opens in the place of a message.

Owns: one text field with Ask again and Cancel, and the line that says what asking again costs. Does not know what
becomes of the text, nor who tells the cost.
"""

from PySide6.QtCore import QRectF, Qt, Signal
from PySide6.QtGui import QKeyEvent, QPainter, QPaintEvent, QPen, QResizeEvent, QTextCursor
from PySide6.QtWidgets import QFrame, QLabel, QPlainTextEdit, QWidget

from app.page_style import PageStyle
from app.views.quiet_button import QuietButton

LONGEST_LINES = 16
"""The field grows to this many lines, then scrolls."""


class _Field(QPlainTextEdit):
    save_pressed = Signal()
    cancel_pressed = Signal()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape:
            self.cancel_pressed.emit()
        elif (
            event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter)
            and event.modifiers() & Qt.KeyboardModifier.ControlModifier
        ):
            self.save_pressed.emit()
        else:
            super().keyPressEvent(event)


class MessageEditor(QWidget):
    """Edits `text`. Ctrl+Enter or Ask again gives it back, Escape or Cancel gives up."""

    saved = Signal(str)
    cancelled = Signal()
    height_changed = Signal()

    def __init__(self, text: str, style: PageStyle, parent: QWidget) -> None:
        super().__init__(parent)
        self._style = style
        self.field = _Field(self)
        self.field.setObjectName("messageEditor")
        self.field.setAccessibleName("Edit message")
        self.field.setFrameShape(QFrame.Shape.NoFrame)
        self.field.setTabChangesFocus(True)
        self.field.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.field.viewport().setAutoFillBackground(False)
        self.save_button = QuietButton(
            "Ask again",
            "Ask this instead; the earlier question and its answer stay (Ctrl+Enter)",
            style,
            self,
            strong=True,
        )
        self.cancel_button = QuietButton("Cancel", "Leave the message as it was", style, self)
        self.cost = QLabel(self)
        self.cost.setTextFormat(Qt.TextFormat.PlainText)
        self.cost.setWordWrap(True)
        self.cost.setProperty("muted", True)
        self.cost.setAlignment(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft)
        self.field.setPlainText(text)
        self.field.moveCursor(QTextCursor.MoveOperation.End)
        self.field.save_pressed.connect(self._save)
        self.field.cancel_pressed.connect(self.cancelled)
        self.save_button.clicked.connect(self._save)
        self.cancel_button.clicked.connect(self.cancelled)
        self.field.textChanged.connect(self._text_changed)
        self.restyle(style)
        self._text_changed()

    def restyle(self, style: PageStyle) -> None:
        """Take another theme or zoom; the text stays."""
        self._style = style
        self.field.setFont(style.text_font)
        self.field.setPalette(style.palette)
        self.save_button.restyle(style)
        self.cancel_button.restyle(style)
        palette = style.palette
        palette.setColor(palette.ColorRole.WindowText, style.theme.muted)
        self.cost.setPalette(palette)
        self.cost.setFont(style.small_font())
        self.update()

    def set_cost(self, words: str) -> None:
        """What asking again costs before the answer begins; "" while that is not known."""
        sentence = f"Asking again: {words}" if words else ""
        if sentence != self.cost.text():
            self.cost.setText(sentence)
            self.cost.setAccessibleName(sentence)
            self.save_button.setAccessibleDescription(sentence)
            self._arrange()
            self.height_changed.emit()

    def height_for(self, width: int) -> int:
        """The height that the text asks for in `width` pixels, up to `LONGEST_LINES`."""
        grid = self._style.theme.grid
        per_line = max(8, int((width - 4 * grid) / (self._style.theme.base_px * 0.55)))
        text = self.field.toPlainText()
        lines = sum(1 + len(line) // per_line for line in text[:4000].split("\n"))
        # +1: room to write the next line without the field growing under the hand.
        shown = min(LONGEST_LINES, max(2, lines + 1))
        return (
            round(shown * self.field.fontMetrics().lineSpacing())
            + 3 * grid
            + self.save_button.sizeHint().height()
            + grid
            + self._cost_px(width)
        )

    def _beside_px(self, width: int) -> int:
        """The room at the left of the buttons."""
        buttons_px = self.save_button.sizeHint().width() + self.cancel_button.sizeHint().width()
        return width - buttons_px - 5 * self._style.theme.grid

    def _cost_px(self, width: int) -> int:
        """What the cost adds to the height: nothing where it fits at the left of the buttons."""
        if not self.cost.text() or self.cost.sizeHint().width() <= self._beside_px(width):
            return 0
        grid = self._style.theme.grid
        return self.cost.heightForWidth(width - 4 * grid) + grid

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._arrange()

    def _arrange(self) -> None:
        grid = self._style.theme.grid
        save, cancel = self.save_button.sizeHint(), self.cancel_button.sizeHint()
        row = self.height() - save.height() - grid
        right = self.width() - grid
        self.save_button.setGeometry(right - save.width(), row, save.width(), save.height())
        self.cancel_button.setGeometry(
            right - save.width() - grid - cancel.width(), row, cancel.width(), cancel.height()
        )
        above = self._cost_px(self.width())
        self.field.setGeometry(grid, grid, self.width() - 2 * grid, row - 2 * grid - above)
        if above:
            self.cost.setGeometry(2 * grid, row - above, self.width() - 4 * grid, above - grid)
        else:
            self.cost.setGeometry(2 * grid, row, max(0, self._beside_px(self.width())), save.height())

    def paintEvent(self, _event: QPaintEvent) -> None:
        theme = self._style.theme
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(theme.accent, 2))
        painter.setBrush(theme.background)
        painter.drawRoundedRect(QRectF(self.rect()).adjusted(1, 1, -1, -1), theme.radius, theme.radius)

    def _save(self) -> None:
        if self.save_button.isEnabled():
            self.saved.emit(self.field.toPlainText())

    def _text_changed(self) -> None:
        self.save_button.setEnabled(bool(self.field.toPlainText().strip()))
        self.height_changed.emit()
