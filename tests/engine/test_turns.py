"""What is put to the model, and how sampling is settled. The turns themselves: tests/integration."""

from engine.conversation import Message as PromptMessage
from engine.protocol import Message, Sampling
from engine.turn_prompts import prompt_messages
from engine.turns import with_seed


def said(role: str, text: str, status: str = "complete") -> Message:
    return Message.model_validate(
        {"id": text, "parent_id": None, "role": role, "text": text, "status": status, "created_at": 0}
    )


def test_the_prompt_is_the_system_message_and_the_branch() -> None:
    branch = [said("user", "q1"), said("assistant", "a1"), said("user", "q2")]
    assert prompt_messages("Be kind.", branch) == [
        PromptMessage("system", "Be kind."),
        PromptMessage("user", "q1"),
        PromptMessage("assistant", "a1"),
        PromptMessage("user", "q2"),
    ]
    assert prompt_messages(" \n", branch)[0] == PromptMessage("user", "q1")


def test_an_interrupted_answer_counts_and_an_empty_one_does_not() -> None:
    branch = [
        said("user", "q1"),
        said("assistant", "", "failed"),
        said("user", "q2"),
        said("assistant", "half an ans", "interrupted"),
        said("user", "q3"),
    ]
    assert prompt_messages("", branch) == [
        PromptMessage("user", "q1\n\nq2"),
        PromptMessage("assistant", "half an ans"),
        PromptMessage("user", "q3"),
    ]


def test_a_seed_is_drawn_where_none_is_given_and_fits_a_double() -> None:
    seeds = {with_seed(Sampling()).seed for _ in range(50)}
    assert len(seeds) == 50
    assert all(seed is not None and seed == int(float(seed)) for seed in seeds)
    assert with_seed(Sampling(seed=7)).seed == 7
