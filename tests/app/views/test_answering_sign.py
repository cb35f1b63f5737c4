"""The sign that another program is answered."""

from PySide6.QtWidgets import QHBoxLayout, QWidget
from pytestqt.qtbot import QtBot

from app.theme import Theme
from app.views.answering_sign import AROUND_WORDS_PX, MOST_WORDS_PX, AnsweringSign

LONG = "A program with a long name: reading, 4,096 of 100,000 tokens (+12 more) " * 3


def test_it_is_there_only_while_there_is_something_to_say(qtbot: QtBot) -> None:
    sign = AnsweringSign(Theme.light())
    qtbot.addWidget(sign)
    assert not sign.isVisible()
    sign.say("Zed: writing, 120 tokens", "Zed")
    assert sign.isVisible()
    assert sign.end_button.accessibleName() == "End the answer to Zed"
    assert "Zed: writing, 120 tokens" in sign.words_button.accessibleName()
    sign.say("", "")
    assert not sign.isVisible()


def test_long_words_give_way_to_the_room_there_is(qtbot: QtBot) -> None:
    host = QWidget()
    row = QHBoxLayout(host)
    sign = AnsweringSign(Theme.light())
    row.addStretch(1)
    row.addWidget(sign)
    qtbot.addWidget(host)
    sign.say(LONG, "A program")
    host.resize(900, 60)
    host.show()
    qtbot.waitUntil(lambda: sign.words_button.text().endswith("…"))
    assert sign.words_button.width() <= MOST_WORDS_PX + AROUND_WORDS_PX + 8
    wide = sign.words_button.text()
    host.resize(220, 60)
    qtbot.waitUntil(lambda: len(sign.words_button.text()) < len(wide))
    assert sign.end_button.isVisible()
    assert sign.geometry().right() < host.width()
    assert sign.words() == LONG
