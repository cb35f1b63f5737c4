"""The one place where the window says that something went wrong, or can be undone.

Owns: a short stack of sentences, each with at most one button and a way to dismiss it. Does not know what
they mean; a sentence with the same key replaces the earlier one.
"""

from collections.abc import Callable
from typing import Literal

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QAccessible, QAccessibleEvent
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from app.icons import icon, pixmap
from app.theme import Theme

MOST = 3
Kind = Literal["error", "info"]
KIND_NAMES = {"error": "Problem", "info": "Note"}


class Notice(QFrame):
    """One sentence."""

    dismissed = Signal()

    def __init__(
        self, kind: Kind, sentence: str, button: str, on_button: Callable[[], None] | None, theme: Theme
    ) -> None:
        super().__init__()
        self.kind: Kind = kind
        self.setObjectName("notice")
        self.setProperty("kind", kind)
        self._picture = QLabel()
        self._picture.setAccessibleName(KIND_NAMES[kind])
        self.label = QLabel(sentence)
        self.label.setTextFormat(Qt.TextFormat.PlainText)
        self.label.setWordWrap(True)
        self.label.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
        )
        self.label.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Minimum)
        self.label.setAccessibleName(f"{KIND_NAMES[kind]}: {sentence}")
        row = QHBoxLayout(self)
        row.setContentsMargins(12, 6, 6, 6)
        row.setSpacing(10)
        row.addWidget(self._picture)
        row.addWidget(self.label, 1)
        self.button: QPushButton | None = None
        if button:
            self.button = QPushButton(button)
            self.button.clicked.connect(self.dismissed.emit)
            if on_button:
                self.button.clicked.connect(on_button)
            row.addWidget(self.button)
        self.close_button = QToolButton()
        self.close_button.setAccessibleName("Dismiss")
        self.close_button.setToolTip("Dismiss")
        self.close_button.clicked.connect(self.dismissed.emit)
        row.addWidget(self.close_button)
        self.set_theme(theme)

    def set_theme(self, theme: Theme) -> None:
        """Tint the pictures."""
        name, colour = ("warning", theme.danger) if self.kind == "error" else ("info", theme.muted)
        self._picture.setPixmap(pixmap(name, colour, 16, self.devicePixelRatioF()))
        self.close_button.setIcon(icon("close", theme.muted))


class NoticeBar(QWidget):
    """At most MOST sentences, the newest below."""

    left = Signal()
    """A notice that had the keyboard's focus is gone: somebody else should take it."""

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName("Notices")
        self._theme = theme
        self._notices: dict[str, Notice] = {}
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(6)
        self.hide()

    def set_theme(self, theme: Theme) -> None:
        """Follow the window's look."""
        self._theme = theme
        for notice in self._notices.values():
            notice.set_theme(theme)

    def tell(
        self,
        key: str,
        sentence: str,
        *,
        kind: Kind = "error",
        button: str = "",
        on_button: Callable[[], None] | None = None,
    ) -> None:
        """Show `sentence` until it is dismissed or another one comes under `key`."""
        self.dismiss(key)
        while len(self._notices) >= MOST:
            self.dismiss(next(iter(self._notices)))
        notice = Notice(kind, sentence, button, on_button, self._theme)
        notice.dismissed.connect(lambda: self._dismissed(key, notice))
        self._notices[key] = notice
        self._column.addWidget(notice)
        self.show()
        QAccessible.updateAccessibility(QAccessibleEvent(notice.label, QAccessible.Event.Alert))

    def dismiss(self, key: str) -> None:
        """Take the sentence under `key` away, if it is there."""
        notice = self._notices.pop(key, None)
        if notice is not None:
            had_focus = any(part.hasFocus() for part in notice.findChildren(QWidget))
            self._column.removeWidget(notice)
            notice.hide()
            notice.deleteLater()
            if had_focus:
                self.left.emit()
        self.setVisible(bool(self._notices))

    def sentences(self) -> list[str]:
        """What is shown, oldest first."""
        return [notice.label.text() for notice in self._notices.values()]

    def notice(self, key: str) -> Notice | None:
        """The notice under `key`."""
        return self._notices.get(key)

    def _dismissed(self, key: str, notice: Notice) -> None:
        if self._notices.get(key) is notice:
            self.dismiss(key)
