"""A call as a card: its arguments as they come, whether it holds, what it gave."""

import json
from dataclasses import replace
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QLabel
from pytestqt.qtbot import QtBot

from app.theme import Theme
from app.transcript_model import ShownCall
from app.views.call_card import CallCard, is_short, pretty_arguments, result_words
from app.views.transcript import TranscriptView

CALL = ShownCall("c1", "get_weather", '{"city": "Bergen", "days": 2}')
PRETTY = '{\n  "city": "Bergen",\n  "days": 2\n}'


def cards(view: TranscriptView) -> list[CallCard]:
    return view.page.views[-1]._parts.cards


def written(card: CallCard) -> str:
    return "\n".join(document.toPlainText() for document in card.arguments.documents())


def given(card: CallCard) -> str:
    assert card.result is not None
    return "\n".join(document.toPlainText() for document in card.result.documents())


def test_arguments_are_pretty_when_they_are_json() -> None:
    assert pretty_arguments(CALL.arguments) == PRETTY
    assert pretty_arguments('{"ü": "山"}') == '{\n  "ü": "山"\n}'
    for other in ('{"cut', "", "[" * 5000, '"' + "x" * 300_000 + '"'):
        assert pretty_arguments(other) == other


def test_words_about_a_result() -> None:
    assert result_words("short") == "Result"
    assert result_words("line\n" * 19) == "Result · 20 lines"
    assert result_words("x" * 5000) == "Result · 5,000 characters"
    assert is_short("a\nb")
    assert not is_short("a\n" * 30)


def test_a_call_grows_and_is_then_set_in_lines(page_view: TranscriptView, answer: Any) -> None:
    writing = replace(CALL, arguments='{"ci', status="writing")
    page_view.show_messages([answer("Wait.", status="running", calls=(writing,))])
    (card,) = cards(page_view)
    assert written(card) == '{"ci'
    assert card.accessibleName() == "Call of get_weather, is being written"
    (document,) = card.arguments.documents()
    removed: list[int] = []
    document.document().contentsChange.connect(lambda _at, gone, _new: removed.append(gone))
    for piece in ('ty": "Ber', 'gen", "days', '": 2}'):
        page_view.grow_call("a", 0, piece)
        page_view.page._show_streamed()
    assert written(card) == CALL.arguments
    assert set(removed) <= {0}
    page_view.update_message(answer("Wait.", calls=(CALL,)))
    assert cards(page_view) == [card]
    assert written(card) == PRETTY
    colours = {
        part.format.foreground().color().name()
        for number in range(4)
        for part in document_of(card).document().findBlockByNumber(number).layout().formats()
    }
    assert Theme.light().syntax_number.name() in colours


def document_of(card: CallCard) -> Any:
    return card.arguments.documents()[0]


def test_a_call_that_grew_out_of_sight_is_whole_when_it_comes_into_sight(
    page_view: TranscriptView, answer: Any
) -> None:
    many = [answer("Words. " * 300, name=f"m{i}") for i in range(30)]
    writing = replace(CALL, arguments="{", status="writing")
    page_view.show_messages([*many, answer("", status="running", calls=(writing,))])
    page_view.page.verticalScrollBar().setValue(0)
    assert page_view.page.views[-1].message.id != "a"
    page_view.grow_call("a", 0, '"city": 1}')
    page_view.page._show_streamed()
    page_view.page.follow()
    assert written(cards(page_view)[0]) == '{"city": 1}'


def test_what_holds_says_nothing_and_what_does_not_says_why(page_view: TranscriptView, answer: Any) -> None:
    repaired = replace(CALL, id="c2", status="repaired", problem="A tag was not closed.")
    rejected = replace(CALL, id="c3", status="rejected", problem="“days” must be a text.")
    page_view.show_messages([answer("", calls=(CALL, repaired, rejected))])
    names = [card.accessibleName() for card in cards(page_view)]
    assert names == [
        "Call of get_weather", "Call of get_weather, repaired", "Call of get_weather, not carried out",
    ]  # fmt: skip
    notes = [[label.text() for label in card.findChildren(QLabel)] for card in cards(page_view)]
    assert notes == [[""], ["A tag was not closed."], ["“days” must be a text."]]


