"""A call of an answer as a card: which tool, with what, whether it holds, and what it gave.

Owns: the card's parts and the box for a result that is not there yet. Does not know the answer around it, never
runs a tool, and does not send what is written as a result.
"""

import json
import re
from dataclasses import replace

from PySide6.QtCore import QRectF, Qt, Signal
from PySide6.QtGui import QFont, QFontMetrics, QPainter, QPainterPath, QPaintEvent, QPen, QResizeEvent
from PySide6.QtWidgets import QLabel, QWidget

from app.icons import icon
from app.page_style import PageStyle
from app.transcript_model import ShownCall
from app.views.fold_header import FoldHeader
from app.views.message_body import MessageBody
from app.views.part_column import PartColumn, RigidPart
from app.views.part_memory import PartMemory
from app.views.quiet_button import QuietButton
from app.views.result_field import ResultField
from app.views.text_feed import TextFeed
from app.views.thinking_part import muted_style

PRETTY_CHARS = 200_000
"""Longer arguments are shown as they were written."""
SHORT_LINES, SHORT_CHARS = 8, 600
"""A longer result is closed until it is opened."""
COPIED_MS = 1500
_TILDES = re.compile("~{3,}")
_FENCE = "~" * 64


def pretty_arguments(arguments: str) -> str:
    """JSON text with its structure as lines; anything else as it is."""
    if len(arguments) > PRETTY_CHARS:
        return arguments
    try:
        return json.dumps(json.loads(arguments), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return arguments


def result_words(text: str) -> str:
    """ "Result", and how long it is where that is worth saying."""
    lines = text.count("\n") + 1
    if lines > SHORT_LINES:
        return f"Result · {lines:,} lines"
    return f"Result · {len(text):,} characters" if len(text) > SHORT_CHARS else "Result"


def is_short(text: str) -> bool:
    """Short enough to be open from the beginning."""
    return len(text) <= SHORT_CHARS and text.count("\n") < SHORT_LINES


def _fenced(text: str, language: str) -> str:
    """`text` as one block of code, whatever it holds."""
    longest = max((len(run) for run in _TILDES.findall(text)), default=0)
    fence = "~" * max(len(_FENCE), longest + 1)
    return f"{fence}{language}\n{text}\n{fence}\n"


def _language_of(text: str) -> str:
    if len(text) > PRETTY_CHARS or text.lstrip()[:1] not in ("{", "["):
        return ""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return ""
    return "json"


class _Title(RigidPart, QWidget):
    """Which tool, and what of the call there is to say; Copy at the right."""

    def __init__(self, style: PageStyle, parent: QWidget) -> None:
        super().__init__(parent)
        self._style = style
        self._words, self._state = "", ""
        self._warns = False
        self.copy_button = QuietButton(
            "Copy", "Copy the arguments", style, self, align=Qt.AlignmentFlag.AlignRight
        )

    def say(self, words: str, state: str, *, warns: bool) -> None:
        self._words, self._state, self._warns = words, state, warns
        self.copy_button.setAccessibleName(
            f"Copy the arguments of {words}" if words else "Copy the arguments"
        )
        self.update()

    def restyle(self, style: PageStyle) -> None:
        self._style = style
        self.copy_button.restyle(style)

    def height_for(self, _width: int, /) -> int:
        return self.copy_button.sizeHint().height()

    def stops(self) -> list[QWidget]:
        return [self.copy_button]

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        size = self.copy_button.sizeHint()
        grid = self._style.theme.grid
        self.copy_button.setGeometry(self.width() - size.width() + grid, 0, size.width(), size.height())

    def paintEvent(self, _event: QPaintEvent) -> None:
        theme = self._style.theme
        painter = QPainter(self)
        middle = self.height() // 2
        name, colour = ("warning", theme.danger) if self._warns else ("tool", theme.muted)
        icon(name, colour).paint(painter, 0, middle - 8, 16, 16)
        left = 16 + theme.grid
        right = self.copy_button.x()
        align = Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft
        if self._words:
            font = QFont(self._style.code_font)
            font.setWeight(QFont.Weight.DemiBold)
            painter.setFont(font)
            painter.setPen(theme.text)
            metrics = QFontMetrics(font)
            words = metrics.elidedText(self._words, Qt.TextElideMode.ElideRight, max(40, right - left))
            painter.drawText(left, 0, right - left, self.height(), align, words)
            left += metrics.horizontalAdvance(words) + theme.grid
        painter.setFont(self._style.small_font())
        painter.setPen(theme.danger if self._warns else theme.muted)
        if right - left > 40:
            painter.drawText(left, 0, right - left, self.height(), align, self._state)


class _Note(RigidPart, QLabel):
    """A sentence about the call."""

    def __init__(self, style: PageStyle, parent: QWidget) -> None:
        super().__init__(parent)
        self._style = style
        self._warns = False
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setWordWrap(True)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)

    def say(self, sentence: str, *, warns: bool) -> None:
        self._warns = warns
        self.setText(sentence)
        self.setAccessibleName(sentence)
        self.restyle(self._style)

    def restyle(self, style: PageStyle) -> None:
        self._style = style
        palette = style.palette
        colour = style.theme.text if self._warns else style.theme.muted
        palette.setColor(palette.ColorRole.WindowText, colour)
        self.setPalette(palette)
        self.setProperty("muted", not self._warns)
        self.style().polish(self)  # a stylesheet looks at the property only then
        self.setFont(style.small_font())

    def height_for(self, width: int, /) -> int:
        return self.heightForWidth(width) if self.text() else 0

    def stops(self) -> list[QWidget]:
        return []


