"""The line above the composer that says where a conversation goes, while another machine computes the model.

Owns: the icon and the sentence; the words carry it, the icon is beside them. Hidden while the model runs here.
"""

from PySide6.QtCore import Qt
from PySide6.QtGui import QAccessible, QAccessibleEvent, QFontMetrics
from PySide6.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QWidget

from app.icons import pixmap
from app.theme import Theme
from app.views.style import CHROME_SCALE
from app.wrapping import breakable

ICON_PX = 16


class AwayLine(QWidget):
    """One sentence."""

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._picture = QLabel()
        self._label = QLabel()
        self._label.setTextFormat(Qt.TextFormat.PlainText)
        self._label.setWordWrap(True)
        policy = QSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Minimum)
        policy.setHeightForWidth(True)  # a new policy forgets it, and a narrow window would cut the sentence
        self._label.setSizePolicy(policy)
        row = QHBoxLayout(self)
        row.setContentsMargins(8, 0, 8, 0)
        row.setSpacing(8)
        row.addWidget(self._picture, 0, Qt.AlignmentFlag.AlignTop)
        row.addWidget(self._label, 1)
        self.set_theme(theme)
        self.hide()

    def set_theme(self, theme: Theme) -> None:
        """Follow the window's look."""
        self._picture.setPixmap(pixmap("away", theme.accent, ICON_PX, self.devicePixelRatioF()))
        # In the middle of the first line, however large that is.
        line_px = QFontMetrics(theme.text_font(CHROME_SCALE)).height()
        self._picture.setFixedHeight(max(ICON_PX, line_px))

    def say(self, sentence: str) -> None:
        """Show this; "" hides it."""
        is_news = bool(sentence) and not self.isVisible()
        if sentence != self.text():
            self._label.setText(breakable(sentence))
            self._label.setAccessibleName(sentence)
            self.setAccessibleName(sentence)
        self.setVisible(bool(sentence))
        if is_news:
            # Who does not see it come is told of it, once; not of each cost.
            QAccessible.updateAccessibility(QAccessibleEvent(self._label, QAccessible.Event.Alert))

    def text(self) -> str:
        """What it says."""
        return self._label.accessibleName()