def test_why_a_call_does_not_hold_is_said_once(page_view: TranscriptView, answer: Any) -> None:
    rejected = replace(CALL, status="rejected", problem="“days” must be a text.")
    page_view.show_messages([answer("", calls=(rejected,), awaits_results=True)])
    [card] = cards(page_view)
    assert card.field is not None
    assert card.field.plain_text() == rejected.problem
    assert not card._note.isVisible()
    card.field.setPlainText("Something else.")
    assert card._note.isVisible()
    page_view.update_message(answer("", calls=(replace(rejected, result=rejected.problem),)))
    assert not card._note.isVisible()
    page_view.update_message(answer("", calls=(replace(rejected, result="Something else."),)))
    assert card._note.isVisible()


def test_short_results_are_open_and_long_ones_are_opened(page_view: TranscriptView, answer: Any) -> None:
    long = "\n".join(f"line {i}" for i in range(40))
    calls = (replace(CALL, result='{"sky": "grey"}'), replace(CALL, id="c2", result=long))
    message = answer("", calls=calls)
    page_view.show_messages([message])
    short_card, long_card = cards(page_view)
    assert given(short_card) == '{"sky": "grey"}'
    header = long_card._header
    assert header is not None
    assert (header.text(), header.isChecked()) == ("Result · 40 lines", False)
    assert given(long_card) == ""
    header.click()
    assert given(long_card) == long
    page_view.show_messages([message])
    assert given(cards(page_view)[1]) == long


def test_a_result_that_looks_like_a_fence_stays_text(page_view: TranscriptView, answer: Any) -> None:
    text = "~" * 80 + "\n```\n# no heading\n" + "~" * 64
    page_view.show_messages([answer("", calls=(replace(CALL, result=text),))])
    assert given(cards(page_view)[0]) == text


def test_a_call_that_was_cut_is_shown_as_it_was_written(page_view: TranscriptView, answer: Any) -> None:
    raw = "<｜DSML｜invoke name=\"get_wea"  # fmt: skip
    page_view.show_messages([answer("", note="You stopped this answer.", unfinished_call=raw)])
    (card,) = cards(page_view)
    assert written(card) == raw
    assert card.accessibleName() == "A call was being written"
    page_view.update_message(answer("", status="running"))
    assert cards(page_view) == []


def test_the_arguments_can_be_copied(page_view: TranscriptView, answer: Any, qtbot: QtBot) -> None:
    page_view.show_messages([answer("", calls=(CALL,))])
    (card,) = cards(page_view)
    button = card._title.copy_button
    assert button.accessibleName() == "Copy the arguments of get_weather"
    qtbot.keyClick(button, Qt.Key.Key_Return)
    assert QGuiApplication.clipboard().text() == PRETTY


@pytest.mark.timeout(60)
def test_enormous_arguments_stay_cheap(page_view: TranscriptView, answer: Any) -> None:
    arguments = json.dumps({"text": "word " * 60_000})
    writing = replace(CALL, arguments=arguments[:-2], status="writing")
    page_view.show_messages([answer("", status="running", calls=(writing,))])
    page_view.grow_call("a", 0, '"}')
    page_view.page._show_streamed()
    page_view.update_message(answer("", calls=(replace(CALL, arguments=arguments),)))
    (card,) = cards(page_view)
    assert len(card.arguments.documents()) < 20
    assert max(len(line) for line in written(card).split("\n")) <= 5000


def test_cards_follow_theme_and_zoom(page_view: TranscriptView, answer: Any) -> None:
    page_view.show_messages([answer("", calls=(replace(CALL, result="rain"),))])
    height = page_view.page.views[0].full_height
    page_view.set_zoom(1.5)
    assert page_view.page.views[0].full_height > height
    page_view.set_theme(Theme.dark())
    assert not page_view.grab().isNull()
    assert written(cards(page_view)[0]) == PRETTY


def test_of_many_calls_only_those_near_have_texts(page_view: TranscriptView, answer: Any) -> None:
    calls = tuple(replace(CALL, id=f"c{i}") for i in range(50))
    page_view.show_messages([answer("", calls=calls)])
    built = [bool(card.arguments.documents()) for card in cards(page_view)]
    assert built[-1]
    assert sum(built) < 25
    page_view.page.verticalScrollBar().setValue(0)
    assert cards(page_view)[0].arguments.documents()
