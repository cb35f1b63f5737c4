"""Which stored messages are put to a V4 model, and as what. For templates: test_turns.py."""

from typing import Any

from engine.conversation import Written
from engine.protocol import Message, Tool
from engine.turn_prompts import v4_messages


def said(role: str, text: str = "", **more: Any) -> Message:
    fields = {"id": text or "x", "parent_id": None, "role": role, "text": text, "status": "complete"}
    return Message.model_validate({**fields, "created_at": 0, "model_id": "m", **more})


CALL = {"id": "c1", "name": "f", "arguments": "{}"}


def test_tools_are_declared_in_the_system_message_in_their_own_order_of_keys() -> None:
    tool = Tool(function={"name": "f", "z": 1, "a": "ü"})
    (system, question) = v4_messages("Be kind.", [tool], [said("user", "q")], {}, "m")
    assert (system.role, system.text) == ("system", "Be kind.")
    assert system.tools == ('{"name": "f", "z": 1, "a": "ü"}',)
    assert (question.role, question.text) == ("user", "q")
    assert [m.role for m in v4_messages(" ", [tool], [], {}, "m")] == ["system"]
    assert v4_messages(" ", [tool], [], {}, "m")[0].text == ""
    assert v4_messages("", [], [], {}, "m") == []


def test_an_answer_is_put_as_the_tokens_that_this_model_wrote() -> None:
    branch = [said("user", "q"), said("assistant", "a", mode="high", reasoning="r", tool_calls=[CALL])]
    answer = v4_messages("", [], branch, {"a": [1, 2]}, "m")[1]
    assert answer.written == Written((1, 2), thinking=True)
    assert (answer.text, answer.reasoning, answer.tool_calls[0].id) == ("a", "r", "c1")
    branch[1] = branch[1].model_copy(update={"mode": "non-think"})
    assert v4_messages("", [], branch, {"a": [1, 2]}, "m")[1].written == Written((1, 2), thinking=False)
    # Another model's tokens mean something else.
    assert v4_messages("", [], branch, {"a": [1, 2]}, "other")[1].written is None
    assert v4_messages("", [], branch, {}, "m")[1].written is None


def test_results_keep_their_call_and_empty_answers_are_left_out() -> None:
    branch = [
        said("user", "q"),
        said("assistant", "", reasoning="cut in thought"),
        said("user", "q2"),
        said("assistant", "", tool_calls=[CALL]),
        said("tool", "22", tool_call_id="c1"),
    ]
    messages = v4_messages("", [], branch, {}, "m")
    assert [m.role for m in messages] == ["user", "user", "assistant", "tool"]
    assert messages[-1].tool_call_id == "c1"
