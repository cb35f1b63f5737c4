"""Finding marks in pieces: as in the whole text, whatever the pieces."""

import re

from hypothesis import strategies as st

from engine.encoding.mark_search import Pieces
from tests.engine.encoding.completions import split
from tests.engine.encoding.properties import for_all

MARKS = ("ab", "aab", "b<", "<<a")
BEGINNINGS = frozenset(mark[:length] for mark in MARKS for length in range(1, len(mark)))
PATTERN = re.compile("|".join(sorted(MARKS, key=len, reverse=True)))
texts = st.text(alphabet="ab<x", max_size=40)
cuts = st.lists(st.integers(0, 200), max_size=8)


def make() -> Pieces:
    return Pieces(max(map(len, MARKS)), BEGINNINGS)


@for_all(texts, cuts, examples=300)
def test_a_search_finds_the_first_mark_and_all_before_it(text: str, where: list[int]) -> None:
    pieces, found, rest = make(), [], text
    for piece in split(text, where):
        pieces.feed(piece)
        while (hit := pieces.search(PATTERN)) is not None:
            found.append((hit[0], hit[1].group()))
    expected = []
    while (match := PATTERN.search(rest)) is not None:
        expected.append((rest[: match.start()], match.group()))
        rest = rest[match.end() :]
    # A longer mark may come to light one piece later than a shorter one at the same place; none here does.
    assert found == expected
    assert pieces.take_all() == rest


@for_all(texts, cuts, examples=300)
def test_a_stream_gives_every_character_once_and_no_beginning_of_a_mark(text: str, where: list[int]) -> None:
    pieces, seen, certain = make(), "", []
    for piece in split(text, where):
        pieces.feed(piece)
        while True:
            before, mark = pieces.stream(PATTERN)
            certain.append(before)
            seen += before + (mark or "")
            if mark is None:
                break
    pieces.end()
    while True:
        before, mark = pieces.stream(PATTERN)
        certain.append(before)
        seen += before + (mark or "")
        if mark is None:
            break
    assert seen == text
    assert all(PATTERN.search(part) is None for part in certain)


def test_what_is_put_back_is_searched_again() -> None:
    pieces = make()
    pieces.feed("xab<rest")
    before, match = pieces.search(re.compile("b<")) or ("", None)
    assert match is not None
    pieces.put_back(before + match.group())
    hit = pieces.search(re.compile("ab"))
    assert hit is not None and hit[0] == "x"
    assert pieces.take_all() == "<rest"
