"""The form of a conversion: which checkpoint, what is in it, where to, and how.

Owns: the form, and asking for an inspection whenever its paths change. Does not convert: `started` carries what is
asked for, and the form stays open until it is told the outcome.
"""

from collections.abc import Callable
from typing import cast

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)
from shiboken6 import isValid

from app.api import Failed
from app.conversion_words import (
    CONSUME_WARNING,
    DENSE_WORDS,
    NAME_IT,
    inspection_words,
    result_bytes,
    space_words,
    suggested_target,
)
from app.quantities import size_name
from app.views.path_choice import choice_button, choose_folder, choose_model_target
from app.views.scrolled_form import scrolled_form
from app.wrapping import breakable
from engine.protocol import ErrorBody
from engine.protocol_jobs import ConvertRequest, DenseFormat, DraftPlace, Inspection, StartJob

Inspect = Callable[[str, str, Callable[[Inspection], None], Failed], None]
"""(path, target, ok, failed)."""
ABOUT = (
    "Makes one GGUF file of an official DeepSeek-V4 checkpoint. The experts are kept bit for bit; the rest is "
    "yours to choose."
)
FIRST_WORDS = "Choose the folder that holds config.json and the .safetensors files."
MOST_PROBLEMS = 6
_DRAFTS = (
    ("separate", "In a file of its own"),
    ("keep", "In the model’s file"),
    ("skip", "Left out"),
)


