"""The form for getting a model: as it is or converted, where to, and what that truly costs.

Owns: the form and the FetchRequest made of it. Does not fetch: `started` carries what is asked for, and the form
stays open until it is told the outcome.
"""

from collections.abc import Callable
from pathlib import Path
from typing import cast

from PySide6.QtCore import QStorageInfo, Qt, Signal
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QGridLayout,
    QLabel,
    QRadioButton,
    QVBoxLayout,
    QWidget,
)

from app.conversion_words import DENSE_WORDS, result_bytes
from app.fetch_plan import FetchPlan, Room
from app.library_words import (
    CONSUME_WORDS,
    cost_lines,
    fetch_request,
    file_name,
    offer_source,
    shortfall_words,
)
from app.quantities import size_name
from app.views.elided_line import ElidedLine
from app.views.path_choice import choice_button, choose_folder, choose_model_target
from app.views.scrolled_form import scrolled_form
from app.wrapping import breakable
from engine.protocol_jobs import DenseFormat, StartJob
from engine.protocol_library import DiskRoom, Offer

Measure = Callable[[str], Room | None]
MODEL_SUFFIX = ".gguf"


def measure(path: str) -> Room | None:
    """The disk of a folder that exists, or is about to: one call of the system, of a folder just looked at."""
    folder = Path(path)
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    disk = QStorageInfo(str(folder))
    return Room(disk.bytesAvailable(), disk.bytesTotal()) if disk.isValid() and disk.isReady() else None


