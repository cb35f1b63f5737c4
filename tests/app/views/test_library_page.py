"""The library's page by itself: what it shows and what it asks for."""

import time
from typing import Any

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtWidgets import QPushButton, QVBoxLayout, QWidget
from pytestqt.qtbot import QtBot

from app.theme import Theme
from app.views.item_card import ItemCard
from app.views.library_page import LibraryPage
from engine.protocol import ErrorBody
from engine.protocol_jobs import Job
from engine.protocol_library import Library, Lookup

GB = 10**9
OFFER: dict[str, Any] = {
    "name": "flash", "title": "Flash", "kind": "checkpoint", "repository": "a/flash", "revision": "main",
    "download_bytes": 160 * GB,
}  # fmt: skip


def item(number: int, **more: Any) -> dict[str, Any]:
    return {
        "id": f"m{number}", "kind": "model", "name": f"model {number}", "path": f"/models/{number}.gguf",
        "size_bytes": number, **more,
    }  # fmt: skip


def library(items: list[dict[str, Any]] | None = None, **more: Any) -> Library:
    return Library.model_validate({
        "items": items or [], "offers": [OFFER], "hub": {"endpoint": "https://hub"},
        "rooms": [{"role": "models", "path": "/m", "free_bytes": 4 * GB, "total_bytes": 8 * GB}],
        "machine": {"processor": "", "cores": 1, "memory_bytes": 1}, **more,
    })  # fmt: skip


def job(number: int = 1, state: str = "running", done: int = 1) -> Job:
    return Job.model_validate({
        "id": f"j{number}", "state": state, "created_at": 0, "title": f"job {number}", "place": "/m/x.gguf",
        "asked": {"kind": "fetch", "what": "a/b"},
        "progress": {"done_bytes": done, "total_bytes": 1000, "bytes_per_s": 5, "stage": "fetching"},
    })  # fmt: skip


@pytest.fixture
def page(qtbot: QtBot) -> LibraryPage:
    window = QWidget()
    made = LibraryPage(Theme.light())
    QVBoxLayout(window).addWidget(made)
    qtbot.addWidget(window)
    window.resize(900, 700)
    window.show()
    qtbot.waitExposed(window)
    window.activateWindow()
    made.setProperty("keeps", window)  # the window lives as long as the page
    made._window = window  # pyright: ignore[reportAttributeAccessIssue]
    return made


def test_before_anything_is_known_it_says_that_it_waits(page: LibraryPage) -> None:
    for section in (page.items, page.jobs, page.offers):
        assert section.empty_title.text() == "Waiting for the engine…"
    page.show_jobs([], known=False)
    assert page.jobs.empty_title.text() == "Waiting for the engine…"


def test_empty_parts_teach(page: LibraryPage) -> None:
    page.show_library(library(offers=[]), None, None)
    page.show_jobs([], known=True)
    assert "drop a GGUF file" in page.items.empty_text.text()
    assert "go on when this window is closed" in page.jobs.empty_text.text()
    assert "by its name" in page.offers.empty_text.text()


def test_all_three_parts(page: LibraryPage, qtbot: QtBot) -> None:
    page.show_jobs([job()], known=True)
    page.show_library(library([item(1), item(2)]), None, "m2")
    qtbot.waitUntil(
        lambda: len(page.items.cards) == 2 and len(page.offers.cards) == 1 and bool(page.jobs.cards)
    )
    cards = [card for card in page.items.cards.values() if isinstance(card, ItemCard)]
    assert [card.loaded.isHidden() for card in cards] == [True, False]
    assert page.rooms.words() == ["Models: 4.0 GB free of 8.0 GB"]
    assert page.hub.text() == "Models come from https://hub"
    assert page.forget_button.isHidden()
    page.show_library(library(hub={"endpoint": "h", "token": "keyring"}), None, None)
    with qtbot.waitSignal(page.forget_token_requested):
        page.forget_button.click()


