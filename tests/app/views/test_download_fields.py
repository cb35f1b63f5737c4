"""The settings of downloads."""

from PySide6.QtWidgets import QFileDialog
from pytestqt.qtbot import QtBot

from app.views.settings_dialog import SettingsDialog
from engine.protocol import Settings


def made(qtbot: QtBot, settings: Settings) -> SettingsDialog:
    dialog = SettingsDialog(settings, None)
    qtbot.addWidget(dialog)
    dialog.show()
    return dialog


def test_untouched_they_stay_what_they_are(qtbot: QtBot) -> None:
    for settings in (
        Settings(),
        Settings(
            checkpoints_folder="/disk 2/ünï", hub_endpoint="http://mirror:8080", offline=True, download_streams=16,
            download_limit_mb_s=12.345, keep_awake=False,
        ),
    ):  # fmt: skip
        assert made(qtbot, settings).settings() == settings


def test_what_is_chosen_is_stored(qtbot: QtBot) -> None:
    dialog = made(qtbot, Settings(checkpoints_folder="/old", hub_endpoint="https://old"))
    fields = dialog.downloads
    fields.folder.line.setText("  /new  ")
    fields.mirror.clear()
    fields.offline.setChecked(True)
    fields.streams.setValue(2)
    fields.limit.setValue(8.5)
    fields.awake.setChecked(False)
    stored = dialog.settings()
    assert (stored.checkpoints_folder, stored.hub_endpoint, stored.offline) == ("/new", None, True)
    assert (stored.download_streams, stored.download_limit_mb_s, stored.keep_awake) == (2, 8.5, False)


def test_a_folder_can_be_chosen(qtbot: QtBot) -> None:
    dialog = made(qtbot, Settings())
    dialog.downloads.folder.choose_button.click()
    chooser = dialog.findChild(QFileDialog)
    assert chooser is not None
    chooser.fileSelected.emit("/disk2")
    chooser.close()
    assert dialog.settings().checkpoints_folder == "/disk2"


def test_each_field_says_what_it_is(qtbot: QtBot) -> None:
    dialog = made(qtbot, Settings())
    dialog.tabs.setCurrentIndex(1)
    for label, field, _ in dialog.downloads.rows:
        assert field.accessibleName() == label.replace("&", "")
        assert field.isVisible()
    assert dialog.downloads.folder.line.accessibleName() == "Checkpoints folder"
