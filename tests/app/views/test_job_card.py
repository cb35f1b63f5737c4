"""A job's card: what it offers in each state."""

from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from app.views.job_card import JobCard
from engine.protocol_jobs import Job

EXACT = {"lossless": True, "exact": 9, "approximate": 0, "worst_relative_rms": 0.0}
PROGRESS = {"done_bytes": 25, "total_bytes": 100, "bytes_per_s": 5, "seconds_left": 15, "item": "blk.0.x"}
CONVERT = {"kind": "convert", "source": "/c/Flash", "target": "/m/flash.gguf"}
VERIFY = {"kind": "verify", "path": "/m/flash.gguf"}


def job(state: str, **more: Any) -> Job:
    return Job.model_validate({
        "id": "j", "state": state, "created_at": 0, "title": "Flash", "asked": CONVERT,
        "place": "/m/flash.gguf", "progress": PROGRESS, **more,
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
        (job("interrupted"), ["Resume", "Cancel…"]),
        (job("failed", error={"code": "x", "text": "It broke."}), ["Resume", "Cancel…", "Take off the list"]),
        (job("failed", error={"code": "token_needed", "text": "It broke."}),
         ["Enter access token…", "Cancel…", "Take off the list"]),
        (job("cancelled"), ["Take off the list"]),
        (job("done", files=["/m/flash.gguf"], exactness=EXACT),
         ["Use this model", "Show in folder", "Take off the list"]),
        (job("done", asked=VERIFY, verdict={"good": True, "checked_bytes": 9}), ["Take off the list"]),
    ],
)  # fmt: skip
def test_each_state_offers_what_makes_sense(qtbot: QtBot, told: Job, offered: list[str]) -> None:
    card = JobCard(told)
    qtbot.addWidget(card)
    assert offers(card) == offered
    assert card.accessibleName().startswith("Flash: ")
    assert card.bar.isHidden() == (told.state in ("done", "cancelled"))
    assert card.badge.isHidden() == (told.exactness is None)
    assert (card.outcome.text() == "It broke.") == (told.state == "failed")
    assert bool(card.outcome.property("danger")) == (told.state == "failed")


def test_the_keyboard_stays_on_the_card_when_a_button_goes(qtbot: QtBot) -> None:
    card = JobCard(job("running"))
    qtbot.addWidget(card)
    card.show()
    qtbot.waitExposed(card)
    card.activateWindow()
    card.pause_button.setFocus()
    qtbot.waitUntil(card.pause_button.hasFocus)
    card.show_entry(job("paused"))
    assert card.resume_button.hasFocus()
    assert card.resume_button.accessibleName() == "Resume: Flash"


def test_news_of_a_running_job_moves_nothing_on_its_card(qtbot: QtBot) -> None:
    card = JobCard(job("running"))
    qtbot.addWidget(card)
    card.resize(600, card.sizeHint().height())
    card.show()
    qtbot.waitExposed(card)
    before = (card.sizeHint().height(), card.pause_button.geometry())
    for done in range(26, 90, 7):
        progress = {
            **PROGRESS,
            "done_bytes": done,
            "item": f"blk.{done}.a_much_longer_name_of_a_tensor.weight" * 4,
        }
        card.show_entry(job("running", progress=progress))
        qtbot.wait(0)
        assert (card.sizeHint().height(), card.pause_button.geometry()) == before
    assert card.bar.value() == 890


def test_the_bar_and_the_buttons_speak(qtbot: QtBot) -> None:
    card = JobCard(job("running"))
    qtbot.addWidget(card)
    assert card.bar.value() == 250
    assert "25 bytes of 100 bytes" in card.bar.accessibleDescription()
    for button, signal in (
        (card.pause_button, card.pause_requested),
        (card.resume_button, card.resume_requested),
        (card.cancel_button, card.cancel_requested),
        (card.forget_button, card.forget_requested),
        (card.token_button, card.token_requested),
    ):
        with qtbot.waitSignal(signal) as asked:
            button.click()
        assert asked.args == ["j"]
    with qtbot.waitSignal(card.reveal_requested) as revealed:
        card.reveal_button.click()
    assert revealed.args == ["/m/flash.gguf"]
