"""What makes a tree a conversation: each rule, broken once."""

from typing import Any

import pytest

from engine.protocol import Message
from engine.store.tree_rules import TreeRules, is_id

QUESTION = {
    "id": "q",
    "parent_id": None,
    "role": "user",
    "text": "?",
    "status": "complete",
    "created_at": 1.0,
}
CALL = {"id": "c1", "name": "f", "arguments": "{}"}
ANSWER = {**QUESTION, "id": "a", "parent_id": "q", "role": "assistant", "tool_calls": [CALL]}
RESULT = {**QUESTION, "id": "r", "parent_id": "a", "role": "tool", "tool_call_id": "c1"}
AFTER = {**QUESTION, "id": "b", "parent_id": "r", "role": "assistant"}


def first_problem(*messages: dict[str, Any]) -> str | None:
    rules = TreeRules()
    for each in messages:
        if (problem := rules.add(Message.model_validate(each))) is not None:
            return problem
    return None


def test_a_conversation_with_a_call_its_results_and_versions_breaks_none() -> None:
    again = {**RESULT, "id": "r2", "parent_id": "r"}  # two results stand one beneath the other
    retry = {**ANSWER, "id": "a2", "tool_calls": []}
    root = {**QUESTION, "id": "q2"}
    assert first_problem(QUESTION, ANSWER, RESULT, again, AFTER, retry, root) is None


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        ([{**QUESTION, "id": ""}], "its id is not made of"),
        ([{**QUESTION, "id": "../x"}], "its id is not made of"),
        ([{**QUESTION, "id": "x" * 129}], "its id is not made of"),
        ([QUESTION, QUESTION], "another message has the same id"),
        ([{**QUESTION, "parent_id": "nobody"}], "not there, or not before it"),
        ([{**QUESTION, "parent_id": "q"}], "not there, or not before it"),
        ([ANSWER, QUESTION], "not there, or not before it"),
        ([{**ANSWER, "parent_id": None}], "neither a question nor the result of a tool"),
        ([QUESTION, ANSWER, {**ANSWER, "id": "a2", "parent_id": "a"}], "neither a question nor"),
        ([QUESTION, {**ANSWER, "status": "running"}, {**RESULT}], "still being written"),
        ([QUESTION, ANSWER, {**RESULT, "tool_call_id": None}], "does not say of which call"),
        ([QUESTION, ANSWER, {**RESULT, "tool_call_id": "c2"}], "did not make"),
        ([QUESTION, {**RESULT, "parent_id": "q"}], "did not make"),
        ([{**QUESTION, "tool_call_id": "c1"}], "is not its result"),
        ([{**QUESTION, "created_at": float("nan")}], "its time"),
        ([{**QUESTION, "created_at": -1.0}], "its time"),
        ([{**QUESTION, "status": "interrupted"}], "can only be complete"),
        ([{**QUESTION, "reasoning": "hm"}], "what only an answer has"),
        ([QUESTION, {**ANSWER, "tool_calls": [CALL, CALL]}], "the same id"),
        ([QUESTION, {**ANSWER, "tool_calls": [{**CALL, "id": "a b"}]}], "the id of one of its calls"),
        ([QUESTION, {**ANSWER, "thought": {"tokens": 2**60, "elapsed_s": 1}}], "its reasoning took"),
        ([QUESTION, {**ANSWER, "thought": {"tokens": 1, "elapsed_s": float("inf")}}], "its reasoning took"),
        (
            [
                QUESTION,
                {
                    **ANSWER,
                    "usage": {
                        "prompt_tokens": 1,
                        "reused_tokens": 0,
                        "generated_tokens": 1,
                        "context_tokens": 2,
                        "first_token_s": float("inf"),
                        "prefill_rate": 1,
                        "generation_rate": 1,
                        "seed": 0,
                    },
                },
            ],
            "its usage",
        ),
    ],
)
def test_each_rule(messages: list[dict[str, Any]], problem: str) -> None:
    assert problem in (first_problem(*messages) or "")


def test_what_an_id_is() -> None:
    assert is_id("call_0-Z") and not is_id("ä") and not is_id("a\n") and not is_id("a/b") and not is_id("..")


def test_the_cost_of_an_answer_of_another_machine_is_no_problem() -> None:
    usage = dict.fromkeys(
        ("prompt_tokens", "reused_tokens", "generated_tokens", "context_tokens", "first_token_s"), 1
    ) | {"prefill_rate": 1, "generation_rate": 1, "seed": 1, "cost": 0.25, "currency": "EUR"}
    assert first_problem(QUESTION, {**ANSWER, "usage": usage}) is None
    assert "its usage" in str(first_problem(QUESTION, {**ANSWER, "usage": usage | {"cost": 1e300}}))
    assert "currency" in str(first_problem(QUESTION, {**ANSWER, "usage": usage | {"currency": "x" * 9}}))