class GetDialog(QDialog):
    """Asks what is to become of `offer`."""

    started = Signal(object)
    """StartJob."""

    def __init__(
        self, offer: Offer, rooms: list[DiskRoom], parent: QWidget | None = None, measure: Measure = measure
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle(f"Get {offer.title}")
        self.resize(680, 600)
        self._offer, self._measure = offer, measure
        is_checkpoint = offer.kind == "checkpoint"
        rooms_by_role = {room.role: room for room in rooms}
        models = rooms_by_role.get("models")
        fetched = rooms_by_role.get("checkpoints", models) if is_checkpoint else models
        self._folder: str | None = None
        self._target: str | None = None
        self._fetched_room = Room.of(fetched) if fetched else None
        self._result_room = Room.of(models) if models else None
        self._wishes_consume: bool | None = None
        self.title = QLabel(offer.title)
        self.title.setObjectName("dialogTitle")
        self.source = QLabel(breakable(offer_source(offer)))
        self.about = QLabel(offer.about)
        self.about.setVisible(bool(offer.about))
        self.convert = QRadioButton("Download and &convert: one GGUF file that this program can load")
        self.fetch_only = QRadioButton("&Download only: the checkpoint as it is published")
        self.convert.setChecked(is_checkpoint)
        self.fetch_only.setChecked(not is_checkpoint)
        self.dense = QComboBox()
        for key, words in DENSE_WORDS:
            size = result_bytes(offer.results, key)
            self.dense.addItem(f"{words} ({size_name(size)})" if size else words, key)
        self.dense.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.dense.setMinimumContentsLength(12)
        self.dense.setAccessibleName("Dense part")
        self.dense.setToolTip("Everything but the experts, which are always kept bit for bit")
        self.consume = QCheckBox("D&elete parts as they are converted")
        self.consume_words = QLabel(CONSUME_WORDS)
        self.folder = ElidedLine(Qt.TextElideMode.ElideMiddle)
        self.target = ElidedLine(Qt.TextElideMode.ElideMiddle)
        self.folder.set_words(fetched.path if fetched else "")
        self.target.set_words(_joined(models.path, file_name(offer) + MODEL_SUFFIX) if models else "")
        self.fit, self.room, self.message = (QLabel() for _ in range(3))
        self.fit.setText(breakable(offer.fit.text) if offer.fit else "")
        self.fit.setVisible(offer.fit is not None)
        for label in (
            self.title, self.source, self.about, self.consume_words, self.fit, self.room,
            self.message,
        ):  # fmt: skip
            label.setTextFormat(Qt.TextFormat.PlainText)
            label.setWordWrap(True)
        for label in (self.source, self.consume_words):
            label.setProperty("muted", True)
        for label in (self.room, self.message):
            label.setProperty("danger", True)
            label.hide()
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel)
        self._cancel_button = buttons.button(QDialogButtonBox.StandardButton.Cancel)
        self.get_button = buttons.addButton("Get it", QDialogButtonBox.ButtonRole.AcceptRole)
        buttons.accepted.connect(self._start)
        buttons.rejected.connect(self.reject)
        self._lay_out(buttons, is_checkpoint)
        self.convert.toggled.connect(self._update)
        self.dense.currentIndexChanged.connect(self._update)
        self.consume.clicked.connect(self._wish_consume)
        self._update()

    def _lay_out(self, buttons: QDialogButtonBox, is_checkpoint: bool) -> None:
        self.choose_folder_button = choice_button(
            "C&hoose…", "Choose the folder to download into", self._choose_folder
        )
        self.choose_target_button = choice_button("Ch&oose…", "Choose the file to write", self._choose_target)
        grid = QGridLayout()
        grid.setHorizontalSpacing(16)
        grid.setVerticalSpacing(8)
        grid.setColumnStretch(1, 1)
        self._dense_caption = QLabel("Dense &part")
        self._dense_caption.setBuddy(self.dense)
        self._target_caption = QLabel("Save as")
        for row, (caption, field, button) in enumerate((
            (self._dense_caption, self.dense, None),
            (QLabel("Download to"), self.folder, self.choose_folder_button),
            (self._target_caption, self.target, self.choose_target_button),
        )):  # fmt: skip
            grid.addWidget(caption, row, 0)
            grid.addWidget(field, row, 1, 1, 1 if button else 2)
            if button is not None:
                grid.addWidget(button, row, 2)
        self._costs = QGridLayout()
        self._costs.setHorizontalSpacing(16)
        self._costs.setVerticalSpacing(4)
        self._costs.setColumnStretch(1, 1)
        self.cost_labels: list[tuple[QLabel, QLabel]] = []
        form = QWidget()
        column = QVBoxLayout(form)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        for part in (self.title, self.source, self.about):
            column.addWidget(part)
        column.addSpacing(8)
        for choice in (self.convert, self.fetch_only):
            choice.setVisible(is_checkpoint)
            column.addWidget(choice)
        column.addSpacing(8)
        column.addLayout(grid)
        column.addWidget(self.consume)
        column.addWidget(self.consume_words)
        column.addSpacing(8)
        column.addLayout(self._costs)
        column.addWidget(self.fit)
        column.addStretch(1)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(24, 20, 24, 20)
        outer.setSpacing(16)
        outer.addWidget(scrolled_form(form), 1)
        outer.addWidget(self.room)
        outer.addWidget(self.message)
        outer.addWidget(buttons)
        self.get_button.setDefault(True)

    # --- from outside ---------------------------------------------------------------------------------

    def set_folder(self, path: str) -> None:
        """Download into a folder of this name in the folder `path`."""
        self._folder = path
        self._fetched_room = self._measure(path)
        self.folder.set_words(path)
        self._update()

    def set_target(self, path: str) -> None:
        """Write the converted model to this file."""
        self._target = path
        self._result_room = self._measure(str(Path(path).parent))
        self.target.set_words(path)
        self._update()

    def be_unasked_for(self) -> None:
        """A link opened it, perhaps while somebody was typing: Return cancels."""
        self.get_button.setDefault(False)
        self.get_button.setAutoDefault(False)
        self._cancel_button.setDefault(True)
        self._cancel_button.setFocus(Qt.FocusReason.OtherFocusReason)

    def refuse(self, sentence: str) -> None:
        """It could not be begun: say why, keep what was chosen."""
        self.message.setText(breakable(sentence))
        self.message.setAccessibleName(f"Outcome: {sentence}")
        self.message.show()
        self._update()

    def asked(self) -> StartJob:
        """What the form asks for."""
        folder = _joined(self._folder, file_name(self._offer)) if self._folder else None
        convert = (self._dense(), self.consume.isChecked(), self._target) if self._converts() else None
        return StartJob(asked=fetch_request(self._offer, folder, convert))

    # --- what it costs --------------------------------------------------------------------------------

    def _converts(self) -> bool:
        return self._offer.kind == "checkpoint" and self.convert.isChecked()

    def _dense(self) -> DenseFormat:
        return cast(DenseFormat, self.dense.currentData())

    def _plan(self, *, consume: bool) -> FetchPlan:
        return FetchPlan.of(self._offer, convert=self._converts(), dense=self._dense(), consume=consume)

    def _wish_consume(self, checked: bool) -> None:
        self._wishes_consume = checked
        self._update()

    def _update(self) -> None:
        converts = self._converts()
        if self._wishes_consume is None:
            # Both whole only where both have room.
            needs = self._plan(consume=False).shortfalls(self._fetched_room, self._result_room)
            self.consume.setChecked(converts and bool(needs))
        plan = self._plan(consume=self.consume.isChecked())
        for part in (
            self._dense_caption, self.dense, self._target_caption, self.target, self.choose_target_button,
            self.consume,
        ):  # fmt: skip
            part.setVisible(converts)
        self.consume_words.setVisible(converts and self.consume.isChecked())
        self._show_costs([*cost_lines(plan), ("Free there now", self._free_words(converts))])
        words = shortfall_words(plan.shortfalls(self._fetched_room, self._result_room))
        self.room.setText(words)
        self.room.setVisible(bool(words))
        self.get_button.setEnabled(not words)
        self.get_button.setText("Get and convert" if converts else "Get it")

    def _show_costs(self, lines: list[tuple[str, str]]) -> None:
        while len(self.cost_labels) < len(lines):
            name, value = QLabel(), QLabel()
            name.setProperty("muted", True)
            value.setWordWrap(True)
            row = len(self.cost_labels)
            self._costs.addWidget(name, row, 0, Qt.AlignmentFlag.AlignTop)
            self._costs.addWidget(value, row, 1)
            self.cost_labels.append((name, value))
        for place, (name, value) in enumerate(self.cost_labels):
            shown = place < len(lines)
            name.setVisible(shown)
            value.setVisible(shown)
            if shown:
                name.setText(lines[place][0])
                value.setText(lines[place][1])

    def _free_words(self, converts: bool) -> str:
        fetched, result = self._fetched_room, self._result_room
        if fetched is None:
            return "not known"
        if converts and result is not None and not fetched.is_same(result):
            return (
                f"{size_name(fetched.free_bytes)} where it is downloaded to, "
                f"{size_name(result.free_bytes)} where the result goes"
            )
        return size_name(fetched.free_bytes)

    # --- doing ----------------------------------------------------------------------------------------

    def _start(self) -> None:
        if self.get_button.isEnabled():
            self.message.hide()
            self.get_button.setEnabled(False)
            self.started.emit(self.asked())

    def _choose_folder(self) -> None:
        choose_folder(self, "The folder to download into", self.folder.words(), self.set_folder)

    def _choose_target(self) -> None:
        choose_model_target(self, self.target.words(), self.set_target)


def _joined(folder: str, name: str) -> str:
    return str(Path(folder) / name)
