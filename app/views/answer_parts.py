"""What stands in a message above its foot: its thinking, its text, its calls.

Owns: making these parts as they come, what is selected in them, and gathering the results of calls. Does not
know the page or the foot; a question is an answer with nothing but its text.
"""

from PySide6.QtCore import Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QWidget

from app.page_style import PageStyle
from app.transcript_model import ShownCall, ShownMessage
from app.views.call_card import CallCard
from app.views.message_body import MessageBody
from app.views.part_column import PartColumn, RigidPart
from app.views.part_memory import PartMemory
from app.views.quiet_button import QuietButton
from app.views.text_block import QuietDocument
from app.views.thinking_part import ThinkingPart
from engine.conversation import clean_text


class _SendRow(RigidPart, QWidget):
    """The button that sends the results of all calls."""

    def __init__(self, style: PageStyle, parent: QWidget) -> None:
        super().__init__(parent)
        self.button = QuietButton("Send results", "Send the results of all calls", style, self, strong=True)

    def height_for(self, _width: int, /) -> int:
        return self.button.sizeHint().height()

    def stops(self) -> list[QWidget]:
        return [self.button] if self.button.isEnabled() else []

    def restyle(self, style: PageStyle) -> None:
        self.button.restyle(style)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        size = self.button.sizeHint()
        self.button.setGeometry(self.width() - size.width(), 0, size.width(), size.height())


