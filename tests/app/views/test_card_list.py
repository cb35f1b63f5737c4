"""Cards by key: made a few at a time, changed where they stand."""

from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QHBoxLayout, QLabel, QPushButton, QScrollArea
from pytestqt.qtbot import QtBot

from app.views import card_list
from app.views.card_list import Card, CardList


class Plain(Card):
    made = 0

    def __init__(self, entry: str) -> None:
        super().__init__()
        Plain.made += 1
        self.label, self.button = QLabel(), QPushButton("Do")
        row = QHBoxLayout(self)
        row.addWidget(self.label)
        row.addWidget(self.button)
        self.shown: list[str] = []
        self.show_entry(entry)

    def show_entry(self, entry: Any) -> None:
        self.shown.append(entry)
        self.label.setText(entry)


@pytest.fixture
def cards(qtbot: QtBot) -> CardList:
    made = CardList("Things", Plain)
    made.say_when_empty("None yet", "They come with time.")
    qtbot.addWidget(made)
    made.resize(400, 300)
    made.show()
    qtbot.waitExposed(made)
    return made


def show(cards: CardList, qtbot: QtBot, entries: list[tuple[str, str]]) -> None:
    """Until each has its card: a slow machine needs several turns of the event loop."""
    with qtbot.waitSignal(cards.filled):
        cards.show_entries(entries)


def order(cards: CardList) -> list[str]:
    return sorted(cards.cards, key=lambda key: cards.cards[key].y())


def test_empty_it_teaches(cards: CardList) -> None:
    assert cards.empty_title.isVisible()
    assert cards.empty_text.text() == "They come with time."
    cards.show_entries([("a", "A")])
    assert not cards.empty_title.isVisible()
    cards.show_entries([])
    assert cards.empty_text.isVisible()


def test_news_changes_the_card_that_is_there(cards: CardList, qtbot: QtBot) -> None:
    show(cards, qtbot, [("a", "A"), ("b", "B")])
    before = dict(cards.cards)
    cards.show_entries([("a", "A"), ("b", "B2")])
    assert cards.cards == before
    assert [card.shown for card in cards.cards.values()] == [["A"], ["B", "B2"]]  # pyright: ignore[reportAttributeAccessIssue]


def test_new_ones_come_in_their_place_and_old_ones_move(cards: CardList, qtbot: QtBot) -> None:
    show(cards, qtbot, [("a", "A"), ("b", "B")])
    kept = cards.cards["b"]
    show(cards, qtbot, [("c", "C"), ("b", "B"), ("a", "A")])
    qtbot.waitUntil(lambda: order(cards) == ["c", "b", "a"])
    assert list(cards.cards) == ["c", "b", "a"]
    assert cards.cards["b"] is kept
    cards.show_entries([("a", "A")])
    assert list(cards.cards) == ["a"]


@pytest.mark.slow
def test_two_hundred_do_not_hold_the_window_up(
    cards: CardList, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(card_list, "BUDGET_MS", 0)  # one at a time: what a slow machine would do
    entries = [(str(n), f"card {n}") for n in range(200)]
    Plain.made = 0
    cards.show_entries(entries)
    assert Plain.made == 1
    cards.show_entries(entries)  # news meanwhile makes none twice
    qtbot.waitSignal(cards.filled, timeout=60_000).wait()
    assert Plain.made == 200
    assert list(cards.cards) == [key for key, _ in entries]
    cards.show_entries([*entries[:-1], ("199", "other")])
    assert Plain.made == 200


def test_the_keyboard_goes_down_the_list_and_is_not_lost(cards: CardList, qtbot: QtBot) -> None:
    show(cards, qtbot, [("b", "B")])
    show(cards, qtbot, [("a", "A"), ("b", "B"), ("c", "C")])
    buttons = [card.button for card in cards.cards.values()]  # pyright: ignore[reportAttributeAccessIssue]
    qtbot.waitUntil(lambda: all(button.isVisible() for button in buttons))
    cards.activateWindow()
    buttons[0].setFocus()
    qtbot.waitUntil(buttons[0].hasFocus)
    for button in buttons[1:]:
        qtbot.keyClick(cards.window().focusWidget(), Qt.Key.Key_Tab)
        assert button.hasFocus()
    cards.show_entries([("a", "A2"), ("b", "B"), ("c", "C2")])
    assert buttons[2].hasFocus()
    with qtbot.waitSignal(cards.focus_lost):
        cards.show_entries([("a", "A")])


def test_news_leaves_the_place_that_is_read(qtbot: QtBot) -> None:
    cards = CardList("", Plain)
    area = QScrollArea()
    area.setWidget(cards)
    area.setWidgetResizable(True)
    area.resize(300, 200)
    qtbot.addWidget(area)
    area.show()
    with qtbot.waitSignal(cards.filled):
        cards.show_entries([(str(n), str(n)) for n in range(40)])
    bar = area.verticalScrollBar()
    qtbot.waitUntil(lambda: bar.maximum() > 400)
    bar.setValue(300)
    for step in range(20):
        cards.show_entries([(str(n), f"{n}, step {step}") for n in range(40)])
        qtbot.wait(0)
        assert bar.value() == 300
    assert cards.title.isHidden()
