"""A heading and the cards beneath it.

Owns: making cards a few at a time, so that two hundred do not hold the window up; showing news on the card that is
there already, so that nothing moves and the keyboard stays where it is; what is said while there are none. Does not
know what a card is about.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from PySide6.QtCore import QElapsedTimer, Qt, QTimer, Signal
from PySide6.QtWidgets import QFrame, QLabel, QSizePolicy, QVBoxLayout, QWidget

BUDGET_MS = 12
"""Cards are made for so long, then the event loop has its turn."""
SPACING_PX = 8


class Entry(Protocol):
    """What a card shows; equal entries look equal."""


class Card(QFrame):
    """A framed thing in a list."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("card")
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)

    def show_entry(self, entry: Any) -> None:
        """Show the latest of it."""
        raise NotImplementedError

    def focusable(self) -> list[QWidget]:
        """What Tab stops at, in order."""
        return [
            child
            for child in self.findChildren(QWidget)
            if child.focusPolicy() & Qt.FocusPolicy.TabFocus and not isinstance(child, QLabel)
        ]


class CardList(QWidget):
    """Cards by key. `make`: the card of an entry; it shows it already."""

    filled = Signal()
    """Every entry has its card."""
    focus_lost = Signal()
    """A card that had the keyboard is gone."""

    def __init__(self, title: str, make: Callable[[Any], Card], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._make = make
        self._wanted: list[tuple[str, Any]] = []
        self._shown: dict[str, Any] = {}
        self.cards: dict[str, Card] = {}
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(0)
        self._timer.timeout.connect(self._fill)
        self.title = QLabel(title)
        self.title.setObjectName("sectionTitle")
        self.empty_title = QLabel()
        self.empty_text = QLabel()
        for label in (self.empty_title, self.empty_text):
            label.setTextFormat(Qt.TextFormat.PlainText)
            label.setWordWrap(True)
            label.setProperty("muted", True)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(SPACING_PX)
        self._cards = QVBoxLayout()
        self._cards.setSpacing(SPACING_PX)
        self._column.addWidget(self.title)
        self._column.addWidget(self.empty_title)
        self._column.addWidget(self.empty_text)
        self._column.addLayout(self._cards)
        self.setAccessibleName(title)
        self.title.setVisible(bool(title))
        self.say_when_empty("", "")

    def say_when_empty(self, title: str, text: str) -> None:
        """What stands here while there are no cards."""
        self.empty_title.setText(title)
        self.empty_text.setText(text)
        self._show_empty()

    def show_entries(self, entries: Sequence[tuple[str, Any]]) -> None:
        """(key, entry) of each, in order. Cards that are there are changed where they stand."""
        self._wanted = list(entries)
        wanted = dict(self._wanted)
        for key in [key for key in self.cards if key not in wanted]:
            self._drop(key)
        for key, entry in self._wanted:
            card = self.cards.get(key)
            if card is not None and self._shown[key] != entry:
                self._shown[key] = entry
                card.show_entry(entry)
        self._show_empty()
        if len(self.cards) < len(wanted) or not self._is_in_order():
            self._fill()

    def _is_in_order(self) -> bool:
        return list(self.cards) == [key for key, _ in self._wanted]

    def _fill(self) -> None:
        clock = QElapsedTimer()
        clock.start()
        made = False
        for place, (key, entry) in enumerate(self._wanted):
            card = self.cards.get(key)
            if card is None:
                if made and clock.elapsed() >= BUDGET_MS:
                    self._timer.start()
                    return
                card = self.cards[key] = self._make(entry)
                self._shown[key] = entry
                self._cards.insertWidget(place, card)
                made = True
            elif self._cards.indexOf(card) != place:
                self._cards.removeWidget(card)
                self._cards.insertWidget(place, card)
        self.cards = {key: self.cards[key] for key, _ in self._wanted}
        self._order_tabs()
        self.filled.emit()

    def _order_tabs(self) -> None:
        """Tab goes down the list, whenever a card was made."""
        before: QWidget | None = None
        for card in self.cards.values():
            for part in card.focusable():
                if before is not None:
                    QWidget.setTabOrder(before, part)
                before = part

    def _drop(self, key: str) -> None:
        card = self.cards.pop(key)
        del self._shown[key]
        focused = self.window().focusWidget()
        had_focus = focused is not None and (focused is card or card.isAncestorOf(focused))  # pyright: ignore[reportUnnecessaryComparison] # None without one
        self._cards.removeWidget(card)
        card.hide()
        card.deleteLater()
        if had_focus:
            self.focus_lost.emit()

    def _show_empty(self) -> None:
        empty = not self._wanted
        self.empty_title.setVisible(empty and bool(self.empty_title.text()))
        self.empty_text.setVisible(empty and bool(self.empty_text.text()))
