"""One thing that lies on this machine: what it is, and what can be done with it.

Owns: the card's widgets and its menu. Does not carry anything out.
"""

import time
from typing import Literal

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QLabel, QMenu, QPushButton, QVBoxLayout, QWidget

from app.job_words import badge_words
from app.library_words import item_words
from app.views.card_list import Card
from app.views.elided_line import ElidedLine
from app.wrapping import breakable
from engine.protocol_library import LibraryItem

Verb = Literal["use", "convert", "placement", "verify", "reveal", "move", "remove"]
MENU_ROWS: tuple[tuple[Verb, str], ...] = (
    ("placement", "Placement and speed…"),
    ("verify", "Verify"),
    ("reveal", "Show in folder"),
    ("move", "Move to another folder…"),
    ("remove", "Remove…"),
)

LEAST_BADGE_PX = 48
"""A narrow page cuts it off; its tooltip has all of it."""


class ItemCard(Card):
    """A LibraryItem, and whether it is the model that answers now."""

    asked = Signal(str, object)
    """Verb, LibraryItem."""

    def __init__(self, entry: tuple[LibraryItem, bool], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.item = entry[0]
        self.title = ElidedLine(Qt.TextElideMode.ElideMiddle)
        self.title.setObjectName("cardTitle")
        self.loaded = QLabel("Loaded")
        self.loaded.setObjectName("badge")
        self.loaded.setToolTip("This model answers now")
        self.badge = QLabel()
        self.badge.setObjectName("badge")
        self.badge.setMinimumWidth(LEAST_BADGE_PX)
        self.words = ElidedLine()
        self.path = ElidedLine(Qt.TextElideMode.ElideMiddle)
        for line in (self.words, self.path):
            line.setProperty("muted", True)
        self.problem = QLabel()
        self.problem.setProperty("danger", True)
        for label in (self.badge, self.problem, self.loaded):
            label.setTextFormat(Qt.TextFormat.PlainText)
        self.problem.setWordWrap(True)
        self.use_button = QPushButton("Use")
        self.convert_button = QPushButton("Convert…")
        self.more_button = QPushButton("More")
        self.more_button.setObjectName("more")
        for button in self.buttons():
            button.setAutoDefault(False)
        self.use_button.clicked.connect(lambda: self.asked.emit("use", self.item))
        self.convert_button.clicked.connect(lambda: self.asked.emit("convert", self.item))
        self.more_button.clicked.connect(self._open_menu)
        self._lay_out()
        self.show_entry(entry)

    def buttons(self) -> tuple[QPushButton, ...]:
        """All of them, shown or not."""
        return (self.use_button, self.convert_button, self.more_button)

    def _lay_out(self) -> None:
        # No lines that wrap where it can be helped: two hundred cards are laid out in one go.
        head = QHBoxLayout()
        head.setSpacing(8)
        head.addWidget(self.title, 1)
        head.addWidget(self.loaded)
        proof = QHBoxLayout()
        proof.addWidget(self.badge)
        proof.addStretch(1)
        words = QVBoxLayout()
        words.setSpacing(4)
        words.addLayout(head)
        words.addLayout(proof)
        words.addWidget(self.words)
        words.addWidget(self.path)
        words.addWidget(self.problem)
        row = QHBoxLayout(self)
        row.setContentsMargins(16, 12, 16, 12)
        row.setSpacing(8)
        row.addLayout(words, 1)
        row.addSpacing(8)
        for button in self.buttons():
            row.addWidget(button, 0, Qt.AlignmentFlag.AlignVCenter)

    def show_entry(self, entry: tuple[LibraryItem, bool]) -> None:
        """Show the latest of it."""
        self.item, loaded = entry
        item = self.item
        self.title.set_words(item.name)
        self.words.set_words(item_words(item, time.time()))
        self.path.set_words(item.path)
        self.loaded.setVisible(loaded)
        self.badge.setVisible(item.exactness is not None)
        if item.exactness is not None:
            badge, why = badge_words(item.exactness)
            self.badge.setText(f"✓ {badge}")
            self.badge.setToolTip(why)
            self.badge.setAccessibleName(badge)
            self.badge.setAccessibleDescription(why)
        self.problem.setText(breakable(item.problem.text) if item.problem else "")
        self.problem.setVisible(item.problem is not None)
        self.use_button.setVisible(item.kind == "model" and item.problem is None and not loaded)
        self.convert_button.setVisible(item.kind == "checkpoint" and item.complete and item.problem is None)
        for button in self.buttons():
            button.setAccessibleName(f"{button.text().rstrip('…')}: {item.name}")
        self.setAccessibleName(f"{item.name}{', loaded' if loaded else ''}")

    def menu(self) -> QMenu:
        """What else can be done with it; a row that cannot says why."""
        menu = QMenu(self)
        menu.setToolTipsVisible(True)
        for verb, text in MENU_ROWS:
            action = menu.addAction(text)
            action.triggered.connect(lambda _=False, verb=verb: self.asked.emit(verb, self.item))
            can, why = self._can(verb)
            action.setEnabled(can)
            if not can:
                action.setText(f"{text.rstrip('…')} ({why})")
        return menu

    def _can(self, verb: Verb) -> tuple[bool, str]:
        item = self.item
        if verb == "placement":
            return item.kind == "model" and item.problem is None, "for a model that can be loaded"
        if verb in ("move", "remove") and item.in_use:
            return False, "in use now"
        if verb == "move":
            return item.movable, "cannot be moved"
        if verb == "remove":
            return item.removable, "comes with the program"
        if verb == "verify":
            has_measure = item.exactness is not None or item.repository is not None
            return has_measure, "nothing to check it against"
        return True, ""

    def _open_menu(self) -> None:
        menu = self.menu()
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.popup(self.more_button.mapToGlobal(self.more_button.rect().bottomLeft()))
