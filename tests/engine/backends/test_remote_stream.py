"""Bytes of a stream into pieces of an answer, in the shapes that servers give them."""

import json
import time
from typing import Any

import pytest

from engine.backends import remote_stream
from engine.backends.remote_stream import (
    AnswerStream,
    CallPiece,
    CountedTokens,
    Piece,
    ReasoningPiece,
    TextPiece,
)
from engine.errors import RemoteBrokeOff
from tests.support.hostile_server import DONE, chunk


def read(*data: bytes, thinks: bool = False, cut: int = 7) -> tuple[list[Piece], AnswerStream]:
    """The pieces of a stream that comes in bits of `cut` bytes, neighbours joined."""
    whole, stream = b"".join(data), AnswerStream("there", thinks=thinks)
    pieces: list[Piece] = []
    for at in range(0, len(whole), cut):
        pieces += stream.feed(whole[at : at + cut])
    return remote_stream._joined([*pieces, *stream.end()]), stream  # pyright: ignore[reportPrivateUsage]


def call(index: int | None, **more: Any) -> bytes:
    place = {} if index is None else {"index": index}
    return chunk({"tool_calls": [{**place, **more}]})


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
@pytest.mark.parametrize("cut", [1, 13, 100_000])
def test_reasoning_beside_the_text(name: str, cut: int) -> None:
    pieces, stream = read(
        chunk({"role": "assistant", "content": None, name: ""}),
        chunk({name: "I thi"}),
        chunk({name: "nk é你👩‍👩‍👧"}),
        chunk({"content": "So.", name: None}),
        chunk({}, "stop"),
        DONE,
        b"data: {never read",
        cut=cut,
    )
    assert pieces == [ReasoningPiece("I think é你👩‍👩‍👧"), TextPiece("So.")]
    assert stream.is_done and stream.finish == "stop"
    stream.require_whole()


@pytest.mark.parametrize(
    ("thinks", "texts", "reasoning", "text"),
    [
        (False, ["<th", "ink>", "I th", "ink</", "think>\n\n", "So", "."], "I think", "So."),
        (False, ["\n<think>I think</think>So."], "I think", "So."),
        (False, ["<think></think>So."], "", "So."),
        (True, ["I think</th", "ink>So."], "I think", "So."),
        (False, ["So <think>not this</think>"], "", "So <think>not this</think>"),
        (False, ["<", "b>So"], "", "<b>So"),
        (False, ["<thi"], "", "<thi"),
        (False, ["<think>cut off </thin"], "cut off </thin", ""),
        (False, ["<think>a < b and a </ b</think>So."], "a < b and a </ b", "So."),
    ],
)
def test_reasoning_between_tags(thinks: bool, texts: list[str], reasoning: str, text: str) -> None:
    pieces, _ = read(*(chunk({"content": each}) for each in texts), thinks=thinks)
    assert "".join(each.text for each in pieces if isinstance(each, ReasoningPiece)) == reasoning
    assert "".join(each.text for each in pieces if isinstance(each, TextPiece)) == text


def test_fragments_of_calls_belong_together_by_their_index() -> None:
    pieces, _ = read(
        call(0, id="a", type="function", function={"name": "one", "arguments": ""}),
        call(1, id="b", type="function", function={"name": "two", "arguments": '{"y"'}),
        call(0, function={"arguments": '{"x": 1}'}),
        call(1, function={"arguments": ": 2}"}),
        chunk({}, "tool_calls"),
        DONE,
    )
    assert pieces == [
        CallPiece(0, "a", "one", ""),
        CallPiece(1, "b", "two", '{"y"'),
        CallPiece(0, "", "", '{"x": 1}'),
        CallPiece(1, "", "", ": 2}"),
    ]


def test_calls_without_an_index_and_whole_ones() -> None:
    pieces, _ = read(
        call(None, id="a", function={"name": "one", "arguments": '{"x"'}),
        call(None, function={"arguments": ": 1}"}),
        call(None, id="b", function={"name": "two", "arguments": {"y": 2}}),
    )
    assert pieces == [CallPiece(0, "a", "one", '{"x": 1}'), CallPiece(1, "b", "two", '{"y": 2}')]


