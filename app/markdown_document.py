"""Markdown blocks into a text document.

Owns: reading a block with markdown-it (CommonMark, tables, strikethrough; HTML is text, nothing is fetched)
and writing it at the end of a QTextDocument. Knows no widget. Work is bounded: blocks come bounded from
`markdown_blocks`, nesting is cut at `NESTING_LIMIT`, and a block with more marks than `MARK_LIMIT` is shown
as it was typed.
"""

import re
from collections.abc import Sequence
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from PySide6.QtCore import Qt
from PySide6.QtGui import (
    QFont,
    QTextBlockFormat,
    QTextCharFormat,
    QTextCursor,
    QTextDocument,
    QTextList,
    QTextTable,
)

from app.highlight import highlight
from app.markdown_blocks import Block
from app.page_style import QUOTE_DEPTH, RULE, PageStyle

NESTING_LIMIT = 24
CELL_LIMIT = 1_000
MARK_LIMIT = 800
"""Delimiters in one block beyond which reading them may take time that grows with their square."""
LINK_SCHEMES = ("http", "https", "mailto")

_MARKS = re.compile(r"[*_~\[\]`<!]")
_TASK = re.compile(r"\[([ xX])\] ")
_LINE_SEPARATOR = "\u2028"


def is_openable(address: str) -> bool:
    """True for addresses that a click may hand to the system."""
    try:
        return urlsplit(address).scheme.lower() in LINK_SCHEMES
    except ValueError:
        return False


def first_heading_level(source: str) -> int:
    """1 to 6 when a block's Markdown begins with a heading, else 0."""
    level = len(source) - len(source.lstrip("#"))
    return level if 1 <= level <= 6 and source[level : level + 1] in (" ", "\t", "") else 0


@cache
def _parser() -> Any:
    # Imported with the first message: it takes tens of milliseconds that the first paint does not need.
    from markdown_it import MarkdownIt

    options = {"html": False, "linkify": False, "maxNesting": NESTING_LIMIT}
    parser = MarkdownIt("commonmark", options)
    return parser.enable(["table", "strikethrough"])


