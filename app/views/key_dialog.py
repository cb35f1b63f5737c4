"""What one key may: its name, its limits, and the rules for beginnings that change with each request.

Owns: the form and the change made of it. Does not change anything; `applied` carries what is wanted.
"""

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import (
    QCheckBox,
    QDialog,
    QDialogButtonBox,
    QGridLayout,
    QLabel,
    QLineEdit,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from app.access_words import MOVE_MEANING, MOVE_NAME, PIN_MEANING, PIN_NAME
from app.views.make_key_dialog import LONGEST_NAME
from app.views.scrolled_form import scrolled_form
from app.views.settings_dialog import NUMBER_INDENT_PX
from app.wrapping import breakable
from engine.protocol_access import ChangeKey, ClientKey, KeyLimits, SteadyRules

MOST_TOKENS = 1_048_576
MOST_WAITING = 1024
MOST_MINUTES = 7 * 24 * 60
MINUTE_S = 60


class KeyDialog(QDialog):
    """Shows a ClientKey; Apply emits what it is to become and stays open until it is told the outcome."""

    applied = Signal(object)
    """ChangeKey."""

    def __init__(self, key: ClientKey, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Key")
        self._seconds = key.limits.seconds
        self.name = QLineEdit(key.name)
        self.name.setMaxLength(LONGEST_NAME)
        limits = key.limits
        self.answer = _number(MOST_TOKENS, limits.answer_tokens, " tokens", "Whatever it asks for", 1024)
        self.prompt = _number(MOST_TOKENS, limits.prompt_tokens, " tokens", "What the model can hold", 1024)
        self.waiting = _number(MOST_WAITING, limits.waiting, "", "Any number", 1)
        # Rounded up: a limit below a minute would else read as none.
        minutes = -(-limits.seconds // MINUTE_S)
        self.minutes = _number(MOST_MINUTES, minutes, " min", "As long as it takes", 1)
        self.pin, self.move_line = QCheckBox(PIN_NAME), QCheckBox(MOVE_NAME)
        self.pin.setChecked(key.steady.pin)
        self.move_line.setChecked(key.steady.move)
        self.message = QLabel()
        self.message.setTextFormat(Qt.TextFormat.PlainText)
        self.message.setProperty("danger", True)
        self.message.setWordWrap(True)
        self.message.setAccessibleName("Outcome")
        self.message.hide()
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel)
        self.apply_button = buttons.addButton("Apply", QDialogButtonBox.ButtonRole.AcceptRole)
        buttons.accepted.connect(self._apply)
        buttons.rejected.connect(self.reject)
        self.name.textChanged.connect(self._typed)
        column = QVBoxLayout(self)
        column.setContentsMargins(24, 20, 24, 20)
        column.setSpacing(12)
        column.addWidget(scrolled_form(self._form()), 1)
        column.addWidget(self.message)
        column.addWidget(buttons)
        self.apply_button.setDefault(True)
        self.resize(620, 560)

    def _form(self) -> QWidget:
        form = QWidget()
        grid = QGridLayout(form)
        grid.setContentsMargins(0, 0, 8, 0)
        grid.setHorizontalSpacing(16)
        grid.setVerticalSpacing(8)
        grid.setColumnStretch(1, 1)
        rows = (
            ("&Name", self.name),
            ("Longest &answer", self.answer),
            ("&Longest prompt", self.prompt),
            ("Requests at the same &time", self.waiting),
            ("Ti&me for one answer", self.minutes),
        )
        for row, (words, field) in enumerate(rows):
            caption = QLabel(words)
            caption.setBuddy(field)
            field.setAccessibleName(words.replace("&", ""))
            grid.addWidget(caption, row, 0)
            grid.addWidget(field, row, 1)
        row = len(rows)
        heading = QLabel("A line at the beginning that changes with each request")
        heading.setObjectName("sectionTitle")
        heading.setWordWrap(True)
        grid.setRowMinimumHeight(row, 8)
        grid.addWidget(heading, row + 1, 0, 1, 2)
        row += 2
        for box, meaning in ((self.pin, PIN_MEANING), (self.move_line, MOVE_MEANING)):
            box.setAccessibleDescription(meaning)
            words = QLabel(meaning)
            words.setWordWrap(True)
            words.setProperty("muted", True)
            grid.addWidget(box, row, 0, 1, 2)
            grid.addWidget(words, row + 1, 0, 1, 2)
            row += 2
        grid.setRowStretch(row, 1)
        return form

    def change(self) -> ChangeKey:
        """What the form asks for."""
        minutes = self.minutes.value()
        untouched = minutes == -(-self._seconds // MINUTE_S)
        return ChangeKey(
            name=" ".join(self.name.text().split()),
            limits=KeyLimits(
                answer_tokens=self.answer.value(),
                prompt_tokens=self.prompt.value(),
                waiting=self.waiting.value(),
                seconds=self._seconds if untouched else minutes * MINUTE_S,
            ),
            steady=SteadyRules(pin=self.pin.isChecked(), move=self.move_line.isChecked()),
        )

    def refuse(self, sentence: str) -> None:
        """It was not changed: say why, keep what was chosen."""
        self.message.setText(breakable(sentence))
        self.message.show()
        self.apply_button.setEnabled(True)

    def _typed(self, text: str) -> None:
        self.apply_button.setEnabled(bool(text.strip()))

    def _apply(self) -> None:
        if self.name.text().strip():
            self.apply_button.setEnabled(False)
            self.message.hide()
            self.applied.emit(self.change())


def _number(most: int, value: int, suffix: str, none: str, step: int) -> QSpinBox:
    """A number up to `most`; 0 reads as `none`."""
    field = QSpinBox()
    field.setRange(0, most)
    field.setSingleStep(step)
    field.setGroupSeparatorShown(True)
    field.setSuffix(suffix)
    field.setSpecialValueText(none)
    field.lineEdit().setTextMargins(NUMBER_INDENT_PX, 0, 0, 0)
    field.setValue(value)
    return field
