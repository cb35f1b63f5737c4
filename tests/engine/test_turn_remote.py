"""What a session's turn asks of another machine, and what is kept with the answer."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from engine.backends.remote import RemoteModel, RemotePoint
from engine.backends.remote_address import read_address
from engine.errors import BadRequest
from engine.protocol import Message, Sampling, Settings, Tool, Usage
from engine.protocol_remote import RemoteFeatures
from engine.store.journal_turns import Begun, Ended, Turn
from engine.turn_remote import turn_of, usage_with

FEATURES = RemoteFeatures(checked_at=0, reasoning="yes", efforts="no", continues="yes", continue_by="tail")


@pytest.fixture
def remote() -> Iterator[RemoteModel]:
    yield RemoteModel(
        "remote:a",
        "A",
        "openai",
        "m",
        [RemotePoint(read_address("https://api.example.com/v1"))],
        features=FEATURES,
    )


def message(role: Any = "assistant", **more: Any) -> Message:
    given = {"id": "x", "parent_id": None, "text": "", "status": "complete", "created_at": 0.0, **more}
    return Message(role=role, **given)


def turn(remote: RemoteModel, answer: Message, branch: list[Message], tools: list[Tool] | None = None) -> Any:
    return turn_of(remote, answer, branch, Settings(system_message="Be brief."), tools or [], Sampling(), 100)


def test_the_first_turn_that_leaves_the_machine_is_marked(remote: RemoteModel) -> None:
    asked = [message("user", text="One")]
    local = [*asked, message(text="1", model_id="starter"), message("user", text="Two")]
    sentence = "This answer was written by api.example.com; the conversation was sent there."
    far = [*asked, message(text="1", model_id="remote:a", notices=[sentence]), message("user", text="Two")]
    refused = [*asked, message(model_id="remote:a", status="failed"), message("user", text="Two")]
    for branch in (asked, local, refused):
        assert turn(remote, message(), branch).notices("api.example.com", "elsewhere") == [sentence]
    assert turn(remote, message(), far).notices("api.example.com", "elsewhere") == []
    assert (
        "another.example.com" in turn(remote, message(), far).notices("another.example.com", "elsewhere")[0]
    )
    assert turn(remote, message(), local).notices("127.0.0.1", "this machine") == []


def test_the_whole_branch_is_asked_with_as_text(remote: RemoteModel) -> None:
    branch = [message("user", text="One"), message(text="1", model_id="starter"), message("user", text="Two")]
    made = turn(remote, message(), branch)
    assert [each.text for each in made.request.messages] == ["Be brief.", "One", "1", "Two"]
    assert all(each.written is None for each in made.request.messages)
    assert (made.continuing, made.request.sampling, made.request.max_tokens) == (None, None, 100)


def test_an_answer_that_goes_on_is_never_silent(remote: RemoteModel) -> None:
    cut = message(text="So f", model_id="remote:a")
    made = turn(remote, cut, [message("user", text="One")])
    assert made.continuing == "prefix" and made.request.so_far == "So f"
    assert "went on with it" in made.notices("h", "elsewhere")[-1]
    cannot = replace(remote, features=FEATURES.model_copy(update={"continues": "no"}))
    made = turn(cannot, cut, [message("user", text="One")])
    assert made.continuing == "asked" and "asked once more" in made.notices("h", "elsewhere")[-1]


def test_what_cannot_be_asked_for_is_one_sentence(remote: RemoteModel) -> None:
    branch = [message("user", text="One")]
    with pytest.raises(BadRequest, match="offers no way"):
        turn(remote, message(mode="max"), branch)
    without = replace(remote, features=FEATURES.model_copy(update={"tools": "no"}))
    with pytest.raises(BadRequest, match="refuses them"):
        turn(without, message(), branch, [Tool(function={"name": "f"})])


def test_what_an_answer_cost_before_it_went_on_counts() -> None:
    usage = Usage(
        prompt_tokens=1,
        reused_tokens=0,
        generated_tokens=1,
        context_tokens=0,
        first_token_s=0,
        prefill_rate=0,
        generation_rate=0,
        seed=0,
        cost=2.0,
        currency="USD",
    )
    begun = Begun(answer_id="x", model_id="remote:a", sampling=Sampling())

    def before(**more: Any) -> Turn:
        ended = Ended(status="complete", reason="length", tokens=0, usage=usage.model_copy(update=more))
        return Turn(begun, ended=ended)

    found = usage_with(usage, before(cost=3.0))
    assert found is not None and found.cost == 5.0
    assert usage_with(usage, before(cost=3.0, currency="EUR")) == usage
    assert usage_with(usage, Turn(begun)) == usage
    assert usage_with(usage, None) == usage
    assert usage_with(None, before()) is None
