"""An answer put together from what its stream tells."""

from app.running_answer import RunningAnswer
from engine.protocol import Message, Thought, ToolCall


def stored(**more) -> Message:
    fields = {"id": "a", "parent_id": "q", "role": "assistant", "text": "", "status": "running"}
    return Message.model_validate({**fields, "created_at": 0, **more})


def test_it_goes_on_from_what_was_stored():
    answer = RunningAnswer(stored(text="Hel", reasoning="Hm"))
    answer.add_text("lo")
    answer.add_reasoning("m.")
    assert answer.set_thought(Thought(tokens=3, elapsed_s=1))
    assert not answer.set_thought(Thought(tokens=3, elapsed_s=1))
    now = answer.now()
    assert (now.text, now.reasoning, now.thought.tokens, now.status) == ("Hello", "Hmm.", 3, "running")


def test_calls_grow_in_their_places():
    answer = RunningAnswer(stored())
    assert answer.add_call(0, "c0", "one", '{"a"')
    assert not answer.add_call(0, "c0", "one", ": 1}")
    assert answer.add_call(1, "c1", "two", "{")
    assert [(c.id, c.name, c.arguments) for c in answer.now().tool_calls] == [
        ("c0", "one", '{"a": 1}'), ("c1", "two", "{"),
    ]  # fmt: skip


def test_the_stream_tells_stored_calls_again():
    first = ToolCall(id="c0", name="one", arguments="{}", status="repaired")
    answer = RunningAnswer(stored(tool_calls=[first], unfinished_call="<tool"))
    assert answer.now().unfinished_call == "<tool"
    answer.add_call(0, "c0", "one", "{")
    answer.add_call(1, "c1", "two", "{")
    assert [c.id for c in answer.now().tool_calls] == ["c0", "c1"]
    assert answer.now().unfinished_call == ""


def test_a_call_that_breaks_off_is_no_call():
    answer = RunningAnswer(stored(text="t"))
    answer.add_call(0, "c0", "one", "{}")
    answer.add_call(1, "c1", "two", '{"x')
    cut = answer.broken_off()
    assert (cut.status, cut.finish_reason) == ("interrupted", "interrupted")
    assert [c.id for c in cut.tool_calls] == ["c0"]
    assert cut.unfinished_call == 'two {"x'


def test_a_notice_is_news_once():
    answer = RunningAnswer(stored(notices=["A."]))
    assert [answer.add_notice("A."), answer.add_notice("B.")] == [False, True]
    assert answer.now().notices == ["A.", "B."]
