"""The library in the whole window, against an engine that does what the test says."""

from collections.abc import Iterator
from typing import Any

import pytest
from PySide6.QtCore import Qt, QUrl
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QDialog, QFileDialog, QMessageBox
from pytestqt.qtbot import QtBot
from shiboken6 import isValid

from app.engine_watch import EngineState
from app.views import library_desk
from app.views.convert_dialog import ConvertDialog
from app.views.get_dialog import GetDialog
from app.views.library_page import LibraryPage
from app.views.remove_dialog import RemoveDialog
from app.views.token_dialog import TokenDialog
from app.views.window import MainWindow
from engine.paths import DataFolder

FETCH = {"kind": "fetch", "what": "a/b", "folder": "/models/a/b"}
GATED = {"code": "token_needed", "text": "a/b is only for those who may; enter a token."}
OFFER = {
    "name": "flash", "title": "Flash", "kind": "checkpoint", "repository": "a/flash", "revision": "main",
    "download_bytes": 9, "results": [{"dense": "q8_0", "model_bytes": 9, "draft_bytes": 1}],
}  # fmt: skip
ITEM = {
    "id": "m7",
    "kind": "model",
    "name": "flash",
    "path": "/m/flash.gguf",
    "size_bytes": 5,
    "repository": "a/b",
}


@pytest.fixture
def open_window(qtbot: QtBot, folder: DataFolder, launcher: Any) -> Iterator[Any]:
    made: list[MainWindow] = []

    def make() -> MainWindow:
        window = MainWindow(folder, launcher)
        window.memory.welcomed = True
        qtbot.addWidget(window)
        with qtbot.waitSignal(window.shown_first):
            window.show()
        desk = window.desk
        assert desk is not None
        qtbot.waitUntil(lambda: desk.watch.state == EngineState.READY and desk.jobs.known)
        made.append(window)
        return window

    yield make
    for window in made:
        assert window.desk is not None
        window.desk.drop_engine()


@pytest.fixture
def window(open_window: Any) -> MainWindow:
    return open_window()


def shown(window: MainWindow, qtbot: QtBot, action: str = "library") -> LibraryPage:
    window.actions_by_id[action].trigger()
    desk = window.desk
    assert desk is not None
    qtbot.waitUntil(lambda: desk.library.is_open and desk.library_shelf.library is not None)
    assert desk.library.page is not None
    assert window.pages.currentWidget() is desk.library.page
    return desk.library.page


def dialog(window: MainWindow, kind: type[QDialog], qtbot: QtBot) -> Any:
    qtbot.waitUntil(lambda: any(each.isVisible() for each in window.findChildren(kind)))
    return next(each for each in window.findChildren(kind) if each.isVisible())


def test_the_page_takes_the_conversations_place_and_gives_it_back(window: MainWindow, qtbot: QtBot) -> None:
    page = shown(window, qtbot)
    assert not window.composer.isVisible()
    assert window.sidebar.library_button.isChecked()
    qtbot.keyClick(page.field, Qt.Key.Key_Escape)
    assert window.pages.currentWidget() is window.transcript
    assert window.composer.isVisible()
    assert not window.sidebar.library_button.isChecked()
    window.sidebar.library_button.click()
    assert window.sidebar.library_button.isChecked()
    window.sidebar.library_button.click()
    assert window.composer.isVisible()
    shown(window, qtbot)
    window.actions_by_id["focus_composer"].trigger()
    assert window.composer.isVisible()
    shown(window, qtbot)
    window.actions_by_id["new"].trigger()
    assert window.composer.isVisible()


def test_choosing_a_conversation_leaves_it(window: MainWindow, qtbot: QtBot, fake_engine: Any) -> None:
    session_id = fake_engine.add_session("Talk")
    shown(window, qtbot)
    window.sidebar.open_requested.emit(session_id)
    assert window.pages.currentWidget() is window.transcript
    qtbot.waitUntil(lambda: window.desk is not None and window.desk.conversation.session_id == session_id)
    shown(window, qtbot)
    window.sidebar.open_requested.emit(session_id)  # the one that is open already
    assert window.pages.currentWidget() is window.transcript


def test_what_is_written_is_not_sent_from_the_library(
    window: MainWindow, qtbot: QtBot, fake_engine: Any
) -> None:
    window.composer.edit.setPlainText("not yet")
    shown(window, qtbot)
    window.actions_by_id["send"].trigger()
    assert window.composer.draft.typed == "not yet"
    assert fake_engine.asked("POST", "/api/turns") == []


