"""Help names every action and its keys."""

from PySide6.QtGui import QKeySequence
from PySide6.QtWidgets import QLabel
from pytestqt.qtbot import QtBot

from app.actions import ACTIONS
from app.views.help_dialogs import ShortcutsDialog


def test_every_action_stands_in_the_help(qtbot: QtBot) -> None:
    dialog = ShortcutsDialog()
    qtbot.addWidget(dialog)
    texts = {label.text() for label in dialog.findChildren(QLabel)}
    for row in ACTIONS:
        assert row.label.rstrip("…") in texts
        assert row.sequences()[0].toString(QKeySequence.SequenceFormat.NativeText) in texts
