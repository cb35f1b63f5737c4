"""One job in the list: how far it is, what became of it, and what can be done with it.

Owns: the card's widgets, and keeping the keyboard's focus while its buttons change. Does not carry anything out.
"""

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from app.job_words import (
    badge_words,
    halves_words,
    item_words,
    kind_name,
    note_words,
    origin_words,
    outcome_words,
    place_words,
    progress_words,
    share,
    size_words,
    state_words,
)
from app.views.card_list import Card
from app.views.elided_line import ElidedLine
from app.views.flow_row import FlowRow
from app.wrapping import breakable
from engine.protocol_jobs import Job

BAR_STEPS = 1000
LEAST_BADGE_PX = 48
MODEL_SUFFIX = ".gguf"


class JobCard(Card):
    """A Job as it was told last; `show_entry` takes the next telling."""

    pause_requested = Signal(str)
    resume_requested = Signal(str)
    cancel_requested = Signal(str)
    forget_requested = Signal(str)
    token_requested = Signal(str)
    use_requested = Signal(str)
    """The path of the model's file."""
    reveal_requested = Signal(str)
    """A path."""

    def __init__(self, job: Job, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.job = job
        self.title = ElidedLine()
        self.title.setObjectName("cardTitle")
        self.state = QLabel()
        self.badge = QLabel()
        for label in (self.state, self.badge):
            label.setTextFormat(Qt.TextFormat.PlainText)
        self.badge.setObjectName("badge")
        self.badge.setMinimumWidth(LEAST_BADGE_PX)
        self.origin = ElidedLine()
        self.place = ElidedLine(Qt.TextElideMode.ElideMiddle)
        self.bar = QProgressBar()
        self.bar.setRange(0, BAR_STEPS)
        self.bar.setTextVisible(False)
        self.progress = _line()
        self.halves = _line(muted=True)
        self.item = ElidedLine(Qt.TextElideMode.ElideMiddle)
        for line in (self.origin, self.place, self.item):
            line.setProperty("muted", True)
        self.note = _line()
        self.outcome = _line()
        self.use_button = QPushButton("Use this model")
        self.use_button.setObjectName("primary")
        self.token_button = QPushButton("Enter access token…")
        self.token_button.setObjectName("primary")
        self.pause_button = QPushButton("Pause")
        self.resume_button = QPushButton("Resume")
        self.cancel_button = QPushButton("Cancel…")
        self.reveal_button = QPushButton("Show in folder")
        self.forget_button = QPushButton("Take off the list")
        self._buttons = (
            self.use_button, self.token_button, self.pause_button, self.resume_button, self.cancel_button,
            self.reveal_button, self.forget_button,
        )  # fmt: skip
        for button in self._buttons:
            button.setAutoDefault(False)
        self.forget_button.setToolTip("Take it off this list; its files stay")
        for button, signal in (
            (self.pause_button, self.pause_requested),
            (self.resume_button, self.resume_requested),
            (self.cancel_button, self.cancel_requested),
            (self.forget_button, self.forget_requested),
            (self.token_button, self.token_requested),
        ):
            button.clicked.connect(lambda _=False, signal=signal: signal.emit(self.job.id))
        self.use_button.clicked.connect(lambda: self.use_requested.emit(self.job.files[0]))
        self.reveal_button.clicked.connect(lambda: self.reveal_requested.emit(self._found()))
        self._lay_out()
        self.show_entry(job)

    def _lay_out(self) -> None:
        head = QHBoxLayout()
        head.setSpacing(8)
        head.addWidget(self.title, 1)
        head.addWidget(self.state)
        proof = QHBoxLayout()
        proof.addWidget(self.badge)
        proof.addStretch(1)
        foot = FlowRow()
        for button in self._buttons:
            foot.addWidget(button)
        column = QVBoxLayout(self)
        column.setContentsMargins(16, 12, 16, 12)
        column.setSpacing(4)
        column.addLayout(head)
        column.addWidget(self.origin)
        column.addWidget(self.place)
        column.addSpacing(4)
        column.addLayout(proof)
        for part in (self.bar, self.progress, self.halves, self.item, self.note, self.outcome):
            column.addWidget(part)
        column.addSpacing(4)
        column.addLayout(foot)

    def show_entry(self, entry: Job) -> None:
        """Show what has become of it."""
        job = self.job = entry
        self.title.set_words(job.title)
        self.title.setAccessibleName(job.title)
        _say(self.state, state_words(job), hides=False)
        self.origin.set_words(origin_words(job))
        self.place.set_words(place_words(job))
        is_done = job.state == "done"
        has_bar = job.state not in ("done", "cancelled")
        self.bar.setVisible(has_bar)
        self.bar.setValue(round(share(job) * BAR_STEPS))
        self.bar.setAccessibleName(f"Progress of the {kind_name(job)} of {job.title}")
        self.bar.setAccessibleDescription(progress_words(job))
        _say(self.progress, size_words(job) if is_done else progress_words(job))
        _say(self.halves, "" if is_done else halves_words(job))
        # While it runs the line stays, so that what is below does not jump.
        self.item.set_words(item_words(job))
        self.item.setVisible(job.state == "running" and job.progress is not None)
        _say(self.note, note_words(job))
        self._show_outcome(job)
        self._show_buttons(job)
        self.setAccessibleName(f"{job.title}: {state_words(job)}")

    def _show_outcome(self, job: Job) -> None:
        badge = badge_words(job.exactness)[0] if job.state == "done" and job.exactness is not None else ""
        _say(self.badge, f"✓ {badge}" if badge else "")
        self.badge.setAccessibleName(badge)
        _say(self.outcome, outcome_words(job))
        bad = job.state == "failed" or (job.verdict is not None and not job.verdict.good)
        if bool(self.outcome.property("danger")) != bad:
            self.outcome.setProperty("danger", bad)
            self.outcome.style().polish(self.outcome)

    def _show_buttons(self, job: Job) -> None:
        focused = next((button for button in self._buttons if button.hasFocus()), None)
        moves = job.state in ("queued", "running") and not job.stopping
        waits = job.state in ("paused", "interrupted", "failed")
        wants_token = waits and job.error is not None and job.error.code == "token_needed"
        is_model = bool(job.files) and job.files[0].lower().endswith(MODEL_SUFFIX)
        self.use_button.setVisible(
            job.state == "done" and job.asked.kind in ("fetch", "convert") and is_model
        )
        self.token_button.setVisible(wants_token)
        self.pause_button.setVisible(moves)
        self.resume_button.setVisible(waits and not wants_token)
        self.cancel_button.setVisible(moves or waits)
        self.reveal_button.setVisible(job.state == "done" and job.asked.kind != "verify")
        self.forget_button.setVisible(job.state in ("done", "failed", "cancelled"))
        for button in self._buttons:
            button.setAccessibleName(f"{button.text().rstrip('…')}: {job.title}")
        if focused is not None and focused.isHidden():
            # A button that goes would take the keyboard with it.
            next_one = next((button for button in self._buttons if not button.isHidden()), None)
            (next_one or self).setFocus(Qt.FocusReason.OtherFocusReason)

    def _found(self) -> str:
        return self.job.files[0] if self.job.files else self.job.place


def _say(label: QLabel, words: str, *, hides: bool = True) -> None:
    words = breakable(words)
    if label.text() != words:
        label.setText(words)
    if hides:
        label.setVisible(bool(words))


def _line(*, muted: bool = False) -> QLabel:
    label = QLabel()
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setWordWrap(True)
    label.setProperty("muted", muted)
    return label
