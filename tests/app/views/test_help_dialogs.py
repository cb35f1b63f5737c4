"""Help names every action and its keys."""

from PySide6.QtGui import QKeySequence
from PySide6.QtWidgets import QLabel
from pytestqt.qtbot import QtBot

from app.actions import ACTIONS
from app.views.help_dialogs import AboutDialog, ShortcutsDialog


def test_every_action_stands_in_the_help(qtbot: QtBot) -> None:
    dialog = ShortcutsDialog()
    qtbot.addWidget(dialog)
    texts = {label.text() for label in dialog.findChildren(QLabel)}
    for row in ACTIONS:
        assert row.label.rstrip("…") in texts
        assert row.sequences()[0].toString(QKeySequence.SequenceFormat.NativeText) in texts


def test_about_tells_version_and_where_the_data_lies(qtbot: QtBot) -> None:
    dialog = AboutDialog("1.2.3", "/home/me/data")
    qtbot.addWidget(dialog)
    text = "\n".join(label.text() for label in dialog.findChildren(QLabel))
    assert "Seamount 1.2.3" in text
    assert "/home/me/data" in text
