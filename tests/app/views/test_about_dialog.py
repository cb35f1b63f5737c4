"""About: what is known at once, and what the engine tells."""

from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from app.views.about_dialog import WAITING, AboutDialog
from engine.protocol_about import About, LicenceText


@pytest.fixture
def dialog(qtbot: QtBot) -> AboutDialog:
    made = AboutDialog("", "/home/me/data")
    qtbot.addWidget(made)
    return made


def test_without_an_engine_it_tells_where_the_data_lies(dialog: AboutDialog) -> None:
    assert dialog.title.text() == "Seamount"
    assert "/home/me/data" in dialog.facts.text().replace("\u200b", "")
    assert dialog.note.text() == WAITING


def test_version_parts_and_licences(dialog: AboutDialog, qtbot: QtBot) -> None:
    asked: list[int] = []
    dialog.licence_asked.connect(asked.append)
    licences: Any = [
        {"name": "a", "version": "1", "licence": "MIT"},
        {"name": "b", "version": "2", "licence": ""},
    ]
    dialog.show_about(
        About(
            version="1.2.3", data_folder="/d", python="3.11.2", llama_cpp="llama-cpp-python 0.3.36", licences=licences,
            program_folder="/usr/lib/seamount",
        )
    )  # fmt: skip
    assert dialog.title.text() == "Seamount 1.2.3"
    for fact in ("/d", "3.11.2", "llama-cpp-python 0.3.36", "/usr/lib/seamount"):
        assert fact in dialog.facts.text().replace("\u200b", "")
    assert [dialog.parts.item(row).text() for row in range(dialog.parts.count())] == ["a 1", "b 2"]
    assert asked == [0]
    dialog.show_text(0, LicenceText(name="a", text="Permission is granted"))
    assert dialog.text.toPlainText() == "Permission is granted"
    dialog.parts.setCurrentRow(1)
    assert asked == [0, 1] and dialog.text.toPlainText() == ""
    dialog.show_text(0, LicenceText(name="a", text="late"))
    assert dialog.text.toPlainText() == "", "another one is chosen by now"


def test_text_of_others_is_never_taken_for_markup(dialog: AboutDialog) -> None:
    dialog.show_failure("<b>no</b>")
    assert "<b>no</b>" in dialog.note.text().replace("\u200b", "")
