"""Pieces of a prompt: neighbouring texts are one text, and known texts are not tokenised again."""

from hypothesis import strategies as st

from engine.encoding.segments import Control, Ids, Segment, Text, TextIds, ids_of
from tests.engine.encoding.properties import for_all

segments = st.lists(
    st.builds(Control, st.integers(0, 9))
    | st.builds(Text, st.text(max_size=4))
    | st.builds(Ids, st.lists(st.integers(0, 9), max_size=3).map(tuple)),
    max_size=8,
)


def bracketed(text: str) -> list[int]:
    """Ids that tell where a text began and ended."""
    return [-1, *map(ord, text), -2]


@for_all(segments)
def test_texts_that_stand_side_by_side_are_tokenised_as_one(pieces: list[Segment]) -> None:
    expected: list[int] = []
    text = ""
    for piece in [*pieces, Control(-3)]:
        if isinstance(piece, Text):
            text += piece.text
            continue
        if isinstance(piece, Ids) and not piece.ids:
            continue
        expected += bracketed(text) if text else []
        text = ""
        expected += [piece.token_id] if isinstance(piece, Control) else piece.ids
    known = TextIds(lambda text: bracketed(text) if text else [])
    assert [*ids_of(pieces, known), -3] == expected
    assert [*ids_of(pieces, known), -3] == expected


def test_what_was_asked_for_lately_is_not_tokenised_again() -> None:
    seen: list[str] = []
    known = TextIds(lambda text: seen.append(text) or [len(text)], most_characters=40)
    for text in ("a" * 10, "b" * 10, "a" * 10, "c" * 10, "a" * 10):
        known(text)
    assert seen == ["a" * 10, "b" * 10, "c" * 10]
    for letter in "defgh":
        known(letter * 10)
        known("a" * 10)
    assert seen.count("a" * 10) == 1
    assert known("b" * 10) == (10,)
    assert seen.count("b" * 10) == 2


@for_all(st.lists(st.text(alphabet="ab", max_size=6), max_size=60))
def test_it_never_remembers_more_than_it_may(texts: list[str]) -> None:
    known = TextIds(lambda text: [len(text)], most_characters=12)
    for text in texts:
        assert list(known(text)) == [len(text)]
        assert sum(map(len, {**known._young, **known._old})) <= 12
