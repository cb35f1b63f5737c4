"""Pieces that another machine sends, kept, then told; and which calls may be carried out."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from engine.backends.remote_stream import CallPiece, ReasoningPiece, TextPiece
from engine.protocol import CallEvent, Message, Text, Thought, ThoughtEvent
from engine.remote_answer import Part, RemoteAnswer
from engine.store.tree_rules import is_id

FIRST = "call_0a9f31c2"

FUNCTIONS: list[dict[str, Any]] = [
    {
        "name": "look",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    }
]


class Log:
    """What was kept and told, in order."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, str]] = []
        self.order: list[str] = []
        self.told: list[Any] = []
        self.thoughts: list[Thought] = []

    def keep(self, text: str, token_ids: Sequence[int], part: Part) -> None:
        assert not token_ids
        self.kept.append((part, text))
        self.order.append("kept")

    def keep_thought(self, thought: Thought) -> None:
        self.thoughts.append(thought)

    def tell(self, event: object) -> None:
        self.told.append(event)
        self.order.append("told")


def stored(**more: Any) -> Message:
    return Message(
        id="a", parent_id=None, role="assistant", status="running", created_at=0, **{"text": "", **more}
    )


def answer(log: Log, **more: Any) -> RemoteAnswer:
    times = iter(range(100))
    return RemoteAnswer(
        log,
        functions=FUNCTIONS,
        stored=more.pop("stored", stored()),
        clock=lambda: float(next(times)),
        **more,
    )


def test_kept_before_it_is_told_and_each_part_at_its_place() -> None:
    log = Log()
    made = answer(log)
    for piece in (ReasoningPiece("I "), ReasoningPiece("think"), TextPiece("So"), TextPiece(".")):
        made.take(piece)
    assert log.kept == [("reasoning", "I "), ("reasoning", "think"), ("text", "So"), ("text", ".")]
    texts = [(each.part, each.offset, each.text) for each in log.told if isinstance(each, Text)]
    assert texts == [("reasoning", 0, "I "), ("reasoning", 2, "think"), ("text", 0, "So"), ("text", 2, ".")]
    assert log.order == ["kept", "told", "kept", "told", "told", "kept", "told", "kept", "told"]
    assert [type(each) for each in log.told].index(ThoughtEvent) == 2
    end = made.end("stop", reasoning_tokens=2)
    assert end.reason == "stop" and end.thought == Thought(tokens=2, elapsed_s=1.0)
    assert log.thoughts == [Thought(tokens=0, elapsed_s=1.0)]


@pytest.mark.parametrize(
    ("anew", "kept"), [(False, ("reasoning", "more")), (True, ("reasoning", "\n\nmore"))]
)
def test_an_answer_that_goes_on_follows_what_is_there(anew: bool, kept: tuple[str, str]) -> None:
    log = Log()
    made = answer(log, stored=stored(text="So f", reasoning="I think"), anew=anew)
    made.take(ReasoningPiece("more"))
    made.take(TextPiece("ar"))
    assert log.kept == [kept, ("text", "ar")]
    offsets = [each.offset for each in log.told if isinstance(each, Text)]
    assert offsets == [len("I think"), len("So f")]


def test_calls_are_checked_against_their_schemas() -> None:
    log = Log()
    made = answer(log)
    made.take(CallPiece(0, FIRST, "look", ""))
    made.take(CallPiece(0, "", "", '{"city": "Bern"}'))
    made.take(CallPiece(1, FIRST, "look", '{"town": 3}'))
    made.take(CallPiece(2, "", "rm", "{}"))
    made.take(CallPiece(3, "c4", "look", "{nonsense"))
    end = made.end("tool_calls")
    assert [call.status for call in end.tool_calls] == ["exact", "rejected", "rejected", "rejected"]
    assert end.reason == "tool_calls"
    assert json.loads(end.tool_calls[0].arguments) == {"city": "Bern"}
    ids = [call.id for call in end.tool_calls]
    assert ids[0] == FIRST and len(set(ids)) == 4
    assert all("Correct it" in (call.problem or "") for call in end.tool_calls[1:])
    pieces = [(each.index, each.offset, each.arguments) for each in log.told if isinstance(each, CallEvent)]
    assert pieces[:2] == [(0, 0, ""), (0, 0, '{"city": "Bern"}')]


@pytest.mark.parametrize(
    ("given", "stays"),
    [
        (FIRST, True),
        ("chatcmpl-tool-0f8a3c", True),
        ("D681PevKs", True),
        # Counted anew in each answer, so that what is remembered of one would be found by another conversation's.
        ("call_0", False),
        ("toolcall_12", False),
        ("get_weather", False),
        # No name of a thing that is stored.
        ("functions.look:0123456789", False),
        ("x9" * 65, False),
        ("x9x9x9x9 \u202e", False),
    ],
)
def test_an_id_that_may_be_anothers_is_not_kept(given: str, *, stays: bool) -> None:
    made = answer(Log())
    made.take(CallPiece(0, given, "look", '{"city": "Bern"}'))
    (call,) = made.end("tool_calls").tool_calls
    assert (call.id == given) is stays and is_id(call.id)


@pytest.mark.parametrize("reason", ["length", "cancelled"])
def test_calls_of_an_answer_that_was_cut_are_none(reason: Any) -> None:
    made = answer(Log())
    made.take(CallPiece(0, "c1", "look", '{"city": "Bern"}'))
    assert made.end(reason).tool_calls == () and made.end(reason).reason == reason


def test_a_server_that_says_calls_and_makes_none() -> None:
    made = answer(Log())
    made.take(TextPiece("No."))
    assert made.end("tool_calls").reason == "stop"
    made = answer(Log())
    made.take(CallPiece(0, "", "", ""))
    end = made.end("stop")
    assert end.reason == "stop" and end.tool_calls[0].status == "rejected"
