"""One message on the page.

Owns: its text, tint, foot and editor. Does not know the other messages or the scroll position: the page tells
it which part of it is near.
"""

from PySide6.QtCore import QEvent, QRectF, Qt, Signal
from PySide6.QtGui import QEnterEvent, QKeyEvent, QKeySequence, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QWidget

from app.page_style import PageStyle
from app.transcript_model import ShownMessage
from app.views.answer_parts import AnswerParts
from app.views.message_editor import MessageEditor
from app.views.message_foot import MessageFoot, copy_to_clipboard
from app.views.part_memory import PartMemory
from app.views.text_block import QuietDocument
from app.views.text_feed import TextFeed

SHOWN_CHARS = 20_000
"""Of a longer message only the beginning is shown until all is asked for."""
EDITABLE_LINE_CHARS = 100_000
OUTER_PX = 12
"""Room beside the column for the focus ring."""


class MessageView(QWidget):
    """One message. `full_height` follows `lay_out`; the page gives it its place."""

    retry_requested = Signal(str)
    continue_requested = Signal(str)
    edit_requested = Signal(str, str)
    version_chosen = Signal(str)
    cost_wanted = Signal(str, str)
    """A step that is offered here (`turn_costs.Step`), and the message that it starts from."""
    results_given = Signal(str, object)
    """Message id, list[tuple[str, str]]: id of each call, and its result."""
    toggled = Signal()
    """The person has opened or closed a part: the page should lay out again without following its end."""
    expanded = Signal(str)
    selection_began = Signal()
    changed = Signal()
    """Its height may have changed: the page should lay out again."""

    def __init__(
        self,
        message: ShownMessage,
        text: str,
        reasoning: str,
        number: int,
        style: PageStyle,
        memory: PartMemory,
        parent: QWidget,
        *,
        expanded: bool,
    ) -> None:
        super().__init__(parent)
        self.message = message
        self._style = style
        self._text = text
        self._expanded = expanded or message.status == "running"
        self._parts = AnswerParts(style, memory, self, markdown=message.role == "assistant")
        self._parts.selection_began.connect(self.selection_began)
        self._parts.copy_requested.connect(self.copy_selection)
        self._parts.toggled.connect(self.toggled)
        self._parts.changed.connect(self._grew)
        self._parts.results_given.connect(self._give_results)
        self._body = self._parts.body
        self._feed = TextFeed(self._body)
        self._feed.fed.connect(self._grew)
        self._width = 0
        self._is_taking = False
        self._editor: MessageEditor | None = None
        self._hovered = self._focused = False
        self._foot_px = 0
        self._foot = MessageFoot(style, self)
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        foot = self._foot
        foot.copy_pressed.connect(self.copy_source)
        foot.copy_reasoning_pressed.connect(self.copy_reasoning)
        foot.retry_pressed.connect(lambda: self.retry_requested.emit(self.message.id))
        foot.continue_pressed.connect(lambda: self.continue_requested.emit(self.message.id))
        foot.edit_pressed.connect(self.start_editing)
        foot.show_all_pressed.connect(self.expand)
        foot.version_pressed.connect(self.version_chosen)
        foot.cost_wanted.connect(self.cost_wanted)
        self.set_message(message, reasoning, number)
        self._split_again()

    # --- what it shows --------------------------------------------------------------------------------

    def set_message(self, message: ShownMessage, reasoning: str, number: int) -> None:
        """Take everything but the text from `message`, whose reasoning stands beside it."""
        self.message = message
        self._number = number
        who = "You" if message.role == "user" else "Answer"
        self.setAccessibleName(f"{who}, message {number}")
        self.setAccessibleDescription(self._text[:300])
        # Many parts may change now: whoever gives the message arranges the page once, afterwards.
        self._is_taking = True
        self._parts.show_message(message, reasoning)
        self._is_taking = False
        self._foot.set_message(message, number, has_reasoning=bool(reasoning))
        self._relay_foot()

    def set_progress(self, text: str) -> None:
        """The muted line under a running answer."""
        self._foot.set_progress(text)
        self._relay_foot()

    def set_cost(self, step: str, message_id: str, words: str) -> None:
        """What a step costs that may be offered here."""
        if step != "edit":
            self._foot.set_cost(step, message_id, words)
        elif message_id == self.message.id and self._editor is not None:
            self._editor.set_cost(words)

    def forget_costs(self) -> None:
        """What was told of costs holds no longer: what is offered now asks again."""
        self._foot.forget_costs()
        if self._editor is not None:
            self._editor.set_cost("")
            self.cost_wanted.emit("edit", self.message.id)

    def append(self, text: str) -> None:
        """More text at the end; shown by the next `sync`."""
        self._text += text
        self._feed.append(text)

    def append_reasoning(self, text: str) -> None:
        """More reasoning; shown by the next `sync`."""
        self._parts.append_reasoning(text)
        self._foot.set_has_reasoning(True)

    def grow_call(self, index: int, arguments: str) -> None:
        """More of a call's arguments; shown by the next `sync`."""
        self._parts.grow_call(index, arguments)

    def sync(self) -> None:
        """Take what was appended into the blocks; `lay_out` shows it."""
        self._parts.sync()

    def replace_text(self, text: str, *, running: bool) -> None:
        """Show `text`, keeping the blocks that it begins with as they are."""
        if text.startswith(self._text) and running and not self._body.is_finished:
            self.append(text[len(self._text) :])
            self.sync()
            return
        self._text = text
        self._expanded = self._expanded or running
        self._split_again()

    def finish(self) -> None:
        """No more text comes: the open block is shown as a finished one."""
        self._feed.finish()

    def expand(self) -> None:
        """Show all of a long message."""
        self._expanded = True
        self.expanded.emit(self.message.id)
        self._split_again()
        self.changed.emit()

    def _split_again(self) -> None:
        text = self._text
        if not self._expanded and len(text) > SHOWN_CHARS:
            cut = text.rfind("\n", SHOWN_CHARS // 2, SHOWN_CHARS)
            text = text[: cut if cut > 0 else SHOWN_CHARS]
            size = len(self._text.encode("utf-8", "replace"))
            self._foot.set_hidden_size(_size_text(size))
        else:
            self._foot.set_hidden_size("")
        self._feed.restart(text, ended=self.message.status != "running")
        self._relay_foot()

    def _grew(self) -> None:
        if self._width and not self._is_taking:
            self.changed.emit()

    # --- place ----------------------------------------------------------------------------------------

    @property
    def _padding(self) -> tuple[int, int]:
        grid = self._style.theme.grid
        return (2 * grid, round(1.5 * grid)) if self.message.role == "user" else (0, 0)

    @property
    def _body_px(self) -> int:
        if self._editor is not None:
            return self._editor.height_for(self._width)
        return self._parts.height_px + 2 * self._padding[1]

    @property
    def full_height(self) -> int:
        """The height of the message at its width, guessed where no widget is."""
        return self._body_px + self._foot_px

    def set_width(self, width: int) -> None:
        """Set the column's width; heights are measured again where the reader is."""
        if width == self._width:
            return
        self._width = width
        self._parts.set_width(width - 2 * self._padding[0])
        self._relay_foot()

    def _relay_foot(self) -> None:
        self._foot_px = self._foot.height_for(self._width) if self._width else 0
        self._foot.arrange()

    def lay_out(self, top: int, bottom: int) -> None:
        """Give widgets to what lies between `top` and `bottom` (pixels in this view), and measure it."""
        if self._editor is None:
            self._parts.lay_out(top - self._padding[1], bottom - self._padding[1])

    def release(self, top: int, bottom: int) -> None:
        """Take the widgets from what lies outside `top` to `bottom`, but for a selection."""
        self._parts.release(top - self._padding[1], bottom - self._padding[1])

    def place_parts(self) -> None:
        """Move the parts to where `lay_out` found them to stand."""
        side, above = self._padding
        self._parts.setVisible(self._editor is None)
        if self._editor is not None:
            self._editor.setGeometry(OUTER_PX, 0, self._width, self._body_px)
        else:
            width = self._width - 2 * side
            # Qt puts a line's extra height above its letters; in a tint that must look even.
            lift = self._style.half_leading_px if above else 0
            self._parts.setGeometry(OUTER_PX + side, above - lift, width, self._parts.height_px)
            self._parts.place_parts()
        step = (
            self._style.theme.grid
        )  # room for the frames of buttons whose words stand in line with the text
        self._foot.setGeometry(OUTER_PX - step, self._body_px, self._width + step, self._foot_px)

    def slot_at(self, y: int) -> tuple[int, int]:
        """The slot at `y` and how far `y` lies below its top: what stays put when heights change."""
        return self._parts.slot_at(y - self._padding[1]) if self._editor is None else (0, y)

    def slot_top(self, index: int) -> int:
        """Where slot `index` begins."""
        return self._padding[1] + self._parts.slot_top(index) if self._editor is None else 0

    # --- selecting, copying ---------------------------------------------------------------------------

    def documents(self) -> list[QuietDocument]:
        """The documents that have widgets now, from top to bottom."""
        return self._parts.documents()

    def select_all(self) -> None:
        """Select the whole message, also what is not in sight."""
        self._parts.select_all()

    def clear_selection(self) -> None:
        """Select nothing."""
        self._parts.clear_selection()

    def selected_text(self) -> str:
        """What is selected as plain text; the Markdown source when all of the message is."""
        return self._parts.selected_text(self._text)

    def copy_selection(self) -> None:
        """Put the selection on the clipboard."""
        text = self.selected_text()
        if text:
            copy_to_clipboard(text)

    def copy_source(self) -> None:
        """Put the message as it was written on the clipboard."""
        copy_to_clipboard(self._text)
        self._foot.say_copied()

    def copy_reasoning(self) -> None:
        """Put the thinking before the answer on the clipboard."""
        copy_to_clipboard(self._parts.reasoning)
        self._foot.say_copied(reasoning=True)

    # --- editing --------------------------------------------------------------------------------------

    @property
    def is_editing(self) -> bool:
        """True while the editor is open."""
        return self._editor is not None

    @property
    def must_stay(self) -> bool:
        """True when the page should not let it go though it is far: it holds something of the person's."""
        return self.is_editing or self._parts.holds_something

    def start_editing(self) -> None:
        """Open the editor in place of the text. A message with an enormous line is left alone."""
        if self._editor is None:
            if max(map(len, self._text.split("\n"))) > EDITABLE_LINE_CHARS:
                self._foot.set_progress(
                    "This message is too long to edit here: copy it and edit it elsewhere."
                )
                self._relay_foot()
                self.changed.emit()
                return
            self._editor = MessageEditor(self._text, self._style, self)
            self._editor.saved.connect(self._save)
            self._editor.cancelled.connect(self.stop_editing)
            self._editor.height_changed.connect(self.changed)
            self._editor.show()
            self.cost_wanted.emit("edit", self.message.id)
        self.changed.emit()
        self._editor.field.setFocus(Qt.FocusReason.OtherFocusReason)

    def stop_editing(self) -> None:
        """Close the editor without saving."""
        if self._editor is None:
            return
        editor, self._editor = self._editor, None
        self.setFocus(Qt.FocusReason.OtherFocusReason)
        editor.hide()
        editor.deleteLater()
        self.changed.emit()

    def _give_results(self, results: list[tuple[str, str]]) -> None:
        self.results_given.emit(self.message.id, results)

    def _save(self, text: str) -> None:
        self.stop_editing()
        self.edit_requested.emit(self.message.id, text)

    # --- focus, mouse, paint --------------------------------------------------------------------------

    def stops(self) -> list[QWidget]:
        """What Tab visits after the message itself."""
        if self._editor is not None:
            save = [self._editor.save_button] if self._editor.save_button.isEnabled() else []
            return [self._editor.field, *save, self._editor.cancel_button]
        self._foot.set_active(True)
        stops = [*self._parts.stops(), *self._foot.stops()]
        self._update_foot()
        return stops

    def set_focus_within(self, inside: bool) -> None:
        """Told by the page when the keyboard's focus comes into the message or leaves it."""
        if inside != self._focused:
            self._focused = inside
            self._update_foot()
        self.update()

    def _update_foot(self) -> None:
        self._foot.set_active((self._hovered or self._focused) and self._editor is None)
        self._foot.arrange()

    def enterEvent(self, event: QEnterEvent) -> None:
        super().enterEvent(event)
        self._hovered = True
        self._update_foot()

    def leaveEvent(self, event: QEvent) -> None:
        super().leaveEvent(event)
        self._hovered = False
        self._update_foot()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.matches(QKeySequence.StandardKey.SelectAll):
            self.select_all()
        elif event.matches(QKeySequence.StandardKey.Copy):
            self.copy_selection()
        else:
            event.ignore()

    def restyle(self, style: PageStyle) -> None:
        """Take another theme or zoom: blocks are made again where the reader is."""
        self._style = style
        self._parts.restyle(style)
        self._foot.restyle(style)
        if self._editor is not None:
            self._editor.restyle(style)
        self._width = 0

    def paintEvent(self, _event: QPaintEvent) -> None:
        theme = self._style.theme
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        body = QRectF(OUTER_PX, 0, self._width, self._body_px)
        if self.message.role == "user" and self._editor is None:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(theme.user_block)
            painter.drawRoundedRect(body, theme.radius, theme.radius)
        if self.hasFocus():
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(QPen(theme.accent, 2))
            ring = QRectF(self.rect()).adjusted(1, 1, -1, -1) if self.message.role == "assistant" else body
            painter.drawRoundedRect(ring, theme.radius, theme.radius)


def _size_text(size_bytes: int) -> str:
    """A size for people: "20 kB", "1.0 MB"."""
    if size_bytes < 1_000_000:
        return f"{max(1, round(size_bytes / 1000))} kB"
    return f"{size_bytes / 1_000_000:.1f} MB"