class CallCard(PartColumn):
    """One call. `writable`: its result can be written here."""

    toggled = Signal()
    """The person has opened or closed its result."""
    changed = Signal()
    """Its height has changed by itself."""
    body_made = Signal(object)
    """MessageBody: there is more text that can be selected."""
    send_pressed = Signal()
    """Ctrl+Enter in the box of the result."""
    written = Signal()
    """What stands in the box has changed."""

    def __init__(self, call: ShownCall, style: PageStyle, memory: PartMemory, parent: QWidget) -> None:
        grid = style.theme.grid
        side = round(1.5 * grid)
        super().__init__(parent, (side, grid // 2, side, side))
        self._style, self._memory = style, memory
        self.call = replace(call, arguments="", status="writing", result=None)
        self._shown_result: str | None = None
        self._title = _Title(style, self)
        self._title.copy_button.clicked.connect(self._copy)
        # What was cut off stands back, as thinking does.
        self._is_muted = not call.name and call.result is None
        text_style = muted_style(style) if self._is_muted else style
        self.arguments = MessageBody(text_style, self, markdown=False, inset=True)
        self._feed = TextFeed(self.arguments)
        self._note = _Note(style, self)
        self._header: FoldHeader | None = None
        self.result: MessageBody | None = None
        self._result_feed: TextFeed | None = None
        self.field: ResultField | None = None
        self.add(self._title)
        self.add(self.arguments, gap=grid // 2)
        self.add(self._note, gap=grid)
        self._feed.restart(f"{_FENCE}json\n", ended=False)
        self._feed.fed.connect(self.changed)
        self.show_call(call)

    # --- what it shows ----------------------------------------------------------------------------------

    def show_call(self, call: ShownCall) -> None:
        """Take the call's new state."""
        before, self.call = self.call, call
        if call.status == "writing":
            if before.status == "writing" and call.arguments.startswith(before.arguments):
                self._feed.append(call.arguments[len(before.arguments) :])
            else:
                self._feed.restart(f"{_FENCE}json\n{call.arguments}", ended=False)
            self.sync()
        elif before.status == "writing" or call.arguments != before.arguments:
            # What was cut off in the middle is no JSON yet, nor is a result without its call.
            language = "json" if call.name else ""
            self._feed.restart(_fenced(pretty_arguments(call.arguments), language), ended=True)
        self.set_shown(self.arguments, bool(call.arguments))
        self._say()
        if call.result is not None:
            self._show_result(call.result)

    def grow(self, arguments: str) -> None:
        """More of the arguments; shown by the next `sync`."""
        self.call = replace(self.call, arguments=self.call.arguments + arguments)
        self._feed.append(arguments)
        self.set_shown(self.arguments, True)

    def sync(self) -> None:
        """Take what has grown into the blocks."""
        self.arguments.sync()

    def set_writable(self, writable: bool) -> None:
        """Offer a box for the result, or take it away."""
        if writable and self.field is None:
            field = ResultField(f"Result of {self.call.name}", self._style, self)
            rejected = self.call.problem if self.call.status == "rejected" else None
            field.setPlainText(self._memory.drafts.get(self.call.id, rejected or ""))
            field.textChanged.connect(self._written)
            field.send_pressed.connect(self.send_pressed)
            field.grown.connect(self.changed)
            self.field = field
            self.add(field, gap=self._style.theme.grid)
            self._show_note()
        elif not writable and self.field is not None:
            field, self.field = self.field, None
            self.take_away(field)
            self._memory.drafts.pop(self.call.id, None)
            self._show_note()

    def result_text(self) -> str:
        """What stands in the box."""
        return self.field.plain_text() if self.field is not None else ""

    def _say(self) -> None:
        call = self.call
        rejected = call.status == "rejected"
        state = {"writing": "is being written", "rejected": "not carried out", "repaired": "repaired"}
        words = state.get(call.status, "")
        if not call.name:
            words = "A call was being written" if call.result is None else "A result without its call"
        self._title.say(call.name, words, warns=rejected)
        self._note.say(call.problem or "", warns=rejected)
        self._show_note()
        who = f"Call of {call.name}" if call.name else words
        self.setAccessibleName(f"{who}, {words}" if call.name and words else who)
        self.setAccessibleDescription(call.problem or "")

    def _show_note(self) -> None:
        """Not where the result says the same, or is about to."""
        result = self.call.result if self.call.result is not None else self.result_text()
        self.set_shown(self._note, result.strip() != (self.call.problem or "").strip())

    def _show_result(self, text: str) -> None:
        usually = is_short(text)
        if self._header is None:
            grid = self._style.theme.grid
            opened = self._memory.is_open(self._result_name, usually=usually)
            self._header = FoldHeader(self._style, self, opened=opened)
            self._header.clicked.connect(self._toggle)
            self.add(self._header, gap=grid // 2)
            self.result = MessageBody(self._style, self, markdown=False, inset=True)
            self._result_feed = TextFeed(self.result)
            self.add(self.result, gap=grid // 2)
            self.set_shown(self.result, opened)
            self._result_feed.fed.connect(self.changed)
            self.body_made.emit(self.result)
        elif self._shown_result == text:
            return
        self._shown_result = text
        self._header.set_words(result_words(text), f"{result_words(text)} of {self.call.name}")
        if self._result_feed is not None:
            self._result_feed.restart(_fenced(text, _language_of(text)), ended=True)

    @property
    def _result_name(self) -> str:
        return f"result of {self.call.id}"

    def _toggle(self) -> None:
        if self._header is not None and self.result is not None:
            self._memory.opened[self._result_name] = self._header.isChecked()
            self.set_shown(self.result, self._header.isChecked())
            self.toggled.emit()

    def _written(self) -> None:
        self._memory.drafts[self.call.id] = self.result_text()
        height = self.height_px
        self._show_note()
        self.written.emit()
        if self.height_px != height:
            self.changed.emit()

    def _copy(self) -> None:
        from app.views.message_foot import copy_to_clipboard

        copy_to_clipboard(pretty_arguments(self.call.arguments))
        self._title.copy_button.say_for("Copied", COPIED_MS)

    # --- place and paint --------------------------------------------------------------------------------

    def bodies(self) -> list[MessageBody]:
        """Its texts, from top to bottom."""
        return [self.arguments, *([self.result] if self.result is not None else [])]

    @property
    def holds_something(self) -> bool:
        """True when the focus would be lost with the widgets."""
        return self.field is not None and self.field.hasFocus()

    def restyle(self, style: PageStyle) -> None:
        """Take another theme or zoom."""
        self._style = style
        super().restyle(style)
        if self._is_muted:
            self.arguments.restyle(muted_style(style))

    def paintEvent(self, _event: QPaintEvent) -> None:
        theme = self._style.theme
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        path = QPainterPath()
        path.addRoundedRect(QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5), theme.radius, theme.radius)
        painter.fillPath(path, theme.code_background)
        painter.strokePath(path, QPen(theme.border, 1))