def test_what_is_wrong_is_said_at_the_top(page: LibraryPage) -> None:
    page.show_library(None, ErrorBody(code="x", text="It cannot be read."), None)
    assert page.message.text() == "It cannot be read."
    wrong = {"code": "catalogue", "text": "catalogue.toml, line 3: no such key."}
    page.show_library(library(catalogue_problem=wrong), None, None)
    assert page.message.text() == wrong["text"]
    page.show_library(library(), None, None)
    assert page.message.isHidden()


def test_a_refusal_stays_to_be_read_whatever_news_there_is(page: LibraryPage) -> None:
    wrong = {"code": "catalogue", "text": "catalogue.toml, line 3: no such key."}
    page.refuse(ErrorBody(code="conflict", text="It is in use."))
    page.show_library(library(), None, None)
    page.show_library(library(catalogue_problem=wrong), None, None)
    assert page.message.text() == "It is in use."
    page.clear_message()
    assert page.message.text() == wrong["text"]
    page.show_library(library(), None, None)
    assert page.message.isHidden()


def test_a_name_is_looked_up_once_and_its_choices_are_offers(page: LibraryPage, qtbot: QtBot) -> None:
    assert not page.look_button.isEnabled()
    page.field.setText("a/gguf")
    with qtbot.waitSignal(page.look_up_requested) as asked:
        qtbot.keyClick(page.field, Qt.Key.Key_Return)
    assert asked.args == ["a/gguf"]
    with qtbot.assertNotEmitted(page.look_up_requested):
        qtbot.keyClick(page.field, Qt.Key.Key_Return)
    choices = [{"path": f"q{n}.gguf", "size_bytes": n} for n in (4, 8)]
    found = Lookup.model_validate({"offer": {**OFFER, "kind": "gguf"}, "files": [], "choices": choices})
    page.show_lookup(found)
    qtbot.waitUntil(lambda: len(page.found.cards) == 2)
    assert "several models" in page.finding.text()
    with qtbot.waitSignal(page.get_requested) as got:
        page.found.cards["flash:q8.gguf"].get_button.click()  # pyright: ignore[reportAttributeAccessIssue]
    assert got.args[0].files == ["q8.gguf"]  # pyright: ignore[reportOptionalSubscript]
    page.show_lookup(found.model_copy(update={"choices": found.choices[:1]}))
    assert page.finding.text() == ""
    page.show_lookup(found.model_copy(update={"problem": "It has no weights."}))
    assert page.finding.text() == "It has no weights."
    assert page.found.cards == {}
    page.refuse_lookup("There is no such repository; see to its spelling.")
    assert page.look_button.isEnabled()
    qtbot.keyClick(page.field, Qt.Key.Key_Escape)
    assert page.finding.isHidden()
    # An answer that comes when the question was taken back already.
    page.show_lookup(found)
    page.refuse_lookup("There is no such repository.")
    assert page.finding.isHidden()
    assert page.found.cards == {}


def test_escape_leads_back(page: LibraryPage, qtbot: QtBot) -> None:
    page.field.setFocus()
    qtbot.waitUntil(page.field.hasFocus)
    page.field.setText("a")
    with qtbot.assertNotEmitted(page.left):
        qtbot.keyClick(page.field, Qt.Key.Key_Escape)
    with qtbot.waitSignal(page.left):
        qtbot.keyClick(page.field, Qt.Key.Key_Escape)
    with qtbot.waitSignal(page.left):
        page.back_button.click()


def test_a_jobs_buttons_name_their_job(page: LibraryPage, qtbot: QtBot) -> None:
    page.show_jobs([job(1), job(2)], known=True)
    qtbot.waitUntil(lambda: len(page.jobs.cards) == 2)
    asked: list[tuple[str, str]] = []
    page.job_asked.connect(lambda wish, job_id: asked.append((wish, job_id)))
    card: Any = page.jobs.cards["j2"]
    for button in (
        card.pause_button,
        card.resume_button,
        card.cancel_button,
        card.forget_button,
        card.token_button,
    ):
        button.click()
    assert asked == [(wish, "j2") for wish in ("pause", "resume", "cancel", "forget", "token")]


