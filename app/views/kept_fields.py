"""The settings of what is kept: cut answers, the disk space for what models have read, and when it is on the disk.

Owns: these fields and the values in them. Stands in the form of `settings_dialog`. Does not ask the engine: `show` is
told what is there.
"""

from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QComboBox, QDoubleSpinBox, QHBoxLayout, QLabel, QPushButton, QSpinBox, QWidget

from app.storage_words import states_words
from engine.protocol import ErrorBody, Settings
from engine.protocol_storage import StorageUsage

RESUMES = (("continue", "Go on by themselves"), ("offer", "Wait until they are continued"))
MOST_SYNC_MS = 60_000


class KeptFields:
    """`rows` for a form: (label, field, hint). Until `show` is called it is not known what is kept."""

    def __init__(self, settings: Settings) -> None:
        self.resume = QComboBox()
        for key, words in RESUMES:
            self.resume.addItem(words, key)
        self.resume.setCurrentIndex(self.resume.findData(settings.resume))
        self.space = QDoubleSpinBox()
        self.space.setRange(0, 100_000)
        self.space.setDecimals(1)
        self.space.setSingleStep(5)
        self.space.setGroupSeparatorShown(True)
        self.space.setSuffix(" GB")
        self.space.setSpecialValueText("Nothing is kept")
        self.space.setValue(settings.snapshots_gb)
        self._space_before = settings.snapshots_gb
        self.sync = QSpinBox()
        self.sync.setRange(0, MOST_SYNC_MS)
        self.sync.setSingleStep(50)
        self.sync.setGroupSeparatorShown(True)
        self.sync.setSuffix(" ms")
        self.sync.setSpecialValueText("Before it is shown")
        self.sync.setValue(settings.journal_sync_ms)
        self.state = QLabel("Looking at what is kept…")
        self.state.setWordWrap(True)
        self.state.setTextFormat(Qt.TextFormat.PlainText)
        self.state.setProperty("muted", True)
        self.state.setAccessibleName("What models have read")
        self.forget_button = QPushButton("&Forget it")
        self.forget_button.setAutoDefault(False)
        self.forget_button.setEnabled(False)
        hint = (
            "Removes what models have read from the disk; conversations stay, and are read again when needed."
        )
        self.forget_button.setToolTip(hint)
        self.forget_button.setAccessibleDescription(hint)
        row = QWidget()
        line = QHBoxLayout(row)
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(8)
        line.addWidget(self.state, 1)
        line.addWidget(self.forget_button)
        self.rows: tuple[tuple[str, QWidget, str], ...] = (
            (
                "C&ut answers",
                self.resume,
                "When the engine died or the power failed in the middle of one.",
            ),
            ("Disk &space", self.space, "For what models have read, so that it is not read again."),
            ("", row, ""),
            (
                "Power cu&t",
                self.sync,
                "What was shown is safe from one after so long; from a crash it always is.",
            ),
        )

    def show(self, usage: StorageUsage) -> None:
        """What is kept now."""
        self.state.setText(states_words(usage))
        self.forget_button.setEnabled(usage.states_count > 0)

    def show_failure(self, error: ErrorBody) -> None:
        """It cannot be told, or was not forgotten."""
        self.state.setText(error.text)

    def values(self) -> dict[str, Any]:
        """What has become of them, by the names of Settings."""
        space = round(self.space.value(), 1)
        untouched = space == round(self._space_before, 1)
        return {
            "resume": self.resume.currentData(),
            "snapshots_gb": self._space_before if untouched else space,
            "journal_sync_ms": self.sync.value(),
        }
