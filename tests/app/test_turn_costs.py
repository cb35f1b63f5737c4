"""Asking what a turn would cost: once, and again when something has changed."""

from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from app.api import EngineApi
from app.conversation_state import ConversationState
from app.turn_costs import TurnCosts
from engine.protocol import EngineStatus

COST = {"total": 9400, "kept": 7300, "reread": 2100, "seconds": 38.0}


class Asked:
    """A conversation of two exchanges, and what was told of its costs."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.api = EngineApi()
        self.api.connect_to(engine.url, engine.key)
        self.state = ConversationState(self.api)
        self.costs = TurnCosts(self.api, self.state, self.state)
        self.told: list[tuple[str, str, int]] = []
        self.costs.told.connect(lambda step, name, cost: self.told.append((step, name, cost.reread)))
        session_id = engine.add_session("t")
        self.question, self.answer = engine.add_exchange(session_id, "q", "a")
        self.later, self.leaf = engine.add_exchange(session_id, "q2", "a2")
        engine.reuse = {"high": COST}
        self.state.open(session_id)

    def bodies(self) -> list[tuple[str, str | None]]:
        return [(body["kind"], body["message_id"]) for body in self.engine.asked("POST", "/api/reuse")]


@pytest.fixture
def asked(qtbot: QtBot, fake_engine: Any) -> Any:
    made = Asked(fake_engine)
    qtbot.waitUntil(lambda: len(made.state.shown) == 4)
    yield made
    made.api.close()


def test_every_step_is_asked_for_as_the_engine_knows_it(asked: Asked, qtbot: QtBot) -> None:
    asked.costs.want("edit", asked.question)
    asked.costs.want("retry", asked.leaf)
    asked.costs.want("continue", asked.leaf)
    asked.costs.want("version", asked.question)
    qtbot.waitUntil(lambda: len(asked.told) == 4)
    expected = [
        ("edit", asked.question),
        ("retry", asked.leaf),
        ("continue", asked.leaf),
        ("ask", asked.leaf),
    ]
    assert sorted(asked.bodies(), key=str) == sorted(expected, key=str)
    assert {reread for _, _, reread in asked.told} == {2100}


def test_it_is_asked_once_until_something_changes(asked: Asked, qtbot: QtBot) -> None:
    asked.costs.want("edit", asked.question)
    asked.costs.want("edit", asked.question)
    qtbot.waitUntil(lambda: len(asked.told) == 1)
    asked.costs.want("edit", asked.question)
    assert len(asked.told) == 2
    assert len(asked.bodies()) == 1
    with qtbot.waitSignal(asked.costs.forgotten):
        asked.costs.engine_status(EngineStatus(**asked.engine.status))
    asked.costs.want("edit", asked.question)
    qtbot.waitUntil(lambda: len(asked.bodies()) == 2)


def test_an_answer_to_an_old_question_is_not_told(asked: Asked, qtbot: QtBot) -> None:
    asked.costs.want("edit", asked.question)
    asked.costs.forget()
    asked.costs.want("retry", asked.leaf)
    qtbot.waitUntil(lambda: bool(asked.told))
    assert asked.told == [("retry", asked.leaf, 2100)]


def test_a_cost_that_cannot_be_told_is_asked_for_again(asked: Asked, qtbot: QtBot) -> None:
    asked.engine.refusals["POST", "/api/reuse"] = (409, {"error": {"code": "conflict", "text": "Busy."}})
    asked.costs.want("edit", asked.question)
    qtbot.waitUntil(lambda: len(asked.bodies()) == 1)
    asked.engine.refusals.clear()

    def again() -> bool:
        asked.costs.want("edit", asked.question)
        return bool(asked.told)

    qtbot.waitUntil(again)


def test_nothing_is_asked_while_an_answer_is_written(asked: Asked, qtbot: QtBot) -> None:
    asked.state.retry(asked.leaf)
    asked.costs.want("edit", asked.question)
    assert asked.bodies() == []
