"""The settings: what the model is told first, how it draws its words, how much it may hold.

Owns: the form and the values in it. Does not send anything; `applied` carries the Settings.
"""

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import (
    QAbstractSpinBox,
    QCheckBox,
    QDialog,
    QDialogButtonBox,
    QDoubleSpinBox,
    QGridLayout,
    QLabel,
    QPlainTextEdit,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from engine.conversation import clean_text
from engine.protocol import LoadedModel, Sampling, Settings

SYSTEM_MESSAGE_PX = 96
FIELD_PX = 420
NUMBER_INDENT_PX = 11
"""Brings the numbers under the text of the system message: a stylesheet's padding leaves them out."""


class SettingsDialog(QDialog):
    """Shows `settings`; Apply emits what they have become and stays open until it is told the outcome."""

    applied = Signal(object)
    """protocol.Settings."""

    def __init__(self, settings: Settings, model: LoadedModel | None, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Settings")
        self._settings = settings
        sampling = settings.sampling or (model and model.suited_sampling) or Sampling()
        self.system_message = QPlainTextEdit(settings.system_message)
        self.system_message.setAccessibleName("System message")
        self.system_message.setFixedHeight(SYSTEM_MESSAGE_PX)
        self.system_message.setTabChangesFocus(True)
        self.suits = QCheckBox("What suits the model")
        self.suits.setChecked(settings.sampling is None)
        self.temperature = _number(0.0, 10.0, 0.05, sampling.temperature)
        self.top_p = _number(0.01, 1.0, 0.01, sampling.top_p)
        self.min_p = _number(0.0, 1.0, 0.01, sampling.min_p)
        self.context = QSpinBox()
        self.context.setRange(256, 1_048_576)
        self.context.setSingleStep(1024)
        self.context.setGroupSeparatorShown(True)
        self.context.setSuffix(" tokens")
        self.context.setValue(settings.context_tokens)
        self.answer = QSpinBox()
        self.answer.setRange(0, 1_048_576)
        self.answer.setSingleStep(1024)
        self.answer.setGroupSeparatorShown(True)
        self.answer.setSuffix(" tokens")
        self.answer.setSpecialValueText("Until the context is full")
        self.answer.setValue(settings.answer_tokens)
        self.threads = QSpinBox()
        self.threads.setRange(0, 1024)
        self.threads.setSpecialValueText("As many as this machine has free")
        self.threads.setValue(settings.threads)
        self.thinking = QSpinBox()
        self.thinking.setRange(0, 1_048_576)
        self.thinking.setSingleStep(1024)
        self.thinking.setGroupSeparatorShown(True)
        self.thinking.setSuffix(" tokens")
        self.thinking.setSpecialValueText("As long as the model wishes")
        self.thinking.setValue(settings.thinking_tokens)
        self.titles = QCheckBox("The model names new conversations")
        self.titles.setChecked(settings.model_titles)
        self.suits.toggled.connect(self._show_sampling)
        form = QGridLayout()
        form.setHorizontalSpacing(16)
        form.setVerticalSpacing(4)
        form.setColumnStretch(1, 1)
        form.setColumnMinimumWidth(1, FIELD_PX)
        row = 0
        for label, field, hint in (
            ("&System message", self.system_message, "Said to the model before every conversation."),
            ("Sam&pling", self.suits, ""),
            ("&Temperature", self.temperature, "0 always takes the likeliest word; higher varies more."),
            ("T&op-p", self.top_p, "Only the likeliest words that together have this share."),
            ("&Min-p", self.min_p, "Not the words below this share of the likeliest one."),
            ("&Context size", self.context, "How much conversation the model can hold; takes memory."),
            ("&Longest answer", self.answer, "It stops there and can be continued."),
            *self._reasoning_rows(model),
            ("Th&reads", self.threads, "Processor threads that compute the answer."),
        ):
            name = label.replace("&", "")
            field.setAccessibleName(name)
            field.setAccessibleDescription(hint)
            field.setToolTip(hint)
            if isinstance(field, QAbstractSpinBox):
                field.lineEdit().setTextMargins(NUMBER_INDENT_PX, 0, 0, 0)
            caption = QLabel(label)
            caption.setBuddy(field)
            tall = field is self.system_message
            form.addWidget(
                caption, row, 0, Qt.AlignmentFlag.AlignTop if tall else Qt.AlignmentFlag.AlignVCenter
            )
            form.addWidget(field, row, 1)
            if hint:
                line = QLabel(hint)
                line.setProperty("muted", True)
                form.addWidget(line, row + 1, 1)
            form.setRowMinimumHeight(row + 2, 6)
            row += 3
        self.message = QLabel()
        self.message.setWordWrap(True)
        self.message.setAccessibleName("Outcome")
        self.message.hide()
        reload = "Another context size or number of threads loads the model again."
        note = QLabel(reload if model else "")
        note.setProperty("muted", True)
        note.setVisible(model is not None)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel)
        self.apply_button = buttons.addButton("Apply", QDialogButtonBox.ButtonRole.AcceptRole)
        self.apply_button.setDefault(True)
        buttons.accepted.connect(self._apply)
        buttons.rejected.connect(self.reject)
        column = QVBoxLayout(self)
        column.setContentsMargins(24, 20, 24, 20)
        column.setSpacing(16)
        column.addLayout(form)
        column.addWidget(note)
        column.addWidget(self.message)
        column.addWidget(buttons)
        self._show_sampling()

    def _reasoning_rows(self, model: LoadedModel | None) -> list[tuple[str, QWidget, str]]:
        """Rows that only a model with reasoning modes has a use for."""
        if model is None or not model.modes:
            return []
        hint = "It is then told to answer; 0 lets it think until it is done."
        return [("Longest t&hinking", self.thinking, hint), ("T&itles", self.titles, "")]

    def settings(self) -> Settings:
        """The settings as the form has them."""
        sampling = None
        if not self.suits.isChecked():
            sampling = Sampling(
                temperature=round(self.temperature.value(), 2),
                top_p=round(self.top_p.value(), 2),
                min_p=round(self.min_p.value(), 2),
                seed=self._settings.sampling.seed if self._settings.sampling else None,
            )
        return self._settings.model_copy(
            update={
                "system_message": clean_text(self.system_message.toPlainText())[0],
                "sampling": sampling,
                "context_tokens": self.context.value(),
                "answer_tokens": self.answer.value(),
                "thinking_tokens": self.thinking.value(),
                "model_titles": self.titles.isChecked(),
                "threads": self.threads.value(),
            }
        )

    def refuse(self, sentence: str) -> None:
        """Applying failed: say why, keep what was typed."""
        self.message.setText(sentence)
        self.message.show()
        self.resize(self.width(), self.heightForWidth(self.width()))
        self.apply_button.setEnabled(True)

    def _apply(self) -> None:
        self.apply_button.setEnabled(False)
        self.message.hide()
        self.applied.emit(self.settings())

    def _show_sampling(self) -> None:
        for field in (self.temperature, self.top_p, self.min_p):
            field.setEnabled(not self.suits.isChecked())


def _number(least: float, most: float, step: float, value: float) -> QDoubleSpinBox:
    field = QDoubleSpinBox()
    field.setDecimals(2)
    field.setRange(least, most)
    field.setSingleStep(step)
    field.setValue(value)
    return field
