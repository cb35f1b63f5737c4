"""The one place where the window says that something went wrong, or can be undone.

Owns: a short stack of sentences, each with two buttons at most and a way to dismiss it. Does not know what
they mean; a sentence with the same key replaces the earlier one.
"""

from collections.abc import Callable
from typing import Literal

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QAccessible, QAccessibleEvent, QResizeEvent
from PySide6.QtWidgets import (
    QFrame,
    QGridLayout,
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
from app.wrapping import breakable

MOST = 3
SPACING_PX = 6
NARROW_PX = 420
LEAST_SENTENCE_PX = 330
"""What a sentence has beside its buttons, at least; where there is less, they stand below it."""
Kind = Literal["error", "info"]
KIND_NAMES = {"error": "Problem", "info": "Note"}


class Notice(QFrame):
    """One sentence."""

    dismissed = Signal()

    def __init__(
        self,
        kind: Kind,
        sentence: str,
        buttons: list[tuple[str, Callable[[], None] | None]],
        theme: Theme,
    ) -> None:
        super().__init__()
        self.kind: Kind = kind
        self.setObjectName("notice")
        self.setProperty("kind", kind)
        self._picture = QLabel()
        self._picture.setAccessibleName(KIND_NAMES[kind])
        self.sentence = sentence
        self.label = QLabel(breakable(sentence))
        self.label.setTextFormat(Qt.TextFormat.PlainText)
        self.label.setWordWrap(True)
        self.label.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
        )
        policy = QSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Minimum)
        policy.setHeightForWidth(True)  # a new policy forgets it, and a narrow window would cut the sentence
        self.label.setSizePolicy(policy)
        self.label.setAccessibleName(f"{KIND_NAMES[kind]}: {sentence}")
        self._narrow = False
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(12, 6, 6, 6)
        self._grid.setHorizontalSpacing(10)
        self._grid.setVerticalSpacing(6)
        self._grid.setColumnStretch(1, 1)
        self._grid.addWidget(self._picture, 0, 0)
        self._grid.addWidget(self.label, 0, 1)
        self.buttons: list[QPushButton] = []
        self._foot = QWidget()
        row = QHBoxLayout(self._foot)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(6)
        for text, on_click in buttons:
            button = QPushButton(text)
            button.clicked.connect(self.dismissed.emit)
            if on_click:
                button.clicked.connect(on_click)
            row.addWidget(button)
            self.buttons.append(button)
        if buttons:
            self._grid.addWidget(self._foot, 0, 2)
        else:
            self._foot.hide()
        self.close_button = QToolButton()
        self.close_button.setAccessibleName("Dismiss")
        self.close_button.setToolTip("Dismiss")
        self.close_button.clicked.connect(self.dismissed.emit)
        self._grid.addWidget(self.close_button, 0, 3)
        self.set_theme(theme)

    @property
    def button(self) -> QPushButton | None:
        """The first one."""
        return self.buttons[0] if self.buttons else None

    def set_theme(self, theme: Theme) -> None:
        """Tint the pictures."""
        name, colour = ("warning", theme.danger) if self.kind == "error" else ("info", theme.muted)
        self._picture.setPixmap(pixmap(name, colour, 16, self.devicePixelRatioF()))
        self.close_button.setIcon(icon("close", theme.muted))

    @property
    def buttons_px(self) -> int:
        """The width that its buttons want."""
        return self._foot.sizeHint().width() if self.buttons else 0

    def set_narrow(self, narrow: bool) -> None:
        """The buttons stand below the sentence, which needs the width."""
        if self.buttons and narrow != self._narrow:
            self._narrow = narrow
            self._grid.removeWidget(self._foot)
            if narrow:
                self._grid.addWidget(self._foot, 1, 1, Qt.AlignmentFlag.AlignLeft)
            else:
                self._grid.addWidget(self._foot, 0, 2)


class NoticeBar(QWidget):
    """At most MOST sentences, the newest below. Without room for all, the older ones wait for it."""

    left = Signal()
    """A notice that had the keyboard's focus is gone: somebody else should take it."""

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName("Notices")
        self._theme = theme
        self._notices: dict[str, Notice] = {}
        self._room_px = 100_000  # until it is told
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(SPACING_PX)
        self.hide()

    def set_theme(self, theme: Theme) -> None:
        """Follow the window's look."""
        self._theme = theme
        for notice in self._notices.values():
            notice.set_theme(theme)

    def set_room(self, room_px: int) -> None:
        """How high it may become."""
        self._room_px = room_px
        self._fit()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Another width breaks the sentences elsewhere."""
        super().resizeEvent(event)
        self._fit()

    def tell(
        self,
        key: str,
        sentence: str,
        *,
        kind: Kind = "error",
        button: str = "",
        on_button: Callable[[], None] | None = None,
        second: str = "",
        on_second: Callable[[], None] | None = None,
    ) -> None:
        """Show `sentence` until it is dismissed or another one comes under `key`."""
        self.dismiss(key)
        while len(self._notices) >= MOST:
            self.dismiss(next(iter(self._notices)))
        buttons = [(text, slot) for text, slot in ((button, on_button), (second, on_second)) if text]
        notice = Notice(kind, sentence, buttons, self._theme)
        notice.dismissed.connect(lambda: self._dismissed(key, notice))
        self._notices[key] = notice
        self._column.addWidget(notice)
        self.show()
        self._fit()
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
        self._fit()

    def sentences(self) -> list[str]:
        """What is shown, oldest first."""
        return [notice.sentence for notice in self._notices.values()]

    def notice(self, key: str) -> Notice | None:
        """The notice under `key`."""
        return self._notices.get(key)

    def _fit(self) -> None:
        """A sentence is shown whole or not yet; the newest always."""
        left_px = self._room_px
        for number, notice in enumerate(reversed(self._notices.values())):
            beside_px = self.width() - notice.buttons_px
            notice.set_narrow(self.width() < NARROW_PX or beside_px < LEAST_SENTENCE_PX)
            left_px -= notice.heightForWidth(self.width()) + SPACING_PX
            notice.setVisible(number == 0 or left_px >= 0)

    def _dismissed(self, key: str, notice: Notice) -> None:
        if self._notices.get(key) is notice:
            self.dismiss(key)
