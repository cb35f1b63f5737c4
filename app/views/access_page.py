"""Other programs as a page of the window: the address, who is connected, the keys, settings to paste, the network.

Owns: the page's arrangement. Does not carry anything out: `access_desk` does.
"""

import time
from functools import partial

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from app.access_words import (
    CLIENTS_EMPTY,
    INTRODUCTION,
    KEYS_EMPTY,
    LOADING,
    NETWORK_KEYS_EMPTY,
    STAYS,
    anthropic_url,
    origins_words,
)
from app.client_recipes import recipes
from app.theme import Theme
from app.views.card_list import CardList
from app.views.client_card import ClientCard
from app.views.copy_line import CopyLine
from app.views.key_card import KeyCard
from app.views.network_panel import NetworkPanel
from app.views.recipe_panel import RecipePanel
from app.views.scrolled_column import ScrolledColumn
from app.views.side_page import SidePage
from app.views.steady_card import SteadyCard
from app.wrapping import breakable
from engine.protocol import ErrorBody
from engine.protocol_access import Access, SteadyOffer

COLUMN_SHARE = 1.2
"""Wider than a column of text: cards have buttons beside their words."""


class AccessPage(SidePage):
    """Shows an Access as it is told."""

    address_requested = Signal()
    """The port and the web pages are to be changed."""
    make_key_requested = Signal(bool)
    """Whether it is for the network."""
    change_key_requested = Signal(object)
    """ClientKey."""
    copy_key_requested = Signal(object)
    """ClientKey."""
    revoke_key_requested = Signal(object)
    """ClientKey."""
    end_requested = Signal(str)
    """A request's id."""
    agreed = Signal(object)
    """SteadyOffer."""
    declined = Signal(object)
    """SteadyOffer."""

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("accessPage")
        self.setAccessibleName("Other programs")
        self._trouble: ErrorBody | None = None
        """What is wrong with the access itself."""
        self._refusal: ErrorBody | None = None
        self._knows = False
        self.back_button = QPushButton("Back")
        self.back_button.setToolTip("Back to the conversation (Esc)")
        self.back_button.clicked.connect(self.left)
        self.title = QLabel("Other programs")
        self.title.setObjectName("pageTitle")
        self.introduction = QLabel(INTRODUCTION)
        self.introduction.setProperty("muted", True)
        self.message = QLabel()
        self.message.setProperty("danger", True)
        self.message.hide()
        self.openai = CopyLine("Base URL for clients of OpenAI’s dialect", "the OpenAI base URL")
        self.anthropic = CopyLine("Base URL for clients of Anthropic’s dialect", "the Anthropic base URL")
        self.stays, self.origins = QLabel(STAYS), QLabel()
        for label in (self.stays, self.origins):
            label.setProperty("muted", True)
        self.address_button = QPushButton("Change…")
        self.address_button.setAccessibleName("Change the port, and which web pages may call")
        self.address_button.setToolTip("The port, and which web pages may call the engine from a browser")
        self.address_button.clicked.connect(self.address_requested)
        self.clients = CardList("Connected now", self._client_card)
        self.offers = CardList("Read again each time", self._steady_card)
        self.keys = CardList("Keys", self._key_card)
        self.network_keys = CardList("", self._key_card)
        self.make_button = QPushButton("Make a key…")
        self.make_button.clicked.connect(partial(self.make_key_requested.emit, False))
        self.make_network_button = QPushButton("Make a network key…")
        self.make_network_button.clicked.connect(partial(self.make_key_requested.emit, True))
        self.recipes = RecipePanel(theme)
        self.network = NetworkPanel()
        for section in (self.keys, self.clients, self.network_keys):
            section.say_when_empty(*LOADING)
        for section in (self.keys, self.clients, self.network_keys, self.offers):
            section.focus_lost.connect(self._take_focus)
        for label in (self.introduction, self.message, self.stays, self.origins):
            label.setTextFormat(Qt.TextFormat.PlainText)
            label.setWordWrap(True)
        self._lay_out()
        self.set_theme(theme)

    def _lay_out(self) -> None:
        head = QHBoxLayout()
        head.setSpacing(16)
        head.addWidget(self.title, 1)
        head.addWidget(self.back_button)
        self.area = ScrolledColumn()
        column = self.area.rows
        column.setContentsMargins(0, 8, 0, 24)
        column.setSpacing(8)
        column.addLayout(head)
        column.addWidget(self.introduction)
        column.addWidget(self.message)
        column.addSpacing(8)
        for line in (self.openai, self.anthropic):
            column.addWidget(line.caption)
            column.addWidget(line)
        column.addWidget(self.stays)
        column.addWidget(self.origins)
        column.addWidget(self.address_button, 0, Qt.AlignmentFlag.AlignLeft)
        column.addSpacing(16)
        column.addWidget(self.offers)
        self.offers.setContentsMargins(0, 0, 0, 16)
        column.addWidget(self.clients)
        column.addSpacing(16)
        column.addWidget(self.keys)
        column.addWidget(self.make_button, 0, Qt.AlignmentFlag.AlignLeft)
        column.addSpacing(16)
        column.addWidget(_section("Settings to paste"))
        column.addWidget(self.recipes)
        column.addSpacing(16)
        column.addWidget(_section("Local network"))
        column.addWidget(self.network)
        column.addSpacing(8)
        column.addWidget(self.network_keys)
        column.addWidget(self.make_network_button, 0, Qt.AlignmentFlag.AlignLeft)
        column.addStretch(1)
        page = QVBoxLayout(self)
        page.setContentsMargins(0, 0, 0, 0)
        page.addWidget(self.area)

    def set_theme(self, theme: Theme) -> None:
        """Follow the window's look."""
        self.area.set_most_px(round(theme.column_px * COLUMN_SHARE))
        for line in (self.openai, self.anthropic, self.network.fingerprint):
            line.field.setFont(theme.code_font(1.0))
        self.recipes.set_theme(theme)

    # --- from outside ---------------------------------------------------------------------------------

    def show_access(
        self, access: Access | None, error: ErrorBody | None, offers: list[SteadyOffer], model_id: str | None
    ) -> None:
        """The latest of it. `error`: why it could not be told. `model_id`: for the settings to paste."""
        self._trouble = error or (access.problem if access else None)
        self._say()
        self.address_button.setEnabled(access is not None)
        self.make_button.setEnabled(access is not None)
        self.make_network_button.setEnabled(access is not None)
        self.network.setEnabled(access is not None)
        if access is None:
            # Without an engine nothing runs for anybody, and no offer can be agreed to.
            self.clients.show_entries([])
            self.offers.show_entries([])
            self.offers.hide()
            return
        if not self._knows:
            self._knows = True
            self.clients.say_when_empty(*CLIENTS_EMPTY)
            self.keys.say_when_empty(*KEYS_EMPTY)
            self.network_keys.say_when_empty(*NETWORK_KEYS_EMPTY)
        self.openai.set_value(access.base_url)
        self.anthropic.set_value(anthropic_url(access.base_url))
        self.recipes.show_recipes(recipes(access.base_url, model_id))
        self.origins.setText(breakable(origins_words(access.origins)))
        self.clients.show_entries(
            [(f"{client.key_id} {client.program} {client.address}", client) for client in access.clients]
        )
        self.keys.show_entries([(key.id, key) for key in access.keys if not key.is_network])
        self.network_keys.show_entries([(key.id, key) for key in access.keys if key.is_network])
        self.network.show_door(access.network)
        # Its last card notices that it had the keyboard only while the list is still to be seen.
        self.offers.show_entries([(f"{each.key_id} {each.line} {each.suggestion}", each) for each in offers])
        self.offers.setVisible(bool(offers))

    def tick(self) -> None:
        """Time has passed: what is told as "ago" is told anew."""
        now_s = time.time()
        for card in self.clients.cards.values():
            if isinstance(card, ClientCard):
                card.tell_time(now_s)

    def refuse(self, error: ErrorBody) -> None:
        """Something was not done. It stays to be read until something else is begun."""
        self._refusal = error
        self._say()
        self.area.ensureWidgetVisible(self.message)

    def clear_message(self) -> None:
        """What was said of something that was not done is over."""
        self._refusal = None
        self._say()

    def _say(self) -> None:
        error = self._refusal or self._trouble
        self.message.setText(breakable(error.text) if error else "")
        self.message.setAccessibleName(f"Problem: {error.text}" if error else "")
        self.message.setVisible(error is not None)

    # --- cards ----------------------------------------------------------------------------------------

    def _client_card(self, client: object) -> ClientCard:
        card = ClientCard(client)  # pyright: ignore[reportArgumentType] # what show_access has put there
        card.end_requested.connect(self.end_requested)
        card.focus_lost.connect(self._take_focus)
        return card

    def _key_card(self, key: object) -> KeyCard:
        card = KeyCard(key)  # pyright: ignore[reportArgumentType] # what show_access has put there
        card.change_requested.connect(self.change_key_requested)
        card.copy_requested.connect(self.copy_key_requested)
        card.revoke_requested.connect(self.revoke_key_requested)
        return card

    def _steady_card(self, offer: object) -> SteadyCard:
        card = SteadyCard(offer)  # pyright: ignore[reportArgumentType] # what show_access has put there
        card.agreed.connect(self.agreed)
        card.declined.connect(self.declined)
        return card

    def _take_focus(self) -> None:
        self.back_button.setFocus(Qt.FocusReason.OtherFocusReason)


def _section(words: str) -> QLabel:
    label = QLabel(words)
    label.setObjectName("sectionTitle")
    return label
