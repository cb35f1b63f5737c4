"""Asks for an access token, once.

Owns: the field, which is emptied as soon as its text was handed on, and is never filled again. Does not keep the
token: the engine does.
"""

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QDialog, QDialogButtonBox, QLabel, QLineEdit, QVBoxLayout, QWidget

from app.library_words import ACCESS_HINT, keeping_words
from app.wrapping import breakable
from engine.protocol_library import HubState

WIDTH_PX = 520


class TokenDialog(QDialog):
    """`why`: what it is needed for, as a sentence. Stays open until it is told the outcome."""

    given = Signal(str)
    """The token."""

    def __init__(self, why: str, hub: HubState | None, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Access token")
        self.why = QLabel(breakable(why))
        self.where = QLabel(ACCESS_HINT)
        self.keeping = QLabel(keeping_words(hub))
        self.message = QLabel()
        for label in (self.why, self.where, self.keeping, self.message):
            label.setTextFormat(Qt.TextFormat.PlainText)
            label.setWordWrap(True)
        for label in (self.where, self.keeping):
            label.setProperty("muted", True)
        self.message.setProperty("danger", True)
        self.message.setAccessibleName("Outcome")
        self.message.hide()
        caption = QLabel("&Access token")
        self.field = QLineEdit()
        self.field.setEchoMode(QLineEdit.EchoMode.Password)
        self.field.setAccessibleName("Access token")
        self.field.setPlaceholderText("hf_…")
        self.field.setMaxLength(500)
        caption.setBuddy(self.field)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel)
        self.give_button = buttons.addButton("Use this token", QDialogButtonBox.ButtonRole.AcceptRole)
        self.give_button.setEnabled(False)
        buttons.accepted.connect(self._give)
        buttons.rejected.connect(self.reject)
        self.field.textChanged.connect(self._typed)
        column = QVBoxLayout(self)
        column.setContentsMargins(24, 20, 24, 20)
        column.setSpacing(8)
        for part in (self.why, caption, self.field, self.where, self.keeping, self.message):
            column.addWidget(part)
        column.addStretch(1)
        column.addWidget(buttons)
        self.give_button.setDefault(True)
        self.setMinimumWidth(WIDTH_PX)

    def refuse(self, sentence: str) -> None:
        """It was not taken: say why; it has to be typed again."""
        self.message.setText(breakable(sentence))
        self.message.show()
        self.field.setEnabled(True)
        self.field.setFocus()

    def done(self, result: int) -> None:
        """However it ends, nothing stays in the field."""
        self.field.clear()
        super().done(result)

    def _typed(self, text: str) -> None:
        self.give_button.setEnabled(bool(text.strip()))

    def _give(self) -> None:
        token = self.field.text().strip()
        if not token:
            return
        self.field.clear()
        self.field.setEnabled(False)
        self.message.hide()
        self.given.emit(token)
