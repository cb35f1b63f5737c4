"""The conversions there are, each as a card.

Owns: the list, what it says while it is empty, and the question before a conversion is given up. Does not carry
anything out: `app.job_shelf` does.
"""

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QLabel,
    QMessageBox,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from app.conversion_words import EMPTY_TEXT, EMPTY_TITLE, WAITING_TITLE, breakable
from app.job_shelf import JobShelf
from app.views.job_card import JobCard
from engine.protocol import ErrorBody
from engine.protocol_jobs import Job


class ConversionsDialog(QDialog):
    """Shows a JobShelf while it is open."""

    convert_requested = Signal()
    use_requested = Signal(str)
    """The path of a model's file."""

    def __init__(self, shelf: JobShelf, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Conversions")
        self.resize(720, 560)
        self._shelf = shelf
        self.cards: dict[str, JobCard] = {}
        self.empty_title = QLabel(EMPTY_TITLE)
        self.empty_title.setObjectName("dialogTitle")
        self.empty_text = QLabel(EMPTY_TEXT)
        self.empty_text.setWordWrap(True)
        self.empty_text.setProperty("muted", True)
        self.message = QLabel()
        self.message.setTextFormat(Qt.TextFormat.PlainText)
        self.message.setWordWrap(True)
        self.message.setProperty("danger", True)
        self.message.hide()
        inner = QWidget()
        self._list = QVBoxLayout(inner)
        self._list.setContentsMargins(0, 0, 8, 0)
        self._list.setSpacing(12)
        self._list.addWidget(self.empty_title)
        self._list.addWidget(self.empty_text)
        self._list.addStretch(1)
        self.area = QScrollArea()
        self.area.setWidget(inner)
        self.area.setWidgetResizable(True)
        self.area.setFrameShape(QScrollArea.Shape.NoFrame)
        self.area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.area.setAccessibleName("List of conversions")
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        self.convert_button = buttons.addButton(
            "Convert a checkpoint…", QDialogButtonBox.ButtonRole.ActionRole
        )
        self.convert_button.setDefault(True)
        self.convert_button.clicked.connect(lambda: self.convert_requested.emit())
        buttons.rejected.connect(self.reject)
        column = QVBoxLayout(self)
        column.setContentsMargins(24, 20, 24, 20)
        column.setSpacing(12)
        column.addWidget(self.area, 1)
        column.addWidget(self.message)
        column.addWidget(buttons)
        shelf.changed.connect(self._refresh)
        shelf.refused.connect(self._refused)
        self._refresh()

    def _refresh(self) -> None:
        jobs = self._shelf.jobs
        for job_id in [job_id for job_id in self.cards if all(job.id != job_id for job in jobs)]:
            card = self.cards.pop(job_id)
            had_focus = card.isAncestorOf(self.focusWidget()) if self.focusWidget() else False
            self._list.removeWidget(card)
            card.hide()
            card.deleteLater()
            if had_focus:
                self.convert_button.setFocus(Qt.FocusReason.OtherFocusReason)
        for place, job in enumerate(jobs):
            card = self.cards.get(job.id)
            if card is None:
                card = self.cards[job.id] = self._card(job)
                self._list.insertWidget(place, card)
            elif card.job != job:
                card.show_job(job)
        self.empty_title.setText(EMPTY_TITLE if self._shelf.known else WAITING_TITLE)
        self.empty_title.setVisible(not jobs)
        self.empty_text.setVisible(not jobs)

    def _card(self, job: Job) -> JobCard:
        card = JobCard(job)
        card.pause_requested.connect(self._pause)
        card.resume_requested.connect(self._resume)
        card.cancel_requested.connect(self._ask_to_cancel)
        card.remove_requested.connect(self._forget)
        card.use_requested.connect(self.use_requested)
        return card

    def _pause(self, job_id: str) -> None:
        self.message.hide()
        self._shelf.pause(job_id)

    def _resume(self, job_id: str) -> None:
        self.message.hide()
        self._shelf.resume(job_id)

    def _forget(self, job_id: str) -> None:
        self.message.hide()
        self._shelf.forget(job_id)

    def _ask_to_cancel(self, job_id: str) -> None:
        card = self.cards.get(job_id)
        if card is None:
            return
        self.message.hide()
        box = QMessageBox(self)
        box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        box.setWindowTitle("Cancel the conversion")
        box.setTextFormat(Qt.TextFormat.PlainText)
        box.setText(f"Cancel the conversion to {card.title.text()}?")
        box.setInformativeText(
            "What is written so far can be kept: converting the same checkpoint to the same file goes on there."
        )
        keep = box.addButton("Cancel and keep", QMessageBox.ButtonRole.AcceptRole)
        back = box.addButton("Go on converting", QMessageBox.ButtonRole.RejectRole)
        if not card.job.consume:
            # With shards deleted, what is written may be all there is.
            delete = box.addButton("Cancel and delete", QMessageBox.ButtonRole.DestructiveRole)
            delete.clicked.connect(lambda: self._shelf.cancel(job_id, remove_partial=True))
        keep.clicked.connect(lambda: self._shelf.cancel(job_id, remove_partial=False))
        box.setDefaultButton(back)
        box.setEscapeButton(back)
        box.open()

    def _refused(self, error: ErrorBody) -> None:
        self.message.setText(breakable(error.text))
        self.message.setAccessibleName(f"Outcome: {error.text}")
        self.message.show()
