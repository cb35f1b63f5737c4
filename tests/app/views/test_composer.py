"""Writing and sending: growth, keys, input methods, pastes."""

import pytest
from PySide6.QtCore import QMimeData, Qt, QUrl
from PySide6.QtGui import QInputMethodEvent
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app.composer_text import Draft
from app.theme import Theme
from app.views.composer import COMMIT_GUARD_S, Composer, ComposerEdit


@pytest.fixture
def composer(qtbot: QtBot) -> Composer:
    made = Composer(Theme.light())
    qtbot.addWidget(made)
    made.resize(600, 200)
    made.show()
    made.edit.setFocus()
    return made


@pytest.fixture
def sent(composer: Composer) -> list[str]:
    texts: list[str] = []
    composer.send_requested.connect(texts.append)
    return texts


def paste(composer: Composer, text: str) -> None:
    data = QMimeData()
    data.setText(text)
    composer.edit.insertFromMimeData(data)


def compose(edit: ComposerEdit, preedit: str, commit: str = "") -> None:
    event = QInputMethodEvent(preedit, [])
    event.setCommitString(commit)
    QApplication.sendEvent(edit, event)


def test_enter_sends_and_empties(composer: Composer, sent: list[str], qtbot: QtBot) -> None:
    qtbot.keyClicks(composer.edit, "hello")
    qtbot.keyClick(composer.edit, Qt.Key.Key_Return)
    assert sent == ["hello"]
    assert composer.draft.is_empty


@pytest.mark.parametrize("key", [Qt.Key.Key_Return, Qt.Key.Key_Enter])
def test_shift_and_enter_breaks_the_line(
    composer: Composer, sent: list[str], qtbot: QtBot, key: Qt.Key
) -> None:
    qtbot.keyClicks(composer.edit, "a")
    qtbot.keyClick(composer.edit, key, Qt.KeyboardModifier.ShiftModifier)
    qtbot.keyClicks(composer.edit, "b")
    assert sent == []
    assert composer.draft == Draft("a\nb")


def test_nothing_is_not_sent(composer: Composer, sent: list[str], qtbot: QtBot) -> None:
    qtbot.keyClicks(composer.edit, "  ")
    qtbot.keyClick(composer.edit, Qt.Key.Key_Return)
    assert sent == []
    assert not composer.button.isEnabled()


def test_enter_during_a_composition_does_not_send(composer: Composer, sent: list[str], qtbot: QtBot) -> None:
    qtbot.keyClicks(composer.edit, "x")
    compose(composer.edit, "にほん")
    qtbot.keyClick(composer.edit, Qt.Key.Key_Return)
    assert sent == []


def test_the_enter_that_confirms_a_candidate_does_not_send_and_the_next_does(
    composer: Composer, sent: list[str], qtbot: QtBot
) -> None:
    now = 10.0
    composer.edit._clock = lambda: now  # the guard's clock, so that no test waits for it
    compose(composer.edit, "にほん")
    compose(composer.edit, "", "日本")
    qtbot.keyClick(composer.edit, Qt.Key.Key_Return)
    assert sent == []
    assert composer.draft.typed == "日本"
    now += COMMIT_GUARD_S * 2
    qtbot.keyClick(composer.edit, Qt.Key.Key_Return)
    assert sent == ["日本"]


def test_text_committed_without_a_composition_does_not_hold_enter_back(
    composer: Composer, sent: list[str], qtbot: QtBot
) -> None:
    compose(composer.edit, "", "é")
    qtbot.keyClick(composer.edit, Qt.Key.Key_Return)
    assert sent == ["é"]


def test_it_grows_to_ten_lines_and_no_further(composer: Composer, qtbot: QtBot) -> None:
    heights = []
    for lines in (1, 2, 5, 10, 11, 40):
        composer.set_draft(Draft("\n".join("x" * lines)))
        heights.append(composer.edit.height())
    one, two, five, ten, eleven, forty = heights
    assert one < two < five < ten
    assert ten == eleven == forty
    composer.set_draft(Draft())
    assert composer.edit.height() == one


