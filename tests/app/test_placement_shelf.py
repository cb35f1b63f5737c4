"""What is asked of the engine about a placement, and which answers count."""

from collections.abc import Iterator
from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from app.api import EngineApi
from app.placement_shelf import PlacementShelf
from engine.protocol import ErrorBody
from engine.protocol_placement import Choices, HardwareState, Placement
from tests.app.conftest import FakeEngine

PATH = "/api/models/m1/placement"


@pytest.fixture
def api(fake_engine: FakeEngine) -> Iterator[EngineApi]:
    api = EngineApi()
    api.connect_to(fake_engine.url, fake_engine.key)
    yield api
    api.close()


def listening(shelf: PlacementShelf) -> tuple[list[Placement], list[ErrorBody]]:
    told: list[Placement] = []
    refused: list[ErrorBody] = []
    shelf.told.connect(told.append)
    shelf.refused.connect(refused.append)
    return told, refused


def test_what_is_kept_is_asked_for_without_a_query(
    qtbot: QtBot, api: EngineApi, fake_engine: FakeEngine
) -> None:
    shelf = PlacementShelf(api, "m1")
    told, _ = listening(shelf)
    shelf.ask(None)
    qtbot.waitUntil(lambda: len(told) == 1)
    assert fake_engine.placements_asked == [{}]
    assert told[0].context_tokens == 8192


def test_a_moving_slider_is_asked_about_once_and_old_answers_are_dropped(
    qtbot: QtBot, api: EngineApi, fake_engine: FakeEngine
) -> None:
    shelf = PlacementShelf(api, "m1")
    told, _ = listening(shelf)
    shelf.ask(Choices(context_tokens=256))
    for tokens in range(512, 2048, 256):
        shelf.ask_soon(Choices(context_tokens=tokens, gpu_budget_bytes=0))
    qtbot.waitUntil(lambda: len(told) == 1)
    assert told[0].context_tokens == 1792
    assert fake_engine.placements_asked == [
        {"context_tokens": "256", "favour": "balanced"},
        {"context_tokens": "1792", "favour": "balanced", "gpu_budget_bytes": "0"},
    ]


@pytest.mark.slow
def test_choices_that_rest_are_rehearsed_once(qtbot: QtBot, api: EngineApi, fake_engine: FakeEngine) -> None:
    shelf = PlacementShelf(api, "m1")
    told, refused = listening(shelf)
    shelf.ask(Choices(context_tokens=512))
    qtbot.waitUntil(lambda: len(told) == 2)
    assert [asked.get("exact") for asked in fake_engine.placements_asked] == [None, "true"]
    # What was reckoned stands where it cannot be rehearsed.
    fake_engine.placement["loaded"] = True
    shelf.ask(Choices(context_tokens=768))
    qtbot.waitUntil(lambda: len(told) == 3)
    assert not shelf._exact.isActive()
    assert refused == []


def test_keeping_loads_a_model_that_is_not_loaded(
    qtbot: QtBot, api: EngineApi, fake_engine: FakeEngine
) -> None:
    shelf = PlacementShelf(api, "m1")
    done: list[str] = []
    shelf.keep(Choices(threads=3), load=False, ok=lambda: done.append("kept"), failed=pytest.fail)
    qtbot.waitUntil(lambda: done == ["kept"])
    assert fake_engine.asked("PUT", PATH)[0]["threads"] == 3
    assert not fake_engine.asked("POST", "/api/models/load")
    shelf.keep(Choices(), load=True, ok=lambda: done.append("loaded"), failed=pytest.fail)
    qtbot.waitUntil(lambda: done == ["kept", "loaded"])
    assert fake_engine.asked("POST", "/api/models/load") == [{"model_id": "m1", "backend": None}]


def test_a_refusal_is_handed_on(qtbot: QtBot, api: EngineApi, fake_engine: FakeEngine) -> None:
    sentence = {"error": {"code": "does_not_fit", "text": "It does not fit."}}
    fake_engine.refusals["PUT", PATH] = (507, sentence)
    fake_engine.refusals["GET", PATH] = (422, sentence)
    shelf = PlacementShelf(api, "m1")
    told, refused = listening(shelf)
    failed: list[ErrorBody] = []
    shelf.keep(Choices(), load=True, ok=pytest.fail, failed=failed.append)
    shelf.ask(None)
    qtbot.waitUntil(lambda: bool(failed and refused))
    assert failed[0].text == refused[0].text == "It does not fit."
    assert told == []


def test_names_with_slashes_stay_one_name_and_offers_have_their_own_place(
    qtbot: QtBot, api: EngineApi, fake_engine: FakeEngine
) -> None:
    paths: list[Any] = []
    for shelf in (PlacementShelf(api, "folder:a b/c?.gguf"), PlacementShelf(api, "flash", is_offer=True)):
        told, _ = listening(shelf)
        shelf.ask(None)
        qtbot.waitUntil(lambda told=told: bool(told))
        paths.append(fake_engine.requests[-1][1])
    assert paths == [
        "/api/models/folder%3Aa%20b%2Fc%3F.gguf/placement",
        "/api/library/offers/flash/placement",
    ]
    assert not PlacementShelf(api, "flash", is_offer=True).can_be_kept


def test_measuring_is_begun_followed_and_broken_off(
    qtbot: QtBot, api: EngineApi, fake_engine: FakeEngine
) -> None:
    shelf = PlacementShelf(api, "m1")
    states: list[HardwareState] = []
    shelf.hardware_told.connect(states.append)
    shelf.measure()
    qtbot.waitUntil(lambda: len(states) == 1)
    assert states[0].measuring and states[0].step == "memory"
    shelf.refresh_hardware()
    qtbot.waitUntil(lambda: len(states) == 2)
    shelf.stop_measuring()
    qtbot.waitUntil(lambda: len(states) == 3)
    assert not states[2].measuring


def test_an_answer_that_comes_when_nobody_listens_is_dropped(
    qtbot: QtBot, api: EngineApi, fake_engine: FakeEngine
) -> None:
    shelf = PlacementShelf(api, "m1")
    told, refused = listening(shelf)
    states: list[HardwareState] = []
    shelf.hardware_told.connect(states.append)
    shelf.ask(None)
    shelf.refresh_hardware()
    shelf.close()
    other = PlacementShelf(api, "m1")
    heard, _ = listening(other)
    other.ask(None)
    qtbot.waitUntil(lambda: bool(heard) and len(fake_engine.placements_asked) == 2)
    assert (told, refused, states) == ([], [], [])
