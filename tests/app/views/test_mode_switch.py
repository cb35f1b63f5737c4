"""The mode switch: shown when there is something to switch, and honest about the cost."""

from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from app.api import EngineApi
from app.mode_choice import ModeShelf
from app.theme import Theme
from app.views.mode_switch import ModeSwitch
from engine.protocol import LoadedModel, Reuse


@pytest.fixture
def switch(qtbot: QtBot) -> Any:
    made = ModeSwitch(Theme.light())
    qtbot.addWidget(made)
    made.shelf = ModeShelf(EngineApi(made), "high", made)
    made.set_shelf(made.shelf)
    return made


def load(switch: Any, *modes: dict[str, Any]) -> None:
    fields = {"id": "m", "name": "M", "context_tokens": 1, "threads": 1, "backend": "x"}
    switch.shelf.set_model(LoadedModel.model_validate({**fields, "modes": modes}))


ALL = ({"mode": "non-think"}, {"mode": "high"}, {"mode": "max", "problem": "Too small."})


def test_it_is_there_for_models_with_modes_only(switch: Any) -> None:
    assert switch.isHidden()
    load(switch, *ALL)
    assert not switch.isHidden()
    assert (switch.text(), switch.accessibleName()) == ("Think-High", "Mode: Think-High")
    load(switch)
    assert switch.isHidden()


def test_every_entry_says_what_it_is_and_what_it_costs(switch: Any) -> None:
    load(switch, *ALL)
    entries = switch.fill().actions()
    assert [entry.text() for entry in entries] == [
        "Non-think: answers at once",
        "Think-High: thinks first, then answers",
        "Think-Max: thinks as long as it takes\tnot now",
    ]
    assert [entry.isChecked() for entry in entries] == [False, True, False]
    switch.shelf.costs = {
        "non-think": Reuse(total=3100, kept=1860, reread=1240), "high": Reuse(total=3100, kept=3100, reread=0)
    }  # fmt: skip
    switch.shelf.costs_changed.emit()
    assert entries[0].text().endswith("\treads 1,240 of 3,100 tokens again")
    assert entries[1].text().endswith("\tinstant")


def test_opening_the_menu_is_told_and_so_is_the_choice(switch: Any, qtbot: QtBot) -> None:
    load(switch, *ALL)
    with qtbot.waitSignal(switch.menu_opening):
        menu = switch.fill()
    with qtbot.waitSignal(switch.mode_chosen) as chosen:
        menu.actions()[0].trigger()
    assert chosen.args == ["non-think"]


def test_it_is_drawn_in_both_looks_and_narrow(switch: Any) -> None:
    load(switch, *ALL)
    for theme in (Theme.light(), Theme.dark()):
        switch.set_theme(theme)
        switch.resize(switch.sizeHint())
        assert not switch.grab().isNull()
    switch.resize(switch.minimumSizeHint())
    assert not switch.grab().isNull()
