"""One thing that can be had: what it is, what it costs, and what this machine could do with it.

Owns: the card's widgets. Does not carry anything out.
"""

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from app.library_words import offer_source, offer_words
from app.views.card_list import Card
from app.views.elided_line import ElidedLine
from app.wrapping import breakable
from engine.protocol_library import Offer


class OfferCard(Card):
    """An Offer."""

    get_requested = Signal(object)
    """Offer."""
    placement_requested = Signal(object)
    """Offer."""

    def __init__(self, offer: Offer, parent: QWidget | None = None, *, tells_time: bool = False) -> None:
        """`tells_time`: for somebody who does not know yet what such a download means."""
        super().__init__(parent)
        self.offer = offer
        self._tells_time = tells_time
        self.title = ElidedLine(Qt.TextElideMode.ElideMiddle)
        self.title.setObjectName("cardTitle")
        self.have = QLabel("On this machine")
        self.have.setObjectName("badge")
        self.source = ElidedLine(Qt.TextElideMode.ElideMiddle)
        self.source.setProperty("muted", True)
        self.source.setVisible(not tells_time)
        self.about, self.cost, self.fit = (QLabel() for _ in range(3))
        for label in (self.about, self.cost, self.fit, self.have):
            label.setTextFormat(Qt.TextFormat.PlainText)
        for label in (self.about, self.cost, self.fit):
            label.setWordWrap(True)
        self.fit.setProperty("muted", True)
        self.get_button = QPushButton("Get…")
        self.get_button.setAutoDefault(False)
        self.get_button.clicked.connect(lambda: self.get_requested.emit(self.offer))
        self.placement_button = QPushButton("Placement…")
        self.placement_button.setAutoDefault(False)
        self.placement_button.setToolTip("What of it would lie where on this machine, and how fast that is")
        self.placement_button.clicked.connect(lambda: self.placement_requested.emit(self.offer))
        head = QHBoxLayout()
        head.setSpacing(8)
        head.addWidget(self.title, 1)
        head.addWidget(self.have)
        words = QVBoxLayout()
        words.setSpacing(4)
        words.addLayout(head)
        for part in (self.about, self.cost, self.fit, self.source):
            words.addWidget(part)
        row = QHBoxLayout(self)
        row.setContentsMargins(16, 12, 16, 12)
        row.setSpacing(8)
        row.addLayout(words, 1)
        row.addSpacing(8)
        row.addWidget(self.placement_button, 0, Qt.AlignmentFlag.AlignVCenter)
        row.addWidget(self.get_button, 0, Qt.AlignmentFlag.AlignVCenter)
        self.show_entry(offer)

    def show_entry(self, entry: Offer) -> None:
        """Show the latest of it."""
        offer = self.offer = entry
        self.title.set_words(offer.title)
        self.have.setVisible(offer.item_id is not None)
        cost = offer_words(offer, tells_time=self._tells_time)
        fit = offer.fit.text if offer.fit else ""
        for label, words in ((self.about, offer.about), (self.cost, cost), (self.fit, fit)):
            label.setText(breakable(words))
            label.setVisible(bool(words))
        self.source.set_words(offer_source(offer))
        # Only of a released model the shape is known before it is here.
        known = offer.kind == "checkpoint" and bool(offer.results)
        self.placement_button.setVisible(known and not self._tells_time)
        self.placement_button.setAccessibleName(f"Placement of {offer.title}")
        self.get_button.setAccessibleName(f"Get {offer.title}")
        self.setAccessibleName(offer.title)
