"""Modes: what is offered, what is chosen, what it costs."""

from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from app.api import EngineApi
from app.mode_choice import ModeShelf, switch_words
from engine.protocol import LoadedModel, Reuse


def model(problem: str | None = None, *, modes: bool = True) -> LoadedModel:
    offered = [{"mode": "non-think"}, {"mode": "high"}, {"mode": "max", "problem": problem}]
    fields = {"id": "m", "name": "M", "context_tokens": 1, "threads": 1, "backend": "x"}
    return LoadedModel.model_validate({**fields, "modes": offered if modes else []})


@pytest.fixture
def shelf(fake_engine: Any, qapp: object) -> Any:
    api = EngineApi()
    api.connect_to(fake_engine.url, fake_engine.key)
    made = ModeShelf(api, "high")
    made.api = api
    yield made
    api.close()


def test_a_model_without_modes_has_none_in_force(shelf: ModeShelf) -> None:
    shelf.set_model(model(modes=False))
    assert (shelf.mode, shelf.choices) == (None, ())
    shelf.choose("max", None)
    assert shelf.wanted == "high"


def test_the_choice_is_kept_while_it_cannot_be_had(shelf: ModeShelf) -> None:
    shelf.set_model(model())
    shelf.choose("max", None)
    assert shelf.mode == "max"
    shelf.set_model(model("The context is too small."))
    assert (shelf.mode, shelf.wanted) == ("high", "max")
    shelf.set_model(None)
    assert shelf.mode is None
    shelf.set_model(model())
    assert shelf.mode == "max"


def test_a_mode_with_a_problem_is_refused_and_changes_nothing(shelf: ModeShelf) -> None:
    said: list[Any] = []
    shelf.refused.connect(lambda *words: said.append(words))
    shelf.set_model(model("Think-Max needs 393,216 tokens; choose Think-High."))
    shelf.choose("max", "s1")
    assert said == [("max", "Think-Max needs 393,216 tokens; choose Think-High.")]
    assert (shelf.mode, shelf.wanted) == ("high", "high")


def test_costs_are_asked_for_every_mode(shelf: ModeShelf, qtbot: QtBot, fake_engine: Any) -> None:
    fake_engine.offer_modes()
    shelf.set_model(model())
    shelf.ask_costs("s1")
    qtbot.waitUntil(lambda: len(shelf.costs) == 3)
    bodies = fake_engine.asked("POST", "/api/reuse")
    assert sorted(body["mode"] for body in bodies) == ["high", "max", "non-think"]
    assert {body["session_id"] for body in bodies} == {"s1"}
    assert shelf.costs["non-think"].reread == 1240
    shelf.ask_costs(None)
    assert shelf.costs == {}


def test_a_switch_tells_its_cost(shelf: ModeShelf, qtbot: QtBot, fake_engine: Any) -> None:
    fake_engine.offer_modes()
    shelf.set_model(model())
    with qtbot.waitSignal(shelf.switched) as told:
        shelf.choose("non-think", "s1")
    assert switch_words(*told.args) == "Non-think: reads 1,240 of 3,100 tokens again"
    shelf.choose("non-think", "s1")
    assert len(fake_engine.asked("POST", "/api/reuse")) == 1


def test_a_switch_that_costs_nothing_is_not_told() -> None:
    assert switch_words("max", Reuse(total=5, kept=5, reread=0)) == ""
