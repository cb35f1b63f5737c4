"""Where other programs of this machine find the engine, and which web pages may call it from a browser.

Owns: the form and the two values in it. Does not keep anything: `applied` carries the port and the origins.
"""

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QFontMetrics
from PySide6.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QGridLayout,
    QLabel,
    QPlainTextEdit,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from app.access_words import ORIGINS_HINT, PORT_HINT
from app.views.settings_dialog import NUMBER_INDENT_PX
from app.wrapping import breakable
from engine.protocol import Settings

WIDTH_PX = 560
MOST_PORT = 65_535
ORIGIN_LINES = 3
FIELD_FRAME_PX = 32


class AddressDialog(QDialog):
    """Shows what `settings` say; Apply stays open until it is told the outcome."""

    applied = Signal(int, object)
    """Port, list of origins."""

    def __init__(self, settings: Settings, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Address")
        self.port = QSpinBox()
        self.port.setRange(0, MOST_PORT)
        self.port.setSpecialValueText("The one before, or any that is free")
        self.port.lineEdit().setTextMargins(NUMBER_INDENT_PX, 0, 0, 0)
        self.port.setValue(settings.port)
        self.origins = QPlainTextEdit("\n".join(settings.allowed_origins))
        self.origins.setTabChangesFocus(True)
        self.origins.setPlaceholderText("http://localhost:3000")
        lines = QFontMetrics(self.origins.font()).lineSpacing() * ORIGIN_LINES
        self.origins.setFixedHeight(lines + FIELD_FRAME_PX)
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
        grid = QGridLayout()
        grid.setHorizontalSpacing(16)
        grid.setVerticalSpacing(4)
        grid.setColumnStretch(1, 1)
        for row, (words, field, hint) in enumerate(
            (("&Port", self.port, PORT_HINT), ("&Web pages", self.origins, ORIGINS_HINT))
        ):
            caption, line = QLabel(words), QLabel(hint)
            caption.setBuddy(field)
            field.setAccessibleName(words.replace("&", ""))
            field.setAccessibleDescription(hint)
            line.setWordWrap(True)
            line.setProperty("muted", True)
            grid.addWidget(caption, 2 * row, 0, Qt.AlignmentFlag.AlignTop)
            grid.addWidget(field, 2 * row, 1)
            grid.addWidget(line, 2 * row + 1, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(24, 20, 24, 20)
        column.setSpacing(12)
        column.addLayout(grid)
        column.addWidget(self.message)
        column.addStretch(1)
        column.addWidget(buttons)
        self.apply_button.setDefault(True)
        self.setMinimumWidth(WIDTH_PX)

    def wanted_origins(self) -> list[str]:
        """One from each line that has something in it."""
        return [line.strip() for line in self.origins.toPlainText().splitlines() if line.strip()]

    def refuse(self, sentence: str) -> None:
        """It was not stored: say why, keep what was typed."""
        self.message.setText(breakable(sentence))
        self.message.show()
        self.apply_button.setEnabled(True)

    def _apply(self) -> None:
        self.apply_button.setEnabled(False)
        self.message.hide()
        self.applied.emit(self.port.value(), self.wanted_origins())
