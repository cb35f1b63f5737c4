"""Text of a message: one read-only document as high as its text.

Owns: prose and tables in a QTextBrowser that never scrolls up or down by itself, opens nothing but safe
links, and fetches nothing; bars of quotes and rules. Does not know messages or the transcript.
"""

import math
from collections.abc import Sequence
from typing import Any

from PySide6.QtCore import QRectF, QSize, Qt, QUrl, Signal
from PySide6.QtGui import (
    QDesktopServices,
    QKeyEvent,
    QKeySequence,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QTextCursor,
    QTextOption,
    QWheelEvent,
)
from PySide6.QtWidgets import QFrame, QTextBrowser, QTextEdit, QWidget

from app.markdown_blocks import Block
from app.markdown_document import DocumentWriter, is_openable
from app.page_style import QUOTE_DEPTH, RULE, PageStyle


def open_address(address: QUrl) -> bool:
    """Hand a link to the system. False, and nothing done, for schemes that are not plainly safe."""
    return is_openable(address.toString()) and QDesktopServices.openUrl(address)


class QuietDocument(QTextBrowser):
    """A document without frame or vertical scrolling, whose keys and wheel go to the page around it."""

    selection_began = Signal()
    select_all_requested = Signal()
    copy_requested = Signal()

    def __init__(self, style: PageStyle, parent: QWidget) -> None:
        super().__init__(parent)
        self.setObjectName("messageText")
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setOpenLinks(False)
        self.setUndoRedoEnabled(False)
        self.viewport().setAutoFillBackground(False)
        self.setPalette(style.palette)
        # The page decides where Tab goes (transcript.py): it knows the order of reading.
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        document = self.document()
        document.setDocumentMargin(0)
        document.setIndentWidth(style.indent_px)
        self.anchorClicked.connect(open_address)
        self._style = style

    def loadResource(self, _kind: int, _name: QUrl | str) -> Any:
        """Nothing: a document of the transcript never reads files or the network."""
        return None

    def select_everything(self) -> None:
        """Select the whole document."""
        cursor = self.textCursor()
        cursor.select(QTextCursor.SelectionType.Document)
        self.setTextCursor(cursor)

    def clear_selection(self) -> None:
        """Select nothing."""
        cursor = self.textCursor()
        if cursor.hasSelection():
            cursor.clearSelection()
            self.setTextCursor(cursor)

    def selected_text(self) -> str:
        """What is selected, as plain text."""
        return self.textCursor().selection().toPlainText()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton:
            self.selection_began.emit()
        super().mousePressEvent(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.matches(QKeySequence.StandardKey.SelectAll):
            self.select_all_requested.emit()
        elif event.matches(QKeySequence.StandardKey.Copy):
            self.copy_requested.emit()
        elif (
            event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and self.textCursor().charFormat().isAnchor()
        ):
            super().keyPressEvent(event)  # opens the link that Tab has stopped at
        else:
            event.ignore()

    def wheelEvent(self, event: QWheelEvent) -> None:
        delta = event.angleDelta()
        sideways = abs(delta.x()) > abs(delta.y()) or event.modifiers() & Qt.KeyboardModifier.ShiftModifier
        bar = self.horizontalScrollBar()
        if sideways and bar.maximum() > 0:
            pixels = event.pixelDelta()
            moved = pixels.x() or pixels.y() or (delta.x() or delta.y()) // 2
            bar.setValue(bar.value() - moved)
            event.accept()
        else:
            event.ignore()


class TextBlock(QuietDocument):
    """Blocks of prose, or a table. A table that is too wide scrolls sideways."""

    def __init__(self, style: PageStyle, parent: QWidget, *, wide: bool = False) -> None:
        super().__init__(style, parent)
        self._wide = wide
        self._writer = DocumentWriter(self.document(), style)
        self._written: list[Block] = []
        self._tail: Block | None = None
        self._tail_start = 0
        self._width = 0
        self._links: bool | None = None
        self.document().setDefaultFont(style.text_font)
        # A fixed width: the widget's own resizing never lays the text out again.
        self.setLineWrapMode(QTextEdit.LineWrapMode.FixedPixelWidth)
        option = QTextOption()
        wrap = QTextOption.WrapMode
        # A table would rather break its words letter by letter than be wider than the page.
        option.setWrapMode(wrap.WordWrap if wide else wrap.WrapAtWordBoundaryOrAnywhere)
        self.document().setDefaultTextOption(option)

    def show_blocks(self, blocks: Sequence[Block], tail: Block | None) -> None:
        """Show finished `blocks` and the open `tail`. Blocks shown before must be the first of `blocks`."""
        if len(blocks) == len(self._written) and tail == self._tail:
            return
        selection = self.textCursor()
        kept = (selection.anchor(), selection.position()) if selection.hasSelection() else None
        self._links = None
        new = list(blocks[len(self._written) :])
        if self._tail is not None and (not new or new[0] != self._tail):
            self._writer.cut_back(self._tail_start)
        elif self._tail is not None:
            self._written.append(new.pop(0))  # the open block ended as it stood: nothing to write
        self._tail = None
        for block in new:
            self._writer.write(block)
            self._written.append(block)
        if tail is not None:
            self._tail_start = self._writer.end
            self._writer.write(tail)
            self._tail = tail
        # Qt carries the cursor along with what is written; it would scroll a wide table to its end.
        self._select(*(kept or (0, 0)))

    def height_for(self, width: int) -> int:
        """Lay the text out in `width` pixels; its height."""
        document = self.document()
        if width != self._width:
            self._width = width
            self.setLineWrapColumnOrWidth(width)
        height = math.ceil(document.size().height())
        if self._wide:
            overflows = document.size().width() > width + 1
            policy = Qt.ScrollBarPolicy
            self.setHorizontalScrollBarPolicy(
                policy.ScrollBarAlwaysOn if overflows else policy.ScrollBarAlwaysOff
            )
            height += self.horizontalScrollBar().sizeHint().height() if overflows else 0
        return max(1, height)

    def has_links(self) -> bool:
        """True when Tab should stop in this text."""
        if self._links is None:
            self._links = any(form.toCharFormat().isAnchor() for form in self.document().allFormats())
        return self._links

    def sizeHint(self) -> QSize:
        return QSize(self._width, self.height())

    def _select(self, anchor: int, position: int) -> None:
        last = self.document().characterCount() - 1
        cursor = self.textCursor()
        cursor.setPosition(min(anchor, last))
        cursor.setPosition(min(position, last), QTextCursor.MoveMode.KeepAnchor)
        self.setTextCursor(cursor)

    def paintEvent(self, event: QPaintEvent) -> None:
        self._paint_marks(event)
        super().paintEvent(event)

    def _paint_marks(self, event: QPaintEvent) -> None:
        """Bars beside quotes, and rules: Qt's documents have neither in this shape."""
        document = self.document()
        layout = document.documentLayout()
        painter: QPainter | None = None
        block = document.firstBlock()
        # Qt puts a line's extra height above its letters and leaves it out of the block's rectangle.
        leading = 2 * self._style.half_leading_px
        bottom = event.rect().bottom()
        while block.isValid():
            form = block.blockFormat()
            quotes, rule = form.intProperty(QUOTE_DEPTH), form.boolProperty(RULE)
            if quotes or rule:
                box = layout.blockBoundingRect(block)
                if box.top() > bottom:
                    break
                painter = painter or QPainter(self.viewport())
                if rule:
                    line = QRectF(0, round(box.center().y() + leading / 2), self._width, 1)
                    painter.fillRect(line, self._style.theme.border)
                following = block.next()
                joined = following.isValid() and following.blockFormat().intProperty(QUOTE_DEPTH) >= quotes
                top = box.top() + leading
                end = leading + (layout.blockBoundingRect(following).top() if joined else box.bottom())
                for level in range(quotes):
                    bar = QRectF(level * self._style.quote_px, top, 3, end - top)
                    painter.fillRect(bar, self._style.theme.border)
            block = block.next()
        if painter is not None:
            painter.end()
