"""A conversation as Markdown: read back by a Markdown parser, nothing is where it should not be."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from engine.protocol import Message, Session, SessionSummary
from engine.store.export_markdown import fenced, markdown_of, shown_branch
from engine.store.sessions import SessionStore
from tests.engine.store.conversations import fill

SUMMARY = SessionSummary(id="s", title="Named", created_at=0, updated_at=0)
MARKS = [
    "```",
    "~~~~",
    "`````",
    "``` `",
    "``` py",
    "~~~ ``` x",
    "  ~~~ info",
    "\t```",
    "  ```",
    "   ```",
    "- ```",
    "> ```",
    "\t- ```",
    "1. ~~~",
    "`x`",
    "<details>",
    "</details>",
    "<!--",
    "-->",
    "<pre>",
    "</pre>",
    "<script>",
    "<?php",
    "?>",
    "<![CDATA[",
    "]]>",
    "<!X",
    ">",
    "- <pre>",
    "<div>",
    "</div>",
    "<b>x</b>",
    "  <!--",
    "# h",
    "> q",
    "    code",
    "- item",
    "- a",
    "  b",
    "***",
    "a b",
    "",
    "1. one",
    "[x]: y",
    "\\",
]
MARKED = st.lists(st.sampled_from(MARKS), max_size=8).map("\n".join)


def conversation(**more: Any) -> Session:
    question = Message(
        id="q", parent_id=None, role="user", text=more.get("question", "?"), status="complete", created_at=1
    )
    answer = Message(
        id="a",
        parent_id="q",
        role="assistant",
        text=more.get("answer", ""),
        reasoning=more.get("reasoning", ""),
        status="complete",
        created_at=2,
    )
    last = Message(id="q2", parent_id="a", role="user", text="THE LAST", status="complete", created_at=3)
    return Session(summary=SUMMARY, leaf_id="q2", messages=[question, answer, last])


def headings(markdown: str) -> list[str]:
    """Those at the top level that say "Question" or "Answer"."""
    tokens = MarkdownIt("commonmark").parse(markdown)
    return [
        tokens[place + 1].content
        for place, token in enumerate(tokens)
        if token.type == "heading_open"
        and token.level == 0
        and tokens[place + 1].content in ("Question", "Answer")
    ]


def test_all_of_a_branch_is_there(tmp_path: Path) -> None:
    store = SessionStore.open(tmp_path / "sessions.db")
    session_id = fill(store)
    session = store.session(session_id)
    store.change_session(session_id, leaf_id=session.messages[3].id)
    text = markdown_of(store.session(session_id))
    store.close()
    assert text.startswith("# Why is the sea salty?\n\n- Date: ")
    assert (
        "- Model: `starter`\n- Mode: reasoning high\n- Other versions: 1 message not in this file\n" in text
    )
    assert "## Question\n\n> Why is the sea salty?\n\n## Answer\n\n<details>\n" in text
    assert (
        "<summary>Reasoning, 2 tokens, 2 s</summary>\n\n```text\nSalt comes </details> from\n```\n\n</details>"
        in text
    )
    assert '~~~python\nprint(1)\n~~~\n\n**Call of `weather`**\n\n````json\n{"a": "```"}\n````\n' in text
    assert "*The reasoning was ended early.*" in text
    assert "**Result of `weather`**\n\n````\nsunny\n```\n````\n\n## Answer\n\nIt is sunny\n" in text
    assert text.endswith("*This answer was cut off*\n")


@settings(max_examples=100, deadline=None)
@given(question=MARKED, answer=MARKED, reasoning=MARKED)
@example(question="```", answer="<!-- x", reasoning="```\n</details>")
@example(question="", answer="````\n```", reasoning="")
@example(question="", answer="<details>\n```\n", reasoning="")
@example(question="", answer="- ```\n  x\n  ```\n", reasoning="")
@example(question="", answer="1. a\n   ```\n```\n", reasoning="")
@example(question="<pre>", answer="<pre>\n```\n</pre>\n```", reasoning="~~~")
def test_nothing_breaks_out_of_its_place(question: str, answer: str, reasoning: str) -> None:
    text = markdown_of(conversation(question=question, answer=answer, reasoning=reasoning))
    assert headings(text) == ["Question", "Answer", "Question"], text
    tokens = MarkdownIt("commonmark").parse(text)
    quotes = [
        place for place, token in enumerate(tokens) if token.type == "blockquote_open" and token.level == 0
    ]
    last = tokens[quotes[-1] :]
    assert [token.content for token in last if token.type == "inline"] == ["THE LAST"]
    if reasoning:
        fences = [
            token.content
            for token in tokens
            if token.type == "fence" and token.info == "text" and token.level == 0
        ]
        assert fences == [reasoning + "\n"] or reasoning + "\n" in fences


@given(st.text(st.sampled_from("`~ab\n"), max_size=40))
def test_a_fence_is_never_ended_from_within(text: str) -> None:
    [token] = MarkdownIt("commonmark").parse(fenced(text, "json"))
    assert (token.type, token.content) == ("fence", text + "\n")


def test_a_title_and_names_mean_nothing_to_markdown() -> None:
    session = conversation()
    summary = SUMMARY.model_copy(update={"title": "a *b* <i> [x](y) # `c`"})
    [heading] = [
        token
        for token in MarkdownIt("commonmark").parse(
            markdown_of(session.model_copy(update={"summary": summary}))
        )
        if token.type == "inline"
    ][:1]
    assert heading.children is not None
    assert "".join(child.content for child in heading.children) == "a *b* <i> [x](y) # `c`"
    assert {child.type for child in heading.children} <= {"text", "text_special"}


def test_the_shown_branch_ends_where_the_tree_does_not_hold() -> None:
    session = conversation()
    looped = [
        each.model_copy(update={"parent_id": "q2"}) if each.id == "q" else each for each in session.messages
    ]
    assert [each.id for each in shown_branch(session.model_copy(update={"messages": looped}))] == [
        "q",
        "a",
        "q2",
    ]
    assert shown_branch(session.model_copy(update={"leaf_id": None})) == []


def test_an_answer_is_as_it_was_written_wherever_that_is_safe() -> None:
    plain = "Do *this*:\n\n```sh\nls <dir>\n   ```\n\n- one\n- two <b>x</b>"
    assert f"## Answer\n\n{plain}\n\n## Question" in markdown_of(conversation(answer=plain))
    listed = "1. Do this:\n   ```sh\n   ls\n   ```"
    quoted = "> 1. Do this:\n>    ```sh\n>    ls\n>    ```"
    assert f"## Answer\n\n{quoted}\n\n## Question" in markdown_of(conversation(answer=listed))


@pytest.mark.parametrize("end", ["\r\n", "\r", "\u2028", "\x0b"])
def test_other_line_ends_do_not_break_out(end: str) -> None:
    text = markdown_of(conversation(question=f"a{end}# b", answer=f"```{end}x"))
    assert "> a\n> # b" in text and headings(text) == ["Question", "Answer", "Question"]