def test_from_a_checkpoint_to_the_model(window: MainWindow, qtbot: QtBot, fake_engine: Any) -> None:
    window.actions_by_id["convert"].trigger()
    form = dialog(window, ConvertDialog, qtbot)
    form.set_source("/c/Flash")
    qtbot.waitUntil(form.convert_button.isEnabled)
    form.convert_button.click()
    desk = window.desk
    assert desk is not None
    qtbot.waitUntil(lambda: desk.library.is_open and len(desk.library.page.jobs.cards) == 1)  # pyright: ignore[reportOptionalMemberAccess]
    assert desk.library.page is not None
    [card] = desk.library.page.jobs.cards.values()
    card_: Any = card
    [told] = fake_engine.jobs
    told["progress"] = {"done_bytes": 1, "total_bytes": 4, "bytes_per_s": 1, "seconds_left": 3}
    fake_engine.tell_job(told["id"])
    qtbot.waitUntil(lambda: card_.bar.value() == 250)
    assert window.sidebar.job_strip.isVisible()
    assert window.sidebar.job_strip.share.text() == "25%"
    card_.pause_button.click()
    qtbot.waitUntil(lambda: card_.state.text() == "Paused")
    qtbot.waitUntil(lambda: not window.sidebar.job_strip.isVisible())
    card_.resume_button.click()
    qtbot.waitUntil(lambda: card_.state.text() == "Converting")
    told.update(
        state="done", files=["/c/Flash.gguf"],
        exactness={"lossless": True, "exact": 3, "approximate": 0, "worst_relative_rms": 0},
    )  # fmt: skip
    fake_engine.tell_job(told["id"])
    qtbot.waitUntil(lambda: card_.badge.text() == "✓ Exact")
    card_.use_button.click()
    qtbot.waitUntil(lambda: bool(fake_engine.asked("POST", "/api/models/load")))
    assert fake_engine.asked("POST", "/api/models/add") == [{"path": "/c/Flash.gguf"}]
    assert not desk.library.is_open


def test_getting_a_model_ends_where_it_is_seen_to_run(
    window: MainWindow, qtbot: QtBot, fake_engine: Any
) -> None:
    fake_engine.library["offers"] = [OFFER]
    page = shown(window, qtbot)
    qtbot.waitUntil(lambda: len(page.offers.cards) == 1)
    card: Any = page.offers.cards["flash"]
    card.get_button.click()
    form = dialog(window, GetDialog, qtbot)
    form.get_button.click()
    qtbot.waitUntil(lambda: len(page.jobs.cards) == 1)
    qtbot.waitUntil(lambda: not isValid(form) or not form.isVisible())
    [body] = fake_engine.asked("POST", "/api/jobs")
    assert (body["asked"]["kind"], body["asked"]["what"], body["asked"]["convert"]["dense"]) == (
        "fetch", "flash", "q8_0",
    )  # fmt: skip


def test_a_refused_download_keeps_its_form(window: MainWindow, qtbot: QtBot, fake_engine: Any) -> None:
    fake_engine.library["offers"] = [OFFER]
    error = {"code": "conflict", "text": "It is under way already; look at it there."}
    fake_engine.refusals["POST", "/api/jobs"] = (409, {"error": error})
    page = shown(window, qtbot)
    qtbot.waitUntil(lambda: len(page.offers.cards) == 1)
    card: Any = page.offers.cards["flash"]
    card.get_button.click()
    form = dialog(window, GetDialog, qtbot)
    form.get_button.click()
    qtbot.waitUntil(lambda: form.message.text() == error["text"])
    form.close()


