"""The part of `make screenshots` about what is kept: costs, answers that go on, files, backups, encryption.

The dialogs of encryption are shown what an engine says, instead of asking this machine's keyring for a key.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from PySide6.QtCore import QPoint
from PySide6.QtWidgets import QDialog

from app.running_turns import LOST
from app.views.backup_dialog import BackupDialog
from app.views.elided_line import ElidedLine
from app.views.encryption_dialog import EncryptionDialog
from app.views.restore_dialog import RestoreDialog
from app.views.settings_dialog import SettingsDialog
from engine.protocol import ErrorBody
from engine.protocol_encryption import EncryptionChange, EncryptionState
from engine.protocol_storage import RestorePrepared, StorageTask
from tests.end_to_end.live_window import START_TIMEOUT_MS, LiveWindow

Take = Callable[..., None]
ANSWER = (
    "A seamount is an underwater mountain that does not reach the surface. Most were volcanoes once, and there are "
    "tens of thousands of them.\n\nTheir slopes rise through water of very different depths, so that many kinds of "
    "life find a place on one of them."
)
TALK: dict[str, Any] = {
    "name": "Talker",
    "context_tokens": 65_536,
    "replies": [{"match": "slowly", "text": ANSWER * 3, "delay_s": 0.03}, {"text": ANSWER}],
}
KEY = "K7WQ-3MNF-X2DN-A4HT-P6VC-JZ5R-E3YA-BS2G-4QCU-NK3W-7TFD-M2XH-BRJC-QZ2L"


def tour(window: LiveWindow, take: Take, kill: Callable[[], None]) -> None:
    """`kill` ends the engine at once."""
    for question in ("What is a seamount?", "What lives on one?", "How many are there?"):
        window.ask(question)
        window.wait(lambda question=question: any(m.text == question for m in window.shown()))
        window.wait_for_end()
    _costs(window, take)
    window.do("new")
    window.ask("Tell me slowly what it is")
    window.wait_for_text(150)
    kill()
    window.wait(lambda: window.window.transcript.page._entries[-1].progress == LOST)
    take("k4-engine-died")
    window.wait(lambda: bool(window.sentences()), START_TIMEOUT_MS)
    take("k5-went-on")
    window.wait_for_end()
    window.window.notices.dismiss("went on")
    conversation, transcript = window.desk.conversation, window.window.transcript
    transcript.update_message(replace(conversation.shown[-1], differs=True))
    take("k6-not-identical")
    window.desk.conversation.retry(window.answer().id)
    window.wait_for_text(80)
    window.do("stop")
    window.wait_for_end()
    last = transcript.page.views[-1]
    last.set_focus_within(True)
    window.wait(lambda: sum(bool(line.words()) for line in last._foot.findChildren(ElidedLine)) >= 2)
    take("k16-cut-answer-tells-its-costs")
    _dialogs(window, take)


def _costs(window: LiveWindow, take: Take) -> None:
    # Nothing is held and nothing is kept, so that there is something to be read.
    window.do("restart_engine")
    window.wait(lambda: window.desk.shelf.loaded_id is None, START_TIMEOUT_MS)
    window.ready()
    forgotten: list[object] = []
    window.desk.storage._shelf.forget_states(forgotten.append, forgotten.append)
    window.wait(lambda: bool(forgotten))
    question = window.shown()[2]
    window.do("edit_last")
    transcript = window.window.transcript
    transcript.start_editing(question.id)
    [view] = [view for view in transcript.page.views if view.message.id == question.id]
    window.wait(lambda: view._editor is not None and bool(view._editor.cost.text()))
    take("k1-edit-tells-its-cost")
    for each in transcript.page.views:
        each.stop_editing()
    last = transcript.page.views[-1]
    last.set_focus_within(True)
    window.wait(lambda: any(line.words() for line in last._foot.findChildren(ElidedLine)))
    take("k2-retry-tells-its-cost")
    window.window.actions_by_id["zoom_reset"].trigger()
    for _ in range(8):
        window.do("zoom_in")
    transcript.start_editing(question.id)
    take("k3-costs-at-200-percent")
    for each in transcript.page.views:
        each.stop_editing()
    window.do("zoom_reset")


def _dialogs(window: LiveWindow, take: Take) -> None:
    parent = window.window
    window.do("settings")
    window.wait(lambda: bool(parent.findChildren(SettingsDialog)))
    [settings] = parent.findChildren(SettingsDialog)
    settings.tabs.setCurrentIndex(2)
    window.wait(lambda: "kept…" not in settings.kept.state.text())
    take("k7-settings-kept", settings)
    settings.close()
    for name, menu in (("k8-menu-conversation", 0), ("k9-menu-data", 3)):
        shown = parent.menuBar().actions()[menu].menu()
        shown.popup(parent.mapToGlobal(QPoint(0, 0)))  # pyright: ignore[reportAttributeAccessIssue]
        take(name, shown)
        shown.hide()  # pyright: ignore[reportAttributeAccessIssue]
    backup = BackupDialog(parent)
    _show(window, take, backup, "k10-backup")
    backup.begin()
    backup.show_task(
        StorageTask(id="k", kind="backup", state="running", done_bytes=31_000_000, total_bytes=90_000_000)
    )
    take("k11-backup-runs", backup)
    backup.close()
    restore = RestoreDialog("/home/me/seamount.seamount-backup", parent)
    restore.show_prepared(
        RestorePrepared(
            created_at=1_790_000_000, sessions_bytes=1, aside="/home/me/.local/share/seamount/aside-1"
        )
    )
    _show(window, take, restore, "k12-restore")
    restore.close()
    theme = parent.theme
    encryption = EncryptionDialog(theme, parent)
    encryption.show_state(EncryptionState(on=False, plain_files=["sessions.db.version-6"]))
    _show(window, take, encryption, "k13-encryption-off")
    waits = EncryptionState(on=False, pending="on", restart_needed=True)
    encryption.show_change(EncryptionChange(state=waits, recovery_key=KEY))
    take("k14-encryption-key", encryption)
    encryption.written.setChecked(True)
    encryption.close()
    locked = EncryptionDialog(theme, parent)
    sentence = "The conversations cannot be opened: their key is not in the keyring; give the recovery key"
    locked.show_state(
        EncryptionState(on=True, locked=ErrorBody(code="conversations_locked", text=f"{sentence}."))
    )
    _show(window, take, locked, "k15-encryption-locked")
    locked.close()


def _show(window: LiveWindow, take: Take, dialog: QDialog, state: str) -> None:
    dialog.open()
    window.wait(dialog.isVisible)
    take(state, dialog)
