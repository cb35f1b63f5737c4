"""The page on other programs, as it shows what it is told."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication, QComboBox, QLineEdit, QPlainTextEdit, QPushButton
from pytestqt.qtbot import QtBot

from app.access_words import CLIENTS_EMPTY, KEYS_EMPTY
from app.theme import Theme
from app.views.access_page import AccessPage
from app.views.style import apply
from engine.protocol_access import Access, SteadyOffer

URL = "http://127.0.0.1:8642/v1"
LONG = "a name without any place to break it at " * 4


def access(**more: Any) -> Access:
    return Access.model_validate({"base_url": URL, "keys": [], "clients": [], **more})


def client(*states: str, **more: Any) -> dict[str, Any]:
    return {
        "key_id": "k1", "key_name": "editor", "program": "Zed", "address": "127.0.0.1", "last_at": time.time() - 20,
        "requests": [{"id": f"r{n}", "dialect": "chat", "model_id": "m", "state": state, "since": 0.0}
                     for n, state in enumerate(states)], **more,
    }  # fmt: skip


def key(key_id: str = "k1", **more: Any) -> dict[str, Any]:
    return {"id": key_id, "name": "editor", "created_at": 0.0, **more}


OFFER = SteadyOffer(
    key_id="k1", key_name="editor", program="Zed", line=LONG, reread_tokens=6100, times=3, suggestion="move"
)


@pytest.fixture
def page(qtbot: QtBot) -> AccessPage:
    made = AccessPage(Theme.light())
    qtbot.addWidget(made)
    made.resize(900, 700)
    made.show()
    return made


def test_empty_it_teaches(page: AccessPage) -> None:
    page.show_access(access(), None, [], None)
    assert page.clients.empty_title.text() == CLIENTS_EMPTY[0]
    assert page.keys.empty_title.text() == KEYS_EMPTY[0]
    assert not page.offers.isVisible()
    assert (page.openai.value(), page.anthropic.value()) == (URL, "http://127.0.0.1:8642")


def test_keys_for_the_network_stand_with_the_network(page: AccessPage, qtbot: QtBot) -> None:
    page.show_access(access(keys=[key(), key("k2", is_network=True)]), None, [], None)
    assert list(page.keys.cards) == ["k1"]
    assert list(page.network_keys.cards) == ["k2"]


def test_a_row_stays_where_it_is_while_its_numbers_change(page: AccessPage, qtbot: QtBot) -> None:
    page.show_access(access(clients=[client("writing", "queued")]), None, [], None)
    [card] = page.clients.cards.values()
    row = card.rows["r0"]  # type: ignore[attr-defined]
    row.end_button.setFocus()
    for tokens in range(1, 90, 30):
        told = client("writing", "queued")
        told["requests"][0]["generated_tokens"] = tokens
        page.show_access(access(clients=[told]), None, [], None)
        assert row.end_button.hasFocus()
    assert row.words.words() == "Writing, 61 tokens"
    with qtbot.waitSignal(page.end_requested) as ended:
        row.end_button.click()
    assert ended.args == ["r0"]
    page.show_access(access(clients=[client()]), None, [], None)
    assert card.rows == {}  # type: ignore[attr-defined]


def test_an_offer_is_agreed_to_or_not(page: AccessPage, qtbot: QtBot) -> None:
    page.show_access(access(), None, [OFFER], None)
    assert page.offers.isVisible()
    [card] = page.offers.cards.values()
    with qtbot.waitSignal(page.agreed):
        card.agree_button.click()  # type: ignore[attr-defined]
    with qtbot.waitSignal(page.declined):
        card.decline_button.click()  # type: ignore[attr-defined]


def test_the_settings_to_paste_follow_the_chosen_program(page: AccessPage) -> None:
    page.show_access(access(), None, [], "m1")
    page.recipes.choice.setCurrentIndex(page.recipes.choice.findText("Codex"))
    assert "model_providers.seamount" in page.recipes.text.toPlainText()
    page.show_access(access(), None, [], "m2")
    assert page.recipes.choice.currentText() == "Codex"
    assert 'model = "m2"' in page.recipes.text.toPlainText()


def test_the_network_tells_fingerprint_and_addresses(page: AccessPage) -> None:
    door = {
        "wanted": True, "is_open": True, "port": 8643, "addresses": ["https://192.168.1.20:8643/v1"],
        "fingerprint": "AB:CD", "certificate": "generated", "expires_at": time.time() + 1e7,
        "notice": "The certificate is another one than before.",
    }  # fmt: skip
    page.show_access(access(network=door), None, [], None)
    assert page.network.fingerprint.value() == "AB:CD"
    assert [line.value() for line in page.network.addresses] == door["addresses"]
    assert page.network.notice.isVisible()
    page.show_access(access(), None, [], None)
    assert not page.network.fingerprint.isVisible()
    assert page.network.addresses == []


def test_every_control_can_be_reached_and_has_a_name(page: AccessPage) -> None:
    page.show_access(access(keys=[key()], clients=[client("writing")]), None, [OFFER], None)
    for kind in (QPushButton, QLineEdit, QComboBox, QPlainTextEdit):
        for control in page.findChildren(kind):
            assert control.accessibleName() or getattr(control, "text", str)(), control
            assert control.focusPolicy() & Qt.FocusPolicy.TabFocus, control


@pytest.fixture
def dressed(qapp: QApplication) -> Iterator[QApplication]:
    """The program in its stylesheet, which makes everything wider; put away afterwards."""
    before = qapp.styleSheet(), qapp.font(), qapp.palette()
    yield qapp
    qapp.setStyleSheet(before[0])
    qapp.setFont(before[1])
    qapp.setPalette(before[2])


@pytest.mark.parametrize(("width", "zoom"), [(380, 1.0), (640, 2.0), (1000, 1.0)])
def test_at_every_width_everything_stays_within_the_page(
    page: AccessPage, qtbot: QtBot, dressed: QApplication, width: int, zoom: float
) -> None:
    apply(Theme.light().zoomed(zoom), dressed)
    page.set_theme(Theme.light().zoomed(zoom))
    network = {
        "wanted": True,
        "is_open": True,
        "fingerprint": "AB:" * 31 + "AB",
        "addresses": [URL + "/x" * 60],
    }
    keys = [key(name=LONG, last_used_at=0.0, last_used_by=LONG, is_kept=True)]
    page.show_access(
        access(keys=keys, clients=[client("reading", program=LONG)], network=network), None, [OFFER], None
    )
    page.resize(width, 700)
    qtbot.waitUntil(lambda: page.width() == width)
    qtbot.waitUntil(lambda: page.area.horizontalScrollBar().maximum() == 0)


def test_the_keyboard_stays_in_the_page_when_what_had_it_has_gone(page: AccessPage, qtbot: QtBot) -> None:
    """What is beside the page begins a new conversation when Space is pressed."""
    page.show_access(access(keys=[key()], clients=[client("writing")]), None, [OFFER], None)
    page.window().activateWindow()
    qtbot.waitUntil(page.isActiveWindow)
    [card] = page.clients.cards.values()
    card.rows["r0"].end_button.setFocus()  # type: ignore[attr-defined]
    page.show_access(access(keys=[key()], clients=[client()]), None, [OFFER], None)
    assert page.back_button.hasFocus()
    [offer] = page.offers.cards.values()
    offer.focusable()[0].setFocus()
    page.show_access(access(keys=[key()], clients=[client()]), None, [], None)
    assert page.back_button.hasFocus() and not page.offers.isVisible()


def test_without_an_engine_nobody_is_connected(page: AccessPage) -> None:
    page.show_access(access(clients=[client("writing")]), None, [OFFER], None)
    page.show_access(None, None, [], None)
    assert not page.clients.cards and not page.offers.isVisible()
