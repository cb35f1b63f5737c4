"""What can be had: one card for each."""

from typing import Any

from pytestqt.qtbot import QtBot

from app.views.offer_card import OfferCard
from engine.protocol_library import Offer

OFFER: dict[str, Any] = {
    "name": "flash", "title": "Flash", "about": "The smaller one.", "kind": "checkpoint", "repository": "a/flash",
    "revision": "main", "download_bytes": 160 * 10**9, "licence": "MIT",
    "fit": {"verdict": "disk", "text": "It is larger than the memory."},
}  # fmt: skip


def made(qtbot: QtBot, *, tells_time: bool = False, **more: Any) -> OfferCard:
    card = OfferCard(Offer.model_validate({**OFFER, **more}), tells_time=tells_time)
    qtbot.addWidget(card)
    return card


def test_it_says_what_it_costs_and_what_can_be_done_with_it(qtbot: QtBot) -> None:
    card = made(qtbot)
    assert card.title.words() == "Flash"
    assert card.cost.text() == "160.0 GB to download · MIT"
    assert card.fit.text() == "It is larger than the memory."
    assert card.source.words() == "a/flash @ main"
    assert card.have.isHidden()
    assert card.placement_button.isHidden()  # its shape is not known before it is here
    bare = made(qtbot, about="", fit=None, item_id="m1")
    assert bare.about.isHidden()
    assert bare.fit.isHidden()
    assert not bare.have.isHidden()


def test_a_beginner_is_told_the_time_and_no_hash(qtbot: QtBot) -> None:
    card = made(qtbot, tells_time=True)
    assert "about 3 h 33 min at 100 Mbit/s" in card.cost.text()
    assert card.source.isHidden()


def test_the_button_asks_for_the_latest(qtbot: QtBot) -> None:
    card = made(qtbot)
    card.show_entry(Offer.model_validate({**OFFER, "title": "Flash, later"}))
    assert card.get_button.accessibleName() == "Get Flash, later"
    with qtbot.waitSignal(card.get_requested) as asked:
        card.get_button.click()
    assert asked.args[0].title == "Flash, later"  # pyright: ignore[reportOptionalSubscript]


def test_of_a_released_model_it_is_known_how_it_would_lie(qtbot: QtBot) -> None:
    results = [{"dense": "q8_0", "model_bytes": 4, "draft_bytes": 1}]
    card = made(qtbot, results=results)
    with qtbot.waitSignal(card.placement_requested) as asked:
        card.placement_button.click()
    assert asked.args == [card.offer]
    assert card.placement_button.accessibleName() == "Placement of Flash"
    assert made(qtbot, results=results, tells_time=True).placement_button.isHidden()
