"""The settings: what the model is told first, how it draws its words, how much it may hold, how it is downloaded,
what is kept of its work, and with which llama.cpp it computes.

Owns: the form and the values in it. Does not send anything; `applied` carries the Settings.
"""

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import (
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QDoubleSpinBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPlainTextEdit,
    QScrollArea,
    QSpinBox,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from app.placement_words import CACHE_TYPES
from app.views.download_fields import DownloadFields
from app.views.kept_fields import KeptFields
from app.views.machine_fields import MachineFields
from app.views.update_fields import UpdateFields
from engine.conversation import clean_text
from engine.protocol import LoadedModel, Sampling, Settings

SYSTEM_MESSAGE_PX = 96
FIELD_PX = 460
LEAST_FORM_PX = 160
FRAME_PX = 64
"""Left free around the dialog, for the frame that the system draws."""
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
        self.cache = QComboBox()
        for key, words in CACHE_TYPES:
            self.cache.addItem(words, key)
        self.cache.setCurrentIndex(self.cache.findData(settings.cache_type))
        self.thinking = QSpinBox()
        self.thinking.setRange(0, 1_048_576)
        self.thinking.setSingleStep(1024)
        self.thinking.setGroupSeparatorShown(True)
        self.thinking.setSuffix(" tokens")
        self.thinking.setSpecialValueText("As long as the model wishes")
        self.thinking.setValue(settings.thinking_tokens)
        self.titles = QCheckBox("The model names new conversations")
        self.titles.setChecked(settings.model_titles)
        self.downloads = DownloadFields(settings)
        self.machine = MachineFields(settings, model)
        self.kept = KeptFields(settings)
        self.updates = UpdateFields(settings)
        self.suits.toggled.connect(self._show_sampling)
        self.tabs = QTabWidget()
        self.tabs.setDocumentMode(True)
        self.tabs.tabBar().setDrawBase(False)
        self.tabs.addTab(_FormArea(self._form(self._rows(model))), "&Answers")
        self.tabs.addTab(_FormArea(self._form([*self.downloads.rows, *self.updates.rows])), "&Downloads")
        self.tabs.addTab(_FormArea(self._form(list(self.kept.rows))), "K&ept")
        self.tabs.addTab(_FormArea(self._form(list(self.machine.rows))), "Machi&ne")
        self.message = QLabel()
        self.message.setWordWrap(True)
        self.message.setAccessibleName("Outcome")
        self.message.hide()
        reload = "Another context, number of threads, or kind of memory loads the model again."
        note = QLabel(reload if model else "")
        note.setProperty("muted", True)
        note.setVisible(model is not None)
        self.tabs.currentChanged.connect(
            lambda: note.setVisible(model is not None and self.tabs.currentIndex() == 0)
        )
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel)
        self.apply_button = buttons.addButton("Apply", QDialogButtonBox.ButtonRole.AcceptRole)
        buttons.accepted.connect(self._apply)
        buttons.rejected.connect(self.reject)
        column = QVBoxLayout(self)
        column.setContentsMargins(24, 12, 24, 20)
        column.setSpacing(12)
        column.addWidget(self.tabs, 1)
        column.addWidget(note)
        column.addWidget(self.message)
        column.addWidget(buttons)
        self.apply_button.setDefault(True)
        self._show_sampling()

    def _form(self, rows: list[tuple[str, QWidget, str]]) -> QWidget:
        form = QWidget()
        grid = QGridLayout(form)
        grid.setContentsMargins(0, 8, 0, 0)
        grid.setHorizontalSpacing(16)
        grid.setVerticalSpacing(4)
        grid.setColumnStretch(1, 1)
        grid.setColumnMinimumWidth(1, FIELD_PX)
        row = 0
        for label, field, hint in rows:
            if label:
                tall = field is self.system_message
                align = Qt.AlignmentFlag.AlignTop if tall else Qt.AlignmentFlag.AlignVCenter
                grid.addWidget(_caption(label, field, hint), row, 0, align)
            grid.addWidget(field, row, 1)
            if hint:
                line = QLabel(hint)
                line.setProperty("muted", True)
                grid.addWidget(line, row + 1, 1)
            grid.setRowMinimumHeight(row + 2, 6)
            row += 3
        grid.setRowStretch(row, 1)
        return form

    def _rows(self, model: LoadedModel | None) -> list[tuple[str, QWidget, str]]:
        """Label, field and hint of each row about answers."""
        return [
            ("&System message", self.system_message, "Said to the model before every conversation."),
            ("Sam&pling", self.suits, ""),
            ("", self._numbers(), "Higher varies more; top-p and min-p leave unlikely words out."),
            ("&Context size", self._context_row(), "How much conversation the model can hold; takes memory."),
            ("&Longest answer", self.answer, "It stops there and can be continued."),
            *self._reasoning_rows(model),
            ("Th&reads", self.threads, "Processor threads that compute the answer."),
        ]

    def _context_row(self) -> QWidget:
        """The context's size, and how it is kept, beside each other."""
        row = QWidget()
        row.setFocusProxy(self.context)
        line = QHBoxLayout(row)
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(8)
        line.addWidget(self.context, 1)
        hint = "How exactly the conversation is kept, and in how much memory."
        line.addWidget(_caption("&kept in", self.cache, hint))
        self.cache.setAccessibleName("Conversation is kept in")
        line.addWidget(self.cache, 1)
        return row

    def _numbers(self) -> QWidget:
        """The sampling's numbers beside each other, each below its name."""
        numbers = QWidget()
        grid = QGridLayout(numbers)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(8)
        grid.setVerticalSpacing(4)
        for column, (label, field, hint) in enumerate(
            (
                ("&Temperature", self.temperature, "0 always takes the likeliest word; higher varies more."),
                ("T&op-p", self.top_p, "Only the likeliest words that together have this share."),
                ("&Min-p", self.min_p, "Not the words below this share of the likeliest one."),
            )
        ):
            grid.addWidget(_caption(label, field, hint), 0, column)
            grid.addWidget(field, 1, column)
            grid.setColumnStretch(column, 1)
        return numbers

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
                "cache_type": self.cache.currentData(),
                **self.downloads.values(),
                **self.machine.values(),
                **self.kept.values(),
                **self.updates.values(),
            }
        )

    def refuse(self, sentence: str) -> None:
        """Applying failed: say why, keep what was typed."""
        self.message.setText(sentence)
        self.message.show()
        self._fit()
        self.apply_button.setEnabled(True)

    def showEvent(self, event: QShowEvent) -> None:
        """As large as what it holds, where the screen is."""
        super().showEvent(event)
        if not event.spontaneous():
            self._fit()

    def _fit(self) -> None:
        room = self.screen().availableSize() - QSize(FRAME_PX, FRAME_PX)
        wanted = self.sizeHint()
        width = min(max(wanted.width(), self.width()), room.width())
        height = self.heightForWidth(width) if self.hasHeightForWidth() else wanted.height()
        self.resize(width, min(height, room.height()))

    def _apply(self) -> None:
        self.apply_button.setEnabled(False)
        self.message.hide()
        self.applied.emit(self.settings())

    def _show_sampling(self) -> None:
        for field in (self.temperature, self.top_p, self.min_p):
            field.setEnabled(not self.suits.isChecked())


