"""A conversion's card: what it offers in each state."""

from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from app.views.job_card import JobCard
from engine.protocol_jobs import Job

EXACT = {"lossless": True, "exact": 9, "approximate": 0, "worst_relative_rms": 0.0}
PROGRESS = {"done_bytes": 25, "total_bytes": 100, "bytes_per_s": 5, "seconds_left": 15, "tensor": "blk.0.x"}


def job(state: str, **more: Any) -> Job:
    return Job.model_validate({
        "id": "j", "state": state, "created_at": 0, "source": "/c/Flash", "target": "/m/flash.gguf",
        "dense": "q8_0", "draft": "separate", "consume": False, "progress": PROGRESS, **more,
    })  # fmt: skip


def offers(card: JobCard) -> list[str]:
    return [button.text() for button in card._buttons if not button.isHidden()]


@pytest.mark.parametrize(
    ("told", "offered"),
    [
        (job("queued"), ["Pause", "Cancel…"]),
        (job("running"), ["Pause", "Cancel…"]),
        (job("running", stopping=True), []),
        (job("paused"), ["Resume", "Cancel…"]),
        (job("failed", error={"code": "x", "text": "It broke."}), ["Resume", "Cancel…", "Remove"]),
        (job("cancelled"), ["Remove"]),
        (job("done", files=["/m/flash.gguf"], exactness=EXACT), ["Use this model", "Remove"]),
    ],
)
def test_each_state_offers_what_makes_sense(qtbot: QtBot, told: Job, offered: list[str]) -> None:
    card = JobCard(told)
    qtbot.addWidget(card)
    assert offers(card) == offered
    assert card.accessibleName().startswith("flash.gguf: ")
    assert card.bar.isHidden() == (told.state == "done")
    assert card.badge.isHidden() == (told.state != "done")
    assert (card.outcome.text() == "It broke.") == (told.state == "failed")


def test_the_keyboard_stays_on_the_card_when_a_button_goes(qtbot: QtBot) -> None:
    card = JobCard(job("running"))
    qtbot.addWidget(card)
    card.show()
    qtbot.waitExposed(card)
    card.activateWindow()
    card.pause_button.setFocus()
    qtbot.waitUntil(card.pause_button.hasFocus)
    card.show_job(job("paused"))
    assert card.resume_button.hasFocus()
    assert card.resume_button.accessibleName() == "Resume: flash.gguf"


def test_the_bar_and_the_buttons_speak(qtbot: QtBot) -> None:
    card = JobCard(job("running"))
    qtbot.addWidget(card)
    assert card.bar.value() == 250
    assert "25 bytes of 100 bytes" in card.bar.accessibleDescription()
    with qtbot.waitSignal(card.pause_requested) as asked:
        card.pause_button.click()
    assert asked.args == ["j"]