@pytest.mark.parametrize(
    ("told", "counted"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 3}, CountedTokens(9, 0, 3, 0)),
        (
            {"prompt_tokens": 9, "completion_tokens": 3, "prompt_cache_hit_tokens": 4},
            CountedTokens(9, 4, 3, 0),
        ),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 3,
                "prompt_tokens_details": {"cached_tokens": 99},
                "completion_tokens_details": {"reasoning_tokens": 2},
            },
            CountedTokens(9, 9, 3, 2),
        ),
        ({"prompt_tokens": -1, "completion_tokens": "many"}, CountedTokens(0, 0, 0, 0)),
        (None, None),
        ([1], None),
    ],
)
def test_usage(told: Any, counted: CountedTokens | None) -> None:
    _, stream = read(b"data: " + json.dumps({"choices": [], "usage": told}).encode() + b"\r\n\r\n", DONE)
    assert stream.usage == counted


@pytest.mark.parametrize(
    "shape",
    [
        [],
        3,
        None,
        {"choices": {}},
        {"choices": [3]},
        {"choices": [{"delta": []}]},
        {"choices": [{"delta": {"content": 3, "tool_calls": 3}}]},
        {"choices": [{"delta": {"tool_calls": [None, {"index": True}, {"function": []}]}}]},
    ],
)
def test_shapes_that_nobody_sends_do_no_harm(shape: Any) -> None:
    pieces, _ = read(b"data: " + json.dumps(shape).encode() + b"\n\n")
    assert not any(isinstance(each, TextPiece | ReasoningPiece) for each in pieces)


def test_what_cannot_be_stored_is_replaced() -> None:
    pieces, _ = read(b'data: {"choices": [{"delta": {"content": "a\\u0000b\\ud800c"}}]}\n\n')
    assert pieces == [TextPiece("a\ufffdb\ufffdc")]


def test_an_answer_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_stream, "MOST_CHARACTERS", 10)
    with pytest.raises(RemoteBrokeOff, match="more than 10 characters"):
        read(chunk({"content": "12345678901"}))
    monkeypatch.setattr(remote_stream, "MOST_CHARACTERS", 10_000)
    with pytest.raises(RemoteBrokeOff, match="calls at once"):
        read(*(call(number, function={"name": "x"}) for number in range(remote_stream.MOST_CALLS + 1)))
    monkeypatch.setattr(remote_stream, "LONGEST_LINE_BYTES", 100)
    with pytest.raises(RemoteBrokeOff, match="more than 100"):
        read(*[b"data: " + b"1" * 50 + b"\n"] * 3)


def test_a_stream_that_ends_without_its_end() -> None:
    _, stream = read(chunk({"content": "Half"}))
    with pytest.raises(RemoteBrokeOff, match="before the answer did"):
        stream.require_whole()
    _, stream = read(chunk({"content": "Whole"}), chunk({}, "stop")[:-1])
    stream.require_whole()


def test_a_line_in_many_small_pieces_is_read_once() -> None:
    """What is looked through again with each piece takes minutes for a line of some megabytes."""
    stream = AnswerStream("h")
    began_s = time.process_time()
    for _ in range(300_000):
        stream.feed(b"xxxxxxxxxx")
    assert time.process_time() - began_s < 20


def test_empty_lines_of_an_event_count_too() -> None:
    stream = AnswerStream("h")
    with pytest.raises(RemoteBrokeOff, match="event of more than"):
        for _ in range(100):
            stream.feed(b"data:\n" * 50_000)


def test_nothing_in_a_name_acts_on_a_terminal() -> None:
    call = {"index": 0, "id": "a\x1b[2J", "function": {"name": "f\x1b]0;x\x07", "arguments": "{}"}}
    stream = AnswerStream("h")
    (piece,) = stream.feed(chunk({"tool_calls": [call]}, "st\x1bop\nx"))
    assert isinstance(piece, CallPiece)
    assert piece.id.isprintable() and piece.name.isprintable() and (stream.finish or "").isprintable()
    assert stream.feed(chunk({"tool_calls": [call | {"function": {"name": "f", "arguments": ""}}]})) == []