def test_a_new_item_is_brought_into_sight_with_the_keyboard_on_it(page: LibraryPage, qtbot: QtBot) -> None:
    page.show_library(library([item(n) for n in range(30)]), None, None)
    page.show_item("m29")
    qtbot.waitUntil(lambda: len(page.items.cards) == 30)
    card: Any = page.items.cards["m29"]
    qtbot.waitUntil(card.use_button.hasFocus)
    assert page.area.verticalScrollBar().value() > 0


def test_two_hundred_items_are_made_bit_by_bit_and_once(page: LibraryPage, qtbot: QtBot) -> None:
    made = 0
    make = page.items._make

    def counted(entry: Any) -> Any:
        nonlocal made
        made += 1
        return make(entry)

    page.items._make = counted
    items = [item(n) for n in range(200)]
    with qtbot.waitSignal(page.items.filled):
        page.show_library(library(items), None, None)
    for loaded in ("m3", "m4"):
        page.show_library(library(items), None, loaded)
    assert made == 200
    cards = [card for card in page.items.cards.values() if isinstance(card, ItemCard)]
    assert [card.item.id for card in cards if not card.loaded.isHidden()] == ["m4"]


def test_a_part_is_brought_to_the_top(page: LibraryPage, qtbot: QtBot) -> None:
    page.show_library(library([item(n) for n in range(20)]), None, None)
    page.show_jobs([job(n) for n in range(9)], known=True)
    qtbot.waitUntil(lambda: len(page.jobs.cards) == 9 and len(page.items.cards) == 20)
    qtbot.waitUntil(lambda: all(card.isVisible() for card in page.jobs.cards.values()))
    page.show_section(page.jobs)
    qtbot.waitUntil(lambda: page.jobs.mapTo(page, QPoint()).y() == 8)


def test_news_of_jobs_moves_nothing(page: LibraryPage, qtbot: QtBot) -> None:
    page.show_library(library([item(n) for n in range(5)]), None, None)
    page.show_jobs([job(n) for n in range(4)], known=True)
    qtbot.waitUntil(lambda: len(page.jobs.cards) == 4 and len(page.items.cards) == 5)
    bar = page.area.verticalScrollBar()
    qtbot.waitUntil(lambda: bar.maximum() > 200)
    bar.setValue(150)
    card: Any = page.jobs.cards["j2"]
    card.pause_button.setFocus()
    place = card.mapTo(page, QPoint())
    for done in range(1, 900, 90):
        page.show_jobs([job(n, done=done) for n in range(4)], known=True)
        qtbot.wait(0)
        assert (bar.value(), card.mapTo(page, QPoint()), card.pause_button.hasFocus()) == (150, place, True)


def test_every_control_has_a_name(page: LibraryPage, qtbot: QtBot) -> None:
    page.show_library(library([item(1, last_used_at=time.time())]), None, None)
    page.show_jobs([job()], known=True)
    qtbot.waitUntil(lambda: len(page.items.cards) == 1 and len(page.jobs.cards) == 1)
    for button in page.findChildren(QPushButton):
        assert button.accessibleName() or button.text(), button


@pytest.mark.parametrize("width", [380, 520, 700, 1280])
def test_at_every_width_cards_stay_within_the_page(page: LibraryPage, qtbot: QtBot, width: int) -> None:
    exact = {"lossless": False, "exact": 1, "approximate": 1, "worst_relative_rms": 0.0055}
    page.show_library(library([item(1, path="/long" * 60, exactness=exact)]), None, None)
    page.show_jobs([job(), job(2, "failed")], known=True)
    page.window().resize(width, 500)
    qtbot.waitUntil(lambda: len(page.jobs.cards) == 2 and page.window().width() == width)
    qtbot.waitUntil(lambda: page.area.horizontalScrollBar().maximum() == 0)
    page.set_theme(Theme.light().zoomed(2.0))
