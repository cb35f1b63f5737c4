"""What stands under a message: what its steps cost, and whether it went on as it would have."""

from collections.abc import Callable
from typing import Any

import pytest
from PySide6.QtWidgets import QLabel
from pytestqt.qtbot import QtBot

from app.page_style import PageStyle
from app.theme import Theme
from app.transcript_model import ShownMessage
from app.views.elided_line import ElidedLine
from app.views.message_foot import DIFFERS, WHY_DIFFERS, MessageFoot
from app.views.quiet_button import QuietButton

COST = "reads 2,100 of 9,400 tokens again, about 38 s"


class Shown:
    """A foot of 700 pixels, and the costs that it has asked for."""

    def __init__(self, qtbot: QtBot, message: ShownMessage) -> None:
        self.foot = MessageFoot(PageStyle(Theme.light()), None)  # pyright: ignore[reportArgumentType]
        qtbot.addWidget(self.foot)
        self.wanted: list[tuple[str, str]] = []
        self.foot.cost_wanted.connect(lambda *key: self.wanted.append(key))
        self.foot.set_message(message, 2)
        self.foot.resize(700, 120)
        self.foot.show()

    def button(self, words: str) -> QuietButton:
        [found] = [b for b in self.foot.findChildren(QuietButton) if b.text() == words and not b.isHidden()]
        return found

    def beside(self) -> list[str]:
        lines = [line for line in self.foot.findChildren(ElidedLine) if not line.isHidden()]
        return [line.words() for line in lines]


@pytest.fixture
def shown(qtbot: QtBot, answer: Callable[..., ShownMessage]) -> Callable[..., Shown]:
    return lambda **more: Shown(qtbot, answer("text", **more))


def test_costs_are_asked_for_when_a_person_comes(shown: Callable[..., Shown]) -> None:
    made = shown(version=2, version_count=3, previous_id="p", next_id="n")
    assert made.wanted == []
    made.foot.set_active(True)
    assert sorted(made.wanted) == [("retry", "a"), ("version", "n"), ("version", "p")]


def test_a_cost_stands_beside_its_button_and_in_its_tooltip(shown: Callable[..., Shown]) -> None:
    made = shown()
    made.foot.set_active(True)
    made.foot.set_cost("retry", "a", COST)
    assert made.beside() == [COST]
    retry = made.button("Retry")
    assert (retry.toolTip(), retry.accessibleDescription()) == (f"Write another answer: {COST}", COST)
    [line] = [line for line in made.foot.findChildren(ElidedLine) if not line.isHidden()]
    assert line.geometry().left() >= retry.geometry().right()
    made.foot.set_active(False)
    assert made.beside() == []
    made.foot.set_active(True)
    made.foot.arrange()
    assert made.beside() == [COST]
    assert made.wanted == [("retry", "a")]


def test_without_room_the_tooltip_alone_tells_it(shown: Callable[..., Shown]) -> None:
    made = shown(status="interrupted")
    made.foot.resize(240, 160)
    made.foot.set_active(True)
    for step in ("continue", "retry"):
        made.foot.set_cost(step, "a", COST)
    for line in made.foot.findChildren(ElidedLine):
        assert line.isHidden() or line.geometry().right() <= 240
    assert made.button("Continue").toolTip().endswith(COST)
    rights = [made.button(words).geometry() for words in ("Continue", "Retry")]
    assert rights[0].right() < rights[1].left()
    assert rights[1].right() <= 240


def test_what_was_told_is_forgotten_and_asked_for_again(shown: Callable[..., Shown]) -> None:
    made = shown()
    made.foot.set_active(True)
    made.foot.set_cost("retry", "a", COST)
    made.foot.forget_costs()
    assert made.beside() == []
    assert made.button("Retry").toolTip() == "Write another answer"
    assert made.wanted == [("retry", "a")] * 2


def test_a_cost_of_another_message_is_not_taken(shown: Callable[..., Shown]) -> None:
    made = shown()
    made.foot.set_active(True)
    made.foot.set_cost("retry", "other", COST)
    assert made.beside() == []


def test_another_version_says_what_going_on_from_it_costs(shown: Callable[..., Shown]) -> None:
    made = shown(version=1, version_count=2, next_id="n")
    made.foot.set_active(True)
    made.foot.set_cost("version", "n", "instant")
    assert made.button("›").toolTip() == "Next version: instant"
    assert made.beside() == []


def test_a_cut_answer_prices_both_ways_on(shown: Callable[..., Shown]) -> None:
    made = shown(status="interrupted")
    made.foot.set_active(True)
    assert made.wanted == [("continue", "a"), ("retry", "a")]
    made.foot.set_cost("continue", "a", "instant")
    assert made.beside() == ["instant"]


def test_an_answer_that_may_be_another_one_says_so_and_why(
    shown: Callable[..., Shown], answer: Callable[..., Any]
) -> None:
    made = shown()
    height = made.foot.height_for(600)
    made.foot.set_message(answer("text", differs=True), 2)
    [mark] = [label for label in made.foot.findChildren(QLabel) if label.text() == DIFFERS]
    assert mark.accessibleDescription() == WHY_DIFFERS
    assert WHY_DIFFERS in mark.toolTip()
    assert made.foot.height_for(600) > height
    made.foot.set_message(answer("text"), 2)
    assert mark.isHidden()
