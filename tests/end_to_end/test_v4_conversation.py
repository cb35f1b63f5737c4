"""DeepSeek-V4 in the real window: modes, thinking, tools, and what goes wrong with them (scripted model)."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from PySide6.QtWidgets import QAbstractButton
from pytestqt.qtbot import QtBot

from app.views.call_card import CallCard
from app.views.result_field import ResultField
from app.views.thinking_part import ThinkingPart
from engine.paths import DataFolder
from engine.protocol import Tool
from tests.end_to_end.live_window import START_TIMEOUT_MS, LiveWindow, end_engine, scripted_folder
from tests.integration.v4_script import BROAD_CONTEXT, TOOLS, V4_SCRIPT

# The offscreen platform cannot tell anybody a dialog's least size, and says so.
pytestmark = pytest.mark.qt_log_ignore("propagateSizeHints")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[DataFolder]:
    made = scripted_folder(tmp_path / "data", V4_SCRIPT, context_tokens=BROAD_CONTEXT)
    yield made
    end_engine(made)


@pytest.fixture
def window(qtbot: QtBot, folder: DataFolder) -> Iterator[LiveWindow]:
    live = LiveWindow(folder, qtbot.waitUntil).ready()
    live.wait(lambda: live.window.switch.isVisible())
    yield live
    if not live.closed:
        live.close()


def give_tools(window: LiveWindow) -> None:
    window.desk.conversation.new()
    tools = [Tool.model_validate(tool) for tool in TOOLS]
    window.desk.conversation.tools.save(tools, lambda: None, lambda error: pytest.fail(error.text))


def cards(window: LiveWindow) -> list[CallCard]:
    return window.window.transcript.findChildren(CallCard)


def fields(window: LiveWindow) -> list[ResultField]:
    found = window.window.transcript.findChildren(ResultField)
    return [field for field in found if field.isVisible()]


def press(window: LiveWindow, text: str, within: object = None) -> None:
    root = window.window if within is None else within
    button = next(b for b in root.findChildren(QAbstractButton) if b.text() == text and b.isVisible())  # type: ignore[attr-defined]
    button.click()


def wait_for_fields(window: LiveWindow, count: int) -> list[ResultField]:
    window.wait(lambda: len(fields(window)) == count)
    return fields(window)


@pytest.mark.parametrize(
    ("action", "reasoning", "text"),
    [
        ("mode_non_think", "", "A plain answer."),
        pytest.param("mode_high", "First I think.", "Then I answer.", marks=pytest.mark.slow),
        ("mode_max", "First I think.", "Then I answer."),
    ],
)
def test_each_mode(window: LiveWindow, action: str, reasoning: str, text: str) -> None:
    window.do(action)
    window.ask("Hello?")
    answer = window.wait_for_end()
    assert (answer.reasoning, answer.text) == (reasoning, text)
    assert answer.mode == action.removeprefix("mode_").replace("_", "-")
    parts = window.window.transcript.findChildren(ThinkingPart)
    assert [part.is_open for part in parts] == [False] * bool(reasoning)
    if reasoning:
        assert answer.thought is not None and answer.thought.tokens == len(reasoning)


@pytest.mark.slow
def test_thinking_streams_into_a_part_that_opens(window: LiveWindow) -> None:
    window.ask("Think slowly")
    window.wait(lambda: bool(window.shown()) and len(window.answer().reasoning) > 5)
    [part] = window.window.transcript.findChildren(ThinkingPart)
    assert not part.is_open
    part.header.click()
    window.wait(lambda: part.is_open)
    answer = window.wait_for_end()
    assert answer.reasoning == "Step by step I think of it."
    assert answer.text == "And so I say it."


@pytest.mark.slow
def test_two_tools_with_reasoning_between(window: LiveWindow) -> None:
    give_tools(window)
    window.ask("The weather in Paris and in Rome, and save it")
    answer = window.wait_for_end()
    assert answer.finish_reason == "tool_calls"
    paris, rome = wait_for_fields(window, 2)
    paris.setPlainText("22 degrees")
    rome.setPlainText("25 degrees")
    press(window, "Send results")
    window.wait(lambda: window.answer().id != answer.id)
    write = window.wait_for_end()
    assert [call.name for call in write.tool_calls] == ["write_file"]
    [field] = wait_for_fields(window, 1)
    field.setPlainText("saved")
    press(window, "Send results")
    window.wait(lambda: window.answer().id != write.id)
    assert window.wait_for_end().text == "It is warm, and the file is written."
    results = [call.result for message in window.desk.conversation.shown for call in message.calls]
    assert results == ["22 degrees", "25 degrees", "saved"]
    # All of it is there again tomorrow.
    session_id = window.desk.conversation.session_id
    window.desk.conversation.new()
    assert session_id is not None
    window.desk.open_conversation(session_id)
    window.wait(lambda: len(window.desk.conversation.shown) == 4 and not window.desk.running)
    assert window.desk.conversation.shown[1].reasoning == "I need two things."


@pytest.mark.slow
def test_a_repaired_call_says_what_was_repaired(window: LiveWindow) -> None:
    give_tools(window)
    window.ask("a slip, please")
    answer = window.wait_for_end()
    assert [call.status for call in answer.tool_calls] == ["repaired"]
    window.wait(lambda: len(cards(window)) == 1)
    [call] = window.desk.conversation.shown[-1].calls
    assert (call.status, call.problem) == ("repaired", answer.tool_calls[0].problem)
    assert "slip" in (call.problem or "")


@pytest.mark.slow
def test_a_rejected_call_is_told_to_the_model(window: LiveWindow) -> None:
    give_tools(window)
    window.ask("the city twice")
    answer = window.wait_for_end()
    [call] = answer.tool_calls
    assert call.status == "rejected"
    [field] = wait_for_fields(window, 1)
    assert field.plain_text() == call.problem
    press(window, "Send results")
    window.wait(lambda: window.answer().id != answer.id)
    again = window.wait_for_end()
    assert [c.arguments for c in again.tool_calls] == ['{"city": "Bern"}']


@pytest.mark.slow
def test_the_budget_and_the_loop_guard_end_the_reasoning(window: LiveWindow) -> None:
    window.do("mode_high")
    window.ask("circles")
    looped = window.wait_for_end()
    assert looped.text == "Out."
    assert "in circles" in looped.notices[0]
    dialog_settings = window.desk.shelf.status
    assert dialog_settings is not None
    set_budget(window, 40)
    window.ask("ponder")
    window.wait(lambda: len(window.shown()) == 4)
    cut = window.wait_for_end()
    assert (len(cut.reasoning), cut.text) == (40, "Forty-two.")
    assert "40 tokens" in cut.notices[0]


def set_budget(window: LiveWindow, tokens: int) -> None:
    from app.views.settings_dialog import SettingsDialog

    window.do("settings")
    window.wait(lambda: window.window.findChild(SettingsDialog) is not None)
    dialog = window.window.findChild(SettingsDialog)
    dialog.thinking.setValue(tokens)
    dialog.apply_button.click()
    window.wait(lambda: window.window.findChild(SettingsDialog) is None)


@pytest.mark.slow
def test_the_model_names_the_conversation(window: LiveWindow) -> None:
    window.ask("What is a seamount?")
    window.wait_for_end()
    rows = window.desk.catalogue.rows
    window.wait(lambda: rows.rowCount() > 0 and "A Talk About Seamounts" in titles(window))


def titles(window: LiveWindow) -> list[str]:
    rows = window.desk.catalogue.rows
    return [str(rows.data(rows.index(row, 0))) for row in range(rows.rowCount())]


@pytest.mark.slow
def test_a_switch_says_what_it_costs(window: LiveWindow) -> None:
    window.do("mode_high")
    window.ask("Hello?")
    window.wait_for_end()
    window.do("mode_max")
    window.wait(lambda: "token" in window.window.status.text() and "read" in window.window.status.text())
    window.ask("And?")
    window.wait(lambda: len(window.shown()) == 4)
    assert window.wait_for_end().mode == "max"


@pytest.mark.slow
def test_an_engine_killed_in_mid_thought(window: LiveWindow) -> None:
    window.ask("Think slowly")
    window.wait(lambda: bool(window.shown()) and len(window.answer().reasoning) > 5)
    kept = window.answer().reasoning
    psutil.Process(window.engine().pid).kill()
    # Another engine takes its place, and the thought goes on in it.
    window.wait(lambda: window.answer().status == "complete", START_TIMEOUT_MS)
    assert "Step by step I think of it.".startswith(kept)
    answer = window.wait_for_end()
    assert (answer.reasoning, answer.text) == ("Step by step I think of it.", "And so I say it.")


@pytest.mark.slow
def test_think_max_in_a_small_context_offers_what_fits(qtbot: QtBot, tmp_path: Path) -> None:
    folder = scripted_folder(tmp_path / "small", V4_SCRIPT, context_tokens=8192)
    window = LiveWindow(folder, qtbot.waitUntil).ready()
    try:
        window.wait(lambda: window.window.switch.isVisible())
        window.do("mode_non_think")
        window.do("mode_max")
        window.wait(lambda: "393,216" in window.sentences())
        press(window, "Use Think-High")
        window.ask("Hello?")
        assert window.wait_for_end().mode == "high"
    finally:
        window.close()
        end_engine(folder)


@pytest.mark.slow
def test_a_model_without_modes_has_no_switch(qtbot: QtBot, tmp_path: Path) -> None:
    folder = scripted_folder(tmp_path / "plain")
    window = LiveWindow(folder, qtbot.waitUntil).ready()
    try:
        assert not window.window.switch.isVisible()
        assert not window.window.actions_by_id["mode_high"].isEnabled()
    finally:
        window.close()
        end_engine(folder)
