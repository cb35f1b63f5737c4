"""Which model answers, and how full its context is."""

from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from app.api import EngineApi
from app.model_shelf import ModelShelf
from app.theme import Theme
from app.views.model_picker import LEAST_NAME_PX, LEFT_PX, RIGHT_PX, ContextMeter, ModelPicker
from engine.protocol import EngineStatus, ErrorBody, LoadedModel, ModelEntry, RemotePlace

PROBLEM = ErrorBody(code="model_file", text="broken.gguf cannot be used: it is truncated; fetch it again.")
LOADED = LoadedModel(id="a", name="Alpha", context_tokens=8192, threads=2, backend="x")


def status(**more: Any) -> EngineStatus:
    return EngineStatus(version="1", pid=1, started_at=0, data_folder="/d", **more)


@pytest.fixture
def shelf(qapp: object) -> ModelShelf:
    made = ModelShelf(EngineApi())
    made.known = True
    made.entries = [
        ModelEntry(id="a", name="Alpha", path="/a.gguf", size_bytes=98_000_000, source="starter"),
        ModelEntry(id="b", name="Broken", path="/b.gguf", size_bytes=5, source="folder", problem=PROBLEM),
    ]
    return made


@pytest.fixture
def picker(qtbot: QtBot, shelf: ModelShelf) -> ModelPicker:
    made = ModelPicker(Theme.light())
    qtbot.addWidget(made)
    made.set_shelf(shelf)
    return made


def test_the_button_says_what_is_there(picker: ModelPicker, shelf: ModelShelf) -> None:
    assert picker.text() == "Starting…"
    shelf.set_status(status())
    assert picker.text() == "Choose a model"
    shelf.set_status(status(loading_model_id="a", loading_fraction=0.4))
    assert picker.text() == "Loading Alpha 40%"
    shelf.set_status(status(model=LOADED))
    assert picker.text() == "Alpha"
    assert picker.accessibleName() == "Model: Alpha"


def test_it_says_when_another_engine_than_llama_cpp_computes(picker: ModelPicker, shelf: ModelShelf) -> None:
    shelf.set_status(status(model=LOADED))
    assert picker.toolTip() == "Alpha. Opens the list of models."
    shelf.set_status(status(model=LOADED.model_copy(update={"backend": "native"})))
    assert picker.toolTip() == "Alpha, computed by Seamount's own engine. Opens the list of models."
    assert picker.text() == "Alpha"


def test_the_menu_marks_the_loaded_and_explains_the_broken(
    picker: ModelPicker, shelf: ModelShelf, qtbot: QtBot
) -> None:
    shelf.set_status(status(model=LOADED))
    actions = [action for action in picker.fill().actions() if action.text()]
    good, bad, reason, placement, add, remote = actions
    assert good.isChecked()
    assert "98.0 MB" in good.text()
    assert not bad.isEnabled()
    assert not reason.isEnabled()
    assert "truncated" in reason.text()
    assert bad.toolTip() == PROBLEM.text
    assert placement.text() == "Placement and speed…"
    assert add.text() == "Add a GGUF file…"
    assert remote.text() == "Add a model on another machine…"
    with qtbot.waitSignal(picker.placement_requested):
        placement.trigger()
    shelf.set_status(status())
    assert "Placement and speed…" not in [action.text() for action in picker.fill().actions()]


def test_choosing_asks(picker: ModelPicker, qtbot: QtBot) -> None:
    asked: list[str] = []
    picker.load_requested.connect(asked.append)
    picker.fill().actions()[0].trigger()
    assert asked == ["a"]
    with qtbot.waitSignal(picker.add_requested):
        picker.fill().actions()[-2].trigger()
    with qtbot.waitSignal(picker.remote_requested):
        picker.fill().actions()[-1].trigger()


def test_a_model_on_another_machine_says_where_it_is(picker: ModelPicker, shelf: ModelShelf) -> None:
    place = RemotePlace(host="node7", whereabouts="local network")
    shelf.entries = [
        ModelEntry(
            id="remote:1", name="Pro", path="http://node7/v1", size_bytes=0, source="remote", remote=place
        )
    ]
    shelf.set_status(status(model=LOADED.model_copy(update={"remote": place})))
    actions = [action.text() for action in picker.fill().actions()]
    assert actions[0] == "Pro    at node7"
    # It lies nowhere on this machine.
    assert "Placement and speed…" not in actions
    assert "computed by node7" in picker.toolTip()


def test_a_long_name_is_bounded(picker: ModelPicker, shelf: ModelShelf, qtbot: QtBot) -> None:
    shelf.set_status(status(model=LOADED.model_copy(update={"name": "Name " * 100})))
    assert picker.sizeHint().width() < 500
    picker.grab()


def test_the_meter_tells_used_and_total(qtbot: QtBot) -> None:
    meter = ContextMeter(Theme.light())
    qtbot.addWidget(meter)
    assert meter.isHidden()
    meter.show_use(1234, 8192)
    assert meter.text() == "1,234 of 8,192 tokens"
    assert meter.accessibleName() == "Context: 1,234 of 8,192 tokens used"
    meter.grab()
    meter.show_use(57, 8192, overflowed=True)
    assert meter.text() == "Did not fit"
    meter.show_use(None, None)
    assert meter.isHidden()


def test_a_short_name_takes_no_more_room_than_it_needs(picker: ModelPicker, shelf: ModelShelf) -> None:
    shelf.set_status(status(model=LOADED.model_copy(update={"name": "ab"})))
    assert picker.minimumSizeHint().width() == picker.sizeHint().width()
    assert picker.sizeHint().width() < LEFT_PX + LEAST_NAME_PX + RIGHT_PX
