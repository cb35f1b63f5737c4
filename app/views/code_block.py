"""A block of code with its language and a Copy button.

Owns: showing code, appending to it while it streams, colouring it within a share of the time, and scrolling
it sideways. Does not know messages; what Copy takes is asked of the caller, since long code is shown in
several pieces.
"""

import math
import time
from collections.abc import Callable

from PySide6.QtCore import QRectF, Qt, QTimer, Signal
from PySide6.QtGui import (
    QGuiApplication,
    QPainter,
    QPainterPath,
    QPaintEvent,
    QPen,
    QResizeEvent,
    QTextBlock,
    QTextCharFormat,
    QTextCursor,
    QTextLayout,
)
from PySide6.QtWidgets import QTextEdit, QWidget

from app.highlight import SIZE_LIMIT_CHARS, Highlighting, Span
from app.markdown_blocks import Block
from app.page_style import PageStyle
from app.views.quiet_button import QuietButton
from app.views.text_block import QuietDocument

COPIED_MS = 1500
COLOUR_SHARE = 10
"""While code streams it is coloured again after this many times what the last colouring took."""
COLOUR_PAUSE_S = 0.25
SLICE_S = 0.012
"""Colouring gives way to the event loop after this long."""
SLICES = 100
"""Code that asks for more slices stays without colours: its text drives the lexer mad."""


