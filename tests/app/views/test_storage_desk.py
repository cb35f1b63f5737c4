"""Export, import, backup, restore and encryption, as they are met in the window."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtWidgets import QDialog, QFileDialog
from pytestqt.qtbot import QtBot

from app import storage_shelf
from app.composer_text import draft_of
from app.engine_watch import EngineState
from app.views.backup_dialog import BackupDialog
from app.views.encryption_dialog import EncryptionDialog
from app.views.restore_dialog import RestoreDialog
from app.views.settings_dialog import SettingsDialog
from app.views.window import MainWindow
from engine.paths import DataFolder


@pytest.fixture
def window(
    qtbot: QtBot, folder: DataFolder, launcher: Any, fake_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MainWindow]:
    monkeypatch.setattr(storage_shelf, "TASK_PAUSE_MS", 5)
    made = MainWindow(folder, launcher)
    qtbot.addWidget(made)
    with qtbot.waitSignal(made.shown_first):
        made.show()
    desk = made.desk
    assert desk is not None
    qtbot.waitUntil(lambda: desk.watch.state == EngineState.READY)
    yield made
    desk.drop_engine()


def dialog_of(window: MainWindow, qtbot: QtBot, action: str, kind: type[QDialog]) -> Any:
    window.actions_by_id[action].trigger()
    qtbot.waitUntil(lambda: window.findChild(kind) is not None)
    return window.findChild(kind)


def notices(window: MainWindow) -> str:
    return "\n".join(window.notices.sentences())


def opened(window: MainWindow, qtbot: QtBot, engine: Any) -> str:
    session_id = engine.add_session("A title / with marks")
    engine.add_exchange(session_id, "q", "a")
    assert window.desk is not None
    window.desk.open_conversation(session_id)
    action = window.actions_by_id["export"]
    conversation = window.desk.conversation
    qtbot.waitUntil(lambda: len(conversation.shown) == 2 and action.isEnabled())
    return session_id


def test_a_conversation_is_exported_as_its_suffix_says(
    window: MainWindow, qtbot: QtBot, fake_engine: Any, tmp_path: Path
) -> None:
    session_id = opened(window, qtbot, fake_engine)
    chooser = dialog_of(window, qtbot, "export", QFileDialog)
    chooser.close()
    assert window.desk is not None
    fake_engine.encryption["on"] = True
    for name, kind in (("a.md", "markdown"), ("b.json", "json")):
        window.notices.dismiss("export")
        window.desk.storage.export_to(session_id, str(tmp_path / name))
        qtbot.waitUntil(lambda: window.notices.notice("export") is not None)
        assert "The file is not encrypted." in notices(window)
        assert (tmp_path / name).read_bytes()
        assert fake_engine.queries[-1] == {"kind": [kind]}


def test_what_cannot_be_written_is_a_sentence(
    window: MainWindow, qtbot: QtBot, fake_engine: Any, tmp_path: Path
) -> None:
    session_id = opened(window, qtbot, fake_engine)
    assert window.desk is not None
    window.desk.storage.export_to(session_id, str(tmp_path / "no" / "a.md"))
    qtbot.waitUntil(lambda: "choose another place" in notices(window))


def test_an_imported_conversation_is_shown(window: MainWindow, qtbot: QtBot, fake_engine: Any) -> None:
    assert window.desk is not None
    window.desk.storage.import_from("/some/file.json")
    conversation = window.desk.conversation
    qtbot.waitUntil(lambda: conversation.session_id is not None and not conversation.is_opening)
    assert fake_engine.sessions[conversation.session_id]["title"] == "Taken in"
    assert fake_engine.asked("POST", "/api/sessions/import") == [{"path": "/some/file.json"}]


def test_a_backup_runs_where_it_can_be_watched_and_stopped(
    window: MainWindow, qtbot: QtBot, fake_engine: Any
) -> None:
    dialog = dialog_of(window, qtbot, "back_up", BackupDialog)
    qtbot.waitUntil(lambda: "1.2 GB" in dialog.states.text())
    dialog.states.setChecked(True)
    dialog.start_button.click()
    [chooser] = dialog.findChildren(QFileDialog)
    assert chooser.testOption(QFileDialog.Option.DontConfirmOverwrite)
    chooser.fileSelected.emit("/b.seamount-backup")
    chooser.close()
    qtbot.waitUntil(lambda: dialog.message.text() == "Looking at what there is…")
    assert fake_engine.asked("POST", "/api/storage/tasks")[0]["with_states"] is True
    assert not dialog.start_button.isVisible()
    fake_engine.task.update(done_bytes=5_000, total_bytes=10_000)
    qtbot.waitUntil(lambda: dialog.message.text() == "5.0 kB of 10.0 kB")
    assert dialog.bar.value() == dialog.bar.maximum() // 2
    dialog.stop_button.click()
    qtbot.waitUntil(lambda: dialog.message.text().startswith("Stopped."))
    assert dialog.start_button.isVisible()
    assert not dialog.bar.isVisible()
    dialog.close()


def test_a_restore_waits_for_the_restart_and_can_be_given_up(
    window: MainWindow, qtbot: QtBot, fake_engine: Any, launcher: Any
) -> None:
    assert window.desk is not None
    for restarts in (False, True):
        window.desk.storage.restore_from("/b.seamount-backup")
        dialog = window.findChild(RestoreDialog)
        assert dialog is not None
        qtbot.waitUntil(dialog.restart_button.isEnabled)
        assert "/data/before" in dialog.about.text().replace("\u200b", "")
        (dialog.restart_button if restarts else dialog.cancel_button).click()
        qtbot.waitUntil(lambda: window.findChild(RestoreDialog) is None)
        qtbot.waitUntil(lambda: len(fake_engine.asked("DELETE", "/api/storage/restore")) == 1)
    qtbot.waitUntil(lambda: len(launcher.children) == 2)


def test_a_backup_that_is_not_whole_is_a_sentence(window: MainWindow, qtbot: QtBot, fake_engine: Any) -> None:
    error = {"code": "backup", "text": "The backup is damaged: choose another."}
    fake_engine.refusals["POST", "/api/storage/restore"] = (400, {"error": error})
    assert window.desk is not None
    window.desk.storage.restore_from("/b")
    dialog = window.findChild(RestoreDialog)
    assert dialog is not None
    qtbot.waitUntil(lambda: dialog.about.text() == error["text"])
    assert not dialog.restart_button.isEnabled()
    dialog.reject()
    assert fake_engine.asked("DELETE", "/api/storage/restore") == []


def test_encryption_is_turned_on_once_the_key_is_written_down(
    window: MainWindow, qtbot: QtBot, fake_engine: Any, launcher: Any
) -> None:
    dialog = dialog_of(window, qtbot, "encryption", EncryptionDialog)
    qtbot.waitUntil(lambda: dialog.change_button.text() == "Turn on" and dialog.change_button.isVisible())
    dialog.change_button.click()
    qtbot.waitUntil(dialog.key.isVisible)
    assert dialog.key.toPlainText().split() == ["abcd", "efgh"]
    assert dialog.restart_button.isVisible()
    assert not dialog.restart_button.isEnabled()
    dialog.written.setChecked(True)
    dialog.restart_button.click()
    qtbot.waitUntil(lambda: len(launcher.children) == 2)
    assert [body["on"] for body in fake_engine.asked("PUT", "/api/encryption")] == [True]


def test_a_key_that_is_not_written_down_encrypts_nothing(
    window: MainWindow, qtbot: QtBot, fake_engine: Any
) -> None:
    dialog = dialog_of(window, qtbot, "encryption", EncryptionDialog)
    qtbot.waitUntil(dialog.change_button.isVisible)
    dialog.change_button.click()
    qtbot.waitUntil(dialog.key.isVisible)
    dialog.close_button.click()
    qtbot.waitUntil(lambda: len(fake_engine.asked("PUT", "/api/encryption")) == 2)
    assert [body["on"] for body in fake_engine.asked("PUT", "/api/encryption")] == [True, False]


def test_a_key_that_comes_when_nobody_looks_any_more_encrypts_nothing(
    window: MainWindow, qtbot: QtBot, fake_engine: Any
) -> None:
    dialog = dialog_of(window, qtbot, "encryption", EncryptionDialog)
    qtbot.waitUntil(dialog.change_button.isVisible)
    dialog.change_button.click()
    dialog.close_button.click()
    qtbot.waitUntil(lambda: len(fake_engine.asked("PUT", "/api/encryption")) == 2)
    assert [body["on"] for body in fake_engine.asked("PUT", "/api/encryption")] == [True, False]


def test_a_key_that_cannot_be_taken_back_is_told(window: MainWindow, qtbot: QtBot, fake_engine: Any) -> None:
    dialog = dialog_of(window, qtbot, "encryption", EncryptionDialog)
    qtbot.waitUntil(dialog.change_button.isVisible)
    dialog.change_button.click()
    qtbot.waitUntil(dialog.key.isVisible)
    error = {
        "code": "data_folder",
        "text": "The change cannot be noted down: the disk is full; free some space.",
    }
    fake_engine.refusals["PUT", "/api/encryption"] = (507, {"error": error})
    dialog.close_button.click()
    qtbot.waitUntil(lambda: error["text"] in notices(window))


def test_it_is_turned_off_and_old_copies_can_go(window: MainWindow, qtbot: QtBot, fake_engine: Any) -> None:
    fake_engine.encryption.update(on=True, plain_files=["sessions.db.v7"])
    dialog = dialog_of(window, qtbot, "encryption", EncryptionDialog)
    qtbot.waitUntil(lambda: dialog.change_button.text() == "Turn off" and dialog.change_button.isVisible())
    assert "sessions.db.v7" in dialog.plain.text()
    dialog.change_button.click()
    qtbot.waitUntil(dialog.restart_button.isVisible)
    assert dialog.restart_button.isEnabled()
    dialog.close()


def test_locked_conversations_are_told_and_opened_with_the_key(
    qtbot: QtBot, folder: DataFolder, launcher: Any, fake_engine: Any
) -> None:
    fake_engine.encryption.update(
        on=True, locked={"code": "conversations_locked", "text": "Their key is not here."}
    )
    fake_engine.status["notice"] = "Their key is not here."
    window = MainWindow(folder, launcher)
    qtbot.addWidget(window)
    with qtbot.waitSignal(window.shown_first):
        window.show()
    assert window.memory.keeps_draft
    window.composer.set_draft(draft_of("quixotic"))
    qtbot.waitUntil(lambda: window.notices.notice("encryption") is not None)
    assert notices(window) == "Their key is not here."
    assert not window.memory.keeps_draft
    window.memory.save()
    assert "quixotic" not in folder.window_state.read_text()
    notice = window.notices.notice("encryption")
    assert notice is not None
    assert notice.button is not None
    notice.button.click()
    dialog = window.findChild(EncryptionDialog)
    assert dialog is not None
    qtbot.waitUntil(dialog.given.isVisible)
    assert not dialog.change_button.isEnabled()
    qtbot.keyClicks(dialog.given, " abcd-efgh ")
    dialog.change_button.click()
    qtbot.waitUntil(dialog.restart_button.isVisible)
    assert fake_engine.asked("POST", "/api/encryption/recover") == [{"recovery_key": "abcd-efgh"}]
    assert dialog.given.text() == ""
    dialog.close()
    assert window.desk is not None
    window.desk.drop_engine()


def test_the_settings_tell_what_is_kept_and_forget_it(
    window: MainWindow, qtbot: QtBot, fake_engine: Any
) -> None:
    dialog = dialog_of(window, qtbot, "settings", SettingsDialog)
    qtbot.waitUntil(dialog.kept.forget_button.isEnabled)
    dialog.kept.forget_button.click()
    qtbot.waitUntil(lambda: dialog.kept.state.text() == "Nothing is kept now.")
    dialog.close()
