"""The transcript as a person meets it: reading, streaming, scrolling, keys, copying, editing."""

from dataclasses import replace

import pytest
from PySide6.QtCore import QEvent, QPoint, QPointF, Qt
from PySide6.QtGui import QDesktopServices, QGuiApplication
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLabel, QPushButton, QWidget

from app.theme import Theme
from app.transcript_model import ShownMessage
from app.views.code_block import CodeBlock
from app.views.message_editor import MessageEditor
from app.views.quiet_button import QuietButton
from app.views.text_block import TextBlock
from app.views.transcript import TranscriptView

PARAGRAPH = "The sea is wide and the mountain under it is high, and nobody has seen its top. "


def message(name: str, role: str, text: str, **more) -> ShownMessage:
    fields = {
        "status": "complete", "error_text": None, "note": None, "version": 1, "version_count": 1,
        "previous_id": None, "next_id": None,
    }  # fmt: skip
    return ShownMessage(id=name, role=role, text=text, **{**fields, **more})  # pyright: ignore


def conversation(count: int) -> list[ShownMessage]:
    return [
        message(f"m{i}", "user" if i % 2 == 0 else "assistant", f"Message {i}. " + PARAGRAPH * (1 + i % 7))
        for i in range(count)
    ]


@pytest.fixture
def view(qtbot) -> TranscriptView:
    made = TranscriptView(Theme.light())
    made.resize(900, 600)
    qtbot.addWidget(made)
    made.show()
    qtbot.waitExposed(made)
    return made


def texts(view: TranscriptView, number: int = -1) -> list[str]:
    return [document.toPlainText() for document in view.page.views[number].documents()]


def button(parent: QWidget, words: str) -> QuietButton:
    (found,) = [b for b in parent.findChildren(QuietButton) if b.text() == words and not b.isHidden()]
    return found


def stream(view: TranscriptView, name: str, text: str, step: int = 7) -> None:
    for start in range(0, len(text), step):
        view.append_text(name, text[start : start + step])
        view.page._show_streamed()


def press(widget: QWidget, qtbot, key: Qt.Key, modifier=Qt.KeyboardModifier.NoModifier) -> None:
    qtbot.keyClick(widget, key, modifier)


# --- reading ------------------------------------------------------------------------------------------


def test_many_messages_open_at_the_end_with_few_views(view):
    view.show_messages(conversation(1000))
    view.repaint()
    assert len(view.page.views) < 20
    assert texts(view)[0].startswith("Message 999.")
    assert view.page.below_px == 0


def test_answers_are_markdown_and_questions_are_as_typed(view):
    view.show_messages(
        [message("q", "user", "# why\n*so*\n\n- a"), message("a", "assistant", "# Because\n*so*")]
    )
    assert texts(view, 0) == ["# why\n*so*\n\n- a"]
    assert texts(view, 1) == ["Because\nso"]


def test_the_empty_state_gives_way_to_messages(view):
    view.set_empty_state("Ask something", "The answer appears here.")
    shown = [label for label in view.findChildren(QLabel) if label.isVisible()]
    assert [label.text() for label in shown] == ["Ask something", "The answer appears here."]
    view.append_message(message("q", "user", "hello"))
    assert not any(label.isVisible() for label in shown)
    view.show_messages([])
    assert shown[0].isVisible()


def test_a_long_message_shows_its_beginning_until_all_is_asked_for(view, qtbot):
    text = "\n\n".join(f"Paragraph {i}. {PARAGRAPH}" for i in range(2000))
    view.show_messages([message("a", "assistant", text)])
    body = view.page.views[0]._body
    assert sum(slot.chars for slot in body._slots) <= 20_000
    qtbot.mouseClick(
        button(view.page.views[0], f"Show all ({len(text) / 1000:.0f} kB)"), Qt.MouseButton.LeftButton
    )
    qtbot.waitUntil(lambda: sum(slot.chars for slot in view.page.views[0]._body._slots) > 180_000)
    assert len(view.page.views[0].documents()) < 20
    view.page.follow()
    assert "Paragraph 1999." in texts(view)[-1]


