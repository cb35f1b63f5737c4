"""Cutting text into blocks: the same however it arrives, and bounded whatever it is."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from app.markdown_blocks import BLOCK_LIMIT, CODE_LIMIT, LINE_LIMIT, Block, BlockSplitter, whole

LINES = [
    "",
    "  ",
    "text",
    "more text here",
    "# Title",
    "####### no title",
    "---",
    "***",
    "===",
    "- item",
    "* star",
    "1. one",
    "7) seven",
    "  - nested",
    "    deep",
    "   three",
    "```",
    "```python",
    "~~~",
    "    ```",
    "  ```js",
    "> quote",
    ">> two",
    "| a | b |",
    "|---|---|",
    "| 1 | 2 |",
    "a | b",
    "\tt",
    "- ```sh",
    "-",
    "1.",
    "`` ` ``",
    "x" * 40,
    "[a]: http://x",
    "*em* **strong** `code`",
    "<b>html</b>",
    "שלום \u202b",
    "\U0001f600",
    "- - -",
]
DOCUMENTS = st.lists(st.sampled_from(LINES), max_size=14).map("\n".join)


def _fed(text: str, cuts: list[int]) -> list[Block]:
    splitter = BlockSplitter()
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    for start, end in pairwise(places):
        before = list(splitter.finished)
        splitter.feed(text[start:end])
        splitter.tail()
        assert splitter.finished[: len(before)] == before
    splitter.finish()
    return splitter.finished


@settings(max_examples=300, deadline=None)
@given(DOCUMENTS, st.lists(st.integers(0, 400), max_size=6))
def test_blocks_do_not_depend_on_how_the_text_arrived(text, cuts):
    assert _fed(text, cuts) == whole(text)


@settings(max_examples=100, deadline=None)
@given(DOCUMENTS, st.sampled_from(["\n", "\r\n", "\r"]))
def test_character_by_character_and_any_line_end(text, end):
    text = text.replace("\n", end)
    assert _fed(text, list(range(len(text)))) == whole(text)


@settings(max_examples=200, deadline=None)
@given(DOCUMENTS)
def test_no_letter_is_lost(text):
    # Marks may be taken as structure; letters and digits of the text must come back.
    def letters(source: str) -> list[str]:
        return sorted(character for character in source if character == "x" or ord(character) > 0x500)

    assert letters("".join(block.source for block in whole(text))) == letters(text)


def _html(text: str) -> str:
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text)


@pytest.mark.parametrize(
    "text",
    [
        "# A\npara\nlazy\n\nnext *one*\n***\nend",
        "Title\n=====\n\nSub\n---\ntext",
        "- a\n- b\n  - c\n\n  still b\n- d\n\nafter",
        "1. a\n2. b\n\n   b too\n\n3. c\nlazy\n\nout",
        "> a\n> b\nlazy\n\n> c\n> > d\n\nend",
        "text\n| a | b |\n|---|:-:|\n| 1 | 2 |\n\nafter",
        "    code\n\n    more code\n\ntext",
        "text\n2. no list\n\n2. a list",
        "a\n```py\nx = 1\n\n# no title\n```\nb",
        "~~~\n```\n~~~\n# t",
        "- a\n\n\n- b\n# heading ends it\n- c",
        "* a\n* b\n\n1. c\n2. d",
    ],
)
def test_the_blocks_together_are_what_commonmark_says(text):
    def source(block: Block) -> str:
        fence = "~~~~" if "```" in block.source else "```"
        return f"{fence}{block.language}\n{block.source}{fence}\n" if block.kind == "code" else block.source

    assert "".join(_html(source(block)) for block in whole(text)) == _html(text)


def test_a_fence_in_a_list_is_a_block_of_its_own_and_the_list_goes_on():
    blocks = whole(
        "1. First:\n   ```sh\n   ls\n\n     -l\n   ```\n   Then.\n"
        "2. Second\n   - a\n     ~~~\n     x\n     ~~~\n3. Third"
    )
    assert [(block.kind, block.depth, block.source) for block in blocks] == [
        ("prose", 0, "1. First:"),
        ("code", 1, "ls\n\n  -l\n"),
        ("prose", 1, "Then."),
        ("prose", 0, "2. Second\n   - a"),
        ("code", 2, "x\n"),
        ("prose", 0, "3. Third"),
    ]
    assert blocks[1].language == "sh"


def test_the_tail_hides_marks_that_say_nothing_yet():
    splitter = BlockSplitter()
    splitter.feed("A paragraph\n-")
    assert splitter.tail() == Block("prose", "A paragraph")
    splitter.feed(" item")
    assert splitter.tail() == Block("prose", "A paragraph\n- item")
    code = BlockSplitter()
    code.feed("```py\nx = 1\n``")
    tail = code.tail()
    assert tail is not None
    assert (tail.kind, tail.source) == ("code", "x = 1\n")


def test_text_as_typed_keeps_everything_but_fences():
    blocks = whole("# no title\n\n- no list\n```\ncode\n```\n*x*", markdown=False)
    assert [(block.kind, block.plain, block.source) for block in blocks] == [
        ("prose", True, "# no title\n\n- no list"),
        ("code", False, "code\n"),
        ("prose", True, "*x*"),
    ]


def test_long_code_is_cut_and_put_together_again():
    code = "".join(f"line {number}\n" for number in range(9000))
    blocks = whole(f"```\n{code}```")
    assert "".join(block.source for block in blocks) == code
    assert [block.continues for block in blocks] == [False] + [True] * (len(blocks) - 1)
    assert [block.before_chars for block in blocks][:2] == [0, len(blocks[0].source)]
    assert all(len(block.source) <= CODE_LIMIT + LINE_LIMIT for block in blocks)


def test_a_long_line_of_code_is_cut_without_loss():
    line = "x" * 12_345
    assert "".join(block.source for block in whole(f"```\n{line}\ny\n```")) == f"{line}\ny\n"


def test_a_long_table_repeats_its_head():
    table = "| a |b|\n|---|---|\n" + "| 1 |2|\n" * 150
    blocks = whole(table + "\nend")
    assert [block.kind for block in blocks] == ["table"] * 4 + ["prose"]
    assert all(block.source.startswith("| a |b|\n|---|---|\n| 1 |2|") for block in blocks[:4])


def test_a_table_of_long_rows_stays_a_table():
    table = "| a | b |\n|---|---|\n" + f"| {'word ' * 60} | 2 |\n" * 50
    blocks = whole(table)
    assert len(blocks) > 1
    assert {block.kind for block in blocks} == {"table"}


HOSTILE = {
    "quotes": ">" * 100_000 + "x",
    "quote lines": "\n".join(">" * n for n in range(1, 450)),
    "stars": "*" * 1_000_000,
    "alternating": "*a_ " * 50_000,
    "one line": "word " * 200_000,
    "no spaces": "x" * 1_000_000,
    "fences": "```\n" * 50_000,
    "open fence": "```py\n" + "x = 1\n" * 100_000,
    "brackets": "[" * 200_000,
    "list": "".join(" " * (2 * n) + "- a\n" for n in range(400)),
    "pipes": "|" * 200_000 + "\n" + "|-" * 100_000,
    "marks": "e\u0301\u200d" * 300_000,
    "returns": "\r" * 300_000,
}


@pytest.mark.timeout(60)  # about 0.1 s; what is quadratic in a million never ends
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_cut_in_bounded_time(name):
    blocks = whole(HOSTILE[name])
    assert all(len(line) <= LINE_LIMIT for block in blocks for line in block.source.split("\n"))
    assert all(
        len(block.source) <= (CODE_LIMIT if block.kind == "code" else BLOCK_LIMIT) + LINE_LIMIT + 1
        for block in blocks
        if block.kind != "table"
    )


def test_lone_surrogates_and_nul_become_replacement_characters():
    assert whole("a\x00b\ud800c") == [Block("prose", "a\ufffdb\ufffdc")]
