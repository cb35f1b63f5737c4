"""How a model lies on this machine: bars, what is foretold, sliders to change it, and why it is so.

Owns: the form, and which choices are the person's own. Does not ask the engine for anything: signals say what is
wanted, and `show_*` are told.
"""

import itertools
from collections.abc import Callable
from datetime import datetime

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import (
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSlider,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from app.placement_words import (
    CACHE_TYPES,
    FAVOURS,
    SCALE_STEPS,
    budget_words,
    forecast_note,
    forecast_rows,
    headline,
    state_words,
    step_of,
    tokens_at,
)
from app.theme import Theme
from app.views.placement_bars import PlacementBars
from app.views.scrolled_form import scrolled_form
from app.wrapping import breakable
from engine.protocol import ErrorBody
from engine.protocol_placement import LEAST_CONTEXT_TOKENS, Choices, HardwareState, Placement

WIDTH_PX, HEIGHT_PX = 820, 680
NUMBER_INDENT_PX = 11
"""A stylesheet's padding leaves the number of a spin box out."""
SIDES_PX = 40
"""Left and right of the form together."""
FRAME_PX = 64
"""Left free around the dialog, for the frame that the system draws."""
BUDGET_STEPS = 96
MEASURE = "&Measure this machine"


class PlacementDialog(QDialog):
    """Shows placements as they are told. `is_offer`: of a model that is not here yet, for which nothing is kept."""

    changed = Signal(object)
    """Choices, while they change."""
    use_requested = Signal(object)
    """Choices to keep; then the model is loaded."""
    measure_requested = Signal()
    stop_requested = Signal()
    """The measurement is to be broken off."""

    def __init__(
        self, name: str, theme: Theme, *, is_offer: bool = False, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle("Placement")
        self._is_offer = is_offer
        self._choices: Choices | None = None
        """None until it is known what is kept."""
        self._most_tokens = LEAST_CONTEXT_TOKENS
        self._most_budget = 0
        self._measuring = False
        self._using = False
        """What was chosen is on its way to the engine."""
        self._refused = False
        """What was chosen was not taken; why is shown until something else is chosen."""
        self._moves_controls = True
        """The next placement says where the sliders stand."""
        self.title, self.problem, self.state, self.message = (QLabel() for _ in range(4))
        self.headline = QLabel()
        """Stays in sight while the rest scrolls."""
        self.title.setText(breakable(name))
        self.title.setObjectName("dialogTitle")
        self.bars = PlacementBars(theme)
        self.forecast_title = QLabel("What to expect")
        self.forecast_title.setObjectName("sectionTitle")
        self.note = QLabel("Looking at this machine…")
        self.hardware = QLabel()
        self.forecast_labels: list[tuple[QLabel, QLabel]] = []
        self.reasons = QLabel()
        self.reasons_button = QPushButton("&Why it is so")
        self.reasons_button.setCheckable(True)
        self.reasons_button.setAutoDefault(False)
        self.reasons.hide()
        self.reasons_button.hide()
        for label in (
            self.title, self.problem, self.state, self.message, self.note, self.hardware, self.reasons,
            self.headline,
        ):  # fmt: skip
            label.setTextFormat(Qt.TextFormat.PlainText)
            label.setWordWrap(True)
        for label in (self.note, self.state, self.hardware):
            label.setProperty("muted", True)
        for label in (self.problem, self.message):
            label.setProperty("danger", True)
        for label in (self.problem, self.state, self.message, self.hardware, self.headline):
            label.hide()
        self._make_controls()
        self._make_buttons()
        self._lay_out()
        self._wire()
        self._set_enabled(known=False)

    # --- making ---------------------------------------------------------------------------------------

    def _make_controls(self) -> None:
        self.context_slider = _slider(SCALE_STEPS, "Context")
        self.context = QSpinBox()
        self.context.setRange(LEAST_CONTEXT_TOKENS, LEAST_CONTEXT_TOKENS)
        self.context.setSingleStep(1024)
        self.context.setGroupSeparatorShown(True)
        self.context.setSuffix(" tokens")
        self.context.setKeyboardTracking(False)
        self.context.setAccessibleName("Context in tokens")
        self.context.lineEdit().setTextMargins(NUMBER_INDENT_PX, 0, 0, 0)
        self.cache_type = _box(CACHE_TYPES, "Conversation is kept in")
        self.budget_slider = _slider(BUDGET_STEPS, "GPU memory")
        self.budget_words = QLabel()
        self.favour = _box(FAVOURS, "The GPU is rather for")

    def _make_buttons(self) -> None:
        self.buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        role = QDialogButtonBox.ButtonRole
        self.use_button = self.buttons.addButton("&Use", role.ApplyRole)
        self.use_button.setToolTip("Keep this for the model, and load it so")
        self.reset_button = self.buttons.addButton("&Reset", role.ResetRole)
        self.reset_button.setToolTip("As the settings say, with nothing chosen for this model alone")
        self.measure_button = QPushButton(MEASURE)
        self.measure_button.setToolTip("Memory, processor, GPU and disk; takes a minute at most")
        close = self.buttons.button(QDialogButtonBox.StandardButton.Close)
        for button in (self.use_button, self.reset_button, self.measure_button, close):
            button.setAutoDefault(False)
        self.use_button.setVisible(not self._is_offer)
        self.use_button.setDefault(not self._is_offer)

    def _lay_out(self) -> None:
        form = QWidget()
        column = QVBoxLayout(form)
        column.setContentsMargins(0, 0, 8, 0)
        column.setSpacing(8)
        column.addWidget(self.title)
        column.addWidget(self.state)
        column.addWidget(self.problem)
        column.addWidget(self.bars)
        column.addSpacing(4)
        column.addLayout(self._controls())
        column.addSpacing(4)
        column.addWidget(self.forecast_title)
        self._forecast = QGridLayout()
        self._forecast.setHorizontalSpacing(16)
        self._forecast.setVerticalSpacing(4)
        self._forecast.setColumnStretch(1, 1)
        column.addLayout(self._forecast)
        column.addWidget(self.note)
        measure = QGridLayout()
        measure.setHorizontalSpacing(12)
        measure.setColumnStretch(1, 1)
        measure.addWidget(self.measure_button, 0, 0)
        measure.addWidget(self.hardware, 0, 1)
        column.addLayout(measure)
        why = QHBoxLayout()
        why.addWidget(self.reasons_button)
        why.addStretch(1)
        column.addLayout(why)
        column.addWidget(self.reasons)
        column.addStretch(1)
        self._form = form
        self.area = scrolled_form(form)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(24, 20, SIDES_PX - 24, 20)
        outer.setSpacing(12)
        outer.addWidget(self.area, 1)
        outer.addWidget(self.headline)
        outer.addWidget(self.message)
        outer.addWidget(self.buttons)

    def _controls(self) -> QGridLayout:
        grid = QGridLayout()
        grid.setHorizontalSpacing(16)
        grid.setVerticalSpacing(8)
        grid.setColumnStretch(1, 1)
        self._gpu_widgets: list[QWidget] = [self.budget_slider, self.budget_words, self.favour]
        for row, (caption, field, beside) in enumerate((
            ("&Context", self.context_slider, self.context),
            ("Conversation is &kept in", self.cache_type, None),
            ("&GPU memory", self.budget_slider, self.budget_words),
            ("GPU is rather &for", self.favour, None),
        )):  # fmt: skip
            label = QLabel(caption)
            label.setBuddy(field)
            grid.addWidget(label, row, 0)
            grid.addWidget(field, row, 1, 1, 1 if beside else 2)
            if beside is not None:
                grid.addWidget(beside, row, 2)
            if row >= 2:
                self._gpu_widgets.append(label)
        for widget in self._gpu_widgets:
            widget.hide()
        return grid

    def _wire(self) -> None:
        self.context_slider.valueChanged.connect(self._context_slid)
        self.context.valueChanged.connect(self._context_typed)
        self.cache_type.activated.connect(lambda: self._choose(cache_type=self.cache_type.currentData()))
        self.budget_slider.valueChanged.connect(self._budget_slid)
        self.favour.activated.connect(lambda: self._choose(favour=self.favour.currentData()))
        self.reasons_button.toggled.connect(self._fold)
        self.measure_button.clicked.connect(self._measure)
        self.reset_button.clicked.connect(self._reset)
        self.use_button.clicked.connect(self._use)
        self.buttons.rejected.connect(self.reject)

    # --- from outside ---------------------------------------------------------------------------------

    def show_placement(self, told: Placement) -> None:
        """The newest plan, for what the sliders say."""
        first = self._choices is None
        if self._choices is None:
            self._choices = told.choices
        self._most_tokens = max(LEAST_CONTEXT_TOKENS, told.limits.context_tokens)
        self._most_budget = told.limits.gpu_budget_bytes
        if self._moves_controls:
            self._move_controls(told)
            self._moves_controls = False
        self.title.setText(breakable(told.name))
        self._say(self.problem, told.problem.text if told.problem else "")
        self._say(self.state, state_words(told))
        self.bars.show_places(told.places)
        self._show_forecast(told)
        reasons = "\n".join(f"•  {reason.what}: {reason.why}." for reason in told.reasons)
        self.reasons.setText(breakable(reasons))
        self.reasons_button.setVisible(bool(reasons))
        self.reasons.setVisible(bool(reasons) and self.reasons_button.isChecked())
        self.measure_button.show()
        self._set_enabled(known=True)
        self.use_button.setEnabled(told.problem is None and not self._using)
        if not self._refused:
            self.message.hide()
        if first:
            self._fit()
            self.context_slider.setFocus(Qt.FocusReason.OtherFocusReason)

    def show_trouble(self, error: ErrorBody) -> None:
        """Nothing could be told: why. What was chosen stays."""
        self._say(self.message, error.text)
        if self._choices is None:
            self.note.hide()
        else:
            self.use_button.setEnabled(not self._using)

    def show_refusal(self, error: ErrorBody) -> None:
        """What was chosen could not be kept, or the model not be loaded so: why. It stays chosen."""
        self._using, self._refused = False, True
        self.show_trouble(error)

    def show_hardware(self, state: HardwareState) -> None:
        """How far a measurement has come."""
        self._measuring = state.measuring
        self.measure_button.setText("&Stop measuring" if state.measuring else MEASURE)
        if state.measuring:
            self.measure_button.show()
            step = f": {state.step}" if state.step else ""
            words = f"Measuring this machine{step}… this takes a minute at most."
        elif state.error is not None:
            words = state.error.text
        elif state.measured_at is not None:
            words = (
                f"This machine was measured on {datetime.fromtimestamp(state.measured_at):%d %B %Y, %H:%M}."
            )
        else:
            words = ""
        self._say(self.hardware, words)

    @property
    def is_measuring(self) -> bool:
        """A measurement is under way."""
        return self._measuring

    def choices(self) -> Choices:
        """What is the person's own choice by now; the rest is as the settings say."""
        return self._choices or Choices()

    # --- choosing -------------------------------------------------------------------------------------

    def _choose(self, **chosen: object) -> None:
        self._refused = False
        self._choices = self.choices().model_copy(update=chosen)
        self.changed.emit(self._choices)

    def _context_slid(self, step: int) -> None:
        tokens = tokens_at(step, self._most_tokens)
        _quietly(self.context, lambda: self.context.setValue(tokens))
        self._choose(context_tokens=tokens)

    def _context_typed(self, tokens: int) -> None:
        step = step_of(tokens, self._most_tokens)
        _quietly(self.context_slider, lambda: self.context_slider.setValue(step))
        self._choose(context_tokens=tokens)

    def _budget_slid(self, step: int) -> None:
        budget = None if step >= BUDGET_STEPS else step * self._most_budget // BUDGET_STEPS
        self._tell_budget(budget)
        self._choose(gpu_budget_bytes=budget)

    def _reset(self) -> None:
        self._moves_controls, self._refused = True, False
        self._choices = Choices()
        self.changed.emit(self._choices)

    def _use(self) -> None:
        self._using, self._refused = True, False
        self.use_button.setEnabled(False)
        self.message.hide()
        self.use_requested.emit(self.choices())

    def _measure(self) -> None:
        if self._measuring:
            self.stop_requested.emit()
        else:
            self.measure_requested.emit()

    def _move_controls(self, told: Placement) -> None:
        """Put sliders and boxes where this placement says."""

        def move() -> None:
            self.context.setRange(LEAST_CONTEXT_TOKENS, self._most_tokens)
            self.context.setValue(told.context_tokens)
            self.context_slider.setValue(step_of(told.context_tokens, self._most_tokens))
            self.cache_type.setCurrentIndex(self.cache_type.findData(told.cache_type))
            self.favour.setCurrentIndex(self.favour.findData(told.favour))
            budget = told.gpu_budget_bytes
            step = BUDGET_STEPS
            if budget is not None and self._most_budget:
                step = min(BUDGET_STEPS, round(budget / self._most_budget * BUDGET_STEPS))
            self.budget_slider.setValue(step)
            self._tell_budget(budget)

        _quietly(
            self.context, lambda: _quietly(self.context_slider, lambda: _quietly(self.budget_slider, move))
        )
        has_gpu = self._most_budget > 0
        for widget in self._gpu_widgets:
            widget.setVisible(has_gpu)

    def _tell_budget(self, budget_bytes: int | None) -> None:
        words = budget_words(budget_bytes, self._most_budget)
        self.budget_words.setText(words)
        self.budget_slider.setAccessibleDescription(words)

    # --- showing --------------------------------------------------------------------------------------

    def _show_forecast(self, told: Placement) -> None:
        rows = forecast_rows(told.forecast) if told.forecast else []
        while len(self.forecast_labels) < len(rows):
            pair = (QLabel(), QLabel())
            for column, label in enumerate(pair):
                label.setTextFormat(Qt.TextFormat.PlainText)
                self._forecast.addWidget(label, len(self.forecast_labels), column, Qt.AlignmentFlag.AlignTop)
            pair[0].setProperty("muted", True)
            pair[1].setWordWrap(True)
            self.forecast_labels.append(pair)
        for number, pair in enumerate(self.forecast_labels):
            for label in pair:
                label.setVisible(number < len(rows))
            if number < len(rows):
                pair[0].setText(rows[number][0])
                pair[1].setText(rows[number][1])
        note = forecast_note(told.forecast) if told.forecast else told.forecast_problem or ""
        self._say(self.note, note)
        self.forecast_title.setVisible(bool(note))
        self._say(self.headline, headline(told.forecast) if told.forecast else "")

    def _set_enabled(self, *, known: bool) -> None:
        for widget in (
            self.context_slider, self.context, self.cache_type, self.budget_slider, self.favour,
            self.use_button, self.reset_button,
        ):  # fmt: skip
            widget.setEnabled(known)
        if not known:
            self.measure_button.hide()

    def _fold(self, opened: bool) -> None:
        self.reasons.setVisible(opened)
        if opened:
            self.area.ensureWidgetVisible(self.reasons)

    @staticmethod
    def _say(label: QLabel, words: str) -> None:
        label.setText(breakable(words))
        label.setAccessibleName(words)
        label.setVisible(bool(words))

    def showEvent(self, event: QShowEvent) -> None:
        """As large as what it holds, where the screen is."""
        super().showEvent(event)
        if not event.spontaneous():
            self._order_buttons()
            self._fit()

    def _order_buttons(self) -> None:
        """Tab reaches each button, from the left. A box that was laid out anew, as by a stylesheet, stands between
        its buttons, and Tab passes over the one that the box gives its focus to."""
        self.buttons.setFocusProxy(None)  # pyright: ignore[reportArgumentType] # not in the stub
        buttons = sorted(self.buttons.buttons(), key=lambda button: button.x())
        for one, other in itertools.pairwise(buttons):
            QWidget.setTabOrder(one, other)

    def _fit(self) -> None:
        """The form is never cut off at its side, however large the text."""
        bar = self.area.verticalScrollBar().sizeHint().width()
        self.area.setMinimumWidth(self._form.minimumSizeHint().width() + bar)
        room = self.screen().availableSize() - QSize(FRAME_PX, FRAME_PX)
        wanted = max(WIDTH_PX, self.area.minimumWidth() + SIDES_PX)
        self.resize(min(wanted, room.width()), min(max(HEIGHT_PX, self.height()), room.height()))


def _slider(steps: int, name: str) -> QSlider:
    slider = QSlider(Qt.Orientation.Horizontal)
    slider.setRange(0, steps)
    slider.setPageStep(max(1, steps // 12))
    slider.setAccessibleName(name)
    slider.setMinimumWidth(120)
    return slider


def _box(rows: tuple[tuple[str, str], ...], name: str) -> QComboBox:
    box = QComboBox()
    for key, words in rows:
        box.addItem(words, key)
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(12)
    box.setAccessibleName(name)
    return box


def _quietly(field: QSlider | QSpinBox, do: Callable[[], None]) -> None:
    """Do it without the field telling of its change."""
    blocked = field.blockSignals(True)
    try:
        do()
    finally:
        field.blockSignals(blocked)
