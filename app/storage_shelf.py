"""What the engine keeps, as it tells it: how much that takes, conversations as files, backups, encryption.

Owns: these requests, and following a task of the engine's until it is over. Does not know how anything is shown
(`storage_words`, `views/`), nor how it is kept. A recovery key passes through and is not kept.
"""

from collections.abc import Callable
from typing import Literal

from PySide6.QtCore import QObject, QTimer, Signal

from app.api import EngineApi, Failed
from engine.protocol import SessionSummary
from engine.protocol_encryption import ChangeEncryption, EncryptionChange, EncryptionState, RecoveryKey
from engine.protocol_storage import (
    ImportRequest,
    RestorePrepared,
    RestoreRequest,
    StartStorageTask,
    StorageTask,
    StorageUsage,
)

ExportKind = Literal["markdown", "json"]

TASK_PAUSE_MS = 400
FILE_TIMEOUT_S = 120.0
"""A conversation of a million tokens is some megabytes to read and to write."""
CHECK_TIMEOUT_S = 3600.0
"""All of a backup is read before anything is put in its place."""
KEYRING_TIMEOUT_S = 120.0
"""A keyring may ask the person first."""


class StorageShelf(QObject):
    """Asks; `task_told` follows the one task that runs."""

    task_told = Signal(object)
    """StorageTask: how far it is, and at last what has become of it."""
    task_lost = Signal(object)
    """ErrorBody: the engine does not tell of the task any more."""

    def __init__(self, api: EngineApi, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._api = api
        self._again = QTimer(self)
        self._again.setSingleShot(True)
        self._again.setInterval(TASK_PAUSE_MS)
        self._again.timeout.connect(self.look_at_task)

    def ask_usage(self, ok: Callable[[StorageUsage], None], failed: Failed) -> None:
        """What everything takes on the disk."""
        self._api.get("/api/storage", StorageUsage, ok, failed)

    def forget_states(self, ok: Callable[[StorageUsage], None], failed: Failed) -> None:
        """Have what models have read removed; it is read again when it is needed."""
        self._api.send("POST", "/api/storage/forget", None, StorageUsage, ok, failed, FILE_TIMEOUT_S)

    def export(self, session_id: str, kind: ExportKind, ok: Callable[[bytes], None], failed: Failed) -> None:
        """A conversation as the content of a file."""
        self._api.fetch(f"/api/sessions/{session_id}/export?kind={kind}", ok, failed, FILE_TIMEOUT_S)

    def take_in(self, path: str, ok: Callable[[SessionSummary], None], failed: Failed) -> None:
        """The conversation in the file `path`, as a new one."""
        request = ImportRequest(path=path)
        self._api.send("POST", "/api/sessions/import", request, SessionSummary, ok, failed, FILE_TIMEOUT_S)

    def back_up(self, path: str, *, with_states: bool, failed: Failed) -> None:
        """Begin to write everything into the file `path`; `task_told` says how that goes."""
        request = StartStorageTask(kind="backup", path=path, with_states=with_states)
        self._api.send("POST", "/api/storage/tasks", request, StorageTask, self._take, failed)

    def look_at_task(self) -> None:
        """Find out how far the task is; again after a moment while it runs."""
        self._api.get("/api/storage/task", StorageTask, self._take, self.task_lost.emit)

    def stop_task(self, failed: Failed) -> None:
        """Have it end; `task_told` says so."""
        self._api.command("DELETE", "/api/storage/task", None, failed)

    def prepare_restore(self, path: str, ok: Callable[[RestorePrepared], None], failed: Failed) -> None:
        """Check the backup at `path` and have it take effect at the engine's next start."""
        request = RestoreRequest(path=path)
        self._api.send("POST", "/api/storage/restore", request, RestorePrepared, ok, failed, CHECK_TIMEOUT_S)

    def give_up_restore(self, failed: Failed) -> None:
        """Have the backup not take effect."""
        self._api.command("DELETE", "/api/storage/restore", None, failed)

    def ask_encryption(self, ok: Callable[[EncryptionState], None], failed: Failed) -> None:
        """Whether the conversations are encrypted."""
        self._api.send("GET", "/api/encryption", None, EncryptionState, ok, failed, KEYRING_TIMEOUT_S)

    def change_encryption(
        self, asked: ChangeEncryption, ok: Callable[[EncryptionChange], None], failed: Failed
    ) -> None:
        """Have them encrypted, or not any more, at the engine's next start."""
        self._api.send("PUT", "/api/encryption", asked, EncryptionChange, ok, failed, KEYRING_TIMEOUT_S)

    def recover(self, key: str, ok: Callable[[EncryptionState], None], failed: Failed) -> None:
        """Give the key of conversations that are locked."""
        request = RecoveryKey(recovery_key=key)
        path = "/api/encryption/recover"
        self._api.send("POST", path, request, EncryptionState, ok, failed, KEYRING_TIMEOUT_S)

    def _take(self, task: StorageTask) -> None:
        if task.state == "running":
            self._again.start()
        self.task_told.emit(task)