class _FormArea(QScrollArea):
    """All of the form where there is room for it; else it scrolls."""

    def __init__(self, form: QWidget) -> None:
        super().__init__()
        self._form = form
        self.setFrameShape(QScrollArea.Shape.NoFrame)
        self.setWidgetResizable(True)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setWidget(form)

    def sizeHint(self) -> QSize:
        return self._form.sizeHint()

    def minimumSizeHint(self) -> QSize:
        bar = self.verticalScrollBar().sizeHint().width()
        return QSize(self._form.minimumSizeHint().width() + bar, LEAST_FORM_PX)


def _caption(label: str, field: QWidget, hint: str) -> QLabel:
    """The label of a field, which gets its name and its explanation; of a row, its first field does too."""
    row, field = field, field.focusProxy() or field
    for each in (row, field):
        each.setAccessibleName(label.replace("&", ""))
        each.setAccessibleDescription(hint)
        each.setToolTip(hint)
    if isinstance(field, QAbstractSpinBox):
        field.lineEdit().setTextMargins(NUMBER_INDENT_PX, 0, 0, 0)
    caption = QLabel(label)
    caption.setBuddy(field)
    return caption


def _number(least: float, most: float, step: float, value: float) -> QDoubleSpinBox:
    field = QDoubleSpinBox()
    field.setDecimals(2)
    field.setRange(least, most)
    field.setSingleStep(step)
    field.setValue(value)
    return field
