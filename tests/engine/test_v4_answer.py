"""An answer's parts: stored before they are told, at the right offsets, also when it goes on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from engine.backends.scripted import ScriptedBackend
from engine.encoding.reasoning import ThinkingGuard
from engine.encoding.v4_chat import V4Chat, v4_chat
from engine.errors import DiskFull
from engine.protocol import CallEvent, Message, Notice, Text, Thought, ThoughtEvent
from engine.v4_answer import V4Answer

D = "｜DSML｜"
CALL = (
    f'\n\n<{D}tool_calls>\n<{D}invoke name="f">\n<{D}parameter name="k" string="true">a"b</{D}parameter>\n'
    f"</{D}invoke>\n</{D}tool_calls>"
)


@pytest.fixture
def chat(tmp_path: Path) -> V4Chat:
    path = tmp_path / "v.script.json"
    path.write_text('{"release": "preview", "replies": [{"text": ""}]}')
    backend = ScriptedBackend.open(path, name="v", context_tokens=99, on_progress=lambda _f: True)
    found = v4_chat(backend)
    assert found is not None
    return found


class Kept:
    """Remembers in which order things were stored and told."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.full = False

    def keep(self, text: str, token_ids: Sequence[int], part: str) -> None:
        if self.full:
            raise DiskFull("a", "b", "c")
        self.log.append((part, text, list(token_ids)))

    def keep_thought(self, thought: Thought) -> None:
        self.log.append(thought)

    def tell(self, event: Any) -> None:
        self.log.append(event)

    def told(self, kind: type[Any]) -> list[Any]:
        return [each for each in self.log if isinstance(each, kind)]

    def stored(self, part: str) -> str:
        return "".join(each[1] for each in self.log if isinstance(each, tuple) and each[0] == part)


def begin(chat: V4Chat, kept: Kept, *, thinking: bool = True, **more: Any) -> V4Answer:
    stored = Message.model_validate(
        {"id": "a", "parent_id": None, "role": "assistant", "text": "", "status": "running", "created_at": 0}
        | more.pop("stored", {})
    )
    guard = more.pop("guard", None) or ThinkingGuard(chat.think_end_id, thinking=thinking, budget=None)
    options = {"functions": [], "clock": iter(range(100)).__next__, **more}
    return V4Answer(chat, guard, kept, thinking=thinking, stored=stored, **options)


def test_every_piece_is_stored_and_then_told(chat: V4Chat) -> None:
    kept = Kept()
    answer = begin(chat, kept)
    for number, piece in enumerate(["Hm", ".</think>Lo", "ok.", CALL[:60], CALL[60:]]):
        answer.take(piece, [number])
    end = answer.end("stop")
    for place, each in enumerate(kept.log):
        if isinstance(each, Text):
            assert kept.log[place - 1][:2] == (each.part, each.text)
    assert [(t.part, t.offset, t.text) for t in kept.told(Text)] == [
        ("reasoning", 0, "Hm"), ("reasoning", 2, "."), ("text", 0, "Lo"), ("text", 2, "ok."),
    ]  # fmt: skip
    assert [id_ for each in kept.log if isinstance(each, tuple) for id_ in each[2]] == [0, 1, 2, 3, 4]
    (call,) = end.tool_calls
    assert (call.name, call.arguments, call.status, end.reason) == (
        "f",
        '{"k": "a\\"b"}',
        "exact",
        "tool_calls",
    )
    events = kept.told(CallEvent)
    assert {event.id for event in events} == {call.id}
    assert "".join(event.arguments for event in events) == call.arguments
    assert [event.offset for event in events] == [
        sum(len(e.arguments) for e in events[:place]) for place in range(len(events))
    ]
    assert kept.stored("call") == f"f {call.arguments}"
    assert kept.told(ThoughtEvent)[0].thought == end.thought
    assert kept.log.index(end.thought) < kept.log.index(kept.told(ThoughtEvent)[0])


def test_what_a_mark_may_begin_with_is_told_at_the_end(chat: V4Chat) -> None:
    kept = Kept()
    answer = begin(chat, kept, thinking=False)
    answer.take("a\n\n<", [1])
    assert kept.stored("text") == "a"
    assert answer.end("cancelled").tool_calls == []
    assert kept.stored("text") == "a\n\n<"


@pytest.mark.parametrize("stored", [len("Thought.") + len("So") - 10, 10])
@pytest.mark.parametrize("cut", [3, 8, 17, 20, 40, 90, 130])
def test_an_answer_goes_on_wherever_it_was_cut(chat: V4Chat, cut: int, stored: int) -> None:
    """Whether more or less of it was stored than the parser gives back."""
    whole = "Thought.</think>So it is." + CALL
    first = Kept()
    answer = begin(chat, first)
    answer.take(whole[:cut], [7])
    reasoning, text = first.stored("reasoning"), first.stored("text")
    if stored != 10:  # the last characters were lost in the crash
        reasoning, text = (reasoning, text[:-1]) if text else (reasoning[:-1], text)
    second = Kept()
    answer = begin(
        chat, second, stored={"reasoning": reasoning, "text": text, "mode": "high"}, already=whole[:cut]
    )
    answer.take(whole[cut:], [8])
    end = answer.end("stop")
    assert reasoning + second.stored("reasoning") == "Thought."
    assert text + second.stored("text") == "So it is."
    assert [call.arguments for call in end.tool_calls] == ['{"k": "a\\"b"}']
    assert second.stored("call") == 'f {"k": "a\\"b"}'
    assert all(
        event.offset >= len({"reasoning": reasoning, "text": text}[event.part]) for event in second.told(Text)
    )


def test_schemas_refuse_and_the_model_is_told_why(chat: V4Chat) -> None:
    kept = Kept()
    schema = {"type": "object", "properties": {"k": {"type": "integer"}}}
    answer = begin(chat, kept, thinking=False, functions=[{"name": "f", "parameters": schema}])
    answer.take(CALL, [1])
    end = answer.end("stop")
    assert (end.reason, end.tool_calls[0].status) == ("stop", "rejected")
    problem = end.tool_calls[0].problem or ""
    assert "`k`" in problem and "call again" in problem
    assert end.notices == []


def test_what_cannot_be_stored_is_not_told(chat: V4Chat) -> None:
    kept = Kept()
    answer = begin(chat, kept, thinking=False)
    kept.full = True
    with pytest.raises(DiskFull):
        answer.take("never seen", [1])
    assert kept.log == []


def test_the_guards_reason_is_said_once(chat: V4Chat) -> None:
    kept = Kept()
    guard = ThinkingGuard(chat.think_end_id, thinking=True, budget=2)
    answer = begin(chat, kept, guard=guard)
    for token in (1, 2):
        assert guard.forced() is None
        guard.saw(token)
        answer.take("x", [token])
    forced = guard.forced()
    assert forced == chat.think_end_id
    guard.saw(chat.think_end_id)
    answer.take("</think>", [chat.think_end_id])
    answer.take("Done.", [3])
    end = answer.end("stop")
    assert [n.code for n in kept.told(Notice)] == ["budget"]
    assert end.notices == ["The reasoning was ended after 2 tokens, the most that it may take."]
    assert end.thought is not None and end.thought.tokens == 2
