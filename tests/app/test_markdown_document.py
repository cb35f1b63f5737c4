"""Blocks written into documents: text, structure, safety, and time."""

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QTextDocument, QTextTable

from app.markdown_blocks import Block, whole
from app.markdown_document import DocumentWriter, is_openable
from app.page_style import QUOTE_DEPTH, RULE, PageStyle
from app.theme import Theme


@pytest.fixture
def style(qapp) -> PageStyle:
    return PageStyle(Theme.light())


def _document(style: PageStyle, text: str) -> QTextDocument:
    document = QTextDocument()
    writer = DocumentWriter(document, style)
    for block in whole(text):
        writer.write(block)
    return document


def _blocks(document: QTextDocument) -> list:
    found, block = [], document.firstBlock()
    while block.isValid():
        found.append(block)
        block = block.next()
    return found


def _formats(document: QTextDocument, needle: str):
    cursor = document.find(needle)
    assert not cursor.isNull(), needle
    return cursor.charFormat()


def test_inline_marks_become_formats(style):
    document = _document(style, "a **bold** *italic* ~~gone~~ `code` end")
    assert document.toPlainText() == "a bold italic gone code end"
    assert _formats(document, "bold").fontWeight() > 400
    assert _formats(document, "italic").fontItalic()
    assert _formats(document, "gone").fontStrikeOut()
    assert _formats(document, "code").background().color() == style.theme.code_background
    assert _formats(document, "end").fontWeight() == 400


def test_lists_keep_their_numbers_and_levels(style):
    document = _document(style, "3. three\n4. four\n   - inner\n\n     second paragraph")
    three, four, inner, second = _blocks(document)
    assert (three.textList().itemText(three), four.textList().itemText(four)) == ("3.", "4.")
    assert inner.textList().format().indent() == 2
    assert second.textList() is None
    assert second.blockFormat().indent() == 2


def test_tasks_show_their_boxes(style):
    assert _document(style, "- [x] done\n- [ ] open").toPlainText() == "☑ done\n☐ open"


def test_headings_quotes_and_rules_are_marked(style):
    blocks = _blocks(_document(style, "## Two\n\n> a\n>\n> > b\n\n---"))
    assert blocks[0].blockFormat().headingLevel() == 2
    assert [block.blockFormat().intProperty(QUOTE_DEPTH) for block in blocks[1:3]] == [1, 2]
    assert blocks[3].blockFormat().boolProperty(RULE)


def test_a_table_has_its_cells_and_alignment(style):
    document = _document(style, "| a | b |\n|---|--:|\n| `1` | **2** |\n| 3 |")
    (table,) = [frame for frame in document.rootFrame().childFrames() if isinstance(frame, QTextTable)]
    assert (table.rows(), table.columns()) == (3, 2)
    cell = table.cellAt(1, 1).firstCursorPosition()
    assert cell.block().text() == "2"
    assert cell.blockFormat().alignment() & Qt.AlignmentFlag.AlignRight
    assert table.format().headerRowCount() == 1


@pytest.mark.parametrize(
    ("address", "opens"),
    [
        ("https://example.org/a?b#c", True),
        ("mailto:someone@example.org", True),
        ("HTTP://EXAMPLE.ORG", True),
        ("file:///etc/passwd", False),
        ("javascript:alert(1)", False),
        ("ftp://example.org", False),
        ("smb://host/share", False),
        ("//example.org", False),
    ],
)
def test_only_plain_addresses_open(style, address, opens):
    assert is_openable(address) is opens
    form = _formats(_document(style, f"[words]({address})"), "words")
    assert form.isAnchor() is opens
    assert not opens or (form.toolTip() and form.anchorHref() == form.toolTip())


def test_an_address_that_cannot_be_read_is_not_opened():
    assert not is_openable("http://[broken")


def test_pictures_are_text_and_html_is_text(style):
    document = _document(
        style, '![a cat](https://example.org/cat.png) <img src="https://example.org/x"> <b>b</b>'
    )
    assert document.toPlainText() == (
        '[a cat] https://example.org/cat.png <img src="https://example.org/x"> <b>b</b>'
    )
    assert not any(form.isImageFormat() for form in document.allFormats())


def test_right_to_left_paragraphs_and_control_characters(style):
    text = "مرحبا بالعالم\n\nplain \u202babc\u202c \u200f\u2067x\u2069"
    document = _document(style, text)
    first, second = _blocks(document)
    assert first.textDirection() == Qt.LayoutDirection.RightToLeft
    assert second.textDirection() == Qt.LayoutDirection.LeftToRight
    assert second.text() == "plain \u202babc\u202c \u200f\u2067x\u2069"


def test_text_as_typed_keeps_its_spaces_and_lines(style):
    document = QTextDocument()
    DocumentWriter(document, style).write(Block("prose", "# a\n  b   c\n\n*d*", plain=True))
    assert document.toPlainText() == "# a\n  b   c\n\n*d*"


@pytest.mark.parametrize("tail", ["para", "- a\n  - b", "| a |\n|---|\n| 1 |", "# h", "> q", "```\nx", "---"])
@pytest.mark.parametrize("before", ["", "first", "- x", "| t |\n|---|\n| 2 |"])
def test_cutting_back_leaves_what_was_there(style, before, tail):
    document = QTextDocument()
    writer = DocumentWriter(document, style)
    for block in whole(before):
        writer.write(block)
    text, count = document.toPlainText(), document.characterCount()
    for _ in range(2):
        end = writer.end
        writer.write(Block("prose", tail))
        writer.cut_back(end)
        assert (document.toPlainText(), document.characterCount()) == (text, count)


HOSTILE = {
    "quotes": ">" * 100_000 + "x",
    "quote lines": "\n".join(">" * n for n in range(1, 300)),
    "stars": "*" * 100_000,
    "alternating": "*a_ " * 5_000,
    "brackets": "[" * 50_000,
    "links": "[a](" * 10_000,
    "backticks": "".join("`" * n + " " for n in range(1, 300)),
    "nested list": "".join(" " * (2 * n) + "- a\n" for n in range(200)),
    "wide table": "|" * 4_000 + "\n" + "|-" * 4_000 + "|\n" + "|" * 4_000,
    "many cells": "|a" * 1_500 + "\n" + "|-" * 1_500 + "|\n" + "|a\n" * 50,
    "controls": "".join(map(chr, range(1, 32))) + "\ufdd0\ufdd1\ufffc\u2028\u2029\ufeff" * 500,
    "entities": "&#0;&#x110000;&amp;" * 500,
}


@pytest.mark.timeout(30)  # some 50 ms; what grows with a power of the size never ends
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_blocks_are_written_in_bounded_time(style, name):
    for block in whole(HOSTILE[name])[:4]:
        document = QTextDocument()
        document.setTextWidth(700)
        DocumentWriter(document, style).write(block)
        document.size()
        assert document.characterCount() < 200_000
