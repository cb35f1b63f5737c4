"""The tools dialog says at once what is wrong, and keeps what was typed."""

import json

import pytest
from PySide6.QtWidgets import QLabel
from pytestqt.qtbot import QtBot

from app.theme import Theme
from app.tool_text import tools_of
from app.views.tools_dialog import EXAMPLE, ToolsDialog
from engine.protocol import Tool

TOOL = Tool(function={"name": "look", "description": "Looks."})


@pytest.fixture
def dialog(qtbot: QtBot) -> ToolsDialog:
    made = ToolsDialog([TOOL], Theme.light())
    qtbot.addWidget(made)
    return made


def test_it_shows_the_tools_and_who_runs_them(dialog: ToolsDialog) -> None:
    assert json.loads(dialog.edit.toPlainText()) == [TOOL.model_dump()]
    assert dialog.message.text() == "1 tool: look"
    words = " ".join(label.text() for label in dialog.findChildren(QLabel))
    assert "Seamount never runs a tool" in words
    assert dialog.edit.accessibleName() == "Tools as JSON"


def test_every_change_is_checked(dialog: ToolsDialog) -> None:
    dialog.edit.setPlainText("[{}]")
    assert "no “function”" in dialog.message.text()
    assert not dialog.save_button.isEnabled()
    dialog.edit.setPlainText("")
    assert dialog.message.text() == "No tools."
    assert dialog.save_button.isEnabled()


def test_save_gives_the_tools_and_waits_for_the_outcome(dialog: ToolsDialog, qtbot: QtBot) -> None:
    with qtbot.waitSignal(dialog.saved) as saved:
        dialog.save_button.click()
    assert saved.args == [[TOOL]]
    assert not dialog.save_button.isEnabled()
    dialog.refuse("The disk is full.")
    assert dialog.message.text() == "The disk is full."
    assert dialog.save_button.isEnabled()


def test_the_example_is_in_order() -> None:
    assert [tool.function["name"] for tool in tools_of(EXAMPLE)] == ["get_weather"]