@pytest.mark.timeout(30)  # a layout of the whole line never ends
def test_a_million_characters_on_one_line(view):
    view.show_messages([message("q", "user", "x" * 1_000_000), message("a", "assistant", "*" * 1_000_000)])
    view.repaint()
    assert max(len(line) for text in texts(view, 0) for line in text.split("\n")) <= 5000


# --- streaming ----------------------------------------------------------------------------------------

RICH = (
    "# Title\n\nSome *text* with `code`.\n\n1. One\n   ```python\n   x = 1\n   ```\n2. Two\n\n"
    "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n\n> quote\n\n```sh\nls -l\ncd /\n```\n\nEnd."
)


@pytest.mark.parametrize("step", [1, 5, 1000])
def test_a_streamed_answer_ends_as_the_whole_one_looks(view, step):
    view.show_messages([message("a", "assistant", "", status="running")])
    stream(view, "a", RICH, step)
    view.update_message(message("a", "assistant", RICH))
    streamed = texts(view), view.page.views[0].full_height
    view.show_messages([message("a", "assistant", RICH)])
    assert (texts(view), view.page.views[0].full_height) == streamed


def test_finished_blocks_are_not_touched_again(view):
    view.show_messages([message("a", "assistant", "", status="running")])
    stream(view, "a", "First.\n\n```\ncode\n```\n\nOpen")
    first, code, _ = view.page.views[0].documents()
    changes: list[str] = []
    first.document().contentsChange.connect(lambda *_: changes.append("text"))
    code.document().contentsChange.connect(lambda *_: changes.append("code"))
    stream(view, "a", " paragraph that goes on.\n\nAnd another one.")
    assert changes == []
    assert view.page.views[0].documents()[:2] == [first, code]


def test_open_code_is_appended_to(view):
    view.show_messages([message("a", "assistant", "```py\nx = 1\n", status="running")])
    (code,) = view.page.views[0].documents()
    removed: list[int] = []
    code.document().contentsChange.connect(lambda _at, gone, _new: removed.append(gone))
    stream(view, "a", "y = 2\nz = 3\n")
    assert code.toPlainText().rstrip("\n") == "x = 1\ny = 2\nz = 3"
    assert set(removed) <= {0}


def test_refreshes_wait_in_proportion_to_their_cost(view, qtbot):
    view.show_messages([message("a", "assistant", "", status="running")])
    view.append_text("a", "one")
    assert texts(view) == []
    qtbot.waitUntil(lambda: texts(view) == ["one"])
    view.page._refresh_cost_s = 0.5
    view.append_text("a", " two")
    assert view.page._refresh.remainingTime() > 2000


def test_reading_further_up_is_not_disturbed(view, qtbot):
    view.show_messages([*conversation(30), message("a", "assistant", "", status="running")])
    view.page.verticalScrollBar().setValue(view.page.verticalScrollBar().maximum() - 900)
    top = view.page.visible_views()[0]
    place = top.y()
    stream(view, "a", "More and more text.\n\n" * 30, 60)
    assert view.page.visible_views()[0] is top
    assert top.y() == place
    assert button(view, "Jump to latest").isVisible()
    qtbot.mouseClick(button(view, "Jump to latest"), Qt.MouseButton.LeftButton)
    assert view.page.below_px == 0
    assert view.page.is_following
    stream(view, "a", "Still more.\n\n" * 30, 60)
    assert view.page.below_px == 0


def test_text_for_an_answer_out_of_sight_is_there_when_it_comes_into_sight(view):
    view.show_messages([*conversation(60), message("a", "assistant", "", status="running")])
    view.page.verticalScrollBar().setValue(0)
    assert view.page.views[-1].message.id != "a"
    stream(view, "a", "Written far below.")
    view.page.follow()
    assert texts(view) == ["Written far below."]


