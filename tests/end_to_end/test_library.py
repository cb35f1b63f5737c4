"""From a hub to an answer, in the real window: look up, get and convert, use, ask."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from app.views.get_dialog import GetDialog
from app.views.job_card import JobCard
from app.views.offer_card import OfferCard
from app.views.token_dialog import TokenDialog
from engine.paths import DataFolder
from tests.end_to_end.live_window import LiveWindow, end_engine, scripted_folder
from tests.support.local_hub import LocalHub, write_repository

NAME = "someone/DeepSeek-V4-Flash-0731"
READERS = "hf_0nlyForReaders"

# The offscreen platform cannot tell anybody a dialog's least size, and says so.
pytestmark = pytest.mark.qt_log_ignore("propagateSizeHints")


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LocalHub]:
    with LocalHub() as hub:
        hub.add(NAME, str(write_repository(tmp_path / "hub")))
        yield hub


@pytest.fixture
def window(
    qtbot: QtBot, hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LiveWindow]:
    # No keyring can be reached, and nothing of this person's own hub.
    for name in ("DBUS_SESSION_BUS_ADDRESS", "HF_ENDPOINT", "HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "no session"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "no hub"))
    folder: DataFolder = scripted_folder(
        tmp_path / "data", answer_tokens=12, context_tokens=1024, mode="non-think", model_titles=False,
        hub_endpoint=hub.address,
    )  # fmt: skip
    live = LiveWindow(folder, qtbot.waitUntil).ready()
    yield live
    if not live.closed:
        live.close()
    end_engine(folder)


def test_a_gated_checkpoint_becomes_a_model_that_answers(window: LiveWindow, hub: LocalHub) -> None:
    hub.gate(NAME, "gated", [READERS])
    window.do("library")
    page = window.desk.library.page
    assert page is not None
    page.field.setText(NAME)
    page.look_button.click()
    window.wait(lambda: window.window.findChild(TokenDialog) is not None)
    asking = window.window.findChild(TokenDialog)
    assert "for this run only" in asking.keeping.text() or "keyring" in asking.keeping.text()
    asking.field.setText(READERS)
    asking.give_button.click()
    window.wait(lambda: len(page.found.cards) == 1)
    [offer] = page.found.cards.values()
    assert isinstance(offer, OfferCard)
    offer.get_button.click()
    form = window.window.findChild(GetDialog)
    form.consume.click()
    assert form.get_button.isEnabled(), form.room.text()
    form.get_button.click()
    window.wait(lambda: len(page.jobs.cards) == 1)
    [card] = page.jobs.cards.values()
    assert isinstance(card, JobCard)
    window.wait(lambda: card.state.text() in ("Done", "Failed"), 60_000)
    assert card.state.text() == "Done", card.outcome.text()
    assert "Experts exact, dense 8-bit, 0." in card.badge.text()
    window.wait(lambda: any(NAME.rpartition("/")[2] in item for item in _names(window)))
    card.use_button.click()

    def is_loaded() -> bool:
        status = window.desk.shelf.status
        return bool(status and status.model and status.model.release)

    window.wait(is_loaded, 60_000)
    window.ask("Hello")
    answer = window.wait_for_end()
    assert answer.status == "complete"
    assert READERS not in window.sentences()


def _names(window: LiveWindow) -> list[str]:
    library = window.desk.library_shelf.library
    return [item.name for item in library.items] if library else []