def test_a_paste_is_plain(composer: Composer) -> None:
    data = QMimeData()
    data.setHtml("<b>bold</b>")
    data.setText("bold\r\nnext\rlast")
    composer.edit.insertFromMimeData(data)
    assert composer.draft.typed == "bold\nnext\nlast"


def test_what_cannot_be_stored_is_replaced_and_said(
    composer: Composer, sent: list[str], qtbot: QtBot
) -> None:
    told: list[str] = []
    composer.notice.connect(told.append)
    paste(composer, "a\x00b\u200fc")
    assert composer.draft.typed == "a\ufffdb\u200fc"
    assert len(told) == 1
    assert told[0].startswith("1 character was replaced")


def test_no_break_spaces_and_right_to_left_marks_are_sent_as_they_are(
    composer: Composer, sent: list[str], qtbot: QtBot
) -> None:
    paste(composer, "10\u00a0km \u200fשלום\u200e")
    composer.send()
    assert sent == ["10\u00a0km \u200fשלום\u200e"]


def test_a_megabyte_on_one_line_becomes_a_chip_at_once(
    composer: Composer, sent: list[str], qtbot: QtBot
) -> None:
    big = "x" * 1_000_000
    qtbot.keyClicks(composer.edit, "Explain")
    paste(composer, big)
    assert composer.edit.plain_text() == "Explain"
    assert [chip.label.text() for chip in composer._chips] == ["Pasted text, 1.0 MB"]
    composer.send()
    assert sent == ["Explain\n\n" + big]
    assert composer.draft.is_empty


def test_a_chip_can_be_removed(composer: Composer, qtbot: QtBot) -> None:
    paste(composer, "y" * 30_000)
    chip = composer._chips[0]
    assert "Pasted text" in chip.button.accessibleName()
    qtbot.mouseClick(chip.button, Qt.MouseButton.LeftButton)
    assert composer.draft.is_empty


def test_files_are_left_to_the_window(composer: Composer) -> None:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile("/m.gguf")])
    assert not composer.edit.canInsertFromMimeData(data)


def test_the_button_stops_while_an_answer_is_written(
    composer: Composer, sent: list[str], qtbot: QtBot
) -> None:
    stops: list[bool] = []
    composer.stop_requested.connect(lambda: stops.append(True))
    composer.set_running(True)
    assert (composer.button.text(), composer.button.accessibleName()) == ("Stop", "Stop")
    qtbot.keyClicks(composer.edit, "next question")
    qtbot.keyClick(composer.edit, Qt.Key.Key_Return)
    assert sent == []
    assert composer.draft.typed == "next question"
    qtbot.mouseClick(composer.button, Qt.MouseButton.LeftButton)
    assert stops == [True]
    composer.set_running(False)
    assert composer.button.text() == "Send"


def test_up_in_an_empty_composer_edits_the_last_message(composer: Composer, qtbot: QtBot) -> None:
    asked: list[bool] = []
    composer.edit_last_requested.connect(lambda: asked.append(True))
    qtbot.keyClicks(composer.edit, "a")
    qtbot.keyClick(composer.edit, Qt.Key.Key_Up)
    assert asked == []
    composer.set_draft(Draft())
    qtbot.keyClick(composer.edit, Qt.Key.Key_Up)
    assert asked == [True]


def test_a_refused_text_comes_back_before_what_was_written_since(composer: Composer, qtbot: QtBot) -> None:
    qtbot.keyClicks(composer.edit, "later")
    composer.give_back("first")
    assert composer.draft == Draft("first\n\nlater")
    composer.give_back("z" * 50_000)
    assert composer.draft == Draft("first\n\nlater", ("z" * 50_000,))


def test_tab_leaves_the_composer(composer: Composer) -> None:
    assert composer.edit.tabChangesFocus()
    assert composer.edit.accessibleName() == "Message"
