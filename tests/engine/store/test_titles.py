"""Titles fit on one line and cannot disturb what stands beside them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.store.titles import FIRST_WORDS_CHARACTERS, TITLE_CHARACTERS, tidy_title, title_of_question


@pytest.mark.parametrize(
    ("question", "title"),
    [
        ("Why is the sea salty?", "Why is the sea salty?"),
        ("  two\n\n lines\tand more ", "two lines and more"),
        ("", ""),
        (" \n ", ""),
        ("word " * 30, " ".join(["word"] * 12) + "…"),
        ("x" * 100, "x" * 59 + "…"),
        ("海" * 100, "海" * 59 + "…"),
        ("one, two, three, four, five, six, seven, eight, nine, ten, eleven", None),
        ("\u202eevil\u2066\x1b[31m\0", "evil [31m�"),
    ],
)
def test_a_title_is_the_first_words(question: str, title: str | None) -> None:
    made = title_of_question(question)
    assert title is None or made == title
    if title is None:
        assert made == "one, two, three, four, five, six, seven, eight, nine, ten…"


def test_a_letter_keeps_its_marks() -> None:
    made = title_of_question("x" * 58 + "e\u0301\u0302" + "y" * 20)
    assert made == "x" * 58 + "…"
    family = "👩\u200d👩\u200d👧"
    assert title_of_question("x" * 57 + family + "y" * 20) == "x" * 57 + "…"


@pytest.mark.timeout(30)  # what is quadratic in a million never ends
def test_a_megabyte_is_cut() -> None:
    assert title_of_question("\n" * 500_000 + "x" * 1_000_000).startswith("xxx")


@given(st.text(max_size=700))
def test_titles_are_bounded_lines(text: str) -> None:
    for title, longest in (
        (title_of_question(text), FIRST_WORDS_CHARACTERS),
        (tidy_title(text), TITLE_CHARACTERS),
    ):
        assert len(title) <= longest
        assert title == " ".join(title.split())
        assert "\0" not in title
        title.encode("utf-8")
