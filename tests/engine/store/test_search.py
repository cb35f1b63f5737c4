"""What counts as the same text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.store.search import fold


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("ä", "Ä"),
        ("a\u0308", "Ä"),
        ("STRASSE", "Straße"),
        ("ΣΟΦΟΣ", "σοφός".replace("ό", "ο")),
        ("ａｂｃ", "xABCx"),
        ("하", "한국"),
        ("海", "深海魚"),
        ("مرحبا", "قال مرحبا"),
        ("i", "I"),
        ("cafe", "Café"),
    ],
)
def test_the_query_is_found(query: str, text: str) -> None:
    assert fold(query) in fold(text)


@pytest.mark.parametrize(("query", "text"), [("ä", "a"), ("é", "cafe"), ("b", "a"), ("海海", "海")])
def test_the_query_is_not_found(query: str, text: str) -> None:
    assert fold(query) not in fold(text)


@given(st.text())
def test_folding_twice_changes_nothing(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@given(st.text(alphabet=st.characters(max_codepoint=127)), st.integers(0, 50), st.integers(0, 50))
def test_any_part_of_ascii_text_is_found(text: str, start: int, end: int) -> None:
    assert fold(text[start:end].upper()) in fold(text)