class DocumentWriter:
    """Writes blocks at the end of `document`. A document belongs to one writer."""

    def __init__(self, document: QTextDocument, style: PageStyle) -> None:
        self._document = document
        self._style = style
        self._cursor = QTextCursor(document)
        self._lists: list[QTextList | None] = []
        self._starts: list[int | None] = []
        self._quotes = 0
        self._item_open = False
        self._gap: float | None = None
        self._formats: list[QTextCharFormat] = [QTextCharFormat()]
        self._tight = False

    @property
    def end(self) -> int:
        """Where the next block will begin, for `cut_back`."""
        return 0 if self._document.isEmpty() and self._document.blockCount() == 1 else self._last()

    def _last(self) -> int:
        return self._document.characterCount() - 1

    def cut_back(self, end: int) -> None:
        """Take away what was written since `end`."""
        if end == 0:
            self._document.clear()
            self._cursor = QTextCursor(self._document)
            return
        self._cursor.setPosition(end)
        self._cursor.movePosition(QTextCursor.MoveOperation.End, QTextCursor.MoveMode.KeepAnchor)
        self._cursor.removeSelectedText()

    def write(self, block: Block) -> None:
        """Write one prose or table block."""
        self._cursor.movePosition(QTextCursor.MoveOperation.End)
        self._lists, self._starts, self._quotes, self._formats = [], [], 0, [QTextCharFormat()]
        self._gap = 0.0 if block.continues else None
        self._cursor.beginEditBlock()
        try:
            if (
                block.plain
                or block.source.count("|") > CELL_LIMIT
                or len(_MARKS.findall(block.source)) > MARK_LIMIT
            ):
                self._plain(block.source)
            elif block.inline:
                self._paragraph(self._style.block(top=self._top(self._style.paragraph_gap)))
                self._inlines(_parser().parseInline(block.source)[0].children or ())
            else:
                self._tokens(_parser().parse(block.source))
        finally:
            self._cursor.endEditBlock()

    # --- blocks ---------------------------------------------------------------------------------------

    def _top(self, gap: float) -> float:
        if self.end == 0:
            return 0.0
        if self._gap is not None:
            gap, self._gap = self._gap, None
        return gap

    def _paragraph(self, form: QTextBlockFormat, characters: QTextCharFormat | None = None) -> None:
        """Begin a block; the document's first one is there already."""
        if self._quotes:
            form.setLeftMargin(form.leftMargin() + self._quotes * self._style.quote_px)
            form.setProperty(QUOTE_DEPTH, self._quotes)
        characters = characters or self._formats[-1]
        if self.end == 0:
            self._cursor.setBlockFormat(form)
            self._cursor.setBlockCharFormat(characters)
        else:
            self._cursor.insertBlock(form, characters)

    def _plain(self, source: str) -> None:
        """Text as it was typed. One block for each line, so that each has its own direction of reading."""
        gap = self._style.paragraph_gap
        for line in source.split("\n"):
            self._paragraph(self._style.block(top=self._top(gap)))
            self._cursor.insertText(line, self._formats[-1])
            gap = 0

    def _tokens(self, tokens: Sequence[Any]) -> None:
        index = 0
        while index < len(tokens):
            token = tokens[index]
            if token.type == "table_open":
                index = self._table(tokens, index)
                continue
            self._token(token, tokens[index + 1] if index + 1 < len(tokens) else token)
            index += 1

    def _token(self, token: Any, following: Any) -> None:
        style = self._style
        match token.type:
            case "paragraph_open":
                self._tight = token.hidden
                self._text_block(is_task=self._item_open and bool(_TASK.match(following.content)))
            case "heading_open":
                level = int(token.tag[1])
                characters = style.heading_chars(level)
                self._formats.append(characters)
                form = style.heading_block(level, top=self._top(style.heading_gap(level)))
                form.setIndent(len(self._lists))
                self._paragraph(form, characters)
            case "heading_close":
                self._formats.pop()
            case "inline":
                self._inlines(token.children or ())
            case "bullet_list_open" | "ordered_list_open":
                ordered = token.type == "ordered_list_open"
                self._lists.append(None)
                self._starts.append(int(token.attrGet("start") or 1) if ordered else None)
            case "bullet_list_close" | "ordered_list_close":
                self._lists.pop()
                self._starts.pop()
            case "list_item_open":
                self._item_open = True
            case "list_item_close":
                if self._item_open:
                    self._text_block()
            case "blockquote_open":
                self._quotes += 1
                self._formats.append(style.muted_format)
            case "blockquote_close":
                self._quotes -= 1
                self._formats.pop()
            case "hr":
                form = style.block(top=self._top(style.paragraph_gap))
                form.setProperty(RULE, True)
                self._paragraph(form)
            case "fence" | "code_block":
                self._code(token.content, token.info.split(" ")[0] if token.info else "")
            case _:
                pass

    def _text_block(self, *, is_task: bool = False) -> None:
        """Begin a paragraph, as the first of its list item where one has just been opened."""
        style = self._style
        if not self._lists:
            self._paragraph(style.block(top=self._top(style.paragraph_gap)))
            return
        gap = style.paragraph_gap * (0.35 if self._tight or self._item_open else 0.7)
        if len(self._lists) == 1 and self._lists[0] is None and self._item_open:
            gap = style.paragraph_gap * 0.7
        form = style.block(top=self._top(gap))
        if not self._item_open:
            form.setIndent(len(self._lists))
            self._paragraph(form)
            return
        self._item_open = False
        if is_task:
            form.setIndent(len(self._lists))  # its box stands for the bullet
            form.setTextIndent(-self._style.task_px)
            self._paragraph(form)
            return
        self._paragraph(form)
        current = self._lists[-1]
        if current is None:
            self._lists[-1] = self._cursor.createList(style.list_format(len(self._lists), self._starts[-1]))
        else:
            current.add(self._cursor.block())

    def _code(self, content: str, language: str) -> None:
        """Code inside a quote or a list, and indented code: no frame of its own, long lines are broken."""
        style = self._style
        if self._item_open:
            self._text_block()
        lines = content.removesuffix("\n").split("\n")
        coloured = highlight("\n".join(lines), language)
        for number, (line, spans) in enumerate(zip(lines, coloured, strict=True)):
            form = style.code_block(top=self._top(style.paragraph_gap * 0.7 if number == 0 else 0))
            form.setIndent(len(self._lists))
            form.setBackground(style.theme.code_background)
            self._paragraph(form, style.code_format)
            start = self._cursor.position()
            self._cursor.insertText(line, style.code_format)
            for span in spans:
                coloured_part = QTextCharFormat(style.code_format)
                coloured_part.setForeground(style.syntax_colour(span.kind))
                self._cursor.setPosition(start + span.start)
                self._cursor.setPosition(start + span.start + span.length, QTextCursor.MoveMode.KeepAnchor)
                self._cursor.setCharFormat(coloured_part)
            self._cursor.movePosition(QTextCursor.MoveOperation.End)

    def _table(self, tokens: Sequence[Any], index: int) -> int:
        """Write the table that opens at `index`; the index behind it."""
        rows: list[list[Any]] = []
        alignments: list[Qt.AlignmentFlag] = []
        end = index
        while tokens[end].type != "table_close":
            token = tokens[end]
            if token.type == "tr_open":
                rows.append([])
            elif token.type == "inline":
                rows[-1].append(token)
            elif token.type == "th_open":
                alignments.append(_alignment(str(token.attrGet("style") or "")))
            end += 1
        columns = max(map(len, rows))
        if self.end != 0:
            # The table stands below this line, which is as low as the gap before a paragraph.
            gap = QTextBlockFormat()
            gap.setLineHeight(1, QTextBlockFormat.LineHeightTypes.FixedHeight.value)
            gap.setTopMargin(self._top(self._style.paragraph_gap))
            self._cursor.insertBlock(gap)
        table = self._cursor.insertTable(len(rows), columns, self._style.table_format())
        for number, row in enumerate(rows):
            for column, token in enumerate(row):
                self._cell(table, number, column, token, alignments[column])
        self._cursor.movePosition(QTextCursor.MoveOperation.End)
        # A document goes on behind a table: with a line that takes no room.
        after = QTextBlockFormat()
        after.setLineHeight(1, QTextBlockFormat.LineHeightTypes.FixedHeight.value)
        self._cursor.setBlockFormat(after)
        return end + 1

    def _cell(
        self, table: QTextTable, row: int, column: int, token: Any, alignment: Qt.AlignmentFlag
    ) -> None:
        cell = table.cellAt(row, column)
        cell.setFormat(self._style.cell_format(head=row == 0))
        self._cursor = cell.firstCursorPosition()
        form = self._style.block(line_px=self._style.line_px * 0.9)
        form.setAlignment(alignment)
        self._cursor.setBlockFormat(form)
        if row == 0:
            head = QTextCharFormat()
            head.setFontWeight(QFont.Weight.DemiBold)
            self._formats.append(head)
        self._inlines(token.children or ())
        if row == 0:
            self._formats.pop()

    # --- inside a block -------------------------------------------------------------------------------

    def _inlines(self, children: Sequence[Any]) -> None:
        depth = len(self._formats)
        first = True
        for token in children:
            match token.type:
                case "text":
                    text = token.content
                    task = _TASK.match(text) if first and self._lists else None
                    if task:
                        text = ("☐ " if task[1] == " " else "☑ ") + text[task.end() :]
                    self._insert(text)
                case "softbreak":
                    self._insert(" ")
                case "hardbreak":
                    self._insert(_LINE_SEPARATOR)
                case "code_inline":
                    self._insert(token.content, self._style.code_format)
                case "strong_open":
                    form = QTextCharFormat()
                    form.setFontWeight(QFont.Weight.Bold)
                    self._push(form)
                case "em_open":
                    form = QTextCharFormat()
                    form.setFontItalic(True)
                    self._push(form)
                case "s_open":
                    form = QTextCharFormat()
                    form.setFontStrikeOut(True)
                    self._push(form)
                case "link_open":
                    address = str(token.attrGet("href") or "")
                    openable = is_openable(address)
                    self._push(self._style.link_format(address) if openable else QTextCharFormat())
                case "strong_close" | "em_close" | "s_close" | "link_close":
                    if len(self._formats) > depth:
                        self._formats.pop()
                case "image":
                    self._image(token)
                case _:
                    self._insert(token.content)
            first = False
        del self._formats[depth:]

    def _image(self, token: Any) -> None:
        # Never fetched: a picture's address can tell its server who reads what.
        address = str(token.attrGet("src") or "")
        self._insert(f"[{token.content or 'picture'}] ", self._style.muted_format)
        self._insert(address, self._style.link_format(address) if is_openable(address) else None)

    def _push(self, form: QTextCharFormat) -> None:
        merged = QTextCharFormat(self._formats[-1])
        merged.merge(form)
        self._formats.append(merged)

    def _insert(self, text: str, form: QTextCharFormat | None = None) -> None:
        if form is not None and len(self._formats) > 1:
            merged = QTextCharFormat(self._formats[-1])
            merged.merge(form)
            form = merged
        self._cursor.insertText(text, form or self._formats[-1])


def _alignment(css: str) -> Qt.AlignmentFlag:
    if "center" in css:
        return Qt.AlignmentFlag.AlignHCenter
    return Qt.AlignmentFlag.AlignRight if "right" in css else Qt.AlignmentFlag.AlignLeft
