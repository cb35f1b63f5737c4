"""An answer that broke off: how long it is waited for."""

from typing import Any

from app.lost_answer import PATIENCE, LostAnswer
from app.running_answer import RunningAnswer
from engine.protocol import Message


def stored(status: str = "running", **more: Any) -> Message:
    fields = {
        "id": "a",
        "parent_id": "q",
        "role": "assistant",
        "text": "half",
        "status": status,
        "created_at": 0.0,
    }
    return Message.model_validate({**fields, **more})


def lost() -> LostAnswer:
    made = LostAnswer()
    made.lose(RunningAnswer(stored()))
    return made


def test_it_is_waited_for_until_its_model_is_there() -> None:
    answer = lost()
    for _ in range(PATIENCE + 5):
        assert answer.is_waited_for(stored("interrupted"), settled=False)
    for _ in range(PATIENCE):
        assert answer.is_waited_for(stored("interrupted"), settled=True)
    assert not answer.is_waited_for(stored("interrupted"), settled=True)


def test_what_has_ended_or_is_shown_no_more_is_not_waited_for() -> None:
    answer = lost()
    assert answer.is_waited_for(stored("running"), settled=True)
    for gone in (None, stored("complete"), stored("failed")):
        assert not answer.is_waited_for(gone, settled=False)


def test_given_up_it_stands_as_it_broke_off() -> None:
    answer = lost()
    cut = answer.give_up()
    assert cut is not None
    assert (cut.id, cut.text, cut.status) == ("a", "half", "interrupted")
    assert answer.id is None
    assert answer.give_up() is None


def test_that_it_goes_on_is_news_once_also_after_it_was_given_up() -> None:
    answer = lost()
    answer.give_up()
    assert answer.goes_on("a")
    assert not answer.goes_on("a")
    answer = lost()
    assert not answer.goes_on("other")
    answer = lost()
    answer.forget()
    assert (answer.id, answer.goes_on("a")) == (None, False)