class ConvertDialog(QDialog):
    """Asks `inspect` about what is chosen, and emits what is to be done."""

    started = Signal(object)
    """StartJob."""

    def __init__(self, inspect: Inspect, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Convert a checkpoint")
        self.resize(680, 560)
        self._inspect = inspect
        self._found: Inspection | None = None
        self._asked = ("", "")
        self._number = 0
        self._suggested = ""
        self.source = _path_field("Checkpoint folder", "/path/to/DeepSeek-V4-Flash-0731")
        self.findings = QLabel(FIRST_WORDS)
        self.target = _path_field("File to write", "/path/to/DeepSeek-V4-Flash-0731.gguf")
        self.release_caption = QLabel("&Model’s name")
        self.release = _path_field("Model’s name", "DeepSeek-V4-Flash-0731")
        self.dense = QComboBox()
        self.draft = QComboBox()
        for key, words in DENSE_WORDS:
            self.dense.addItem(words, key)
        for key, words in _DRAFTS:
            self.draft.addItem(words, key)
        self.consume = QCheckBox("&Delete the checkpoint while converting")
        self.warning = QLabel(CONSUME_WARNING)
        self.space = QLabel()
        self.message = QLabel()
        for label in (self.findings, self.warning, self.space, self.message):
            label.setTextFormat(Qt.TextFormat.PlainText)
            label.setWordWrap(True)
        self.findings.setAccessibleName("What was found")
        self.warning.setProperty("danger", True)
        self.message.setProperty("danger", True)
        self.message.hide()
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel)
        self.convert_button = buttons.addButton("Convert", QDialogButtonBox.ButtonRole.AcceptRole)
        buttons.accepted.connect(self._start)
        buttons.rejected.connect(self.reject)
        self._lay_out(buttons)
        self.source.editingFinished.connect(self._look)
        self.target.editingFinished.connect(self._look)
        self.target.textChanged.connect(self._update)
        self.release.textChanged.connect(self._update)
        self.dense.currentIndexChanged.connect(self._update)
        self.draft.currentIndexChanged.connect(self._update)
        self.consume.toggled.connect(self._update)
        self._update()

    def _lay_out(self, buttons: QDialogButtonBox) -> None:
        about = QLabel(ABOUT)
        about.setWordWrap(True)
        about.setProperty("muted", True)
        self.choose_source_button = choice_button(
            "C&hoose…", "Choose the checkpoint’s folder", self._choose_source
        )
        self.choose_target_button = choice_button("Ch&oose…", "Choose the file to write", self._choose_target)
        grid = QGridLayout()
        grid.setHorizontalSpacing(16)
        grid.setVerticalSpacing(10)
        grid.setColumnStretch(1, 1)
        rows: tuple[tuple[QLabel, QWidget, QPushButton | None], ...] = (
            (QLabel("Check&point"), self.source, self.choose_source_button),
            (QLabel(), self.findings, None),
            (self.release_caption, self.release, None),
            (QLabel("&Save as"), self.target, self.choose_target_button),
            (QLabel("Dense par&t"), self.dense, None),
            (QLabel("D&rafter"), self.draft, None),
            (QLabel(), self.space, None),
            (QLabel(), self.consume, None),
            (QLabel(), self.warning, None),
        )
        for row, (caption, field, button) in enumerate(rows):
            if caption.text():
                caption.setBuddy(field)
                grid.addWidget(caption, row, 0)
            if button is None:
                grid.addWidget(field, row, 1)
            else:
                line = QHBoxLayout()
                line.setSpacing(8)
                line.addWidget(field, 1)
                line.addWidget(button)
                grid.addLayout(line, row, 1)
        for choice in (self.dense, self.draft):
            choice.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            choice.setMinimumContentsLength(12)
        self.dense.setAccessibleName("Dense part")
        self.draft.setAccessibleName("Drafter")
        form = QWidget()
        rows_column = QVBoxLayout(form)
        rows_column.setContentsMargins(0, 0, 0, 0)
        rows_column.setSpacing(16)
        rows_column.addWidget(about)
        rows_column.addLayout(grid)
        rows_column.addStretch(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(24, 20, 24, 20)
        column.setSpacing(16)
        column.addWidget(scrolled_form(form), 1)
        column.addWidget(self.message)
        column.addWidget(buttons)
        self.convert_button.setDefault(True)

    # --- from outside ---------------------------------------------------------------------------------

    def set_source(self, path: str) -> None:
        """Take a folder, and look at it."""
        self.source.setText(path)
        self._look()

    def set_target(self, path: str) -> None:
        """Take a file to write."""
        self.target.setText(path)
        self._look()

    def refuse(self, sentence: str) -> None:
        """It could not be begun: say why, keep what was chosen."""
        self._say(sentence)
        self._update()

    def asked(self) -> StartJob:
        """What the form asks for."""
        release = self.release.text().strip()
        return StartJob(
            asked=ConvertRequest(
                source=self.source.text().strip(),
                target=self.target.text().strip(),
                dense=self._dense(),
                draft=self._draft(),
                consume=self.consume.isChecked(),
                release=release if release and not self.release.isHidden() else None,
            )
        )

    # --- inspection -----------------------------------------------------------------------------------

    def _look(self) -> None:
        """Ask what is there, when something else is to be looked at; only the latest answer counts."""
        wanted = (self.source.text().strip(), self.target.text().strip())
        if not wanted[0] or wanted == self._asked:
            return
        if wanted[0] != self._asked[0]:
            self._found = None
            self.findings.setText("Reading the checkpoint’s headers…")
            self.message.hide()
        self._asked = wanted
        self._number += 1
        number = self._number

        # The answer may come when something else was asked, or the form is closed.
        def ok(found: Inspection) -> None:
            if isValid(self) and number == self._number:
                self._show(found)

        def failed(error: ErrorBody) -> None:
            if isValid(self) and number == self._number:
                self._found = None
                self.findings.setText(breakable(error.text))
                self._asked = ("", "")  # the same again is worth a try
                self._update()

        self._inspect(*wanted, ok, failed)
        self._update()

    def _show(self, found: Inspection) -> None:
        self._found = found
        lines = inspection_words(found)
        problems = found.problems[:MOST_PROBLEMS]
        lines += [f"⚠ {problem}" for problem in problems]
        if len(found.problems) > MOST_PROBLEMS:
            lines.append(f"⚠ and {len(found.problems) - MOST_PROBLEMS} more")
        if found.release_problem:
            lines.append(f"⚠ {NAME_IT}")
        self.findings.setText(breakable("\n".join(lines)))
        self._offer_draft(found)
        if self.target.text() in ("", self._suggested):
            self._suggested = suggested_target(found)
            self.target.setText(self._suggested)
            self._asked = (self._asked[0], self._suggested)
        self._update()

    def _offer_draft(self, found: Inspection) -> None:
        chosen = self._draft()
        self.draft.blockSignals(True)
        self.draft.clear()
        for key, words in _DRAFTS:
            # DSpark cannot stand in the model's file.
            if key != "keep" or found.drafter != "dspark":
                self.draft.addItem(words, key)
        self.draft.setCurrentIndex(max(0, self.draft.findData(chosen)))
        self.draft.blockSignals(False)

    def _update(self) -> None:
        found = self._found
        for place, (key, words) in enumerate(DENSE_WORDS):
            size = result_bytes(found.results, key, self._draft()) if found else None
            self.dense.setItemText(place, f"{words} ({size_name(size)})" if size else words)
        self.draft.setEnabled(found is None or found.drafter != "none")
        unknown = found is not None and found.release is None
        self.release.setVisible(unknown)
        self.release_caption.setVisible(unknown)
        self.warning.setVisible(self.consume.isChecked())
        words, fits = "", True
        if found is not None:
            words, fits = space_words(found, self._dense(), self._draft(), consume=self.consume.isChecked())
        self.space.setText(words)
        self.space.setVisible(bool(words))
        if bool(self.space.property("danger")) == fits:
            self.space.setProperty("danger", not fits)
            self.space.style().polish(self.space)
        named = found is not None and (found.release is not None or bool(self.release.text().strip()))
        usable = found is not None and not found.problems and bool(found.results)
        self.convert_button.setEnabled(named and usable and bool(self.target.text().strip()))

    def _dense(self) -> DenseFormat:
        return cast(DenseFormat, self.dense.currentData())

    def _draft(self) -> DraftPlace:
        return cast(DraftPlace, self.draft.currentData())

    def _say(self, sentence: str) -> None:
        self.message.setText(breakable(sentence))
        self.message.setAccessibleName(f"Outcome: {sentence}")
        self.message.show()

    def _start(self) -> None:
        if self.convert_button.isEnabled():
            self.message.hide()
            self.convert_button.setEnabled(False)
            self.started.emit(self.asked())

    def _choose_source(self) -> None:
        choose_folder(self, "The checkpoint’s folder", self.source.text(), self.set_source)

    def _choose_target(self) -> None:
        choose_model_target(self, self.target.text(), self.set_target)


def _path_field(name: str, example: str) -> QLineEdit:
    field = QLineEdit()
    field.setAccessibleName(name)
    field.setPlaceholderText(example)
    return field
