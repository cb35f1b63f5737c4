"""One key of another program: its name, its last use, and what can be done with it.

Owns: the card's widgets. Does not carry anything out.
"""

import time

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from app.access_words import key_words
from app.views.card_list import Card
from app.views.elided_line import ElidedLine
from app.views.flow_row import FlowRow
from engine.protocol_access import ClientKey


class KeyCard(Card):
    """A ClientKey."""

    change_requested = Signal(object)
    """ClientKey."""
    copy_requested = Signal(object)
    """ClientKey: its secret is to be on the clipboard."""
    revoke_requested = Signal(object)
    """ClientKey."""

    def __init__(self, key: ClientKey, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.key = key
        self.title = ElidedLine()
        self.title.setObjectName("cardTitle")
        self.words = ElidedLine()
        self.words.setProperty("muted", True)
        self.copy_button = QPushButton("Copy")
        self.change_button = QPushButton("Change…")
        self.change_button.setToolTip(
            "Its name, what it may take, and what may be done to what its program says"
        )
        self.revoke_button = QPushButton("Revoke…")
        self.copy_button.clicked.connect(lambda: self.copy_requested.emit(self.key))
        self.change_button.clicked.connect(lambda: self.change_requested.emit(self.key))
        self.revoke_button.clicked.connect(lambda: self.revoke_requested.emit(self.key))
        words = QVBoxLayout()
        words.setSpacing(4)
        words.addWidget(self.title)
        words.addWidget(self.words)
        row = QHBoxLayout(self)
        row.setContentsMargins(16, 12, 16, 12)
        row.setSpacing(8)
        row.addLayout(words, 1)
        row.addSpacing(8)
        # Below each other where the page is narrow.
        holder = QWidget()
        buttons = FlowRow(parent=holder)
        for button in (self.copy_button, self.change_button, self.revoke_button):
            button.setAutoDefault(False)
            buttons.addWidget(button)
        row.addWidget(holder, 0, Qt.AlignmentFlag.AlignVCenter)
        self.show_entry(key)

    def show_entry(self, entry: ClientKey) -> None:
        """Show the latest of it."""
        self.key = entry
        self.title.set_words(entry.name)
        self.words.set_words(key_words(entry, time.time()))
        self.setAccessibleName(f"Key {entry.name}")
        self.copy_button.setVisible(entry.is_kept)
        self.copy_button.setAccessibleName(f"Copy the secret of the key {entry.name}")
        self.copy_button.setToolTip("Copy its secret, which lies in this account’s keyring")
        self.change_button.setAccessibleName(f"Change the key {entry.name}")
        self.revoke_button.setAccessibleName(f"Revoke the key {entry.name}")
