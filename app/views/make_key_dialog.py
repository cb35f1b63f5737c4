"""Makes a key for another program, and shows its secret once.

Owns: the name's field, and the secret while the dialog is open: it is nowhere else in the window and is gone from it
when it closes. Does not make the key: the engine does.
"""

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QCheckBox, QDialog, QDialogButtonBox, QLabel, QLineEdit, QVBoxLayout, QWidget

from app.access_words import secret_words
from app.theme import Theme
from app.views.copy_line import CopyLine
from app.wrapping import breakable
from engine.protocol_access import MadeKey

WIDTH_PX = 560
LONGEST_NAME = 80


class MakeKeyDialog(QDialog):
    """`is_network`: for programs on other machines. Stays open until it is closed with the secret seen."""

    asked = Signal(str, bool)
    """The key's name, and whether its secret is to be kept in the keyring."""

    def __init__(self, theme: Theme, parent: QWidget | None = None, *, is_network: bool = False) -> None:
        super().__init__(parent)
        self.setWindowTitle("New network key" if is_network else "New key")
        self.about = QLabel(
            "For a program on another machine in your network. It opens the models here, and nothing else."
            if is_network
            else "For a program on this machine. It opens the models here, and nothing else."
        )
        self.caption = QLabel("Which &program is it for?")
        self.name = QLineEdit()
        self.name.setAccessibleName("Which program is it for?")
        self.name.setPlaceholderText("As Zed, or Backup script")
        self.name.setMaxLength(LONGEST_NAME)
        self.caption.setBuddy(self.name)
        self.keep = QCheckBox("&Keep its secret in this account’s keyring, to copy it again later")
        self.keep.setChecked(True)
        self.secret = CopyLine("Secret", "the secret")
        self.secret.field.setFont(theme.code_font(1.0))
        self.once = QLabel()
        self.message = QLabel()
        self.message.setProperty("danger", True)
        self.message.setAccessibleName("Outcome")
        for label in (self.about, self.once, self.message):
            label.setTextFormat(Qt.TextFormat.PlainText)
            label.setWordWrap(True)
        self.about.setProperty("muted", True)
        buttons = QDialogButtonBox()
        self.close_button = buttons.addButton("Cancel", QDialogButtonBox.ButtonRole.RejectRole)
        self.make_button = buttons.addButton("Make the key", QDialogButtonBox.ButtonRole.AcceptRole)
        self.make_button.setEnabled(False)
        self.make_button.clicked.connect(self._make)
        buttons.rejected.connect(self.reject)
        self.name.textChanged.connect(self._typed)
        column = QVBoxLayout(self)
        column.setContentsMargins(24, 20, 24, 20)
        column.setSpacing(8)
        for part in (
            self.about, self.caption, self.name, self.keep, self.secret.caption, self.secret, self.once,
            self.message,
        ):  # fmt: skip
            column.addWidget(part)
        column.addStretch(1)
        column.addWidget(buttons)
        self.make_button.setDefault(True)
        self.setMinimumWidth(WIDTH_PX)
        for part in (self.secret.caption, self.secret, self.once, self.message):
            part.hide()

    def show_made(self, made: MadeKey) -> None:
        """The key is there: its secret, now and not again."""
        self.about.setText(breakable(f"The key “{made.key.name}” works from now on."))
        self.secret.set_value(made.secret)
        self.once.setText(breakable(secret_words(made)))
        for part in (self.caption, self.name, self.keep, self.message, self.make_button):
            part.hide()
        for part in (self.secret.caption, self.secret, self.once):
            part.show()
        self.close_button.setText("Done")
        self.make_button.setDefault(False)
        self.close_button.setDefault(True)
        self.secret.button.setFocus(Qt.FocusReason.OtherFocusReason)
        self._fit()

    def refuse(self, sentence: str) -> None:
        """It was not made: say why, keep what was typed."""
        self.message.setText(breakable(sentence))
        self.message.show()
        self.make_button.setEnabled(True)
        self._fit()

    def done(self, result: int) -> None:
        """However it ends, no secret stays in it."""
        self.secret.set_value("")
        super().done(result)

    def _fit(self) -> None:
        layout = self.layout()
        if layout is not None:
            layout.activate()
            width = max(self.width(), WIDTH_PX)
            self.resize(width, max(layout.totalHeightForWidth(width), layout.totalMinimumSize().height()))

    def _typed(self, text: str) -> None:
        self.make_button.setEnabled(bool(text.strip()))

    def _make(self) -> None:
        name = " ".join(self.name.text().split())
        if name:
            self.make_button.setEnabled(False)
            self.message.hide()
            self.asked.emit(name, self.keep.isChecked())
