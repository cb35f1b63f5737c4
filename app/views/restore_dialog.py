"""A backup is put in the place of what is here: checked first, and told what that means.

Owns: the question and its answer. Does not restore anything.
"""

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QDialog, QDialogButtonBox, QLabel, QProgressBar, QVBoxLayout, QWidget

from app.storage_words import restore_words
from app.wrapping import breakable
from engine.protocol import ErrorBody
from engine.protocol_storage import RestorePrepared

WIDTH_PX = 520


class RestoreDialog(QDialog):
    """Of the backup `path`, which is being checked. Closing it in any other way gives the restore up."""

    restart_requested = Signal()
    given_up = Signal()
    """What was prepared is not wanted."""

    def __init__(self, path: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Restore a backup")
        self._prepared = False
        self.about = QLabel(breakable(f"Checking {path}"))
        self.about.setTextFormat(Qt.TextFormat.PlainText)
        self.about.setWordWrap(True)
        self.about.setAccessibleName("What a restore does")
        self.bar = QProgressBar()
        self.bar.setRange(0, 0)
        self.bar.setTextVisible(False)
        self.bar.setAccessibleName("The backup is being checked")
        buttons = QDialogButtonBox()
        self.cancel_button = buttons.addButton("Cancel", QDialogButtonBox.ButtonRole.RejectRole)
        self.restart_button = buttons.addButton(
            "Restart the engine with it", QDialogButtonBox.ButtonRole.AcceptRole
        )
        self.restart_button.setEnabled(False)
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        column = QVBoxLayout(self)
        column.setContentsMargins(24, 20, 24, 20)
        column.setSpacing(12)
        column.addWidget(self.about)
        column.addWidget(self.bar)
        column.addStretch(1)
        column.addWidget(buttons)
        self.cancel_button.setDefault(True)
        self.setMinimumWidth(WIDTH_PX)

    def show_prepared(self, prepared: RestorePrepared) -> None:
        """It is whole."""
        self._prepared = True
        self._say(restore_words(prepared))
        self.restart_button.setEnabled(True)
        self.restart_button.setFocus()

    def refuse(self, error: ErrorBody) -> None:
        """It is not taken."""
        self._say(error.text)

    def done(self, result: int) -> None:
        """Restart with it, or forget it."""
        if result == QDialog.DialogCode.Accepted:
            self.restart_requested.emit()
        elif self._prepared:
            self.given_up.emit()
        super().done(result)

    def _say(self, words: str) -> None:
        self.about.setText(breakable(words))
        self.bar.hide()
        self.adjustSize()
