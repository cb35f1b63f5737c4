"""Conversions in the whole window, against an engine that does what the test says."""

from collections.abc import Iterator
from typing import Any

import pytest
from PySide6.QtWidgets import QDialog, QMessageBox
from pytestqt.qtbot import QtBot

from app.engine_watch import EngineState
from app.views.conversions_dialog import ConversionsDialog
from app.views.convert_dialog import ConvertDialog
from app.views.window import MainWindow
from engine.paths import DataFolder


@pytest.fixture
def window(qtbot: QtBot, folder: DataFolder, launcher: Any) -> Iterator[MainWindow]:
    made = MainWindow(folder, launcher)
    qtbot.addWidget(made)
    with qtbot.waitSignal(made.shown_first):
        made.show()
    desk = made.desk
    assert desk is not None
    qtbot.waitUntil(lambda: desk.watch.state == EngineState.READY and desk.jobs.known)
    yield made
    desk.drop_engine()


def opened(window: MainWindow, kind: type[QDialog], qtbot: QtBot, action: str) -> Any:
    window.actions_by_id[action].trigger()
    qtbot.waitUntil(lambda: window.findChild(kind) is not None)
    return window.findChild(kind)


def test_from_the_menu_to_the_list_and_to_the_model(
    window: MainWindow, qtbot: QtBot, fake_engine: Any
) -> None:
    form = opened(window, ConvertDialog, qtbot, "convert")
    form.set_source("/c/Flash")
    qtbot.waitUntil(form.convert_button.isEnabled)
    form.convert_button.click()
    qtbot.waitUntil(lambda: window.findChild(ConversionsDialog) is not None)
    found = window.findChild(ConversionsDialog)
    qtbot.waitUntil(lambda: len(found.cards) == 1)
    assert found.empty_title.isHidden()
    [card] = found.cards.values()
    [job] = fake_engine.jobs
    job["progress"] = {"done_bytes": 1, "total_bytes": 4, "bytes_per_s": 1, "seconds_left": 3}
    fake_engine.tell_job(job["id"])
    qtbot.waitUntil(lambda: card.bar.value() == 250)
    card.pause_button.click()
    qtbot.waitUntil(lambda: card.state.text() == "Paused")
    card.resume_button.click()
    qtbot.waitUntil(lambda: card.state.text() == "Converting")
    job.update(
        state="done", files=["/c/Flash.gguf"],
        exactness={"lossless": True, "exact": 3, "approximate": 0, "worst_relative_rms": 0},
    )  # fmt: skip
    fake_engine.tell_job(job["id"])
    qtbot.waitUntil(lambda: card.badge.text() == "✓ Lossless")
    card.use_button.click()
    qtbot.waitUntil(lambda: bool(fake_engine.asked("POST", "/api/models/load")))
    assert fake_engine.asked("POST", "/api/models/add") == [{"path": "/c/Flash.gguf"}]


def test_an_empty_list_teaches(window: MainWindow, qtbot: QtBot) -> None:
    found = opened(window, ConversionsDialog, qtbot, "conversions")
    assert found.empty_title.text() == "No conversions yet"
    assert "goes on when this window is closed" in found.empty_text.text()
    found.convert_button.click()
    qtbot.waitUntil(lambda: found.findChild(ConvertDialog) is not None)


def test_cancelling_asks_what_becomes_of_the_file(window: MainWindow, qtbot: QtBot, fake_engine: Any) -> None:
    job_id = fake_engine.add_job()
    found = opened(window, ConversionsDialog, qtbot, "conversions")
    qtbot.waitUntil(lambda: job_id in found.cards)
    found.cards[job_id].cancel_button.click()
    box = found.findChild(QMessageBox)
    assert box.defaultButton().text() == "Go on converting"
    next(button for button in box.buttons() if button.text() == "Cancel and delete").click()
    qtbot.waitUntil(lambda: found.cards[job_id].state.text() == "Cancelled")
    assert fake_engine.asked("POST", f"/api/jobs/{job_id}/cancel") == [{"remove_partial": True}]
    found.cards[job_id].remove_button.click()
    qtbot.waitUntil(lambda: not found.cards)
    assert not found.empty_title.isHidden()


def test_a_consuming_one_offers_no_deletion(window: MainWindow, qtbot: QtBot, fake_engine: Any) -> None:
    job_id = fake_engine.add_job(consume=True)
    found = opened(window, ConversionsDialog, qtbot, "conversions")
    qtbot.waitUntil(lambda: job_id in found.cards)
    found.cards[job_id].cancel_button.click()
    box = found.findChild(QMessageBox)
    assert {button.text() for button in box.buttons()} == {"Cancel and keep", "Go on converting"}
    box.close()


def test_a_refusal_is_one_sentence(window: MainWindow, qtbot: QtBot, fake_engine: Any) -> None:
    job_id = fake_engine.add_job()
    error = {"code": "conflict", "text": "It is done already; remove it from the list."}
    fake_engine.refusals["POST", f"/api/jobs/{job_id}/pause"] = (409, {"error": error})
    fake_engine.refusals["POST", "/api/jobs"] = (409, {"error": error})
    found = opened(window, ConversionsDialog, qtbot, "conversions")
    qtbot.waitUntil(lambda: job_id in found.cards)
    found.cards[job_id].pause_button.click()
    qtbot.waitUntil(lambda: found.message.text() == error["text"])
    found.convert_button.click()
    form = found.findChild(ConvertDialog)
    form.set_source("/c/Flash")
    qtbot.waitUntil(form.convert_button.isEnabled)
    form.convert_button.click()
    qtbot.waitUntil(lambda: form.message.text() == error["text"])
