"""Placement in the window, on an engine that only tells."""

from collections.abc import Callable, Iterator

import pytest
from pytestqt.qtbot import QtBot

from app.views.placement_dialog import PlacementDialog
from app.views.window import MainWindow
from engine.paths import DataFolder
from engine.protocol_library import Offer
from tests.app.conftest import FakeEngine, FakeLauncher
from tests.app.views.test_offer_card import OFFER
from tests.app.views.test_placement_dialog import FORECAST

PATH = "/api/models/m1/placement"


@pytest.fixture
def window(qtbot: QtBot, launcher: FakeLauncher, folder: DataFolder) -> Iterator[MainWindow]:
    made = MainWindow(folder, launcher)
    made.show()
    qtbot.waitUntil(lambda: made.desk is not None and made.desk.shelf.loaded_id is not None)
    yield made
    made.close()
    made.deleteLater()


@pytest.fixture
def opened(qtbot: QtBot, window: MainWindow) -> Callable[[], PlacementDialog]:
    def wait() -> PlacementDialog:
        desk = window.desk
        assert desk is not None
        qtbot.waitUntil(lambda: desk.placement.dialog is not None and bool(desk.placement.dialog.bars.rows))
        assert desk.placement.dialog is not None
        return desk.placement.dialog

    return wait


def test_the_menu_opens_it_for_the_loaded_model_once(
    window: MainWindow, opened: Callable[[], PlacementDialog]
) -> None:
    window.actions_by_id["placement"].trigger()
    dialog = opened()
    window.actions_by_id["placement"].trigger()
    assert window.findChildren(PlacementDialog) == [dialog]
    assert dialog.title.text() == "Small"
    dialog.reject()


def test_the_forecast_follows_the_slider(
    qtbot: QtBot, window: MainWindow, opened: Callable[[], PlacementDialog], fake_engine: FakeEngine
) -> None:
    window.picker.placement_requested.emit()
    dialog = opened()
    assert dialog.headline.isHidden()
    fake_engine.placement["forecast"] = FORECAST
    dialog.context_slider.setValue(0)
    qtbot.waitUntil(lambda: not dialog.headline.isHidden())
    assert fake_engine.placements_asked[-1]["context_tokens"] == "256"
    dialog.reject()


def test_use_keeps_and_closes_and_a_refusal_stays(
    qtbot: QtBot, window: MainWindow, opened: Callable[[], PlacementDialog], fake_engine: FakeEngine
) -> None:
    window.actions_by_id["placement"].trigger()
    dialog = opened()
    fake_engine.refusals["PUT", PATH] = (507, {"error": {"code": "does_not_fit", "text": "Too large."}})
    dialog.context.setValue(4096)
    qtbot.waitUntil(lambda: fake_engine.placements_asked[-1].get("context_tokens") == "4096")
    dialog.use_button.click()
    qtbot.waitUntil(lambda: dialog.message.text() == "Too large.")
    fake_engine.refusals.clear()
    dialog.use_button.click()
    qtbot.waitUntil(lambda: not window.findChildren(PlacementDialog))
    assert fake_engine.asked("PUT", PATH)[-1]["context_tokens"] == 4096
    assert not fake_engine.asked("POST", "/api/models/load")  # the loaded one is loaded again by itself


def test_a_measurement_is_followed_and_its_figures_are_asked_for(
    qtbot: QtBot, window: MainWindow, opened: Callable[[], PlacementDialog], fake_engine: FakeEngine
) -> None:
    fake_engine.placement |= {"forecast_problem": "Nothing is foretold."}
    window.actions_by_id["placement"].trigger()
    dialog = opened()
    dialog.measure_button.click()
    qtbot.waitUntil(lambda: "memory" in dialog.hardware.text())
    asked = len(fake_engine.placements_asked)
    fake_engine.hardware = {"measuring": False, "measured_at": 1_750_000_000}
    fake_engine.placement |= {"forecast_problem": None, "forecast": FORECAST}
    fake_engine.tell_hardware()
    qtbot.waitUntil(lambda: not dialog.headline.isHidden())
    assert len(fake_engine.placements_asked) == asked + 1
    dialog.reject()


def test_another_model_loaded_means_other_room(
    qtbot: QtBot, window: MainWindow, opened: Callable[[], PlacementDialog], fake_engine: FakeEngine
) -> None:
    window.actions_by_id["placement"].trigger()
    dialog = opened()
    asked = len(fake_engine.placements_asked)
    fake_engine.tell_status()
    fake_engine.status["model"] = fake_engine.status["model"] | {"context_tokens": 512}
    fake_engine.tell_status()
    qtbot.waitUntil(lambda: len(fake_engine.placements_asked) == asked + 1)
    dialog.reject()


def test_an_offer_shows_how_it_would_lie(
    qtbot: QtBot, window: MainWindow, opened: Callable[[], PlacementDialog], fake_engine: FakeEngine
) -> None:
    desk = window.desk
    assert desk is not None
    desk.library.offer_placement_asked.emit(Offer.model_validate(OFFER))
    dialog = opened()
    assert dialog.use_button.isHidden()
    assert any("/library/offers/flash/placement" in path for _, path, _ in fake_engine.requests)
    dialog.reject()


def test_the_librarys_cards_lead_here(
    qtbot: QtBot, window: MainWindow, opened: Callable[[], PlacementDialog], fake_engine: FakeEngine
) -> None:
    item = {"id": "m1", "kind": "model", "name": "Small", "path": "/m/small.gguf", "size_bytes": 5}
    offer = OFFER | {"results": [{"dense": "q8_0", "model_bytes": 4, "draft_bytes": 1}]}
    fake_engine.library.update(items=[item], offers=[offer])
    desk = window.desk
    assert desk is not None
    page = desk.library.open()
    qtbot.waitUntil(lambda: bool(page.items.cards and page.offers.cards))
    page.items.cards["m1"].asked.emit("placement", page.items.cards["m1"].item)  # pyright: ignore
    opened().reject()
    qtbot.waitUntil(lambda: not window.findChildren(PlacementDialog))
    page.offers.cards["flash"].placement_button.click()  # pyright: ignore
    opened().reject()
