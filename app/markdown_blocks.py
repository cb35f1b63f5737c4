"""Text into top-level blocks, as it arrives.

Owns: cutting Markdown (CommonMark, tables) into blocks that can be shown one by one, line by line and
without looking back, so that what is finished never changes; and the bounds that keep hostile text cheap: no
block is larger than its kind's limit and one line, no line longer than `LINE_LIMIT`. A fence inside a list is
a block of its own, with its depth. Because blocks are read alone, a reference link is resolved only when its
definition stands in the same block. Knows neither Qt nor how a block is drawn.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

from engine.conversation import clean_text

LINE_LIMIT = 5_000
BLOCK_LIMIT = 6_000
LIST_LIMIT = 3_000
"""A list longer than this is cut before its next outermost item."""
CODE_LIMIT = 24_000
TABLE_ROW_LIMIT = 40
"""A longer table goes on as another one, with the header repeated."""

_FENCE = re.compile(r"(`{3,}|~{3,})(.*)$")
_MARKER = re.compile(r"([-+*]|\d{1,9}[.)])( +|$)")
_HEADING = re.compile(r"#{1,6}(?:[ \t]|$)")
_RULE = re.compile(r"(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$")
_UNDERLINE = re.compile(r"(?:-+|=+)[ \t]*$")
_DELIMITER_CELL = re.compile(r":?-+:?$")
_UNTOLD = re.compile(r"(?:[-=*+#|:>_ \t]+|\d{1,9}[.)]?[ \t]*|[`~]{1,2}|(?:`{3,}|~{3,})[^`]*)$")


@dataclass(frozen=True)
class Block:
    """A piece of a message that is shown alone.

    prose, table: `source` is Markdown, or text to be shown as it is when `plain`, or one paragraph when
    `inline`. code: `source` is the code with its line ends. `depth` is the number of list items around it.
    `continues`: the same paragraph, code or table as the block before, cut for its length.
    """

    kind: Literal["prose", "code", "table"]
    source: str
    language: str = ""
    depth: int = 0
    continues: bool = False
    inline: bool = False
    plain: bool = False
    before_chars: int = 0
    """code: characters of the same fence in the blocks before."""


class BlockSplitter:
    """Cuts a growing text into blocks. `markdown` False: only fences count, all else is shown as typed.

    `finished` only grows, and depends on the text alone, not on how it was cut into feeds.
    """

    def __init__(self, *, markdown: bool = True) -> None:
        self.finished: list[Block] = []
        self._markdown = markdown
        self._pending = ""
        self._kind: Literal["prose", "code", "table"] | None = None
        self._lines: list[str] = []
        self._size = 0
        self._blank = False
        self._offsets: list[int] = []  # columns where the contents of the open list items begin
        self._base = 0  # column where the open block's contents begin
        self._depth = 0
        self._fence = ("", 0, 0)  # character, count, indent
        self._language = ""
        self._before_chars = 0
        self._continues = False
        self._inside_line = False

    def feed(self, text: str) -> None:
        """Take more text. Time in proportion to `text`."""
        text = self._pending + clean_text(text)[0]
        held = "\r" if text.endswith("\r") else ""
        if "\r" in text:
            # A carriage return at the very end may be the first half of a line end.
            text = text[: len(text) - len(held)].replace("\r\n", "\n").replace("\r", "\n")
        start = 0
        while True:
            end = text.find("\n", start)
            if (end if end >= 0 else len(text)) - start > LINE_LIMIT:
                cut = _breaking_place(text, start)
                self._cut_line(text[start:cut])
                start = cut
            elif end < 0:
                break
            else:
                self._end_line(text[start:end])
                start = end + 1
        self._pending = text[start:] + held

    def finish(self) -> None:
        """No more text follows: the open block is finished too."""
        if self._pending:
            self._end_line(self._pending.rstrip("\r"))
        self._pending = ""
        self._close()

    def tail(self) -> Block | None:
        """The open block with the unfinished line, as it can be shown now; None when there is nothing yet.

        Marks that say nothing before their line goes on (a lone "-", half a fence) are left out.
        """
        pending = self._pending.rstrip("\r")
        if self._kind == "code":
            hidden = bool(pending) and not pending.strip().strip(self._fence[0])
            source = "".join(self._lines) + ("" if hidden else self._dedented(pending))
            return self._block(source)
        if self._inside_line:
            return Block(
                "prose", pending, depth=self._depth, continues=True, inline=True, plain=not self._markdown
            )
        lines = list(self._lines)
        if pending and not _UNTOLD.match(pending.strip() if self._markdown else ""):
            base = self._base if self._kind else (self._offsets[-1] if self._offsets else 0)
            lines.append(_without_indent(pending, base))
        if not any(lines):
            return None
        depth = self._depth if self._kind else len(self._offsets)
        return Block(
            self._kind or "prose",
            "\n".join(lines).rstrip("\n"),
            depth=depth,
            continues=self._continues,
            plain=not self._markdown,
        )

    # --- lines ----------------------------------------------------------------------------------------

    def _cut_line(self, piece: str) -> None:
        # A line too long for a layout: what stands before the cut is closed as a block of its own.
        if self._kind == "code":
            self._lines.append(piece if self._inside_line else self._dedented(piece))
            self._close(goes_on=True)
        elif self._inside_line:
            self._add_inline(piece)
        else:
            self._line(piece)
            self._close()
        self._inside_line = True

    def _end_line(self, line: str) -> None:
        if not self._inside_line:
            self._line(line)
            return
        self._inside_line = False
        if self._kind == "code":
            self._take_code(line + "\n")
        elif line:
            self._add_inline(line)

    def _add_inline(self, piece: str) -> None:
        self.finished.append(
            Block("prose", piece, depth=self._depth, continues=True, inline=True, plain=not self._markdown)
        )

    def _line(self, line: str) -> None:
        line = _with_spaces(line)
        body = line.lstrip(" ")
        indent = len(line) - len(body)
        if self._kind == "code":
            if not self._ends_code(body, indent):
                self._take_code(self._dedented(line) + "\n")
                return
            if body.startswith(self._fence[0]):
                self._close()
                return
            self._close()  # the list item around the fence has ended, and the fence with it
        if not body:
            self._take_blank()
        elif not self._markdown:
            if not self._opens_code(body, indent, 0):
                self._append(line)
        else:
            self._place(line, body, indent)

    def _take_blank(self) -> None:
        if self._kind is None:
            return
        # A list, indented code or text as typed may go on behind an empty line.
        if self._offsets or self._lines[0].startswith("    ") or not self._markdown:
            self._lines.append("")
            self._blank = True
        else:
            self._close()

    def _place(self, line: str, body: str, indent: int) -> None:
        rule = bool(_RULE.match(body))
        marker = None if rule else _MARKER.match(body)
        if self._offsets:
            self._leave_items(body, indent, marker is not None or rule)
        base = self._offsets[-1] if self._offsets else 0
        if self._kind is not None and len(self._offsets) < self._depth:
            self._close()
        near = indent - base < 4
        if near and self._opens_code(body, indent, base):
            return
        if marker and near and self._begins_item(marker):
            self._take_item(line, body, indent, marker)
            return
        if not self._offsets and near and self._is_own_block(line, body, rule):
            return
        if self._blank and not self._offsets and self._kind and not self._lines[0].startswith("    "):
            self._close()
        self._append(line)

    def _leave_items(self, body: str, indent: int, ends_paragraph: bool) -> None:
        """Forget the list items that this line stands outside of; a lazy line stays in its paragraph."""
        starts = ends_paragraph or bool(_HEADING.match(body) or body[0] == ">" or _FENCE.match(body))
        if not (starts or self._blank or self._kind is None):
            return
        was_in_list = bool(self._offsets)
        while self._offsets and self._offsets[-1] > indent:
            self._offsets.pop()
        if was_in_list and not self._offsets and not (_MARKER.match(body) and not _RULE.match(body)):
            self._close()

    def _begins_item(self, marker: re.Match[str]) -> bool:
        if self._kind is None or self._offsets or self._blank or self._list_before():
            return True
        # CommonMark 5.3: in the middle of a paragraph only a bullet or a 1 with text begins a list.
        bare = not marker.string[marker.end() :].strip()
        return not bare and (marker[1] in "-+*" or marker[1][:-1] == "1")

    def _list_before(self) -> bool:
        return bool(self._lines) and bool(_MARKER.match(self._lines[0].lstrip(" ")))

    def _take_item(self, line: str, body: str, indent: int, marker: re.Match[str]) -> None:
        outermost = not self._offsets
        if self._kind is not None and (
            (outermost and (not self._list_before() or self._size > LIST_LIMIT)) or self._kind == "table"
        ):
            self._close()
        after = len(marker[2])
        content = indent + len(marker[1]) + (after if 1 <= after <= 4 else 1)
        rest = body[marker.end() :]
        fence = _FENCE.match(rest)
        self._append(line[: len(line) - len(rest)] if fence else line)
        self._offsets.append(content)
        if fence:
            self._opens_code(rest, content, content)

    def _is_own_block(self, line: str, body: str, rule: bool) -> bool:
        """Headings, rules, quotes and setext underlines: True when the line was dealt with here."""
        if self._kind == "prose" and not self._blank and not self._quoted() and _UNDERLINE.match(body):
            self._append(line)
            self._close()
            return True
        if rule or _HEADING.match(body):
            self._close()
            self._append(line)
            self._close()
            return True
        if body[0] == ">" and not self._quoted():
            self._close()
        return False

    def _quoted(self) -> bool:
        return bool(self._lines) and self._lines[0].lstrip(" ").startswith(">")

    # --- blocks ---------------------------------------------------------------------------------------

    def _append(self, line: str) -> None:
        if self._kind is None:
            self._kind = "prose"
            self._base = self._offsets[-1] if self._offsets else 0
            self._depth = len(self._offsets)
        self._blank = False
        self._lines.append(_without_indent(line, self._base))
        self._size += len(line) + 1
        if self._kind == "prose" and self._markdown and not self._offsets:
            self._begin_table()
        full = self._size > BLOCK_LIMIT
        head = self._lines[:2]
        head_chars = sum(map(len, head))
        if self._kind == "table" and head_chars < BLOCK_LIMIT // 3:
            if full or len(self._lines) - 2 >= TABLE_ROW_LIMIT:
                self._close()
                self._kind, self._lines, self._size, self._continues = "table", head, head_chars, True
        elif full:
            kind = self._kind
            self._close()
            self._continues = kind == "prose"

    def _begin_table(self) -> None:
        if len(self._lines) < 2 or self._quoted() or "-" not in self._lines[-1]:
            return
        head, delimiter = _cells(self._lines[-2]), _cells(self._lines[-1])
        both = self._lines[-2] + self._lines[-1]
        if "|" not in both or len(head) != len(delimiter):
            return
        if not all(_DELIMITER_CELL.match(cell) for cell in delimiter):
            return
        rows = self._lines[-2:]
        del self._lines[-2:]
        self._close()
        self._kind, self._lines, self._size = "table", rows, len(both)

    def _opens_code(self, body: str, indent: int, base: int) -> bool:
        fence = _FENCE.match(body)
        if fence is None or indent - base > 3 or (fence[1][0] == "`" and "`" in fence[2]):
            return False
        self._close()
        self._kind, self._base, self._depth = "code", base, len(self._offsets)
        self._fence = (fence[1][0], len(fence[1]), indent - base)
        info = fence[2].split()
        self._language = info[0][:40] if info else ""
        self._before_chars = 0
        return True

    def _ends_code(self, body: str, indent: int) -> bool:
        if body and indent < self._base:
            return True
        character, count, _ = self._fence
        run = len(body) - len(body.lstrip(character))
        return run >= count and indent - self._base < 4 and not body[run:].strip()

    def _take_code(self, line: str) -> None:
        self._lines.append(line)
        self._size += len(line)
        if self._size > CODE_LIMIT:
            self._close(goes_on=True)

    def _dedented(self, line: str) -> str:
        return line if self._inside_line else _without_indent(_with_spaces(line), self._base + self._fence[2])

    def _block(self, source: str) -> Block:
        return Block(
            "code", source, self._language, self._depth, self._continues, before_chars=self._before_chars
        )

    def _close(self, *, goes_on: bool = False) -> None:
        """Finish the open block; `goes_on`: what follows is the same code."""
        if self._kind == "code":
            block = self._block("".join(self._lines))
            # A fence that was cut exactly at its end leaves nothing behind.
            if block.source or not block.continues:
                self.finished.append(block)
            self._before_chars += len(block.source)
            self._continues = goes_on
            if not goes_on:
                self._kind = None
        elif self._kind is not None:
            source = "\n".join(self._lines).rstrip("\n")
            empty_table = self._kind == "table" and self._continues and len(self._lines) <= 2
            if source and not empty_table:
                self.finished.append(
                    Block(
                        self._kind,
                        source,
                        depth=self._depth,
                        continues=self._continues,
                        plain=not self._markdown,
                    )
                )
            self._kind, self._continues = None, False
        self._lines, self._size, self._blank = [], 0, False


def whole(text: str, *, markdown: bool = True) -> list[Block]:
    """The blocks of a whole text."""
    splitter = BlockSplitter(markdown=markdown)
    splitter.feed(text)
    splitter.finish()
    return splitter.finished


def _with_spaces(line: str) -> str:
    """Leading tabs as spaces to columns of four (CommonMark 2.2)."""
    body = line.lstrip(" \t")
    lead = line[: len(line) - len(body)]
    return lead.expandtabs(4) + body if "\t" in lead else line


def _without_indent(line: str, columns: int) -> str:
    line = _with_spaces(line)
    return line[min(columns, len(line) - len(line.lstrip(" "))) :]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]


def _breaking_place(text: str, start: int) -> int:
    """Where to cut a line that is too long: behind a sentence, else a space, else between two characters."""
    limit = start + LINE_LIMIT
    for mark in (". ", " "):
        place = text.rfind(mark, limit - LINE_LIMIT // 4, limit)
        if place > 0:
            return place + len(mark)
    place = limit
    while place > limit - 64 and (
        unicodedata.combining(text[place]) or "\u200d" in text[place - 1 : place + 1]
    ):
        place -= 1
    return place