def test_progress_is_shown_and_taken_away(view):
    view.show_messages([message("a", "assistant", "", status="running")])
    view.set_progress("a", "Reading 512 of 2,048 tokens")
    label = next(x for x in view.findChildren(QLabel) if x.text() == "Reading 512 of 2,048 tokens")
    assert label.isVisible()
    view.set_progress("a", "")
    assert not label.isVisible()


def test_a_selection_in_the_open_block_survives_more_text(view):
    view.show_messages([message("a", "assistant", "Select these words", status="running")])
    (document,) = view.page.views[0].documents()
    cursor = document.textCursor()
    cursor.setPosition(7)
    cursor.setPosition(12, cursor.MoveMode.KeepAnchor)
    document.setTextCursor(cursor)
    stream(view, "a", " and some more of them")
    assert view.copy_text() == "these"


def test_a_continued_answer_goes_on_from_its_text(view):
    cut = message("a", "assistant", "It was", status="interrupted")
    view.show_messages([cut])
    view.update_message(replace(cut, status="running"))
    stream(view, "a", " a dark night.")
    view.update_message(message("a", "assistant", "It was a dark night."))
    assert texts(view) == ["It was a dark night."]


def test_unknown_ids_are_ignored(view):
    view.append_text("no", "x")
    view.set_progress("no", "x")
    view.update_message(message("no", "user", "x"))
    view.start_editing("no")


# --- scrolling ----------------------------------------------------------------------------------------


def test_scrolling_up_over_guessed_heights_does_not_jump(view):
    # Long words without spaces and many short lines: guesses are far off in both directions.
    odd = [message(f"o{i}", "assistant", ("a\n\n" * 60) if i % 2 else PARAGRAPH * 40) for i in range(40)]
    view.show_messages(odd)
    bar = view.page.verticalScrollBar()
    for _ in range(60):
        seen = {v: v.y() for v in view.page.visible_views()}
        bar.setValue(bar.value() - 120)
        moved = {v.y() - y for v, y in seen.items() if v in view.page.views}
        assert moved == {120}


def test_keys_scroll(view, qtbot):
    view.show_messages(conversation(50))
    page, bar = view.page, view.page.verticalScrollBar()
    page.setFocus()
    press(page, qtbot, Qt.Key.Key_PageUp)
    assert 400 < page.below_px < 620
    press(page, qtbot, Qt.Key.Key_Up)
    press(page, qtbot, Qt.Key.Key_Home)
    assert bar.value() == 0
    assert page.views[0].message.id == "m0"
    press(page.views[0].documents()[0], qtbot, Qt.Key.Key_PageDown)
    assert bar.value() > 400
    press(page, qtbot, Qt.Key.Key_End)
    assert page.below_px == 0


def wheel(widget: QWidget, x: int, y: int) -> None:
    """Turn the wheel above `widget`, as the window system tells it."""
    window = widget.window()
    QTest.wheelEvent(window.windowHandle(), QPointF(widget.mapTo(window, QPoint(5, 5))), QPoint(x, y))


def test_code_scrolls_sideways_and_leaves_the_wheel_to_the_page(view):
    code = "```\n" + "x" * 400 + "\n```"
    view.show_messages([*conversation(20), message("a", "assistant", code)])
    (document,) = view.page.views[-1].documents()
    wheel(document.viewport(), -120, 0)
    sideways = document.horizontalScrollBar().value()
    assert sideways > 0
    assert view.page.below_px == 0
    wheel(document.viewport(), 0, 120)
    assert view.page.below_px > 0
    assert document.horizontalScrollBar().value() == sideways


def test_a_narrow_window_lays_out_again_and_keeps_the_place(view):
    view.show_messages(conversation(40))
    view.page.verticalScrollBar().setValue(2000)
    top = view.page.visible_views()[0].message.id
    view.resize(420, 600)
    assert view.page.visible_views()[0].message.id == top
    assert all(v.width() <= 420 for v in view.page.views)