class CodeBlock(QWidget):
    """One piece of code: a header with language and Copy, and the text.

    `inset`: inside a card that has the frame and the header; long lines are broken, so that all can be read.
    """

    copied = Signal()

    def __init__(
        self,
        style: PageStyle,
        block: Block,
        whole: Callable[[], str],
        parent: QWidget,
        *,
        inset: bool = False,
    ) -> None:
        super().__init__(parent)
        self._style = style
        self._language = block.language
        self._before_chars = block.before_chars
        self._inset = inset
        self._header_shown = not block.continues and not inset
        self._whole = whole
        self._code = ""
        self._lines: list[tuple[Span, ...]] = []
        self._work: Highlighting | None = None
        self._slices = 0
        self._colour_cost_s = 0.0
        self._finished = False
        self.document = QuietDocument(style, self)
        self.document.setAccessibleName(f"Code, {block.language}" if block.language else "Code")
        wrap = QTextEdit.LineWrapMode
        self.document.setLineWrapMode(wrap.FixedPixelWidth if inset else wrap.NoWrap)
        self.document.setHorizontalScrollBarPolicy(self._scroll_policy(False))
        self.document.document().setDefaultFont(style.code_font)
        QTextCursor(self.document.document()).setBlockFormat(style.code_block())
        self.copy_button: QuietButton | None = None
        if self._header_shown:
            self.copy_button = QuietButton(
                "Copy", "Copy this code", style, self, align=Qt.AlignmentFlag.AlignRight
            )
            self.copy_button.clicked.connect(self.copy_code)
        self._colour_timer = QTimer(self)
        self._colour_timer.setSingleShot(True)
        self._colour_timer.timeout.connect(self._colour_slice)

    @staticmethod
    def _scroll_policy(needed: bool) -> Qt.ScrollBarPolicy:
        return Qt.ScrollBarPolicy.ScrollBarAlwaysOn if needed else Qt.ScrollBarPolicy.ScrollBarAlwaysOff

    def show_code(self, code: str, *, finished: bool) -> None:
        """Show `code`. What only grew is appended; colours follow at once when `finished`."""
        code = code.removesuffix("\n")
        if code != self._code:
            cursor = QTextCursor(self.document.document())
            cursor.movePosition(QTextCursor.MoveOperation.End)
            if code.startswith(self._code):
                cursor.insertText(code[len(self._code) :])
            else:
                cursor.select(QTextCursor.SelectionType.Document)
                cursor.insertText(code)
                self._lines = []
            if not self._code:
                self.document.moveCursor(QTextCursor.MoveOperation.Start)  # Qt carried it to the end
            self._code = code
        self._finished = finished
        if finished:
            self._work = None
            self._colour_slice()
        elif not self._colour_timer.isActive():
            wait_s = max(COLOUR_PAUSE_S, self._colour_cost_s * COLOUR_SHARE)
            self._colour_timer.start(round(wait_s * 1000))

    def copy_code(self) -> None:
        """Put the whole code on the clipboard and say so."""
        QGuiApplication.clipboard().setText(self._whole())
        if self.copy_button is not None:
            self.copy_button.say_for("Copied", COPIED_MS)
        self.copied.emit()

    def _colour_slice(self) -> None:
        """Work on the colours for a moment, and go on with the next turn of the event loop."""
        if not self._language or self._before_chars + len(self._code) > SIZE_LIMIT_CHARS:
            return
        began = time.perf_counter()
        if self._work is None:
            self._work, self._slices, self._colour_cost_s = Highlighting(self._code, self._language), 0, 0.0
        done = self._work.run(SLICE_S)
        self._slices += 1
        if done:
            lines, self._work = self._work.lines, None
            if not self._finished:
                lines[-1] = ()  # a line that still grows has no colours yet
            self._apply(lines)
        elif self._slices < SLICES:
            self._colour_timer.start(0)
        self._colour_cost_s += time.perf_counter() - began

    def _apply(self, lines: list[tuple[Span, ...]]) -> None:
        """Set the colours of lines that changed. They lie in the layout: the document's text is untouched."""
        document = self.document.document()
        formats: dict[str, QTextCharFormat] = {}
        changed: list[QTextBlock] = []
        # More text may have come while the colours were worked out: its lines have none yet.
        for number, spans in enumerate(lines[: document.blockCount()]):
            if spans == (self._lines[number] if number < len(self._lines) else ()):
                continue
            ranges: list[QTextLayout.FormatRange] = []
            for span in spans:
                form = formats.get(span.kind)
                if form is None:
                    form = formats[span.kind] = QTextCharFormat()
                    form.setForeground(self._style.syntax_colour(span.kind))
                part = QTextLayout.FormatRange()
                part.start, part.length, part.format = span.start, span.length, form  # pyright: ignore[reportAttributeAccessIssue]  (the stub lacks the fields' setters)
                ranges.append(part)
            block = document.findBlockByNumber(number)
            block.layout().setFormats(ranges)
            changed.append(block)
        if changed:
            # Once for all: every call lays out what follows again.
            start, last = changed[0].position(), changed[-1]
            document.markContentsDirty(start, last.position() + last.length() - start)
        self._lines = lines

    # --- place ----------------------------------------------------------------------------------------

    @property
    def _padding(self) -> int:
        return round(self._style.theme.grid * 1.5)

    @property
    def _header_px(self) -> int:
        return round(self._style.theme.grid * 4) if self._header_shown else 0

    def height_for(self, width: int) -> int:
        """The height of the block in `width` pixels."""
        if self._inset:
            if self.document.lineWrapColumnOrWidth() != width:
                self.document.setLineWrapColumnOrWidth(width)
            return max(1, math.ceil(self.document.document().size().height()))
        size = self.document.document().size()
        inner = width - 2 * self._padding
        too_wide = size.width() > inner
        self.document.setHorizontalScrollBarPolicy(self._scroll_policy(too_wide))
        bar = self.document.horizontalScrollBar().sizeHint().height() if too_wide else 0
        top = 0 if self._header_shown else self._padding // 2
        return top + self._header_px + math.ceil(size.height()) + max(self._padding, bar)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        if self._inset:
            self.document.setGeometry(self.rect())
            return
        padding, header = self._padding, self._header_px
        top = header if self._header_shown else padding // 2
        bar_shown = self.document.horizontalScrollBarPolicy() == self._scroll_policy(True)
        bottom = 0 if bar_shown else padding
        self.document.setGeometry(
            padding, top, max(1, self.width() - 2 * padding), max(1, self.height() - top - bottom)
        )
        if self.copy_button is not None:
            size = self.copy_button.sizeHint()
            self.copy_button.setGeometry(
                self.width() - size.width() - padding // 2,
                (header - size.height()) // 2,
                size.width(),
                size.height(),
            )

    def paintEvent(self, _event: QPaintEvent) -> None:
        if self._inset:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        path = QPainterPath()
        radius = self._style.theme.radius
        path.addRoundedRect(QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5), radius, radius)
        painter.fillPath(path, self._style.theme.code_background)
        painter.strokePath(path, QPen(self._style.theme.border, 1))
        if self._header_shown:
            painter.setFont(self._style.small_font())
            painter.setPen(self._style.theme.muted)
            box = QRectF(self._padding, 0, self.width() - 10 * self._padding, self._header_px)
            painter.drawText(
                box, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, self._language or "text"
            )
