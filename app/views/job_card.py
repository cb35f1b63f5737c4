"""One conversion in the list: how far it is, how exact it became, and what can be done with it.

Owns: the card's widgets, and keeping the keyboard's focus while its buttons change. Does not carry anything out.
"""

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from app.conversion_words import (
    badge_words,
    breakable,
    origin_words,
    progress_words,
    share,
    size_words,
    state_words,
    tensor_words,
)
from engine.protocol_jobs import Job

BAR_STEPS = 1000
_FILE_PARTS = ("/", "\\")


class JobCard(QFrame):
    """A Job as it was told last; `show_job` takes the next telling."""

    pause_requested = Signal(str)
    resume_requested = Signal(str)
    cancel_requested = Signal(str)
    remove_requested = Signal(str)
    use_requested = Signal(str)
    """The path of the model's file."""

    def __init__(self, job: Job, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("jobCard")
        self.job = job
        self.title = _line()
        self.title.setObjectName("jobTitle")
        self.state = QLabel()
        self.badge = QLabel()
        for label in (self.state, self.badge):
            label.setTextFormat(Qt.TextFormat.PlainText)
        self.badge.setObjectName("badge")
        self.origin = _line(muted=True)
        self.bar = QProgressBar()
        self.bar.setRange(0, BAR_STEPS)
        self.bar.setTextVisible(False)
        self.progress = _line()
        self.tensor = _line(muted=True)
        self.outcome = _line()
        self.pause_button = QPushButton("Pause")
        self.resume_button = QPushButton("Resume")
        self.cancel_button = QPushButton("Cancel…")
        self.remove_button = QPushButton("Remove")
        self.use_button = QPushButton("Use this model")
        self.use_button.setObjectName("useModel")
        self._buttons = (
            self.use_button, self.pause_button, self.resume_button, self.cancel_button, self.remove_button,
        )  # fmt: skip
        for button in self._buttons:
            button.setAutoDefault(False)
        self.remove_button.setToolTip("Take it off this list; its files stay")
        self.pause_button.clicked.connect(lambda: self.pause_requested.emit(self.job.id))
        self.resume_button.clicked.connect(lambda: self.resume_requested.emit(self.job.id))
        self.cancel_button.clicked.connect(lambda: self.cancel_requested.emit(self.job.id))
        self.remove_button.clicked.connect(lambda: self.remove_requested.emit(self.job.id))
        self.use_button.clicked.connect(lambda: self.use_requested.emit(self.job.files[0]))
        self._lay_out()
        self.show_job(job)

    def _lay_out(self) -> None:
        head = QHBoxLayout()
        head.setSpacing(8)
        head.addWidget(self.title, 1)
        head.addWidget(self.state)
        proof = QHBoxLayout()
        proof.addWidget(self.badge)
        proof.addStretch(1)
        foot = QHBoxLayout()
        foot.setSpacing(8)
        for button in self._buttons:
            foot.addWidget(button)
        foot.addStretch(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(16, 12, 16, 12)
        column.setSpacing(6)
        column.addLayout(head)
        for part in (self.origin, self.bar, self.progress, self.tensor):
            column.addWidget(part)
        column.addLayout(proof)
        column.addWidget(self.outcome)
        column.addSpacing(4)
        column.addLayout(foot)

    def show_job(self, job: Job) -> None:
        """Show what has become of it."""
        self.job = job
        name = _file_name(job.target)
        self.title.setText(breakable(name))
        self.state.setText(state_words(job))
        self.origin.setText(breakable(origin_words(job)))
        is_done = job.state == "done"
        self.bar.setVisible(not is_done)
        self.bar.setValue(round(share(job) * BAR_STEPS))
        self.bar.setAccessibleName(f"Conversion to {name}")
        self.bar.setAccessibleDescription(progress_words(job))
        self._say(self.progress, size_words(job) if is_done else progress_words(job))
        self._say(self.tensor, tensor_words(job))
        self._show_outcome(job)
        focused = next((button for button in self._buttons if button.hasFocus()), None)
        stops = job.stopping
        self.use_button.setVisible(is_done and bool(job.files))
        self.pause_button.setVisible(job.state in ("queued", "running") and not stops)
        self.resume_button.setVisible(job.state in ("paused", "failed"))
        self.cancel_button.setVisible(job.state in ("queued", "running", "paused", "failed") and not stops)
        self.remove_button.setVisible(job.state in ("done", "failed", "cancelled"))
        for button in self._buttons:
            button.setAccessibleName(f"{button.text().rstrip('…')}: {name}")
        if focused is not None and focused.isHidden():
            # A button that goes would take the keyboard with it.
            next_one = next((button for button in self._buttons if not button.isHidden()), None)
            (next_one or self).setFocus(Qt.FocusReason.OtherFocusReason)
        self.setAccessibleName(f"{name}: {state_words(job)}")

    def _show_outcome(self, job: Job) -> None:
        words = job.error.text if job.error else ""
        badge = ""
        if job.state == "done":
            if job.exactness is None:
                words = "How exact it is cannot be told: there is no receipt beside the file any more."
            else:
                badge, words = badge_words(job.exactness)
        self.badge.setText(f"✓ {badge}")
        self.badge.setAccessibleName(badge)
        self.badge.setVisible(bool(badge))
        self._say(self.outcome, words)
        if self.outcome.property("danger") != (job.state == "failed"):
            self.outcome.setProperty("danger", job.state == "failed")
            self.outcome.style().polish(self.outcome)

    @staticmethod
    def _say(label: QLabel, words: str) -> None:
        label.setText(breakable(words))
        label.setVisible(bool(words))


def _line(*, muted: bool = False) -> QLabel:
    label = QLabel()
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setWordWrap(True)
    label.setProperty("muted", muted)
    return label


def _file_name(path: str) -> str:
    return max((path.rpartition(part)[2] for part in _FILE_PARTS), key=lambda name: -len(name))
