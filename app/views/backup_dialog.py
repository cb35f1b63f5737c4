"""Everything into one file: what is asked before, how far it is, and what has become of it.

Owns: the form and its three states. Does not write anything; it says what was pressed.
"""

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QCheckBox, QDialog, QDialogButtonBox, QLabel, QProgressBar, QVBoxLayout, QWidget

from app.quantities import size_name
from app.storage_words import task_share, task_words
from app.wrapping import breakable
from engine.protocol import ErrorBody
from engine.protocol_storage import StorageTask, StorageUsage

WIDTH_PX = 520
STEPS = 1000


class BackupDialog(QDialog):
    """Of everything in the data folder but model files. Stays open until it is closed."""

    place_requested = Signal()
    """The person wants to say where."""
    stop_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Back up")
        self.about = QLabel(
            "Conversations, settings and choices go into one file. Model files do not: they can be had again. "
            "Encrypted conversations stay encrypted in it."
        )
        self.states = QCheckBox("With what &models have read")
        self.states_hint = QLabel("Without it, conversations are read again when they go on.")
        self.bar = QProgressBar()
        self.bar.setRange(0, STEPS)
        self.bar.setTextVisible(False)
        self.bar.setAccessibleName("Progress of the backup")
        self.bar.hide()
        self.message = QLabel()
        self.message.setAccessibleName("Outcome")
        self.message.hide()
        for label in (self.about, self.states_hint, self.message):
            label.setTextFormat(Qt.TextFormat.PlainText)
            label.setWordWrap(True)
        self.states_hint.setProperty("muted", True)
        self.message.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
        )
        buttons = QDialogButtonBox()
        self.close_button = buttons.addButton("Close", QDialogButtonBox.ButtonRole.RejectRole)
        self.stop_button = buttons.addButton("Stop", QDialogButtonBox.ButtonRole.ActionRole)
        self.stop_button.hide()
        self.start_button = buttons.addButton("Choose a place…", QDialogButtonBox.ButtonRole.ActionRole)
        self.start_button.clicked.connect(self.place_requested)
        self.stop_button.clicked.connect(self._stop)
        buttons.rejected.connect(self.reject)
        column = QVBoxLayout(self)
        column.setContentsMargins(24, 20, 24, 20)
        column.setSpacing(10)
        for part in (self.about, self.states, self.states_hint, self.bar, self.message):
            column.addWidget(part)
        column.addStretch(1)
        column.addWidget(buttons)
        self.start_button.setDefault(True)
        self.setMinimumWidth(WIDTH_PX)

    def show_usage(self, usage: StorageUsage) -> None:
        """What everything takes now."""
        if usage.states_bytes:
            self.states.setText(f"With what &models have read ({size_name(usage.states_bytes)})")

    def begin(self) -> None:
        """A place was chosen: nothing can be changed any more."""
        self._show_running(True)
        self.bar.setRange(0, 0)
        self._say("")

    def show_task(self, task: StorageTask) -> None:
        """How far it is."""
        running = task.state == "running"
        self._show_running(running)
        self.bar.setRange(0, STEPS if task.total_bytes or not running else 0)
        self.bar.setValue(round(STEPS * task_share(task)))
        self._say(task_words(task))

    def refuse(self, error: ErrorBody) -> None:
        """It did not begin, or nothing is heard of it any more."""
        self._show_running(False)
        self._say(error.text)

    def _show_running(self, running: bool) -> None:
        had_focus = self.stop_button.hasFocus()
        self.bar.setVisible(running)
        self.stop_button.setVisible(running)
        self.stop_button.setEnabled(True)
        self.start_button.setVisible(not running)
        self.states.setEnabled(not running)
        if had_focus and not running:
            self.close_button.setFocus()

    def _say(self, words: str) -> None:
        self.message.setText(breakable(words))
        self.message.setVisible(bool(words))
        self.adjustSize()

    def _stop(self) -> None:
        self.stop_button.setEnabled(False)
        self.stop_requested.emit()
