"""What comes from outside can be stored and sent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.conversation import REPLACEMENT, Message, clean_text


@pytest.mark.parametrize(
    ("text", "cleaned", "count"),
    [
        ("", "", 0),
        ("plain ä 海 😀\r\n\t\x7f\x1b", "plain ä 海 😀\r\n\t\x7f\x1b", 0),
        ("a\0b", "a�b", 1),
        ("\ud83d\ude00", "��", 2),
        ("\udfff\ud800", "��", 2),
        ("\u202e\u200f\ufeff\ue000\uffff", "\u202e\u200f\ufeff\ue000\uffff", 0),
    ],
)
def test_only_what_cannot_be_stored_is_replaced(text: str, cleaned: str, count: int) -> None:
    assert clean_text(text) == (cleaned, count)


@given(st.text(st.characters(exclude_categories=[])))
def test_the_result_is_utf8_of_the_same_length(text: str) -> None:
    cleaned, count = clean_text(text)
    assert len(cleaned) == len(text)
    assert "\0" not in cleaned
    cleaned.encode("utf-8")
    assert clean_text(cleaned) == (cleaned, 0)
    assert count == sum(a != b for a, b in zip(text, cleaned, strict=True))
    assert REPLACEMENT == "\N{REPLACEMENT CHARACTER}"


def test_messages_are_values() -> None:
    assert Message("user", "x") == Message("user", "x")
    assert len({Message("user", "x"), Message("user", "x"), Message("system", "x")}) == 2
