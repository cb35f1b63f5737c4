"""The library as a page of the window: what lies on this machine, what is under way, what can be had.

Owns: the page's arrangement, the field for a name or an address, and what was found under it. Does not carry
anything out: `library_desk` does.
"""

from functools import partial

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from app.library_words import ITEMS_EMPTY, JOBS_EMPTY, LOADING, OFFERS_EMPTY, choice_offers, hub_words
from app.remote_words import EMPTY as REMOTES_EMPTY
from app.theme import Theme
from app.views.card_list import CardList
from app.views.flow_row import FlowRow
from app.views.item_card import ItemCard
from app.views.job_card import JobCard
from app.views.offer_card import OfferCard
from app.views.remote_card import RemoteCard
from app.views.room_bars import RoomBars
from app.views.scrolled_column import ScrolledColumn
from app.views.side_page import SidePage
from app.views.sidebar import SearchField
from app.wrapping import breakable
from engine.protocol import ErrorBody
from engine.protocol_jobs import Job
from engine.protocol_library import Library, Lookup
from engine.protocol_remote import Remote

COLUMN_SHARE = 1.2
"""Wider than a column of text: cards have buttons beside their words."""


class LibraryPage(SidePage):
    """Shows the library and the jobs as they are told."""

    convert_requested = Signal()
    remote_requested = Signal()
    remote_asked = Signal(str, object)
    """Verb (`remote_card.RemoteCard.asked`), Remote."""
    look_up_requested = Signal(str)
    item_asked = Signal(str, object)
    """Verb (`item_card.Verb`), LibraryItem."""
    get_requested = Signal(object)
    """Offer."""
    placement_requested = Signal(object)
    """Offer: how it would lie on this machine."""
    job_asked = Signal(str, str)
    """"pause", "resume", "cancel", "forget" or "token"; the job's id."""
    use_requested = Signal(str)
    forget_token_requested = Signal()
    reveal_requested = Signal(str)
    """A path, here and above."""

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("libraryPage")
        self.setAccessibleName("Library")
        self.back_button = QPushButton("Back")
        self.back_button.setToolTip("Back to the conversation (Esc)")
        self.back_button.clicked.connect(self.left)
        self.convert_button = QPushButton("Convert a checkpoint…")
        self.convert_button.clicked.connect(self.convert_requested)
        self.remote_button = QPushButton("Add one…")
        self.remote_button.setAccessibleName("Add a model on another machine")
        self.remote_button.setToolTip("Add a model that a cluster, a service or another Seamount computes")
        self.remote_button.clicked.connect(self.remote_requested)
        self.title = QLabel("Library")
        self.title.setObjectName("pageTitle")
        self.rooms = RoomBars()
        self.rooms.hide()
        self.message = QLabel()
        self.message.setTextFormat(Qt.TextFormat.PlainText)
        self.message.setWordWrap(True)
        self.message.setProperty("danger", True)
        self.message.hide()
        self.items = CardList("On this machine", self._item_card)
        self.remotes = CardList("On other machines", self._remote_card)
        self.remotes.say_when_empty(*REMOTES_EMPTY)
        self.jobs = CardList("Under way", self._job_card)
        self.offers = CardList("To be had", self._offer_card)
        self.found = CardList("", self._offer_card)
        self.hub = QLabel()
        self.hub.setTextFormat(Qt.TextFormat.PlainText)
        self.hub.setWordWrap(True)
        self.hub.setProperty("muted", True)
        self.forget_button = QPushButton("Forget the token")
        self.forget_button.clicked.connect(self.forget_token_requested)
        self.forget_button.hide()
        self._build_field()
        self._lay_out()
        self._knows_jobs = False
        self._trouble: ErrorBody | None = None
        """What is wrong with the library itself."""
        self._refusal: ErrorBody | None = None
        self.set_theme(theme)
        for section in (self.items, self.jobs, self.offers):
            section.say_when_empty(*LOADING)
        for section in (self.items, self.remotes, self.jobs, self.offers):
            section.focus_lost.connect(self._take_focus)

    def _build_field(self) -> None:
        self.field = SearchField()
        self.field.setPlaceholderText("Repository or address, as deepseek-ai/DeepSeek-V4-Flash")
        self.field.setAccessibleName("Repository or address")
        self.field.setClearButtonEnabled(True)
        self.field.returnPressed.connect(self._look_up)
        self.field.textChanged.connect(self._typed)
        self.look_button = QPushButton("Look up")
        self.look_button.setEnabled(False)
        self.look_button.clicked.connect(self._look_up)
        self.finding = QLabel()
        self.finding.setTextFormat(Qt.TextFormat.PlainText)
        self.finding.setWordWrap(True)
        self.finding.hide()

    def _lay_out(self) -> None:
        buttons = FlowRow()
        buttons.addWidget(self.convert_button)
        buttons.addWidget(self.back_button)
        head = QHBoxLayout()
        head.setSpacing(16)
        head.addWidget(self.title, 1)
        head.addLayout(buttons)
        search = QHBoxLayout()
        search.setSpacing(8)
        search.addWidget(self.field, 1)
        search.addWidget(self.look_button)
        self.area = ScrolledColumn()
        column = self.area.rows
        column.setContentsMargins(0, 8, 0, 24)
        column.setSpacing(8)
        column.addLayout(head)
        column.addWidget(self.rooms)
        column.addSpacing(8)
        column.addLayout(search)
        column.addWidget(self.finding)
        column.addWidget(self.found)
        column.addWidget(self.message)
        for section in (self.items, self.remotes, self.jobs, self.offers):
            column.addSpacing(16)
            column.addWidget(section)
            if section is self.remotes:
                column.addWidget(self.remote_button, 0, Qt.AlignmentFlag.AlignLeft)
        foot = QHBoxLayout()
        foot.setSpacing(16)
        foot.addWidget(self.hub, 1)
        foot.addWidget(self.forget_button)
        column.addSpacing(8)
        column.addLayout(foot)
        column.addStretch(1)
        page = QVBoxLayout(self)
        page.setContentsMargins(0, 0, 0, 0)
        page.addWidget(self.area)

    def set_theme(self, theme: Theme) -> None:
        """Follow the window's look."""
        self.area.set_most_px(round(theme.column_px * COLUMN_SHARE))

    # --- from outside ---------------------------------------------------------------------------------

    def show_library(self, library: Library | None, error: ErrorBody | None, loaded_id: str | None) -> None:
        """What lies here and what can be had. `error`: why it could not be told."""
        self._trouble = error or (library.catalogue_problem if library else None)
        self._say(self._refusal or self._trouble)
        if library is None:
            return
        for section, words in ((self.items, ITEMS_EMPTY), (self.offers, OFFERS_EMPTY)):
            section.say_when_empty(*words)
        self.rooms.show_rooms(library.rooms)
        words, can_forget = hub_words(library.hub)
        self.hub.setText(breakable(words))
        self.forget_button.setVisible(can_forget)
        self.items.show_entries([(item.id, (item, item.id == loaded_id)) for item in library.items])
        self.offers.show_entries([(offer.name, offer) for offer in library.offers])

    def show_remotes(self, remotes: list[Remote], loaded_id: str | None) -> None:
        """The models that other machines compute."""
        self.remotes.show_entries([(remote.id, (remote, remote.id == loaded_id)) for remote in remotes])

    def show_jobs(self, jobs: list[Job], *, known: bool) -> None:
        """What is under way, and what was."""
        if known and not self._knows_jobs:
            self._knows_jobs = True
            self.jobs.say_when_empty(*JOBS_EMPTY)
        self.jobs.show_entries([(job.id, job) for job in jobs])

    def show_lookup(self, found: Lookup) -> None:
        """What stands behind a name; nothing where the field was emptied meanwhile."""
        if not self.field.text().strip():
            return
        self.look_button.setEnabled(True)
        offers = choice_offers(found.offer, found.choices)
        if found.problem:
            self._find(found.problem, danger=True)
            self.found.show_entries([])
            return
        several = len(found.choices) > 1
        words = "This repository holds several models; each is whole by itself." if several else ""
        self._find(words, danger=False)
        self.found.show_entries([(f"{offer.name}:{offer.title}", offer) for offer in offers])

    def refuse_lookup(self, sentence: str) -> None:
        """Nothing could be found out."""
        if not self.field.text().strip():
            return
        self.look_button.setEnabled(True)
        self._find(sentence, danger=True)
        self.found.show_entries([])

    def refuse(self, error: ErrorBody) -> None:
        """Something was not done. It stays to be read until something else is begun, whatever news there is."""
        self._refusal = error
        self._say(error)
        self.area.ensureWidgetVisible(self.message)

    def show_item(self, item_id: str) -> None:
        """Bring an item into sight, with the keyboard on it."""

        def go() -> None:
            card = self.items.cards.get(item_id)
            if card is not None:
                self.area.ensureWidgetVisible(card)
                first = next((part for part in card.focusable() if part.isVisible()), None)
                if first is not None:
                    first.setFocus(Qt.FocusReason.OtherFocusReason)

        def soon() -> None:
            # What was just made has its place a turn of the event loop later.
            QTimer.singleShot(0, self, lambda: go())

        if item_id in self.items.cards:
            soon()
        else:
            self.items.filled.connect(soon, Qt.ConnectionType.SingleShotConnection)

    def show_section(self, section: CardList) -> None:
        """Bring a part of the page to its top, a turn of the event loop later: it may just be coming into sight."""
        QTimer.singleShot(0, self, lambda: self.area.bring_up(section))

    def clear_message(self) -> None:
        """What was said of something that was not done is over."""
        self._refusal = None
        self._say(self._trouble)

    # --- the field ------------------------------------------------------------------------------------

    def _typed(self, text: str) -> None:
        self.look_button.setEnabled(bool(text.strip()))
        if not text:
            self.finding.hide()
            self.found.show_entries([])

    def _look_up(self) -> None:
        what = self.field.text().strip()
        if what and self.look_button.isEnabled():
            self.look_button.setEnabled(False)
            self._find("Asking the hub…", danger=False)
            self.look_up_requested.emit(what)

    def _find(self, words: str, *, danger: bool) -> None:
        self.finding.setProperty("danger", danger)
        self.finding.setProperty("muted", not danger)
        self.finding.style().polish(self.finding)
        self.finding.setText(breakable(words))
        self.finding.setVisible(bool(words))

    # --- cards ----------------------------------------------------------------------------------------

    def _item_card(self, entry: object) -> ItemCard:
        card = ItemCard(entry)  # pyright: ignore[reportArgumentType] # what show_library has put there
        card.asked.connect(self.item_asked)
        return card

    def _remote_card(self, entry: object) -> RemoteCard:
        card = RemoteCard(entry)  # pyright: ignore[reportArgumentType] # what show_remotes has put there
        card.asked.connect(self.remote_asked)
        return card

    def _offer_card(self, offer: object) -> OfferCard:
        card = OfferCard(offer)  # pyright: ignore[reportArgumentType] # what show_library has put there
        card.get_requested.connect(self.get_requested)
        card.placement_requested.connect(self.placement_requested)
        return card

    def _job_card(self, job: object) -> JobCard:
        card = JobCard(job)  # pyright: ignore[reportArgumentType] # what show_jobs has put there
        for wish, signal in (
            ("pause", card.pause_requested),
            ("resume", card.resume_requested),
            ("cancel", card.cancel_requested),
            ("forget", card.forget_requested),
            ("token", card.token_requested),
        ):
            signal.connect(partial(self.job_asked.emit, wish))
        card.use_requested.connect(self.use_requested)
        card.reveal_requested.connect(self.reveal_requested)
        return card

    def _say(self, error: ErrorBody | None) -> None:
        self.message.setText(breakable(error.text) if error else "")
        self.message.setAccessibleName(f"Problem: {error.text}" if error else "")
        self.message.setVisible(error is not None)

    def _take_focus(self) -> None:
        self.field.setFocus(Qt.FocusReason.OtherFocusReason)
