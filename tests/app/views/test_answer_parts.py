"""The parts of an answer together: their order, giving results, selecting."""

from dataclasses import replace
from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication, QLabel
from pytestqt.qtbot import QtBot

from app.theme import Theme
from app.transcript_model import ShownCall
from app.views.answer_parts import AnswerParts
from app.views.transcript import TranscriptView
from engine.protocol import Thought

CALL = ShownCall("c1", "get_weather", '{"city": "Bergen"}')
REJECTED = ShownCall("c2", "search", "{}", status="rejected", problem="“query” is missing.")
THOUGHT = Thought(tokens=3, elapsed_s=1)


def parts(view: TranscriptView) -> AnswerParts:
    return view.page.views[-1]._parts


def test_thinking_text_and_calls_stand_in_this_order(page_view: TranscriptView, answer: Any) -> None:
    page_view.show_messages([answer("Text.", reasoning="Hm.", thought=THOUGHT, calls=(CALL, REJECTED))])
    shown = parts(page_view)
    assert shown.thinking is not None
    order = [shown.thinking, shown.body, *shown.cards]
    assert shown.parts() == order
    tops = [part.y() for part in order]
    assert tops == sorted(tops)
    ends = [part.y() + part.height() for part in order]
    assert all(end <= top for end, top in zip(ends, tops[1:], strict=False))


def test_boxes_for_results_are_offered_where_they_are_awaited(page_view: TranscriptView, answer: Any) -> None:
    message = answer("", calls=(CALL, REJECTED), awaits_results=True)
    page_view.show_messages([message])
    fields = [card.field for card in parts(page_view).cards]
    assert [field and field.accessibleName() for field in fields] == [
        "Result of get_weather",
        "Result of search",
    ]
    assert [card.result_text() for card in parts(page_view).cards] == ["", "“query” is missing."]
    page_view.update_message(replace(message, awaits_results=False))
    assert [card.field for card in parts(page_view).cards] == [None, None]
    assert parts(page_view)._send is None


