"""The settings of what is kept."""

from pytestqt.qtbot import QtBot

from app.views.settings_dialog import SettingsDialog
from engine.protocol import ErrorBody, Settings
from engine.protocol_storage import StorageUsage

USAGE = StorageUsage(
    sessions_bytes=1, journals_bytes=1, states_bytes=1_200_000_000, states_count=14, states_damaged=0,
    states_budget_bytes=20_000_000_000, free_bytes=5_000_000_000,
)  # fmt: skip


def test_what_is_set_comes_back(qtbot: QtBot) -> None:
    for settings in (
        Settings(),
        Settings(resume="offer", snapshots_gb=0, journal_sync_ms=0),
        Settings(snapshots_gb=12.34, journal_sync_ms=60_000),
    ):
        dialog = SettingsDialog(settings, None)
        qtbot.addWidget(dialog)
        assert dialog.settings() == settings


def test_what_is_chosen_is_in_the_settings(qtbot: QtBot) -> None:
    dialog = SettingsDialog(Settings(), None)
    qtbot.addWidget(dialog)
    dialog.kept.resume.setCurrentIndex(1)
    dialog.kept.space.setValue(55.5)
    dialog.kept.sync.setValue(0)
    settings = dialog.settings()
    assert (settings.resume, settings.snapshots_gb, settings.journal_sync_ms) == ("offer", 55.5, 0)
    assert dialog.kept.sync.text() == "Before it is shown"


def test_forgetting_is_offered_when_there_is_something(qtbot: QtBot) -> None:
    dialog = SettingsDialog(Settings(), None)
    qtbot.addWidget(dialog)
    kept = dialog.kept
    assert not kept.forget_button.isEnabled()
    kept.show(USAGE)
    assert kept.forget_button.isEnabled()
    assert kept.state.text().startswith("1.2 GB in 14 files")
    kept.show(USAGE.model_copy(update={"states_count": 0, "states_bytes": 0}))
    assert not kept.forget_button.isEnabled()
    kept.show_failure(ErrorBody(code="x", text="It cannot be told."))
    assert kept.state.text() == "It cannot be told."
