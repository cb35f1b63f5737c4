"""An optional part in the settings: what is there of it, and installing, stopping and removing it.

Owns: this row's widgets. Does not ask the engine: `show_entry` is told what is there, and the signals what is wanted.
"""

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from app.part_words import part_words, task_share, task_words, variant_words
from engine.protocol import ErrorBody
from engine.protocol_parts import PartEntry

_STEPS = 1000


class PartRow(QWidget):
    """Until `show_entry` is called it is not known what is there."""

    install_requested = Signal(str)
    """The name of the variant."""
    stop_requested = Signal()
    remove_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.state = QLabel("Looking…")
        self.state.setWordWrap(True)
        self.state.setTextFormat(Qt.TextFormat.PlainText)
        self.state.setProperty("muted", True)
        self.state.setAccessibleName("PyTorch")
        self.bar = QProgressBar()
        self.bar.setRange(0, _STEPS)
        self.bar.setTextVisible(False)
        self.bar.setAccessibleName("Installing PyTorch")
        self.variant = QComboBox()
        self.variant.setAccessibleName("Which set of PyTorch")
        self.install_button = _button(
            "&Install", "Fetches it with pip, by the index and proxy that pip is told of."
        )
        self.stop_button = _button("S&top", "Nothing of it is left then.")
        self.remove_button = _button("Remo&ve", "Deletes it from the data folder; it can be installed again.")
        self.install_button.clicked.connect(self._install)
        self.stop_button.clicked.connect(self._stop)
        self.remove_button.clicked.connect(self._remove)
        line = QHBoxLayout()
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(8)
        line.addWidget(self.variant)
        for button in (self.install_button, self.stop_button, self.remove_button):
            line.addWidget(button)
        line.addStretch(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.state)
        column.addWidget(self.bar)
        column.addLayout(line)
        for each in (self.bar, self.variant, self.install_button, self.stop_button, self.remove_button):
            each.hide()

    def show_entry(self, entry: PartEntry) -> None:
        """What is there, and what can be done about it."""
        task = entry.task
        running = task is not None and task.state == "running"
        told_of_task = task is not None and task.state != "done" and entry.state in ("absent", "outdated")
        self.state.setText(task_words(task) if task is not None and told_of_task else part_words(entry))
        self.bar.setVisible(running)
        self.bar.setValue(round(task_share(task) * _STEPS) if task is not None else 0)
        self.stop_button.setVisible(running)
        self.stop_button.setEnabled(True)
        can_install = not running and entry.state in ("absent", "outdated")
        self.install_button.setVisible(can_install)
        self.install_button.setEnabled(True)
        self._show_variants(entry)
        self.variant.setVisible(can_install and self.variant.count() > 1)
        self.remove_button.setVisible(not running and entry.state in ("installed", "outdated"))
        self.remove_button.setEnabled(True)
        self.updateGeometry()

    def show_failure(self, error: ErrorBody) -> None:
        """It cannot be told, or was not done; it may be tried again."""
        self.state.setText(error.text)
        for button in (self.install_button, self.stop_button, self.remove_button):
            button.setEnabled(True)

    def _show_variants(self, entry: PartEntry) -> None:
        """What was chosen stays so; at first it is what suits."""
        names = [each.name for each in entry.variants]
        if names == [self.variant.itemData(at) for at in range(self.variant.count())]:
            return
        self.variant.clear()
        for each in entry.variants:
            self.variant.addItem(variant_words(each), each.name)
        if entry.suited in names:
            self.variant.setCurrentIndex(names.index(entry.suited))

    def _install(self) -> None:
        self.install_button.setEnabled(False)
        self.install_requested.emit(self.variant.currentData() or "")

    def _stop(self) -> None:
        self.stop_button.setEnabled(False)
        self.stop_requested.emit()

    def _remove(self) -> None:
        self.remove_button.setEnabled(False)
        self.remove_requested.emit()


def _button(text: str, hint: str) -> QPushButton:
    button = QPushButton(text)
    button.setAutoDefault(False)
    button.setToolTip(hint)
    button.setAccessibleDescription(hint)
    return button
