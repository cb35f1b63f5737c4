"""The first page of all: what was found on this machine, and how to begin.

Owns: the words' places and the offers' cards. Shown over an empty conversation until something is begun or it is put
away; the library has all of it. Does not carry anything out.
"""

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from app.library_words import machine_words, welcome_offers
from app.theme import Theme
from app.views.card_list import CardList
from app.views.flow_row import FlowRow
from app.views.offer_card import OfferCard
from app.views.scrolled_column import ScrolledColumn
from engine.protocol_library import Library


class Welcome(QWidget):
    """Shows a Library to somebody who is here for the first time."""

    put_away = Signal()
    library_requested = Signal()
    get_requested = Signal(object)
    """Offer."""

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName("Welcome")
        self.title = QLabel("Welcome to Seamount")
        self.title.setObjectName("pageTitle")
        self.title.setWordWrap(True)
        self.found = QLabel()
        self.start = QLabel()
        self.large = QLabel(
            "DeepSeek-V4 itself is large. It is downloaded once, can be paused at any time, and is converted as it "
            "arrives; this is what it takes:"
        )
        for label in (self.found, self.start, self.large):
            label.setTextFormat(Qt.TextFormat.PlainText)
            label.setWordWrap(True)
        self.found.setProperty("muted", True)
        self.offers = CardList("", self._card)
        self.library_button = QPushButton("Open the library")
        self.library_button.clicked.connect(self.library_requested)
        self.away_button = QPushButton("Put this away")
        self.away_button.clicked.connect(self.put_away)
        buttons = FlowRow()
        buttons.addWidget(self.library_button)
        buttons.addWidget(self.away_button)
        head = QHBoxLayout()
        head.setSpacing(16)
        head.addWidget(self.title, 1)
        head.addLayout(buttons)
        self._area = ScrolledColumn()
        column = self._area.rows
        column.setContentsMargins(0, 8, 0, 8)
        column.setSpacing(12)
        column.addStretch(1)
        column.addLayout(head)
        for part in (self.found, self.start, self.large, self.offers):
            column.addWidget(part)
        column.addStretch(2)
        page = QVBoxLayout(self)
        page.setContentsMargins(0, 0, 0, 0)
        page.addWidget(self._area)
        self.set_theme(theme)

    def set_theme(self, theme: Theme) -> None:
        """Follow the window's look."""
        self._area.set_most_px(theme.column_px)

    def show_library(self, library: Library, model_name: str) -> None:
        """What was found. `model_name`: of the model that answers now; "" for none."""
        self.found.setText(machine_words(library.machine, library.rooms))
        if model_name:
            self.start.setText(
                f"You can begin at once: {model_name} is ready, a very small model to try things out with. Write "
                "below."
            )
        self.start.setVisible(bool(model_name))
        offers = welcome_offers(library)
        self.large.setVisible(bool(offers))
        self.offers.show_entries([(offer.name, offer) for offer in offers])

    def _card(self, offer: object) -> OfferCard:
        card = OfferCard(offer, tells_time=True)  # pyright: ignore[reportArgumentType] # what show_library put there
        card.get_requested.connect(self.get_requested)
        return card
