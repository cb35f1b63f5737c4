"""From a hub to an answer, in the real window: look up, get and convert, use, ask; and a new user's first day."""

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from pytestqt.qtbot import QtBot

from app.views.get_dialog import GetDialog
from app.views.item_card import ItemCard
from app.views.job_card import JobCard
from app.views.offer_card import OfferCard
from app.views.remove_dialog import RemoveDialog
from app.views.token_dialog import TokenDialog
from engine.paths import DataFolder
from tests.end_to_end.live_window import LiveWindow, end_engine, scripted_folder
from tests.support.local_hub import LocalHub, write_repository

NAME = "someone/DeepSeek-V4-Flash-0731"
READERS = "hf_0nlyForReaders"

# The offscreen platform cannot tell anybody a dialog's least size, and says so.
pytestmark = [pytest.mark.qt_log_ignore("propagateSizeHints"), pytest.mark.slow]


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

    window.wait(lambda: _release(window) is not None, 60_000)
    window.ask("Hello")
    answer = window.wait_for_end()
    assert answer.status == "complete"
    assert READERS not in window.sentences()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no kill -9")
def test_a_new_users_first_day(
    qtbot: QtBot, hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Welcome, the starter, a download that is killed twice, converted, verified, talked to, removed."""
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "no hub"))
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "")
    folder = DataFolder(tmp_path / "data")
    folder.create()
    began_s = time.monotonic()
    live = LiveWindow(folder, qtbot.waitUntil).ready()
    try:
        live.wait(lambda: live.desk.first_run.welcome is not None)
        welcome = live.desk.first_run.welcome
        assert welcome is not None
        assert "of memory" in welcome.found.text()
        assert [offer.title.words() for offer in welcome.offers.cards.values()] == [
            "DeepSeek-V4-Flash-0731", "DeepSeek-V4-Pro-0813"
        ]  # fmt: skip
        live.ask("What is the capital of France? Answer in one word.")
        assert "Paris" in live.wait_for_end().text
        assert time.monotonic() - began_s < 60  # what the first minute is for
        assert live.desk.first_run.welcome is None

        live.do("library")
        page = live.desk.library.page
        assert page is not None
        page.field.setText(NAME)
        page.look_button.click()
        live.wait(lambda: len(page.found.cards) == 1)
        [offer] = page.found.cards.values()
        assert isinstance(offer, OfferCard)
        # The third shard stops half way, so that there is time to be killed in.
        hub.fault("stall", path="*-00003-of-*", at=200_000, seconds=60, times=1)
        hub.fault("stall", path="*-00006-of-*", at=200_000, seconds=60, times=1)
        offer.get_button.click()
        form = live.window.findChild(GetDialog)
        form.get_button.click()
        live.wait(lambda: len(page.jobs.cards) == 1)
        [card] = page.jobs.cards.values()
        assert isinstance(card, JobCard)
        for shard in ("*-00003-of-*", "*-00006-of-*"):
            live.wait(lambda shard=shard: hub.sent(shard) >= 200_000, 60_000)
            _kill_worker(folder, card.job.id)
            live.wait(lambda: card.resume_button.isVisible(), 60_000)
            assert card.state.text() == "Interrupted"
            hub.clear_faults()
            if shard.startswith("*-00003"):
                hub.fault("stall", path="*-00006-of-*", at=200_000, seconds=60, times=1)
            hub.forget()  # what the next worker is sent counts, not what this one was
            card.resume_button.click()
        live.wait(lambda: card.state.text() in ("Done", "Failed"), 60_000)
        assert card.state.text() == "Done", card.outcome.text()

        made = Path(card.job.files[0])
        live.wait(lambda: _item(live, made) is not None)
        item = _item(live, made)
        assert item is not None
        assert "Experts exact" in item.badge.text()
        _choose(item, "Verify")
        live.wait(lambda: len(page.jobs.cards) == 2)
        check = next(each for each in page.jobs.cards.values() if each is not card)
        assert isinstance(check, JobCard)
        live.wait(lambda: check.job.state in ("done", "failed"), 60_000)
        assert check.job.verdict is not None
        assert check.job.verdict.good

        item.use_button.click()
        live.wait(lambda: _release(live) is not None, 60_000)
        live.do("new")
        live.ask("Hello")
        assert live.wait_for_end().usage is not None
        live.desk.shelf.load("starter")
        live.wait(lambda: bool(live.desk.shelf.loaded_id == "starter"), 60_000)
        live.do("library")
        item = _item(live, made)
        assert item is not None
        _choose(item, "Remove…")
        dialog = live.window.findChild(RemoveDialog)
        dialog.delete_button.click()
        live.wait(lambda: not made.exists())
        live.wait(lambda: _item(live, made) is None)
    finally:
        live.close()
        end_engine(folder)


def _kill_worker(folder: DataFolder, job_id: str) -> None:
    course = json.loads((folder.jobs / job_id / "course.json").read_bytes())
    worker = psutil.Process(course["pid"])
    worker.kill()
    psutil.wait_procs([worker], 10)


def _release(window: LiveWindow) -> str | None:
    status = window.desk.shelf.status
    return status.model.release if status and status.model else None


def _choose(card: ItemCard, text: str) -> None:
    [action] = [each for each in card.menu().actions() if each.text() == text]
    assert action.isEnabled()
    action.trigger()


def _item(window: LiveWindow, path: Path) -> ItemCard | None:
    page = window.desk.library.page
    cards = [] if page is None else [each for each in page.items.cards.values() if isinstance(each, ItemCard)]
    return next((each for each in cards if each.item.path == str(path)), None)


def _names(window: LiveWindow) -> list[str]:
    library = window.desk.library_shelf.library
    return [item.name for item in library.items] if library else []