def test_the_column_is_at_most_720_wide_and_centred(view):
    view.resize(1400, 600)
    view.show_messages(conversation(3))
    (document, *_) = view.page.views[1].documents()
    left = document.mapTo(view, QPoint(0, 0)).x()
    assert document.width() == 720
    assert abs(left - (view.page.viewport().width() - 720) // 2) <= 1


def test_zoom_and_theme_restyle_what_is_shown(view):
    view.show_messages(conversation(5))
    height = view.page.views[-1].full_height
    view.set_zoom(1.5)
    assert view.page.views[-1].full_height > height
    view.set_zoom(1.0)
    assert view.page.views[-1].full_height == height
    view.set_theme(Theme.dark())
    page = view.grab().toImage().pixelColor(3, 3)
    assert page == Theme.dark().background
    assert texts(view)[0].startswith("Message 4.")


# --- what can be done with a message ------------------------------------------------------------------


def test_actions_come_with_the_mouse(view, qtbot):
    view.show_messages([message("q", "user", "Q"), message("a", "assistant", "*A*")])
    question, answer = view.page.views

    def words(of: QWidget) -> list[str]:
        return [b.text() for b in of.findChildren(QuietButton) if not b.isHidden()]

    assert words(question) == words(answer) == []
    QApplication.sendEvent(answer, QEvent(QEvent.Type.Leave))
    for owner in (question, answer):
        owner._hovered = True
        owner._update_foot()
    assert words(question) == ["Copy", "Edit"]
    assert words(answer) == ["Copy", "Retry"]
    qtbot.mouseClick(button(answer, "Copy"), Qt.MouseButton.LeftButton)
    assert QGuiApplication.clipboard().text() == "*A*"
    assert button(answer, "Copied").accessibleName() == "Copy this message"
    with qtbot.waitSignal(view.retry_requested) as asked:
        qtbot.mouseClick(button(answer, "Retry"), Qt.MouseButton.LeftButton)
    assert asked.args == ["a"]


def test_versions_lead_to_the_neighbours(view, qtbot):
    one = message("a", "assistant", "A", version=2, version_count=3, previous_id="x", next_id="y")
    view.show_messages([one])
    assert any(label.text() == "2 / 3" for label in view.findChildren(QLabel))
    with qtbot.waitSignal(view.version_chosen) as chosen:
        qtbot.mouseClick(button(view, "‹"), Qt.MouseButton.LeftButton)
    assert chosen.args == ["x"]
    view.update_message(replace(one, version=3, next_id=None))
    assert not button(view.page.views[0], "›").isEnabled()


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"status": "interrupted"}, "Stopped before the end."),
        ({"status": "failed", "error_text": "No memory."}, "This answer failed. No memory."),
        ({"note": "Stopped at the length limit."}, "Stopped at the length limit."),
    ],
)
def test_a_cut_answer_says_so_and_can_go_on(view, qtbot, more, sentence):
    view.show_messages([message("a", "assistant", "Once", **more)])
    assert any(label.text() == sentence and label.isVisible() for label in view.findChildren(QLabel))
    with qtbot.waitSignal(view.continue_requested):
        qtbot.mouseClick(button(view, "Continue"), Qt.MouseButton.LeftButton)
    with qtbot.waitSignal(view.retry_requested):
        qtbot.mouseClick(button(view, "Retry"), Qt.MouseButton.LeftButton)
    view.update_message(message("a", "assistant", "Once", status="running"))
    assert not any(label.text() == sentence and label.isVisible() for label in view.findChildren(QLabel))


def test_a_failed_answer_without_text_can_only_be_tried_again(view):
    failed = message("a", "assistant", "", status="failed", error_text="No memory.", is_begun=False)
    view.show_messages([message("a", "assistant", "", status="running"), message("b", "user", "?")])
    view.update_message(failed)
    found = {b.text() for b in view.findChildren(QuietButton) if b.isVisible()}
    assert "Retry" in found
    assert "Continue" not in found


