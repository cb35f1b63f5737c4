"""The first page of all: what was found on this machine, and how to begin.

Owns: the words' places and the offers' cards. Shown over an empty conversation until something is begun or it is put
away; the library has all of it. Does not carry anything out.
"""

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QLabel, QPushButton, QScrollArea, QVBoxLayout, QWidget

from app.library_words import machine_words, welcome_offers
from app.theme import Theme
from app.views.card_list import CardList
from app.views.offer_card import OfferCard
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
        buttons = QHBoxLayout()
        buttons.setSpacing(8)
        buttons.addWidget(self.library_button)
        buttons.addWidget(self.away_button)
        buttons.addStretch(1)
        self._column = QWidget()
        column = QVBoxLayout(self._column)
        column.setContentsMargins(0, 16, 0, 16)
        column.setSpacing(12)
        column.addStretch(1)
        for part in (self.title, self.found, self.start, self.large, self.offers):
            column.addWidget(part)
        column.addLayout(buttons)
        column.addStretch(2)
        inner = QWidget()
        row = QHBoxLayout(inner)
        row.setContentsMargins(16, 0, 16, 0)
        row.addStretch(1)
        row.addWidget(self._column, 1000)
        row.addStretch(1)
        area = QScrollArea()
        area.setObjectName("libraryArea")
        area.setWidget(inner)
        area.setWidgetResizable(True)
        area.setFrameShape(QScrollArea.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        page = QVBoxLayout(self)
        page.setContentsMargins(0, 0, 0, 0)
        page.addWidget(area)
        self.set_theme(theme)

    def set_theme(self, theme: Theme) -> None:
        """Follow the window's look."""
        self._column.setMaximumWidth(theme.column_px)

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
