"""The parser of server-sent events, in every chunking."""

import pytest

from app.event_stream import EventStreamParser, ServerEvent

STREAM = b': hello\r\nid: 1\r\nevent: text\r\ndata: {"a":\r\ndata: 1}\r\n\r\nid: 2\ndata: x\n\n\n\ndata:y\r\r'
EVENTS = [
    ServerEvent("text", b'{"a":\n1}', "1"),
    ServerEvent("message", b"x", "2"),
    ServerEvent("message", b"y", "2"),
]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000])
def test_chunk_boundaries_change_nothing(size: int) -> None:
    parser = EventStreamParser()
    found = [e for i in range(0, len(STREAM), size) for e in parser.feed(STREAM[i : i + size])]
    assert found == EVENTS


def test_every_split_in_two_gives_the_same_events() -> None:
    for cut in range(len(STREAM) + 1):
        parser = EventStreamParser()
        assert parser.feed(STREAM[:cut]) + parser.feed(STREAM[cut:]) == EVENTS, cut


def test_what_arrives_together_is_given_together() -> None:
    assert len(EventStreamParser().feed(b"data: 1\n\n" * 500)) == 500


def test_an_unfinished_event_is_kept_back_and_an_empty_one_is_none() -> None:
    parser = EventStreamParser()
    assert parser.feed(b"data: half") == []
    assert parser.feed(b"\n") == []
    assert parser.feed(b"\n")[0].data == b"half"
    assert parser.feed(b"event: nothing\n\n") == []
    assert parser.feed(b"data: after\n\n")[0].kind == "message"


def test_a_byte_order_mark_and_foreign_fields_are_skipped() -> None:
    parser = EventStreamParser()
    assert parser.feed(b"\xef\xbb\xbfretry: 5\nfoo: bar\ndata\n\n")[0].data == b""


def test_an_id_with_nul_is_no_id() -> None:
    assert EventStreamParser().feed(b"id: a\nid: b\0\ndata: 1\n\n")[0].id == "a"
