"""What is asked of the engine about optional parts."""

from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from app import parts_shelf
from app.api import EngineApi
from app.parts_shelf import PartsShelf
from engine.protocol_parts import PartEntry


@pytest.fixture
def shelf(qtbot: QtBot, fake_engine: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(parts_shelf, "TASK_PAUSE_MS", 5)
    api = EngineApi()
    api.connect_to(fake_engine.url, fake_engine.key)
    made = PartsShelf(api)
    yield made
    api.close()


def test_an_installation_is_followed_to_its_end(shelf: PartsShelf, qtbot: QtBot, fake_engine: Any) -> None:
    told: list[PartEntry] = []
    shelf.told.connect(told.append)
    shelf.install("cuda")
    qtbot.waitUntil(lambda: len(told) >= 3)
    assert {each.task and each.task.state for each in told} == {"running"}
    assert fake_engine.asked("POST", "/api/parts/native/install") == [{"variant": "cuda", "find_links": None}]
    fake_engine.part["task"]["state"] = "done"
    fake_engine.part["state"] = "installed"
    qtbot.waitUntil(lambda: told[-1].state == "installed")
    asked = len(fake_engine.asked("GET", "/api/parts"))
    qtbot.wait(30)
    assert len(fake_engine.asked("GET", "/api/parts")) == asked


def test_stopped_and_removed(shelf: PartsShelf, qtbot: QtBot, fake_engine: Any) -> None:
    told: list[PartEntry] = []
    shelf.told.connect(told.append)
    shelf.install("")
    qtbot.waitUntil(lambda: bool(told))
    assert fake_engine.asked("POST", "/api/parts/native/install") == [{"variant": None, "find_links": None}]
    shelf.stop()
    qtbot.waitUntil(lambda: (task := told[-1].task) is not None and task.state == "stopped")
    fake_engine.part["state"] = "installed"
    shelf.remove()
    qtbot.waitUntil(lambda: told[-1].task is None)
    assert told[-1].state == "absent"


def test_what_is_refused_and_what_an_older_engine_does_not_know(
    shelf: PartsShelf, qtbot: QtBot, fake_engine: Any
) -> None:
    fake_engine.refusals["POST", "/api/parts/native/remove"] = (
        409, {"error": {"code": "conflict", "text": "It is in use."}},
    )  # fmt: skip
    with qtbot.waitSignal(shelf.refused) as refused:
        shelf.remove()
    assert refused.args[0].text == "It is in use."
    fake_engine.part["name"] = "other"
    with qtbot.waitSignal(shelf.refused) as refused:
        shelf.refresh()
    assert "knows of no such part" in refused.args[0].text
