"""Before something is removed."""

from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from app.views.remove_dialog import RemoveDialog
from engine.protocol_library import LibraryItem

ITEM = LibraryItem(id="m1", kind="model", name="flash", path="/m/flash.gguf", size_bytes=5_000_000_000)


def made(qtbot: QtBot) -> RemoveDialog:
    dialog = RemoveDialog(ITEM)
    qtbot.addWidget(dialog)
    dialog.open()
    return dialog


def test_size_and_place_are_named(qtbot: QtBot) -> None:
    dialog = made(qtbot)
    assert dialog.text() == "Remove flash?"
    assert "5.0 GB, in /m/flash.gguf" in dialog.informativeText()
    assert "once the trash is emptied" in dialog.informativeText()


def test_both_ways_and_none(qtbot: QtBot) -> None:
    for button, for_good in (("trash_button", False), ("delete_button", True)):
        dialog = made(qtbot)
        with qtbot.waitSignal(dialog.chosen) as chosen:
            getattr(dialog, button).click()
        assert chosen.args == [for_good]
    for key in (Qt.Key.Key_Escape, Qt.Key.Key_Return):
        dialog = made(qtbot)
        with qtbot.assertNotEmitted(dialog.chosen):
            qtbot.keyClick(dialog, key)
        assert not dialog.isVisible()


def test_what_was_added_is_only_taken_off_the_list(qtbot: QtBot) -> None:
    dialog = RemoveDialog(ITEM, stays=True)
    qtbot.addWidget(dialog)
    assert {button.text() for button in dialog.buttons()} == {"Take off the list", "Keep it"}
    assert "stays there" in dialog.informativeText()
    with qtbot.waitSignal(dialog.chosen) as chosen:
        dialog.trash_button.click()
    assert chosen.args == [False]
