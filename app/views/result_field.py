"""The box in which the result of a call is written.

Owns: one growing text field. Does not know the call.
"""

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QPlainTextEdit, QWidget

from app.page_style import PageStyle
from app.views.part_column import RigidPart

LEAST_LINES, MOST_LINES = 2, 10
_NEWLINES = str.maketrans({"\u2028": "\n", "\u2029": "\n"})


class ResultField(RigidPart, QPlainTextEdit):
    """Plain text; Ctrl+Enter sends."""

    send_pressed = Signal()
    grown = Signal()

    def __init__(self, name: str, style: PageStyle, parent: QWidget) -> None:
        super().__init__(parent)
        self.setObjectName("resultField")
        self.setAccessibleName(name)
        self.setPlaceholderText(name)
        self.setToolTip("Ctrl+Enter sends the results.")
        self.setTabChangesFocus(True)
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.restyle(style)
        self._lines = self._shown_lines()
        self.textChanged.connect(self._text_changed)

    def plain_text(self) -> str:
        """The text, character for character: no-break spaces stay what they are."""
        return self.document().toRawText().translate(_NEWLINES)

    def restyle(self, style: PageStyle) -> None:
        """Take another theme or zoom; the text stays."""
        self._style = style
        self.setFont(style.code_font)
        self.setPalette(style.palette)

    def height_for(self, _width: int, /) -> int:
        return round(self._shown_lines() * self.fontMetrics().lineSpacing()) + 3 * self._style.theme.grid

    def keyPressEvent(self, event: QKeyEvent) -> None:
        enter = event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter)
        if enter and event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            self.send_pressed.emit()
        else:
            super().keyPressEvent(event)

    def _shown_lines(self) -> int:
        # Its layout measures height in lines, broken ones counted.
        return min(MOST_LINES, max(LEAST_LINES, round(self.document().size().height())))

    def _text_changed(self) -> None:
        lines = self._shown_lines()
        if lines != self._lines:
            self._lines = lines
            self.grown.emit()