def test_a_token_is_asked_for_once_and_the_job_goes_on(
    window: MainWindow, qtbot: QtBot, fake_engine: Any
) -> None:
    job_id = fake_engine.add_job(asked=FETCH, state="failed", error=GATED)
    page = shown(window, qtbot, "conversions")
    qtbot.waitUntil(lambda: job_id in page.jobs.cards)
    card: Any = page.jobs.cards[job_id]
    card.token_button.click()
    card.token_button.click()
    form = dialog(window, TokenDialog, qtbot)
    assert len(window.findChildren(TokenDialog)) == 1
    assert form.why.text() == GATED["text"]
    fake_engine.refusals["PUT", "/api/library/token"] = (401, {"error": {"code": "x", "text": "Not valid."}})
    form.field.setText("hf_wrong")
    form.give_button.click()
    qtbot.waitUntil(lambda: form.message.text() == "Not valid.")
    fake_engine.refusals.clear()
    form.field.setText("hf_right")
    form.give_button.click()
    qtbot.waitUntil(lambda: card.state.text() == "Downloading")
    assert fake_engine.asked("PUT", "/api/library/token")[-1] == {"token": "hf_right"}
    assert "keyring" in "\n".join(window.notices.sentences())
    assert "hf_" not in "\n".join(window.notices.sentences())


def test_a_gated_repository_is_looked_up_again(window: MainWindow, qtbot: QtBot, fake_engine: Any) -> None:
    fake_engine.lookup = {"offer": OFFER, "files": []}
    fake_engine.refusals["POST", "/api/library/lookup"] = (401, {"error": GATED})
    page = shown(window, qtbot)
    page.field.setText("a/flash")
    page.look_button.click()
    form = dialog(window, TokenDialog, qtbot)
    assert page.finding.text() == GATED["text"]
    fake_engine.refusals.clear()
    form.field.setText("hf_right")
    form.give_button.click()
    qtbot.waitUntil(lambda: len(page.found.cards) == 1)
    assert page.finding.isHidden()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "buttons"),
    [
        (FETCH, {"Cancel and keep", "Go on downloading", "Cancel and delete"}),
        (
            {**FETCH, "convert": {"consume": True}},
            {"Cancel and keep", "Go on downloading", "Cancel and delete"},
        ),
        ({"kind": "verify", "path": "/m"}, {"Cancel", "Go on checking"}),
    ],
)
def test_cancelling_asks_what_becomes_of_it(
    window: MainWindow, qtbot: QtBot, fake_engine: Any, asked: dict[str, Any], buttons: set[str]
) -> None:
    job_id = fake_engine.add_job(asked=asked)
    page = shown(window, qtbot, "conversions")
    qtbot.waitUntil(lambda: job_id in page.jobs.cards)
    card: Any = page.jobs.cards[job_id]
    card.cancel_button.click()
    box = dialog(window, QMessageBox, qtbot)
    assert {button.text() for button in box.buttons()} == buttons
    assert box.defaultButton().text().startswith("Go on")
    deletes = "Cancel and delete" in buttons
    chosen = "Cancel and delete" if deletes else "Cancel"
    next(button for button in box.buttons() if button.text() == chosen).click()
    qtbot.waitUntil(lambda: card.state.text() == "Cancelled")
    assert fake_engine.asked("POST", f"/api/jobs/{job_id}/cancel") == [{"remove_partial": deletes}]
    card.forget_button.click()
    qtbot.waitUntil(lambda: not page.jobs.cards)


def test_a_refusal_is_said_on_the_page_and_else_as_a_notice(
    window: MainWindow, qtbot: QtBot, fake_engine: Any
) -> None:
    job_id = fake_engine.add_job()
    error = {"code": "conflict", "text": "It is done already; take it off the list."}
    fake_engine.refusals["POST", f"/api/jobs/{job_id}/pause"] = (409, {"error": error})
    page = shown(window, qtbot)
    qtbot.waitUntil(lambda: job_id in page.jobs.cards)
    card: Any = page.jobs.cards[job_id]
    card.pause_button.click()
    qtbot.waitUntil(lambda: page.message.text() == error["text"])
    page.left.emit()
    assert window.desk is not None
    window.desk.jobs.pause(job_id)
    qtbot.waitUntil(lambda: window.notices.sentences() == [error["text"]])