class AnswerParts(PartColumn):
    """The parts of one message."""

    selection_began = Signal()
    copy_requested = Signal()
    toggled = Signal()
    """The person has opened or closed a part: the page should not follow its end for that."""
    changed = Signal()
    """The height has changed by itself."""
    results_given = Signal(object)
    """list[tuple[str, str]]: id of each call, and its result."""

    def __init__(self, style: PageStyle, memory: PartMemory, parent: QWidget, *, markdown: bool) -> None:
        super().__init__(parent)
        self._style, self._memory = style, memory
        self.thinking: ThinkingPart | None = None
        self.body = MessageBody(style, self, markdown=markdown)
        self.cards: list[CallCard] = []
        self._send: _SendRow | None = None
        self.add(self.body, gap=style.theme.grid)
        self._watch(self.body)

    @property
    def reasoning(self) -> str:
        """The reasoning so far."""
        return self.thinking.text if self.thinking is not None else ""

    # --- what they show ---------------------------------------------------------------------------------

    def show_message(self, message: ShownMessage, reasoning: str) -> None:
        """Take everything but the text."""
        running = message.status == "running"
        if reasoning or (message.thought is not None and message.thought.tokens):
            self._make_thinking().show_state(reasoning, message.thought, running=running)
        elif self.thinking is not None:
            thinking, self.thinking = self.thinking, None
            self.take_away(thinking)
        calls = list(message.calls)
        if message.unfinished_call:
            calls.append(ShownCall(id="", name="", arguments=message.unfinished_call))
        same = 0
        for call, card in zip(calls, self.cards, strict=False):
            if call.id != card.call.id:
                break
            card.show_call(call)
            same += 1
        for card in self.cards[same:]:
            self.take_away(card)
        del self.cards[same:]
        for call in calls[same:]:
            self._make_card(call)
        for card in self.cards:
            card.set_writable(message.awaits_results)
        self._offer_sending(message.awaits_results)

    def append_reasoning(self, text: str) -> None:
        """More reasoning; shown by the next `sync`."""
        if self.thinking is None:
            self._make_thinking().show_state(text, None, running=True)
        else:
            self.thinking.append(text)

    def grow_call(self, index: int, arguments: str) -> None:
        """More of the arguments of call number `index`; shown by the next `sync`."""
        if index < len(self.cards):
            self.cards[index].grow(arguments)

    def sync(self) -> None:
        """Take what was appended into the blocks; `lay_out` shows it."""
        if self.thinking is not None:
            self.thinking.sync()
        self.body.sync()
        for card in self.cards:
            card.sync()

    def _make_thinking(self) -> ThinkingPart:
        if self.thinking is None:
            thinking = ThinkingPart(self._style, self._memory, self)
            thinking.toggled.connect(self.toggled)
            thinking.changed.connect(self.changed)
            thinking.body_made.connect(lambda: self._watch(thinking.body))
            self.thinking = thinking
            self.add(thinking, at=0)
        return self.thinking

    def _make_card(self, call: ShownCall) -> None:
        card = CallCard(call, self._style, self._memory, self)
        card.toggled.connect(self.toggled)
        card.changed.connect(self.changed)
        card.body_made.connect(self._watch)
        card.send_pressed.connect(self._send_results)
        card.written.connect(self._show_whether_sendable)
        for body in card.bodies():
            self._watch(body)
        self.cards.append(card)
        grid = self._style.theme.grid
        self.add(card, gap=grid + grid // 2, at=self._first_card + len(self.cards) - 1)

    @property
    def _first_card(self) -> int:
        return 2 if self.thinking is not None else 1

    # --- results ----------------------------------------------------------------------------------------

    def _offer_sending(self, offered: bool) -> None:
        if offered and self._send is None:
            self._send = _SendRow(self._style, self)
            self._send.button.clicked.connect(self._send_results)
            self.add(self._send, gap=self._style.theme.grid)
        elif not offered and self._send is not None:
            send, self._send = self._send, None
            self.take_away(send)
        self._show_whether_sendable()

    def _show_whether_sendable(self) -> None:
        if self._send is not None:
            whole = all(card.result_text().strip() for card in self.cards)
            self._send.button.setEnabled(whole)
            self._send.button.setToolTip("" if whole else "Every call needs a result.")

    def _send_results(self) -> None:
        if self._send is not None and self._send.button.isEnabled():
            # What cannot be stored or sent is replaced; there is no place here to say so.
            given = [(card.call.id, clean_text(card.result_text())[0]) for card in self.cards]
            self.results_given.emit(given)

    # --- selecting --------------------------------------------------------------------------------------

    def bodies(self) -> list[MessageBody]:
        """The texts of all parts, from top to bottom."""
        thinking = self.thinking.body if self.thinking is not None else None
        first = [thinking] if thinking is not None else []
        return [*first, self.body, *(body for card in self.cards for body in card.bodies())]

    def documents(self) -> list[QuietDocument]:
        """The documents of the text that have widgets now."""
        return self.body.documents()

    def select_all(self) -> None:
        """Select the whole text, also what is not in sight; not what stands around it."""
        self._select_all_of(self.body)

    def clear_selection(self) -> None:
        """Select nothing."""
        for body in self.bodies():
            body.clear_selection()

    def selected_text(self, source: str) -> str:
        """What is selected; `source`, the text as it was written, when all of the text is."""
        thinking = self.thinking.body if self.thinking is not None else None
        if self.body.is_all_selected:
            return source
        if thinking is not None and thinking.is_all_selected:
            return self.reasoning
        documents = [document for body in self.bodies() for document in body.documents()]
        return "\n\n".join(filter(None, (document.selected_text() for document in documents)))

    @property
    def holds_something(self) -> bool:
        """True when a selection or the focus would be lost with the widgets."""
        return any(part.holds_something for part in (*self.bodies(), *self.cards))

    def _watch(self, body: MessageBody | None) -> None:
        if body is not None:
            body.selection_began.connect(lambda: self._began_selecting(body))
            body.select_all_requested.connect(lambda: self._select_all_of(body))
            body.copy_requested.connect(self.copy_requested)

    def _began_selecting(self, where: MessageBody) -> None:
        for body in self.bodies():
            if body is not where:
                body.clear_selection()
        self.selection_began.emit()

    def _select_all_of(self, body: MessageBody) -> None:
        self._began_selecting(body)
        body.select_all()

    def restyle(self, style: PageStyle) -> None:
        """Take another theme or zoom: blocks are made again where the reader is."""
        self._style = style
        super().restyle(style)