def test_an_answer_stands_closer_to_its_question_than_to_the_next(view):
    view.show_messages([message("q", "user", "?"), message("a", "assistant", "!"), message("r", "user", "?")])
    question, answer, following = view.page.views
    assert answer.y() - question.geometry().bottom() < following.y() - answer.geometry().bottom()


def test_editing_saves_with_control_enter(view, qtbot):
    view.show_messages([message("q", "user", "Old"), message("a", "assistant", "A")])
    view.start_editing("q")
    (editor,) = view.findChildren(MessageEditor)
    assert editor.field.toPlainText() == "Old"
    editor.field.setPlainText("New")
    with qtbot.waitSignal(view.edit_requested) as edited:
        press(editor.field, qtbot, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    assert edited.args == ["q", "New"]
    assert not view.page.views[0].is_editing


def test_escape_leaves_the_message_as_it_was(view, qtbot):
    view.show_messages([message("q", "user", "Old")])
    view.start_editing("q")
    (editor,) = view.findChildren(MessageEditor)
    editor.field.setPlainText("  ")
    assert not editor.save_button.isEnabled()
    with qtbot.assertNotEmitted(view.edit_requested):
        press(editor.field, qtbot, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
        press(editor.field, qtbot, Qt.Key.Key_Escape)
    assert texts(view) == ["Old"]
    assert not view.page.views[0].is_editing


def test_an_editor_survives_scrolling_away_and_a_new_theme(view):
    view.show_messages(conversation(40))
    view.start_editing("m0")
    editor = view.page.views[0]._editor
    editor.field.setPlainText("Half written")
    view.page.follow()
    view.set_theme(Theme.dark())
    view.start_editing("m0")
    assert view.page.views[0]._editor.field.toPlainText() == "Half written"


# --- selecting, links, code ---------------------------------------------------------------------------


def test_select_all_takes_the_message_as_it_was_written(view, qtbot):
    view.show_messages([message("q", "user", "Q"), message("a", "assistant", "*a*\n\n```\nb\n```\n\nc")])
    answer = view.page.views[1]
    press(answer.documents()[0], qtbot, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
    assert view.copy_text() == "*a*\n\n```\nb\n```\n\nc"
    press(answer.documents()[1], qtbot, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    assert QGuiApplication.clipboard().text() == "*a*\n\n```\nb\n```\n\nc"
    qtbot.mouseClick(view.page.views[0].documents()[0].viewport(), Qt.MouseButton.LeftButton)
    assert view.copy_text() == ""


def test_only_one_selection_at_a_time(view, qtbot):
    view.show_messages(
        [message("a", "assistant", "one two\n\n```\nthree\n```"), message("q", "user", "four")]
    )
    documents = [d for v in view.page.views for d in v.documents()]
    for document in documents:
        qtbot.mouseDClick(document.viewport(), Qt.MouseButton.LeftButton, pos=QPoint(8, 12))
        qtbot.mousePress(document.viewport(), Qt.MouseButton.LeftButton, pos=QPoint(8, 12))
        qtbot.mouseRelease(document.viewport(), Qt.MouseButton.LeftButton, pos=QPoint(8, 12))
        document.select_everything()
        assert sum(d.textCursor().hasSelection() for d in documents) == 1
    assert view.copy_text() == "four"


def test_links_open_only_where_it_is_safe(view, qtbot, monkeypatch):
    opened: list[str] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url.toString()) or True)
    view.show_messages(
        [message("a", "assistant", "[safe](https://example.org/) and [not](file:///etc/passwd)")]
    )
    (document,) = view.page.views[0].documents()
    for word in ("safe", "not"):
        place = document.cursorRect(document.document().find(word)).center() - QPoint(4, 0)
        qtbot.mouseClick(document.viewport(), Qt.MouseButton.LeftButton, pos=place)
    assert opened == ["https://example.org/"]


def test_code_is_copied_whole_and_says_so(view, qtbot):
    code = "".join(f"line {i}\n" for i in range(6000))
    view.show_messages([message("a", "assistant", "", status="running")])
    view.append_text("a", f"```python\n{code}```\n\nend")
    view.page._show_streamed()
    view.page.verticalScrollBar().setValue(0)
    block = next(b for b in view.findChildren(CodeBlock) if b.copy_button is not None)
    press(block.copy_button, qtbot, Qt.Key.Key_Return)
    assert QGuiApplication.clipboard().text() == code
    assert block.copy_button.text() == "Copied"


def test_code_is_coloured(view):
    view.show_messages([message("a", "assistant", "```python\nimport sea  # deep\n```")])
    (document,) = view.page.views[0].documents()
    colours = {
        part.format.foreground().color().name()
        for part in document.document().firstBlock().layout().formats()
    }
    theme = Theme.light()
    assert {theme.syntax_keyword.name(), theme.syntax_comment.name()} <= colours


def test_a_wide_table_scrolls_sideways(view):
    cells = "|".join(f"column{i}" for i in range(20))
    view.show_messages([message("a", "assistant", f"|{cells}|\n|{'---|' * 20}\n|{cells}|")])
    (table,) = view.findChildren(TextBlock)
    assert table.horizontalScrollBar().maximum() > 0
    assert table.horizontalScrollBar().value() == 0


# --- keyboard and screen readers ----------------------------------------------------------------------


def test_tab_goes_in_the_order_of_reading(qtbot):
    window = QWidget()
    before = QPushButton("before", window)
    view = TranscriptView(Theme.light(), window)
    after = QPushButton("after", window)
    window.resize(900, 900)
    view.setGeometry(0, 50, 900, 800)
    after.move(0, 860)
    qtbot.addWidget(window)
    window.show()
    qtbot.waitExposed(window)
    window.activateWindow()
    qtbot.waitActive(window)
    answer = "Text\n\n```\ncode\n```\n\n[link](https://example.org)"
    view.show_messages([message("q", "user", "Q"), message("a", "assistant", answer)])
    before.setFocus()
    qtbot.waitUntil(before.hasFocus)
    names: list[str] = []
    for _ in range(12):
        QApplication.focusWidget().focusNextPrevChild(True)
        focused = QApplication.focusWidget()
        names.append(focused.accessibleName() or focused.text())
        if focused is after:
            break
    assert names == [
        "Conversation", "You, message 1", "Copy this message", "Edit this message",
        "Answer, message 2", "Copy this code", "Text", "Text",
        "Copy this message", "Write another answer", "after",
    ]  # fmt: skip
    back: list[str] = []
    for _ in range(12):
        QApplication.focusWidget().focusNextPrevChild(False)
        focused = QApplication.focusWidget()
        back.append(focused.accessibleName() or focused.text())
        if focused is before:
            break
    assert back[0] == "Answer, message 2"
    assert back[-1] == "before"


def test_tab_makes_the_views_it_comes_to(view, qtbot):
    view.activateWindow()
    qtbot.waitActive(view)
    view.show_messages(conversation(60))
    view.page.verticalScrollBar().setValue(0)
    view.page.setFocus()
    for _ in range(60):
        QApplication.focusWidget().focusNextPrevChild(True)
    focused = QApplication.focusWidget()
    assert view.page.index_of(focused) == 19
    owner = next(v for v in view.page.views if v is focused or v.isAncestorOf(focused))
    assert owner.geometry().intersects(view.page.viewport().rect())


def test_messages_have_names_and_readable_text(view):
    view.show_messages([message("q", "user", "Q"), message("a", "assistant", "A *b*")])
    assert [v.accessibleName() for v in view.page.views] == ["You, message 1", "Answer, message 2"]
    assert view.page.views[1].accessibleDescription() == "A *b*"
