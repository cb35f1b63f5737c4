import codecs
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.encoding.detokenizer import Detokenizer, StopStrings


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def stream(pieces: list[bytes]) -> list[str]:
    detokenizer = Detokenizer(lambda token_id: pieces[token_id])
    return [*(detokenizer.feed(i) for i in range(len(pieces))), detokenizer.flush()]


@given(st.text(), st.lists(st.integers(0, 500)))
def test_any_split_of_a_texts_bytes_gives_the_text(text: str, cuts: list[int]) -> None:
    text = text.encode("utf-8", "ignore").decode().replace("\0", "")
    assert "".join(stream(pieces_of(text.encode(), cuts))) == text


@given(st.binary(), st.lists(st.integers(0, 500)))
def test_any_split_of_any_bytes_gives_what_they_give_whole(data: bytes, cuts: list[int]) -> None:
    data = data.replace(b"\0", b"")
    assert "".join(stream(pieces_of(data, cuts))) == data.decode("utf-8", "replace")


@given(st.text(alphabet="aé€😀"), st.lists(st.integers(0, 500)))
def test_no_piece_holds_half_a_character(text: str, cuts: list[int]) -> None:
    seen = ""
    for piece in stream(pieces_of(text.encode(), cuts)):
        seen += piece
        assert text.startswith(seen)


def test_an_incomplete_end_is_replaced_on_flush_only() -> None:
    pieces = [b"a", "€".encode()[:2]]
    assert stream(pieces) == ["a", "", "\ufffd"]


def test_nul_is_replaced() -> None:
    assert stream([b"a\0b"]) == ["a\ufffdb", ""]


@given(st.text(alphabet="aé€😀", min_size=1), st.integers(0, 500), st.lists(st.integers(0, 500)))
def test_priming_goes_on_exactly_after_what_was_there(text: str, at: int, cuts: list[int]) -> None:
    data = text.encode()
    at %= len(data) + 1
    before, after = data[:at], pieces_of(data[at:], cuts)
    shown = codecs.getincrementaldecoder("utf-8")().decode(before)
    pieces = [before, *after]
    detokenizer = Detokenizer(lambda token_id: pieces[token_id])
    detokenizer.prime([0])
    rest = "".join(detokenizer.feed(i) for i in range(1, len(pieces)))
    assert shown + rest == text


def cut_reference(text: str, stops: list[str]) -> tuple[str, bool]:
    found = [place for stop in stops if stop and (place := text.find(stop)) >= 0]
    return (text[: min(found)], True) if found else (text, False)


@given(
    st.text(alphabet="abc", max_size=40),
    st.lists(st.text(alphabet="abc", max_size=4), max_size=3),
    st.lists(st.integers(0, 100)),
)
def test_stop_strings_cut_like_a_search_in_the_whole(text: str, stops: list[str], cuts: list[int]) -> None:
    holder = StopStrings(stops)
    given_out, found = "", False
    for piece in pieces_of(text.encode(), cuts):
        certain, found = holder.feed(piece.decode())
        given_out += certain
        if found:
            break
    if not found:
        given_out += holder.flush()
    whole, in_whole = cut_reference(text, stops)
    assert found == in_whole
    # A stream stops at the stop string that is complete first, which a longer one may enclose.
    assert given_out == whole or (found and len(set(map(len, stops))) > 1 and text.startswith(given_out))


def test_what_may_become_a_stop_string_is_held_back() -> None:
    holder = StopStrings(["<end>", "END"])
    assert holder.feed("Yes<en") == ("Yes", False)
    assert holder.feed("d of it E") == ("<end of it ", False)
    assert holder.feed("ND more") == ("", True)
    assert holder.flush() == ""


def test_flush_gives_back_what_was_held() -> None:
    holder = StopStrings(["<end>"])
    assert holder.feed("a <e") == ("a ", False)
    assert holder.flush() == "<e"
    assert holder.flush() == ""


@given(
    st.text(alphabet="aé€😀\0") | st.binary(max_size=30), st.lists(st.integers(0, 500)), st.integers(0, 500)
)
def test_interrupted_and_restored_anywhere_it_gives_what_it_gives_uninterrupted(
    text: str | bytes, cuts: list[int], at: int
) -> None:
    pieces = pieces_of(text if isinstance(text, bytes) else text.encode(), cuts)
    whole = stream(pieces)
    at %= len(pieces) + 1
    first = Detokenizer(lambda token_id: pieces[token_id])
    before = [first.feed(i) for i in range(at)]
    state = json.loads(json.dumps(first.state()))
    second = Detokenizer(lambda token_id: pieces[token_id])
    second.restore(state)
    after = [second.feed(i) for i in range(at, len(pieces))]
    assert [*before, *after, second.flush()] == whole


@pytest.mark.parametrize("state", ["x", "41", "ff", "e282ac", "e28261", "c3a9"])
def test_a_state_that_is_none_is_refused_and_leaves_a_fresh_one(state: str) -> None:
    detokenizer = Detokenizer(lambda _id: b"a")
    with pytest.raises(ValueError):
        detokenizer.restore(state)
    assert detokenizer.state() == ""
    assert detokenizer.feed(0) == "a"


def test_of_stop_strings_at_one_place_the_longest_is_told() -> None:
    stops = StopStrings(["b", "bc", "d"])
    assert stops.found is None
    assert stops.feed("abcd") == ("a", True)
    assert stops.found == "bc"
