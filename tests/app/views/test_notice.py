"""The one place for errors."""

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QAbstractButton
from pytestqt.qtbot import QtBot

from app.theme import Theme
from app.views.notice import MOST, NoticeBar


def made(qtbot: QtBot) -> NoticeBar:
    bar = NoticeBar(Theme.light())
    qtbot.addWidget(bar)
    return bar


def test_a_sentence_is_shown_until_it_is_dismissed(qtbot: QtBot) -> None:
    bar = made(qtbot)
    assert bar.isHidden()
    bar.tell("a", "It failed: because; do this.")
    assert not bar.isHidden()
    notice = bar.notice("a")
    assert notice is not None
    qtbot.mouseClick(notice.close_button, Qt.MouseButton.LeftButton)
    assert bar.sentences() == []
    assert bar.isHidden()


def test_the_same_key_replaces_and_others_stack_up_to_a_limit(qtbot: QtBot) -> None:
    bar = made(qtbot)
    bar.tell("a", "one")
    bar.tell("a", "two")
    assert bar.sentences() == ["two"]
    for number in range(MOST):
        bar.tell(f"k{number}", str(number))
    assert bar.sentences() == ["0", "1", "2"]


def test_the_button_acts_and_dismisses(qtbot: QtBot) -> None:
    bar = made(qtbot)
    pressed: list[bool] = []
    bar.tell("engine", "It stopped.", button="Restart", on_button=lambda: pressed.append(True))
    notice = bar.notice("engine")
    assert notice is not None
    assert notice.button is not None
    qtbot.mouseClick(notice.button, Qt.MouseButton.LeftButton)
    assert pressed == [True]
    assert bar.sentences() == []


def test_a_button_that_tells_anew_under_its_key_is_not_dismissed_with_the_old(qtbot: QtBot) -> None:
    bar = made(qtbot)
    bar.tell("k", "first", button="Again", on_button=lambda: bar.tell("k", "second"))
    notice = bar.notice("k")
    assert notice is not None
    assert notice.button is not None
    notice.button.click()
    assert bar.sentences() == ["second"]


def test_markup_in_a_sentence_is_text_and_the_kind_is_said_in_words(qtbot: QtBot) -> None:
    bar = made(qtbot)
    bar.tell("a", "<b>x</b>")
    notice = bar.notice("a")
    assert notice is not None
    assert notice.label.textFormat() == Qt.TextFormat.PlainText
    assert notice.label.accessibleName() == "Problem: <b>x</b>"


def test_a_notice_that_goes_with_the_focus_says_so(qtbot: QtBot) -> None:
    bar = made(qtbot)
    bar.tell("a", "First.", button="Do", on_button=lambda: bar.dismiss("a"))
    bar.tell("b", "Second.")
    notice = bar.notice("a")
    assert notice is not None
    qtbot.waitExposed(bar)
    bar.activateWindow()
    button = next(b for b in notice.findChildren(QAbstractButton) if b.text() == "Do")
    button.setFocus()
    qtbot.waitUntil(button.hasFocus)
    left: list[bool] = []
    bar.left.connect(lambda: left.append(True))
    bar.dismiss("b")
    assert left == []
    button.click()
    assert left == [True]


def test_a_sentence_is_shown_whole_or_waits_for_room(qtbot: QtBot) -> None:
    bar = made(qtbot)
    sentence = "It failed: because of something that takes many words to be told; do this and that. " * 3
    for number in range(MOST):
        bar.tell(f"k{number}", f"{number} {sentence}")
    bar.resize(300, 400)
    notices = [bar.notice(f"k{number}") for number in range(MOST)]

    def shown() -> list[bool]:
        return [notice is not None and not notice.isHidden() for notice in notices]

    bar.set_room(10)
    assert shown() == [False, False, True]
    newest = notices[-1]
    assert newest is not None
    bar.set_room(2 * (newest.heightForWidth(300) + 6))
    assert shown() == [False, True, True]
    bar.set_room(10)
    bar.dismiss("k2")
    assert shown()[:2] == [False, True]
    bar.set_room(10_000)
    assert shown()[:2] == [True, True]
    assert len(bar.sentences()) == 2


def test_two_buttons_stand_in_order_and_both_end_it(qtbot: QtBot) -> None:
    done: list[str] = []
    for place, word in enumerate(("first", "second")):
        bar = made(qtbot)
        bar.tell(
            "a", "Something was interrupted.", kind="info", button="Resume", second="Show",
            on_button=lambda: done.append("first"), on_second=lambda: done.append("second"),
        )  # fmt: skip
        notice = bar.notice("a")
        assert notice is not None
        assert [button.text() for button in notice.buttons] == ["Resume", "Show"]
        notice.buttons[place].click()
        assert done[-1] == word
        assert bar.sentences() == []


def test_a_fingerprint_in_a_sentence_is_shown_whole(qtbot: QtBot) -> None:
    """One long word would make the notice wider than the window, and its end would be cut."""
    fingerprint = ":".join(f"{n:02X}" for n in range(32))
    sentence = f"The certificate of node7 is another one than was agreed to: {fingerprint}."
    bar = NoticeBar(Theme.light())
    qtbot.addWidget(bar)
    bar.resize(480, 300)
    bar.tell("remote", sentence, button="Agree", second="Choose another")
    notice = bar.notice("remote")
    assert notice is not None and notice.minimumSizeHint().width() <= 480
    assert bar.sentences() == [sentence]