def test_results_are_sent_when_every_call_has_one(
    page_view: TranscriptView, answer: Any, qtbot: QtBot
) -> None:
    page_view.show_messages([answer("", calls=(CALL, REJECTED), awaits_results=True)])
    send = parts(page_view)._send
    assert send is not None
    assert not send.button.isEnabled()
    field = parts(page_view).cards[0].field
    assert field is not None
    with qtbot.assertNotEmitted(page_view.results_given):
        qtbot.keyClick(field, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    qtbot.keyClicks(field, "rain")
    qtbot.keyClick(field, Qt.Key.Key_Return)
    qtbot.keyClicks(field, "wind")
    assert send.button.isEnabled()
    wanted = ["a", [("c1", "rain\nwind"), ("c2", "“query” is missing.")]]
    with qtbot.waitSignal(page_view.results_given) as sent:
        qtbot.mouseClick(send.button, Qt.MouseButton.LeftButton)
    assert sent.args == wanted
    with qtbot.waitSignal(page_view.results_given) as sent:
        qtbot.keyClick(field, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    assert sent.args == wanted


def test_what_was_written_as_a_result_is_kept(page_view: TranscriptView, answer: Any, qtbot: QtBot) -> None:
    message = answer("", calls=(CALL,), awaits_results=True)
    page_view.show_messages([message])
    field = parts(page_view).cards[0].field
    assert field is not None
    qtbot.keyClicks(field, "half a res")
    page_view.show_messages([])
    page_view.show_messages([message])
    assert parts(page_view).cards[0].result_text() == "half a res"
    page_view.update_message(message)
    assert parts(page_view).cards[0].result_text() == "half a res"


def test_a_box_with_the_focus_is_not_let_go(page_view: TranscriptView, answer: Any, qtbot: QtBot) -> None:
    page_view.activateWindow()
    qtbot.waitActive(page_view)
    many = [answer("Words. " * 300, name=f"m{i}") for i in range(30)]
    page_view.show_messages([*many, answer("", calls=(CALL,), awaits_results=True)])
    field = parts(page_view).cards[0].field
    assert field is not None
    field.setFocus()
    qtbot.waitUntil(field.hasFocus)
    page_view.page.verticalScrollBar().setValue(0)
    assert field.hasFocus()


def test_tab_goes_through_the_parts(page_view: TranscriptView, answer: Any, qtbot: QtBot) -> None:
    page_view.activateWindow()
    qtbot.waitActive(page_view)
    page_view.show_messages(
        [answer("Text.", reasoning="Hm.", thought=THOUGHT, calls=(REJECTED,), awaits_results=True)]
    )
    page_view.page.setFocus()
    names: list[str] = []
    for _ in range(9):
        QApplication.focusWidget().focusNextPrevChild(True)
        names.append(QApplication.focusWidget().accessibleName())
    assert names[:8] == [
        "Answer, message 1", "Thought for 1.0 s · 3 tokens, closed", "Copy the arguments of search",
        "Result of search", "Send the results of all calls", "Copy this message",
        "Copy the reasoning before this answer", "Write another answer",
    ]  # fmt: skip


def test_one_selection_at_a_time_across_the_parts(
    page_view: TranscriptView, answer: Any, qtbot: QtBot
) -> None:
    page_view.show_messages([answer("Text.", calls=(replace(CALL, result="rain"),))])
    card = parts(page_view).cards[0]
    assert card.result is not None
    text, arguments, result = (
        body.documents()[0] for body in (parts(page_view).body, card.arguments, card.result)
    )
    for document, words in ((text, "Text."), (arguments, '{\n  "city": "Bergen"\n}'), (result, "rain")):
        qtbot.mouseClick(document.viewport(), Qt.MouseButton.LeftButton)
        document.select_everything()
        assert page_view.copy_text() == words


def test_notices_are_lines_under_the_answer(page_view: TranscriptView, answer: Any) -> None:
    sentences = ("The reasoning was ended after 2,000 tokens.", "A call was repaired.")
    page_view.show_messages([answer("Text.", status="running")])
    page_view.update_message(answer("Text.", status="running", notices=sentences[:1]))
    page_view.update_message(answer("Text.", notices=sentences))
    shown = [label.text() for label in page_view.page.views[0].findChildren(QLabel) if label.isVisible()]
    assert shown == ["\n".join(sentences)]


def test_text_before_a_call_is_not_lost_when_the_call_begins(page_view: TranscriptView, answer: Any) -> None:
    page_view.show_messages([answer("", status="running")])
    page_view.append_text("a", "I look.")
    writing = replace(CALL, arguments="{", status="writing")
    page_view.update_message(answer("I look.", status="running", calls=(writing,)))
    assert [d.toPlainText() for d in page_view.page.views[0].documents()] == ["I look."]


def test_both_looks(page_view: TranscriptView, answer: Any) -> None:
    page_view.show_messages(
        [answer("Text.", reasoning="Hm.", thought=THOUGHT, calls=(CALL, REJECTED), awaits_results=True)]
    )
    light = page_view.grab().toImage()
    page_view.set_theme(Theme.dark())
    assert page_view.grab().toImage() != light
    assert [card.result_text() for card in parts(page_view).cards] == ["", "“query” is missing."]


def test_a_continued_answers_call_takes_the_place_of_the_cut_one(
    page_view: TranscriptView, answer: Any
) -> None:
    page_view.show_messages([answer("", note="You stopped this answer.", unfinished_call="<call")])
    writing = replace(CALL, arguments="{", status="writing")
    page_view.update_message(answer("", status="running", calls=(writing,)))
    (card,) = parts(page_view).cards
    assert card.accessibleName() == "Call of get_weather, is being written"
    assert [document.toPlainText() for document in card.arguments.documents()] == ["{"]