def test_what_can_be_done_with_an_item(
    window: MainWindow, qtbot: QtBot, fake_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[QUrl] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", opened.append)
    checkpoint = {**ITEM, "id": "checkpoint:/c", "kind": "checkpoint", "path": "/c/Flash", "name": "c"}
    fake_engine.library["items"] = [ITEM, checkpoint]
    page = shown(window, qtbot)
    qtbot.waitUntil(lambda: len(page.items.cards) == 2)
    card: Any = page.items.cards["m7"]
    card.asked.emit("verify", card.item)
    qtbot.waitUntil(lambda: len(page.jobs.cards) == 1)
    card.asked.emit("move", card.item)
    chooser = dialog(window, QFileDialog, qtbot)
    chooser.fileSelected.emit("/disk2")
    chooser.close()
    qtbot.waitUntil(lambda: len(page.jobs.cards) == 2)
    assert [body["asked"] for body in fake_engine.asked("POST", "/api/jobs")] == [
        {"kind": "verify", "path": "/m/flash.gguf"},
        {"kind": "move", "item_id": "m7", "folder": "/disk2"},
    ]
    card.asked.emit("reveal", card.item)
    assert [url.toLocalFile() for url in opened] == [QUrl.fromLocalFile("/m").toLocalFile()]
    other: Any = page.items.cards["checkpoint:/c"]
    other.convert_button.click()
    form = dialog(window, ConvertDialog, qtbot)
    assert form.source.text() == "/c/Flash"
    form.close()
    card.use_button.click()
    qtbot.waitUntil(
        lambda: fake_engine.asked("POST", "/api/models/load") == [{"model_id": "m7", "backend": None}]
    )
    assert window.pages.currentWidget() is window.transcript


def test_removing_asks_and_says_what_became_of_it(window: MainWindow, qtbot: QtBot, fake_engine: Any) -> None:
    fake_engine.library["items"] = [ITEM]
    page = shown(window, qtbot)
    qtbot.waitUntil(lambda: len(page.items.cards) == 1)
    card: Any = page.items.cards["m7"]
    card.asked.emit("remove", card.item)
    dialog(window, RemoveDialog, qtbot).trash_button.click()
    qtbot.waitUntil(lambda: not page.items.cards)
    assert fake_engine.asked("POST", "/api/library/remove") == [{"item_id": "m7", "for_good": False}]
    assert "is in the trash" in window.notices.sentences()[0]


def test_news_of_the_library_is_fetched_while_it_is_seen(
    window: MainWindow, qtbot: QtBot, fake_engine: Any
) -> None:
    page = shown(window, qtbot)
    fake_engine.library["items"] = [ITEM]
    fake_engine.tell_library()
    qtbot.waitUntil(lambda: len(page.items.cards) == 1)
    page.left.emit()
    before = len(fake_engine.asked("GET", "/api/library"))
    models = len(fake_engine.asked("GET", "/api/models"))
    fake_engine.tell_library()
    qtbot.waitUntil(lambda: len(fake_engine.asked("GET", "/api/models")) > models)
    assert len(fake_engine.asked("GET", "/api/library")) == before


def test_an_interrupted_download_is_offered_at_the_start(
    open_window: Any, qtbot: QtBot, fake_engine: Any
) -> None:
    job_id = fake_engine.add_job(asked=FETCH, state="interrupted", title="Flash")
    window = open_window()
    qtbot.waitUntil(lambda: window.notices.notice("interrupted") is not None)
    notice = window.notices.notice("interrupted")
    assert notice.label.text().startswith("The download of Flash was interrupted")
    assert [button.text() for button in notice.buttons] == ["Resume", "Show"]
    notice.buttons[0].click()
    qtbot.waitUntil(lambda: fake_engine.jobs[0]["state"] == "running")
    assert fake_engine.asked("POST", f"/api/jobs/{job_id}/resume") == [None]


def test_several_interrupted_jobs_are_one_notice(open_window: Any, qtbot: QtBot, fake_engine: Any) -> None:
    for _ in range(2):
        fake_engine.add_job(asked=FETCH, state="interrupted")
    window = open_window()
    qtbot.waitUntil(lambda: window.notices.notice("interrupted") is not None)
    notice = window.notices.notice("interrupted")
    assert notice.label.text().startswith("2 jobs were interrupted")
    notice.buttons[1].click()
    assert window.desk.library.is_open


def test_a_click_on_what_runs_leads_to_it(window: MainWindow, qtbot: QtBot, fake_engine: Any) -> None:
    fake_engine.add_job(asked=FETCH)
    fake_engine.tell_job("j")
    qtbot.waitUntil(window.sidebar.job_strip.isVisible)
    window.sidebar.job_strip.click()
    assert window.desk is not None
    assert window.desk.library.is_open


def test_the_folder_of_a_file_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[QUrl] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", opened.append)
    library_desk.reveal("/models/ünï/x.gguf")
    assert opened == [QUrl.fromLocalFile("/models/ünï")]
