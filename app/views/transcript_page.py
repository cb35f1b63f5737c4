"""The scrolled page of messages.

Owns: the scroll position, which messages have views, and following the end. What is read stays where it is:
the page holds on to the block at its upper edge while heights above turn from guesses into measures. Does not
know where messages come from or what is done with them.
"""

import time
from collections.abc import Sequence

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QFocusEvent, QKeyEvent, QPainter, QPaintEvent, QResizeEvent, QShowEvent
from PySide6.QtWidgets import QAbstractScrollArea, QApplication, QFrame, QWidget

from app.page_style import PageStyle
from app.transcript_model import ShownMessage
from app.views.message_entry import MessageEntry
from app.views.message_view import OUTER_PX, MessageView
from app.views.part_memory import PartMemory
from app.views.transcript_focus import focus_stop, scroll_step, walk
from app.views.transcript_layout import Anchor, Heights

REFRESH_MS = 40
"""Shortest time between two showings of streamed text."""
REFRESH_SHARE = 5
"""A showing that took t is followed by a pause of this many t: at most a fifth of the time goes to it."""
NEAR_PX = 200
"""Views are made this far beyond the edges."""
BOTTOM_SLACK_PX = 4
ROUNDS = 40


class TranscriptPage(QAbstractScrollArea):
    """Messages one below the other, with views only for those near."""

    retry_requested = Signal(str)
    continue_requested = Signal(str)
    edit_requested = Signal(str, str)
    version_chosen = Signal(str)
    results_given = Signal(str, object)
    cost_wanted = Signal(str, str)
    following_changed = Signal()

    def __init__(self, style: PageStyle, parent: QWidget) -> None:
        super().__init__(parent)
        self.setObjectName("transcriptPage")
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName("Conversation")
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._style = style
        self._entries: list[MessageEntry] = []
        self._by_id: dict[str, int] = {}
        self._memories: dict[str, PartMemory] = {}
        self._heights = Heights()
        self._anchor = Anchor()
        self._following = True
        self._placing = False
        self._column = 0
        self._dirty: set[int] = set()
        self._refresh_cost_s = 0.0
        self._refresh = QTimer(self)
        self._refresh.setSingleShot(True)
        self._refresh.timeout.connect(self._show_streamed)
        self.viewport().setAutoFillBackground(False)  # a stylesheet may change a palette; see paintEvent
        bar = self.verticalScrollBar()
        bar.setSingleStep(40)
        bar.valueChanged.connect(self._scrolled)
        application = QApplication.instance()
        if isinstance(application, QApplication):
            application.focusChanged.connect(self._focus_changed)

    # --- messages -------------------------------------------------------------------------------------

    @property
    def is_empty(self) -> bool:
        """True without messages."""
        return not self._entries

    @property
    def is_following(self) -> bool:
        """True while the end stays in sight as text arrives."""
        return self._following

    @property
    def views(self) -> list[MessageView]:
        """Those that exist now, in reading order."""
        return [entry.view for entry in self._entries if entry.view is not None]

    def show_messages(self, messages: Sequence[ShownMessage]) -> None:
        """Replace everything and go to the end."""
        for entry in self._entries:
            self._drop(entry)
        self._entries, self._by_id, self._dirty = [], {}, set()
        self._heights = Heights()
        self._memories = {name: memory for name, memory in self._memories.items() if memory.holds_something}
        for message in messages:
            self._add(message)
        self.follow()

    def append_message(self, message: ShownMessage) -> None:
        """Add one at the end. A message of the person's own brings the end into sight."""
        self._add(message)
        if message.role == "user":
            self.follow()
        else:
            self.arrange()

    def append_text(self, message_id: str, text: str) -> None:
        """More text of a running answer; shown within `REFRESH_MS` or a little later."""
        index = self._by_id.get(message_id)
        if index is None or not text:
            return
        self._entries[index].append_text(text)
        self._show_soon(index)

    def append_reasoning(self, message_id: str, text: str, tokens: int) -> None:
        """More reasoning of a running answer, `tokens` in all by now."""
        index = self._by_id.get(message_id)
        if index is not None:
            self._entries[index].append_reasoning(text, tokens)
            self._show_soon(index)

    def grow_call(self, message_id: str, call_index: int, arguments: str) -> None:
        """More arguments of a call of a running answer."""
        index = self._by_id.get(message_id)
        if index is not None:
            self._entries[index].grow_call(call_index, arguments)
            self._show_soon(index)

    def _show_soon(self, index: int) -> None:
        self._dirty.add(index)
        if not self._refresh.isActive():
            self._refresh.start(max(REFRESH_MS, round(self._refresh_cost_s * REFRESH_SHARE * 1000)))

    def update_message(self, message: ShownMessage) -> None:
        """Take a message's new state; unknown ids are ignored."""
        index = self._by_id.get(message.id)
        if index is None:
            return
        entry = self._entries[index]
        entry.update(message, index + 1)
        if entry.view is None:
            self._guess(index)
        self._dirty.discard(index)
        self.arrange()

    def set_progress(self, message_id: str, text: str) -> None:
        """The muted line under a running answer."""
        index = self._by_id.get(message_id)
        if index is None or self._entries[index].progress == text:
            return
        entry = self._entries[index]
        entry.progress = text
        if entry.view is not None:
            entry.view.set_progress(text)
            self.arrange()

    def set_cost(self, step: str, message_id: str, words: str) -> None:
        """What a step costs, told to all that may offer it."""
        for view in self.views:
            view.set_cost(step, message_id, words)

    def forget_costs(self) -> None:
        """What was told of costs holds no longer."""
        for view in self.views:
            view.forget_costs()

    def selected_text(self) -> str:
        """What is selected, as text."""
        return "\n\n".join(filter(None, (view.selected_text() for view in self.views)))

    def start_editing(self, message_id: str) -> None:
        """Bring a message into sight and open its editor."""
        index = self._by_id.get(message_id)
        if index is None:
            return
        view = self.bring(index)
        view.start_editing()
        self.bring(index)

    def restyle(self, style: PageStyle) -> None:
        """Take another theme or zoom."""
        self._style = style
        self.viewport().update()
        for view in self.views:
            view.restyle(style)
        self._column = 0
        self.arrange()

    def _add(self, message: ShownMessage) -> None:
        index = len(self._entries)
        self._by_id[message.id] = index
        # What was opened in a message is open again when its conversation is.
        memory = self._memories.setdefault(message.id, PartMemory())
        self._entries.append(MessageEntry.of(message, memory))
        self._heights.append(0)
        self._guess(index)

    def _guess(self, index: int) -> None:
        if not self._column:
            return
        height = self._entries[index].guessed_height(self._column, self._style)
        self._heights.change(index, height + self._gap(index))

    # --- following ------------------------------------------------------------------------------------

    def follow(self) -> None:
        """Go to the end and stay there."""
        self._following = True
        self.arrange()

    @property
    def below_px(self) -> int:
        """How much lies below the lower edge."""
        bar = self.verticalScrollBar()
        return bar.maximum() - bar.value()

    def _scrolled(self, value: int) -> None:
        if self._placing:
            return
        self._hold(value)
        self._following = value >= self.verticalScrollBar().maximum() - BOTTOM_SLACK_PX
        self.arrange()

    def _hold(self, y: int) -> None:
        if not self._entries:
            return
        y -= self._top_px
        index = self._heights.at(y)
        inside = y - self._heights.top(index)
        view = self._entries[index].view
        if view is None:
            self._anchor = Anchor(index, -1, inside)
        else:
            self._anchor = Anchor(index, *view.slot_at(inside))

    def _held(self) -> int:
        anchor = self._anchor
        if anchor.index >= len(self._entries):
            return 0
        top = self._top_px + self._heights.top(anchor.index)
        view = self._entries[anchor.index].view
        if view is None or anchor.slot < 0:
            return top + anchor.offset
        return top + view.slot_top(anchor.slot) + anchor.offset

    def _show_streamed(self) -> None:
        began = time.perf_counter()
        for index in self._dirty:
            view = self._entries[index].view
            if view is not None:
                view.sync()
            else:
                self._guess(index)
        self._dirty.clear()
        self.arrange()
        self._refresh_cost_s = time.perf_counter() - began

    # --- place ----------------------------------------------------------------------------------------

    def _gap(self, index: int) -> int:
        """The room below a message, besides the row of its buttons: none where an answer follows."""
        message = self._entries[index].message
        answered = message.role == "user" or any(call.result is not None for call in message.calls)
        return 0 if answered else 2 * self._style.theme.grid

    @property
    def _top_px(self) -> int:
        return 3 * self._style.theme.grid

    def arrange(self) -> None:
        """Make, measure and place what is near; keep what is read in its place."""
        if self._placing or not self.isVisible():
            return
        self._placing = True
        try:
            self._take_width()
            y = self._settle()
            self._place(y)
        finally:
            self._placing = False
        self.following_changed.emit()

    def _take_width(self) -> None:
        side = OUTER_PX + self._style.theme.grid * 2
        column = max(160, min(self._style.theme.column_px, self.viewport().width() - 2 * side))
        if column == self._column:
            return
        self._column = column
        for index, entry in enumerate(self._entries):
            if entry.view is None:
                self._guess(index)
            else:
                entry.view.set_width(column)
                self._heights.change(index, entry.view.full_height + self._gap(index))

    def _settle(self) -> int:
        """Measure until nothing near is a guess; the scroll position."""
        page = self.viewport().height()
        for _ in range(ROUNDS):
            y = self._target(page)
            if not self._measure(y - NEAR_PX, y + page + NEAR_PX):
                break
        return self._target(page)

    def _target(self, page: int) -> int:
        end = max(0, self._total - page)
        return end if self._following else max(0, min(self._held(), end))

    @property
    def _total(self) -> int:
        return self._top_px + self._heights.total + self._style.theme.grid

    def _measure(self, top: int, bottom: int) -> bool:
        changed = False
        if not self._entries:
            return False
        index = self._heights.at(top - self._top_px)
        while index < len(self._entries):
            start = self._top_px + self._heights.top(index)
            if start >= bottom:
                break
            view = self._view(index)
            view.lay_out(top - start, bottom - start)
            changed |= self._heights.change(index, view.full_height + self._gap(index))
            index += 1
        return changed

    def _view(self, index: int) -> MessageView:
        entry = self._entries[index]
        if entry.view is None:
            guessed = self._heights[index]
            entry.view = self._make(index, entry)
            anchor = self._anchor
            if anchor.index == index and anchor.slot < 0:
                # The place was guessed too: keep its share of the message.
                height = entry.view.full_height
                share = height / max(1, guessed) if anchor.offset > 0 else 1
                inside = min(height, round(anchor.offset * share))
                self._anchor = Anchor(index, *entry.view.slot_at(inside))
        return entry.view

    def _make(self, index: int, entry: MessageEntry) -> MessageView:
        view = MessageView(
            entry.message, entry.text, entry.reasoning, index + 1, self._style, entry.memory, self.viewport(),
            expanded=entry.expanded,
        )  # fmt: skip
        view.set_width(self._column)
        if entry.progress:
            view.set_progress(entry.progress)
        view.retry_requested.connect(self.retry_requested)
        view.continue_requested.connect(self.continue_requested)
        view.edit_requested.connect(self.edit_requested)
        view.version_chosen.connect(self.version_chosen)
        view.results_given.connect(self.results_given)
        view.cost_wanted.connect(self.cost_wanted)
        view.toggled.connect(self._toggled)
        view.changed.connect(self.arrange)
        view.expanded.connect(self._expanded)
        view.selection_began.connect(lambda: self._began_selecting(view))
        return view

    def _place(self, y: int) -> None:
        page = self.viewport().height()
        bar = self.verticalScrollBar()
        bar.setRange(0, max(0, self._total - page))
        bar.setPageStep(page)
        bar.setValue(y)
        # Of the whole width: a scroll bar that appears must not move what is being read.
        x = (self.width() - self._column) // 2 - OUTER_PX
        for index, entry in enumerate(self._entries):
            view = entry.view
            if view is None:
                continue
            top = self._top_px + self._heights.top(index) - y
            height = self._heights[index] - self._gap(index)
            if (top > 2 * page or top + height < -page) and not view.must_stay:
                self._drop(entry)
                continue
            view.release(-top - page, -top + 2 * page)
            view.setGeometry(x, top, self._column + 2 * OUTER_PX, height)
            view.place_parts()
            view.show()
        if self._following:
            self._hold(y)

    @staticmethod
    def _drop(entry: MessageEntry) -> None:
        if entry.view is not None:
            entry.view.hide()
            entry.view.deleteLater()
            entry.view = None

    def _expanded(self, message_id: str) -> None:
        self._entries[self._by_id[message_id]].expanded = True
        self._following = False

    def _toggled(self) -> None:
        """Something was opened or closed under the person's hand: it stays where it is."""
        self._following = False
        self.arrange()
        self._following = self.below_px <= BOTTOM_SLACK_PX
        self.following_changed.emit()

    def _began_selecting(self, where: MessageView) -> None:
        for view in self.views:
            if view is not where:
                view.clear_selection()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self.viewport())
        painter.fillRect(event.rect(), self._style.theme.background)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.arrange()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self.arrange()

    # --- keyboard -------------------------------------------------------------------------------------

    def keyPressEvent(self, event: QKeyEvent) -> None:
        bar = self.verticalScrollBar()
        step = scroll_step(self, event)
        if step:
            bar.setValue(bar.value() + step)
        elif event.key() == Qt.Key.Key_Home:
            bar.setValue(0)
        elif event.key() == Qt.Key.Key_End:
            self.follow()
        else:
            event.ignore()

    def focusInEvent(self, event: QFocusEvent) -> None:
        super().focusInEvent(event)
        if event.reason() == Qt.FocusReason.BacktabFocusReason and self.views:
            focus_stop(self, self.visible_views()[-1], event.reason())

    def focusNextPrevChild(self, following: bool) -> bool:
        """Tab walks through the messages in reading order."""
        return walk(self, following=following)

    def visible_views(self) -> list[MessageView]:
        """The views that are in sight."""
        shown = [view for view in self.views if view.geometry().intersects(self.viewport().rect())]
        return shown or self.views

    def index_of(self, widget: QWidget) -> int:
        """The number of the message that `widget` belongs to, from 0; -1 for none."""
        for index, entry in enumerate(self._entries):
            if entry.view is not None and (entry.view is widget or entry.view.isAncestorOf(widget)):
                return index
        return -1

    @property
    def count(self) -> int:
        """How many messages there are."""
        return len(self._entries)

    def bring(self, index: int) -> MessageView:
        """Scroll so that message `index` is in sight; its view."""
        view = self._entries[index].view
        if view is None or not view.geometry().intersects(self.viewport().rect()):
            self._following = False
            self._anchor = Anchor(index, -1, 0)
            self.arrange()
        return self._view(index)

    def _focus_changed(self, _old: QWidget | None, new: QWidget | None) -> None:
        for view in self.views:
            view.set_focus_within(new is not None and (view is new or view.isAncestorOf(new)))
