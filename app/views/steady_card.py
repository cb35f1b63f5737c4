"""A beginning that changes with each request: what it costs, what would spare it, and what that would change.

Owns: the card's widgets. Does not agree to anything.
"""

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QLabel, QPushButton, QVBoxLayout, QWidget

from app.access_words import LONGEST_LINE, offer_words, short
from app.views.card_list import Card
from app.views.elided_line import ElidedLine
from app.views.flow_row import FlowRow
from app.wrapping import breakable
from engine.protocol_access import SteadyOffer


class SteadyCard(Card):
    """A SteadyOffer."""

    agreed = Signal(object)
    """SteadyOffer."""
    declined = Signal(object)
    """SteadyOffer."""

    def __init__(self, offer: SteadyOffer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.offer = offer
        self.costs, self.means = QLabel(), QLabel()
        for label in (self.costs, self.means):
            label.setTextFormat(Qt.TextFormat.PlainText)
            label.setWordWrap(True)
        self.means.setProperty("muted", True)
        self.line = ElidedLine()
        self.line.setObjectName("quotedLine")
        self.agree_button = QPushButton()
        self.decline_button = QPushButton("Leave it as it is")
        self.agree_button.clicked.connect(lambda: self.agreed.emit(self.offer))
        self.decline_button.clicked.connect(lambda: self.declined.emit(self.offer))
        buttons = FlowRow()
        for button in (self.agree_button, self.decline_button):
            button.setAutoDefault(False)
            buttons.addWidget(button)
        column = QVBoxLayout(self)
        column.setContentsMargins(16, 12, 16, 12)
        column.setSpacing(8)
        for part in (self.costs, self.line, self.means):
            column.addWidget(part)
        column.addLayout(buttons)
        self.show_entry(offer)

    def show_entry(self, entry: SteadyOffer) -> None:
        """Show the latest of it."""
        self.offer = entry
        costs, means = offer_words(entry)
        self.costs.setText(breakable(costs))
        self.means.setText(breakable(means))
        self.line.set_words(f"“{short(entry.line, LONGEST_LINE)}”")
        self.agree_button.setText(
            "Keep it as it stood" if entry.suggestion == "pin" else "Move it to the end"
        )
        self.agree_button.setAccessibleDescription(means)
        self.setAccessibleName(costs)
