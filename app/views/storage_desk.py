"""What is kept, at work: files of conversations, backups, encryption, and how much everything takes.

Owns: the file choosers and dialogs of these, and handing what they ask for to the shelf. Does not lay anything out, and
writes no file but an exported one.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from PySide6.QtCore import QDir, QObject, Qt, Signal
from PySide6.QtWidgets import QDialog, QFileDialog, QWidget
from shiboken6 import isValid

from app.api import EngineApi
from app.kept_file import KeptFile
from app.session_catalogue import SessionCatalogue
from app.storage_shelf import StorageShelf
from app.storage_words import file_name
from app.theme import Theme
from engine.protocol import ErrorBody, SessionSummary
from engine.protocol_encryption import ChangeEncryption, EncryptionChange, EncryptionState
from engine.protocol_storage import StorageUsage

if TYPE_CHECKING:
    from app.views.kept_fields import KeptFields
    from app.views.notice import NoticeBar

MARKDOWN, JSON = "Markdown, to be read (*.md)", "Everything, to be imported (*.json)"
BACKUPS = "Backups of Seamount (*.seamount-backup)"
BACKUP_SUFFIX = "seamount-backup"


class StorageDesk(QObject):
    """`theme` gives the look of the moment; dialogs stand in the window of the notices."""

    encryption_told = Signal(bool)
    """Whether conversations are encrypted: an engine has said so."""

    def __init__(
        self,
        api: EngineApi,
        catalogue: SessionCatalogue,
        open_session: Callable[[], str | None],
        show: Callable[[str], None],
        notices: "NoticeBar",
        theme: Callable[[], Theme],
        restart: Callable[[], None],
        parent: QObject,
    ) -> None:
        """`open_session` gives the open conversation, `show` opens one, `restart` the engine anew."""
        super().__init__(parent)
        self._catalogue, self._open_session, self._show_session = catalogue, open_session, show
        self._notices, self._theme, self._restart = notices, theme, restart
        self._shelf = StorageShelf(api, self)

    def engine_ready(self) -> None:
        """An engine is there: conversations that it cannot open, and a restore that it has finished, are told."""

        def locked(state: EncryptionState) -> None:
            self.encryption_told.emit(state.on)
            trouble = state.locked or state.problem
            if state.locked is not None:
                self._notices.dismiss("engine notice")  # the status says the same, without a way to help it
            if trouble is not None:
                self._notices.tell(
                    "encryption", trouble.text, button="Encryption…", on_button=self.show_encryption
                )
            else:
                self._notices.dismiss("encryption")

        def restored(usage: StorageUsage) -> None:
            if usage.notice:
                self._notices.tell("restored", usage.notice, kind="info")

        # Without these answers everything works that can.
        self._shelf.ask_encryption(locked, lambda _: None)
        self._shelf.ask_usage(restored, lambda _: None)

    # --- the settings' part -------------------------------------------------------------------------

    def fill(self, fields: "KeptFields") -> None:
        """Have the settings' form tell what is kept, and forget it when it is told to."""

        def told(usage: StorageUsage) -> None:
            if isValid(fields.state):
                fields.show(usage)

        def failed(error: ErrorBody) -> None:
            if isValid(fields.state):
                fields.show_failure(error)

        def forget() -> None:
            fields.forget_button.setEnabled(False)
            self._shelf.forget_states(told, failed)

        fields.forget_button.clicked.connect(forget)
        self._shelf.ask_usage(told, failed)

    # --- conversations as files ---------------------------------------------------------------------

    def export_conversation(self) -> None:
        """Ask where to, then write the open conversation there."""
        session_id = self._open_session()
        if session_id is None:
            return
        dialog = self._file_dialog("Export the conversation", (MARKDOWN, JSON), save="md")
        title = self._catalogue.title(session_id)

        def propose(chosen: str) -> None:
            suffix = "json" if chosen == JSON else "md"
            dialog.setDefaultSuffix(suffix)
            dialog.selectFile(file_name(title, f".{suffix}"))

        def export(path: str) -> None:
            self.export_to(session_id, path)

        propose(MARKDOWN)
        dialog.filterSelected.connect(propose)
        dialog.fileSelected.connect(export)
        dialog.open()

    def export_to(self, session_id: str, path: str) -> None:
        """Write a conversation to `path`: everything of it if that ends in .json, else Markdown."""
        file = KeptFile(path, self)

        def failed(sentence: str) -> None:
            self._refuse(
                f"The conversation was not exported: {path} cannot be written: {sentence}; choose another place."
            )

        def written() -> None:
            file.deleteLater()
            self._tell_exported(path)

        file.written.connect(written)
        file.failed.connect(failed)
        kind = "json" if path.lower().endswith(".json") else "markdown"
        self._shelf.export(session_id, kind, file.write, self._refused)

    def _tell_exported(self, path: str) -> None:
        where = f"The conversation was exported to {QDir.toNativeSeparators(path)}."

        def told(state: EncryptionState) -> None:
            tell(" The file is not encrypted." if state.on else "")

        def tell(more: str) -> None:
            self._notices.tell("export", where + more, kind="info")

        self._shelf.ask_encryption(told, lambda _: tell(""))

    def import_conversation(self) -> None:
        """Ask for the file, then take it in."""
        dialog = self._file_dialog("Import a conversation", (JSON.replace("to be imported", "as exported"),))
        dialog.fileSelected.connect(self.import_from)
        dialog.open()

    def import_from(self, path: str) -> None:
        """Take in the conversation in `path` and show it."""

        def taken(summary: SessionSummary) -> None:
            self._catalogue.refresh_soon()
            self._show_session(summary.id)

        self._shelf.take_in(path, taken, self._refused)

    # --- backups --------------------------------------------------------------------------------------

    def back_up(self) -> None:
        """Everything into one file."""
        from app.views.backup_dialog import BackupDialog

        if self._is_open(BackupDialog):
            return
        dialog = BackupDialog(self._window)
        self._shelf.task_told.connect(dialog.show_task)
        self._shelf.task_lost.connect(dialog.refuse)

        def refuse(error: ErrorBody) -> None:
            if isValid(dialog):
                dialog.refuse(error)

        def begin(path: str) -> None:
            dialog.begin()
            self._shelf.back_up(path, with_states=dialog.states.isChecked(), failed=refuse)

        def ask_place() -> None:
            chooser = self._file_dialog("Back up to", (BACKUPS,), save=BACKUP_SUFFIX, parent=dialog)
            # A file that is there is never written over: nobody is asked whether it may be.
            chooser.setOption(QFileDialog.Option.DontConfirmOverwrite)
            chooser.selectFile(f"seamount.{BACKUP_SUFFIX}")
            chooser.fileSelected.connect(begin)
            chooser.open()

        dialog.place_requested.connect(ask_place)
        dialog.stop_requested.connect(lambda: self._shelf.stop_task(refuse))
        self._shelf.ask_usage(
            lambda usage: dialog.show_usage(usage) if isValid(dialog) else None, lambda _: None
        )
        self._open(dialog)

    def restore_backup(self) -> None:
        """Ask for the file, then check it and ask again."""
        dialog = self._file_dialog("Restore a backup", (BACKUPS, "All files (*)"))
        dialog.fileSelected.connect(self.restore_from)
        dialog.open()

    def restore_from(self, path: str) -> None:
        """Check the backup `path`; the engine restarts with it if the person wants that."""
        from app.views.restore_dialog import RestoreDialog

        if self._is_open(RestoreDialog):
            return
        dialog = RestoreDialog(path, self._window)
        dialog.restart_requested.connect(self._restart)
        dialog.given_up.connect(lambda: self._shelf.give_up_restore(self._refused))
        self._shelf.prepare_restore(
            path,
            lambda prepared: (
                dialog.show_prepared(prepared)
                if isValid(dialog)
                # The dialog was closed while the backup was being checked.
                else self._shelf.give_up_restore(self._refused)
            ),
            lambda error: dialog.refuse(error) if isValid(dialog) else None,
        )
        self._open(dialog)

    # --- encryption -----------------------------------------------------------------------------------

    def show_encryption(self) -> None:
        """Turn it on or off, or open what is locked."""
        from app.views.encryption_dialog import EncryptionDialog

        if self._is_open(EncryptionDialog):
            return
        dialog, shelf = EncryptionDialog(self._theme(), self._window), self._shelf

        def failed(error: ErrorBody) -> None:
            if isValid(dialog):
                dialog.refuse(error)

        def not_changed(error: ErrorBody) -> None:
            if isValid(dialog):
                dialog.refuse(error)
            else:
                self._refused(error)  # what was to be taken back still stands

        def told(state: EncryptionState) -> None:
            if isValid(dialog):
                dialog.show_state(state)

        def changed(change: EncryptionChange) -> None:
            if isValid(dialog) and dialog.isVisible():
                dialog.show_change(change)
            elif change.recovery_key:
                # The dialog was closed while the keyring was asked: nothing is encrypted with a key nobody has seen.
                shelf.change_encryption(ChangeEncryption(on=False), lambda _: None, self._refused)

        def change(asked: ChangeEncryption) -> None:
            shelf.change_encryption(asked, changed, not_changed)

        def recover(key: str) -> None:
            shelf.recover(key, told, failed)

        dialog.change_requested.connect(change)
        dialog.key_given.connect(recover)
        dialog.restart_requested.connect(self._restart)
        shelf.ask_encryption(told, failed)
        self._open(dialog)

    # --- dialogs --------------------------------------------------------------------------------------

    @property
    def _window(self) -> QWidget:
        return self._notices.window()

    def _is_open(self, kind: type[QDialog]) -> bool:
        return self._window.findChild(kind) is not None

    @staticmethod
    def _open(dialog: QDialog) -> None:
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.open()

    def _file_dialog(
        self, title: str, filters: tuple[str, ...], *, save: str = "", parent: QWidget | None = None
    ) -> QFileDialog:
        """`save`: the suffix of the file that is written; "": one is read."""
        dialog = QFileDialog(parent or self._window, title)
        dialog.setNameFilters(filters)
        if save:
            dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
            dialog.setDefaultSuffix(save)
        else:
            dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        return dialog

    def _refused(self, error: ErrorBody) -> None:
        self._refuse(error.text)

    def _refuse(self, sentence: str) -> None:
        self._notices.tell("refused", sentence)
