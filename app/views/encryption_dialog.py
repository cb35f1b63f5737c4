"""Encryption of the conversations: turned on and off, with the recovery key shown once.

Owns: the form, and the recovery key while the dialog is open: it is nowhere else in the window, and never comes again.
Does not change anything; it says what is wanted.
"""

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QFontMetrics
from PySide6.QtWidgets import (
    QCheckBox,
    QDialog,
    QDialogButtonBox,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QVBoxLayout,
    QWidget,
)

from app.storage_words import (
    DOES_NOT_PROTECT,
    KEY_ADVICE,
    PROTECTS,
    encryption_words,
    plain_words,
)
from app.theme import Theme
from app.wrapping import breakable
from engine.protocol import ErrorBody
from engine.protocol_encryption import ChangeEncryption, EncryptionChange, EncryptionState

WIDTH_PX = 600
KEY_LINES = 2
KEY_FRAME_PX = 32


class EncryptionDialog(QDialog):
    """Asks for a change, shows the recovery key until it is said to be written down, and offers the restart."""

    change_requested = Signal(object)
    """ChangeEncryption."""
    key_given = Signal(str)
    """The recovery key of locked conversations, as it was typed."""
    restart_requested = Signal()

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Encryption")
        self._state: EncryptionState | None = None
        self.state = QLabel("Asking the engine…")
        self.state.setAccessibleName("State of the encryption")
        self.protects, self.does_not = QLabel(PROTECTS), QLabel(DOES_NOT_PROTECT)
        self.plain = QLabel()
        self.remove_plain = QCheckBox("&Delete these copies once the conversations are encrypted")
        self.advice = QLabel(KEY_ADVICE)
        self.key = QPlainTextEdit()
        self.key.setReadOnly(True)
        self.key.setTabChangesFocus(True)
        self.key.setFont(theme.code_font(1.0))
        self.key.setFixedHeight(QFontMetrics(theme.code_font(1.0)).lineSpacing() * KEY_LINES + KEY_FRAME_PX)
        self.key.setAccessibleName("Recovery key")
        self.written = QCheckBox("I have &written it down")
        self.caption = QLabel("Recovery &key")
        self.given = QLineEdit()
        self.given.setMaxLength(500)
        self.given.setFont(theme.code_font(1.0))
        self.given.setAccessibleName("Recovery key of these conversations")
        self.caption.setBuddy(self.given)
        self.message = QLabel()
        self.message.setProperty("danger", True)
        self.message.setAccessibleName("Outcome")
        for label in (self.state, self.protects, self.does_not, self.plain, self.advice, self.message):
            label.setTextFormat(Qt.TextFormat.PlainText)
            label.setWordWrap(True)
        self.does_not.setProperty("muted", True)
        self.plain.setProperty("muted", True)
        buttons = QDialogButtonBox()
        self.close_button = buttons.addButton("Close", QDialogButtonBox.ButtonRole.RejectRole)
        self.change_button = buttons.addButton("", QDialogButtonBox.ButtonRole.ActionRole)
        self.restart_button = buttons.addButton("Restart the engine", QDialogButtonBox.ButtonRole.ActionRole)
        for button in (self.change_button, self.restart_button):
            button.setAutoDefault(False)
        self.close_button.setAutoDefault(False)
        self.written.toggled.connect(self._show)
        self.given.textChanged.connect(self._show)
        self.change_button.clicked.connect(self._change)
        self.restart_button.clicked.connect(self._restart)
        buttons.rejected.connect(self.reject)
        column = QVBoxLayout(self)
        column.setContentsMargins(24, 20, 24, 20)
        column.setSpacing(10)
        for part in (
            self.state, self.protects, self.does_not, self.plain, self.remove_plain, self.advice, self.key,
            self.written, self.caption, self.given, self.message,
        ):  # fmt: skip
            column.addWidget(part)
        column.addStretch(1)
        column.addWidget(buttons)
        self.restart_button.setDefault(True)
        self.setMinimumWidth(WIDTH_PX)
        self._say("")

    def show_state(self, state: EncryptionState) -> None:
        """What is so, and what waits."""
        self._state = state
        self.given.clear()
        self._say(state.problem.text if state.problem is not None else "")

    def show_change(self, change: EncryptionChange) -> None:
        """A change was asked for; a key that comes with it is shown now and not again."""
        self.key.setPlainText(_in_lines(change.recovery_key or ""))
        self.written.setChecked(False)
        self.show_state(change.state)
        if change.recovery_key:
            self.key.setFocus()
            self.key.selectAll()

    def refuse(self, error: ErrorBody) -> None:
        """It was not done: say why."""
        self._say(error.text)

    def done(self, result: int) -> None:
        """However it ends, no key stays in it. Without the key written down, nothing is encrypted with it."""
        unwritten = bool(self.key.toPlainText()) and not self.written.isChecked()
        for field in (self.key, self.given):
            field.clear()
        if unwritten:
            self.change_requested.emit(ChangeEncryption(on=False))
        super().done(result)

    def _say(self, sentence: str) -> None:
        self.message.setText(breakable(sentence))
        self.message.setVisible(bool(sentence))
        self._show()

    def _show(self) -> None:
        state = self._state
        locked = state is not None and state.locked is not None
        asks = locked and state is not None and not state.restart_needed
        shows_key = bool(self.key.toPlainText())
        if state is not None:
            self.state.setText(breakable(encryption_words(state)))
            self.plain.setText(breakable(plain_words(state)))
            wanted = (state.pending or ("on" if state.on else "off")) == "on"
            self.change_button.setText("Open them" if locked else "Turn off" if wanted else "Turn on")
        self.protects.setVisible(not locked and not shows_key)
        self.does_not.setVisible(not locked and not shows_key)
        has_plain = bool(self.plain.text()) and not locked and not shows_key
        self.plain.setVisible(has_plain)
        self.remove_plain.setVisible(has_plain)
        for part in (self.advice, self.key, self.written):
            part.setVisible(shows_key)
        for part in (self.caption, self.given):
            part.setVisible(asks)
        self.change_button.setVisible(state is not None and not shows_key and (asks or not locked))
        self.change_button.setEnabled(not asks or bool(self.given.text().strip()))
        self.restart_button.setVisible(state is not None and state.restart_needed)
        self.restart_button.setEnabled(not shows_key or self.written.isChecked())
        self._fit()

    def _fit(self) -> None:
        """As high as what is shown now: of a layout that breaks lines, Qt remembers the highest."""
        layout = self.layout()
        if layout is not None:
            layout.activate()
            width = max(self.width(), WIDTH_PX)
            self.resize(width, max(layout.totalHeightForWidth(width), layout.totalMinimumSize().height()))

    def _change(self) -> None:
        state = self._state
        if state is None:
            return
        self.change_button.setEnabled(False)
        if state.locked is not None:
            self.key_given.emit(self.given.text().strip())
            return
        wanted = (state.pending or ("on" if state.on else "off")) == "on"
        remove = self.remove_plain.isChecked() and not self.remove_plain.isHidden()
        self.change_requested.emit(ChangeEncryption(on=not wanted, remove_plain_files=remove))

    def _restart(self) -> None:
        self.restart_requested.emit()
        self.accept()


def _in_lines(key: str) -> str:
    """A recovery key in lines of equal length, so that all of it is seen; spaces and hyphens in one do not count."""
    groups = key.split("-")
    per_line = -(-len(groups) // KEY_LINES)
    return "\n".join("-".join(groups[at : at + per_line]) for at in range(0, len(groups), per_line))
