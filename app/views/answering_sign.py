"""The sign in the status line while another program is being answered: who, how far, and a way to end it.

Owns: the two buttons. Hidden while nobody is. Does not know the wire's shapes: it is made before the first paint.
"""

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QHBoxLayout, QSizePolicy, QToolButton, QWidget

from app.icons import icon
from app.theme import Theme

MOST_WORDS_PX = 400
LEAST_WORDS_PX = 40
AROUND_WORDS_PX = 40
"""Icon, padding and frame of the button with the words."""


class AnsweringSign(QWidget):
    """Says whom the engine answers; a click on it leads to all of them."""

    opened = Signal()
    end_requested = Signal()

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._words = ""
        self.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Other programs")
        self.words_button = QToolButton()
        self.words_button.setObjectName("signWords")
        self.words_button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.words_button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.end_button = QToolButton()
        self.end_button.setObjectName("signEnd")
        self.end_button.setText("End")
        self.words_button.setAccessibleName("Other programs")
        for button in (self.words_button, self.end_button):
            button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.words_button.clicked.connect(self.opened)
        self.end_button.clicked.connect(self.end_requested)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        row.addWidget(self.words_button, 1)
        row.addWidget(self.end_button)
        self.set_theme(theme)
        self.hide()

    def set_theme(self, theme: Theme) -> None:
        """Follow the window's look."""
        self.words_button.setIcon(icon("programs", theme.muted))
        self._elide()

    def say(self, words: str, program: str) -> None:
        """Show these; "" hides it. `program`: whose answer End ends."""
        self.setVisible(bool(words))
        if words == self._words:
            return
        self._words = words
        self.words_button.setToolTip(f"{words}\nOpens the page on other programs.")
        self.words_button.setAccessibleName(f"Another program is answered. {words}")
        self.end_button.setToolTip(f"End the answer to {program}")
        self.end_button.setAccessibleName(f"End the answer to {program}")
        self._elide()
        self.updateGeometry()

    def words(self) -> str:
        """All of what it says."""
        return self._words

    def sizeHint(self) -> QSize:
        """Words of MOST_WORDS_PX at most, and the button."""
        return self._size(min(MOST_WORDS_PX, self.fontMetrics().horizontalAdvance(self._words) + 2))

    def minimumSizeHint(self) -> QSize:
        """Long words give way."""
        return self._size(LEAST_WORDS_PX)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Another width has other words in it."""
        super().resizeEvent(event)
        self._elide()

    def _size(self, words_px: int) -> QSize:
        end = self.end_button.sizeHint()
        return QSize(words_px + AROUND_WORDS_PX + 4 + end.width(), end.height())

    def _elide(self) -> None:
        room = max(LEAST_WORDS_PX, self.words_button.width() - AROUND_WORDS_PX)
        shown = self.fontMetrics().elidedText(self._words, Qt.TextElideMode.ElideRight, room)
        self.words_button.setText(shown)
