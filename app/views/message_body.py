"""The blocks of one message, with widgets only where the reader is.

Owns: gathering blocks into slots (one widget each), measuring the slots that are near and guessing the
others. Does not know the message around it, nor the scroll position: it is told which part of it is near.
"""

from dataclasses import dataclass, field

from PySide6.QtCore import QTimer, Signal
from PySide6.QtWidgets import QWidget

from app.markdown_blocks import Block, BlockSplitter
from app.markdown_document import first_heading_level
from app.page_style import PageStyle
from app.views.code_block import CodeBlock
from app.views.text_block import QuietDocument, TextBlock
from app.views.transcript_layout import Heights, text_height

SLOT_CHARS = 2_500
"""Prose blocks share a document up to this size: selecting crosses paragraphs, laying out stays cheap."""


@dataclass
class _Slot:
    """Consecutive blocks that share one widget."""

    kind: str
    depth: int
    gap: int
    blocks: list[Block] = field(default_factory=lambda: list[Block]())
    tail: Block | None = None
    chars: int = 0
    widget: TextBlock | CodeBlock | None = None
    stale: bool = True
    known: bool = False


class MessageBody(QWidget):
    """Blocks one below the other in `width` pixels. `height_px` follows `lay_out`.

    `inset`: its code stands inside a card, without a frame of its own.
    """

    selection_began = Signal()
    select_all_requested = Signal()
    copy_requested = Signal()

    def __init__(self, style: PageStyle, parent: QWidget, *, markdown: bool, inset: bool = False) -> None:
        super().__init__(parent)
        self._inset = inset
        self._style = style
        self._markdown = markdown
        self._splitter = BlockSplitter(markdown=markdown)
        self._slots: list[_Slot] = []
        self._old: list[_Slot] = []
        self._heights = Heights()
        self._taken = 0
        self._width = 0
        self._all_selected = False
        self._finished = False

    # --- blocks ---------------------------------------------------------------------------------------

    def restart(self) -> None:
        """Forget the text. What is fed next keeps the widgets of the blocks that are the same as before."""
        for slot in self._old:
            self._drop(slot)
        self._old, self._slots = self._slots, []
        self._heights.truncate(0)
        self._taken = 0
        self._finished = False
        self._splitter = BlockSplitter(markdown=self._markdown)

    def feed(self, text: str) -> None:
        """More text at the end; shown by the next `sync`."""
        self._splitter.feed(text)

    def finish(self) -> None:
        """No more text comes: the open block is finished too."""
        self._splitter.finish()
        self._finished = True

    @property
    def is_finished(self) -> bool:
        """True after `finish`: more text needs a `restart`."""
        return self._finished

    def sync(self) -> None:
        """Put new blocks into slots. Widgets follow in `lay_out`, for the slots that are near."""
        last = self._slots[-1] if self._slots else None
        if last is not None and last.tail is not None:
            last.chars -= len(last.tail.source)
            last.tail, last.stale, last.known = None, True, False
        finished = self._splitter.finished
        while self._taken < len(finished):
            block = finished[self._taken]
            slot = self._slot_for(block)
            slot.blocks.append(block)
            slot.chars += len(block.source)
            slot.stale, slot.known = True, False
            self._guess(len(self._slots) - 1)
            self._taken += 1
        tail = self._splitter.tail()
        if tail is not None:
            slot = self._slot_for(tail)
            slot.tail, slot.stale, slot.known = tail, True, False
            slot.chars += len(tail.source)
            self._guess(len(self._slots) - 1)
        while self._slots and not self._slots[-1].blocks and self._slots[-1].tail is None:
            self._drop(self._slots.pop())
            self._heights.truncate(len(self._slots))

    def _slot_for(self, block: Block) -> _Slot:
        last = self._slots[-1] if self._slots else None
        if last is not None and not last.blocks and last.tail is None:
            # The slot of an open block that is open no longer: it goes on when the kind is the same.
            if (last.kind, last.depth) == (block.kind, block.depth):
                return last
            self._drop(self._slots.pop())
            self._heights.truncate(len(self._slots))
            last = self._slots[-1] if self._slots else None
        joins = last is not None and last.kind == block.kind == "prose" and last.depth == block.depth
        if last is not None and joins and last.chars + len(block.source) <= SLOT_CHARS:
            return last
        slot = _Slot(block.kind, block.depth, self._gap_before(block) if last else 0)
        self._slots.append(slot)
        self._heights.append(0)
        return slot

    def _gap_before(self, block: Block) -> int:
        if block.continues:
            return 2 if block.kind == "code" else 0
        level = first_heading_level(block.source) if block.kind == "prose" else 0
        return self._style.heading_gap(level) if level else self._style.paragraph_gap

    def _guess(self, index: int) -> None:
        slot = self._slots[index]
        if slot.widget is not None or not self._width:
            return
        sources = [block.source for block in slot.blocks] + ([slot.tail.source] if slot.tail else [])
        style = self._style
        if slot.kind == "prose":
            text = "\n\n".join(sources)
            height = text_height(text, self._slot_width(slot), style.theme.base_px, style.line_px)
        else:
            lines = sum(source.count("\n") + 1 for source in sources)
            height = round(lines * style.code_line_px * (1 if slot.kind == "code" else 1.8)) + 40
        self._heights.change(index, slot.gap + height)

    def settle(self) -> None:
        """After a restart: all text is there again; what is the same stays as it was on the screen."""
        for before, slot in zip(self._old, self._slots, strict=False):
            same = (before.kind, before.depth, before.gap, before.blocks, before.tail) == (
                slot.kind,
                slot.depth,
                slot.gap,
                slot.blocks,
                slot.tail,
            )
            if same and before.widget is not None and slot.widget is None:
                slot.widget, before.widget, slot.stale = before.widget, None, before.stale
        for before in self._old:
            self._drop(before)
        self._old = []

    # --- place ----------------------------------------------------------------------------------------

    @property
    def height_px(self) -> int:
        """The height of all blocks, guessed where no widget is."""
        return self._heights.total

    def set_width(self, width: int) -> None:
        """Set the width; heights are measured again where the reader is."""
        self._width = width
        for index, slot in enumerate(self._slots):
            slot.known = False
            if slot.widget is None:
                self._guess(index)

    def _slot_width(self, slot: _Slot) -> int:
        return max(80, self._width - slot.depth * self._style.indent_px)

    def lay_out(self, top: int, bottom: int) -> None:
        """Give widgets to what lies between `top` and `bottom`, and measure it."""
        # What lies outside has a slot that is nearest too, but nobody is near it.
        if not self._slots or bottom < 0 or top > self._heights.total:
            return
        index = self._heights.at(top)
        while index < len(self._slots) and self._heights.top(index) < bottom:
            self._measure(index)
            index += 1

    def release(self, top: int, bottom: int) -> None:
        """Take the widgets from what lies outside `top` to `bottom`, but for a selection."""
        for index, slot in enumerate(self._slots):
            if slot.widget is None:
                continue
            y = self._heights.top(index)
            if (y + self._heights[index] < top or y > bottom) and not _holds(slot.widget):
                self._drop(slot)

    def place_parts(self) -> None:
        """Move the widgets to where `lay_out` found them to stand."""
        for index, slot in enumerate(self._slots):
            if slot.widget is None:
                continue
            y = self._heights.top(index) + slot.gap
            x = slot.depth * self._style.indent_px
            slot.widget.setGeometry(x, y, self._slot_width(slot), self._heights[index] - slot.gap)
            slot.widget.show()

    def _measure(self, index: int) -> None:
        slot = self._slots[index]
        if slot.widget is None:
            slot.widget, slot.stale, slot.known = self._make_widget(slot), True, False
        if slot.stale:
            self._fill(slot)
            slot.stale, slot.known = False, False
        if not slot.known:
            slot.known = True
            self._heights.change(index, slot.gap + slot.widget.height_for(self._slot_width(slot)))

    def _make_widget(self, slot: _Slot) -> TextBlock | CodeBlock:
        if slot.kind == "code":
            first = slot.blocks[0] if slot.blocks else slot.tail
            first = first or Block("code", "")
            widget = CodeBlock(self._style, first, lambda: self._code_from(slot), self, inset=self._inset)
            document: QuietDocument = widget.document
        else:
            widget = document = TextBlock(self._style, self, wide=slot.kind == "table")
            document.setAccessibleName("Table" if slot.kind == "table" else "Text")
        document.selection_began.connect(lambda: self._began_selecting(document))
        document.select_all_requested.connect(self.select_all_requested)
        document.copy_requested.connect(self.copy_requested)
        if self._all_selected:
            QTimer.singleShot(0, document, lambda: document.select_everything())
        return widget

    def _fill(self, slot: _Slot) -> None:
        if isinstance(slot.widget, CodeBlock):
            block = slot.blocks[0] if slot.blocks else slot.tail
            slot.widget.show_code(block.source if block else "", finished=bool(slot.blocks))
        elif slot.widget is not None:
            slot.widget.show_blocks(slot.blocks, slot.tail)

    def _code_from(self, slot: _Slot) -> str:
        """The whole code that begins in `slot`, from all its pieces."""
        parts: list[str] = []
        for other in self._slots[self._slots.index(slot) :]:
            block = other.blocks[0] if other.blocks else other.tail
            if block is None or (parts and not (block.kind == "code" and block.continues)):
                break
            parts.append(block.source)
        return "".join(parts)

    @staticmethod
    def _drop(slot: _Slot) -> None:
        if slot.widget is not None:
            slot.widget.hide()
            slot.widget.deleteLater()
            slot.widget = None
        slot.stale, slot.known = True, False

    def slot_at(self, y: int) -> tuple[int, int]:
        """The slot at `y` and how far `y` lies below its top: what stays put when heights change."""
        if not self._slots:
            return 0, y
        index = self._heights.at(y)
        return index, y - self._heights.top(index)

    def slot_top(self, index: int) -> int:
        """Where slot `index` begins; the end for one that is gone."""
        return self._heights.top(min(index, len(self._slots)))

    # --- text -----------------------------------------------------------------------------------------

    def documents(self) -> list[QuietDocument]:
        """The documents that have widgets now, from top to bottom."""
        widgets = [slot.widget for slot in self._slots if slot.widget is not None]
        return [widget.document if isinstance(widget, CodeBlock) else widget for widget in widgets]

    def _began_selecting(self, where: QuietDocument) -> None:
        self.clear_selection(where)
        self.selection_began.emit()

    def stops(self) -> list[QWidget]:
        """What Tab visits: Copy of each code block, and text with links."""
        stops: list[QWidget] = []
        for slot in self._slots:
            if isinstance(slot.widget, CodeBlock) and slot.widget.copy_button is not None:
                stops.append(slot.widget.copy_button)
            elif isinstance(slot.widget, TextBlock) and slot.widget.has_links():
                stops.append(slot.widget)
        return stops

    def select_all(self) -> None:
        """Select everything, also what has no widget yet."""
        self._all_selected = True
        for document in self.documents():
            document.select_everything()

    def clear_selection(self, but: QuietDocument | None = None) -> None:
        """Select nothing, but for what is selected in `but`."""
        self._all_selected = False
        for document in self.documents():
            if document is not but:
                document.clear_selection()

    @property
    def is_all_selected(self) -> bool:
        """True after `select_all`, until something else is selected."""
        return self._all_selected

    @property
    def holds_something(self) -> bool:
        """True when a selection or the focus would be lost with the widgets."""
        return self._all_selected or any(map(_holds, self.documents()))

    def restyle(self, style: PageStyle) -> None:
        """Take another theme or zoom: widgets are made again where the reader is."""
        self._style = style
        for slot in self._slots:
            self._drop(slot)


def _holds(widget: TextBlock | CodeBlock | QuietDocument) -> bool:
    document = widget.document if isinstance(widget, CodeBlock) else widget
    return document.textCursor().hasSelection() or document.hasFocus()
