"""The question before the local network is served: what that means, at which port, with which certificate.

Owns: the form and the OpenNetwork made of it. Does not open anything, and reads no certificate: the engine does.
"""

from collections.abc import Callable

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QGridLayout,
    QLabel,
    QLineEdit,
    QRadioButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from app.access_words import INTERFACES_HINT, MOST_INTERFACES, NETWORK_MEANING, NETWORK_QUESTION
from app.views.elided_line import ElidedLine
from app.views.path_choice import choice_button, choose_file
from app.views.scrolled_form import scrolled_form
from app.views.settings_dialog import NUMBER_INDENT_PX
from app.wrapping import breakable
from engine.protocol_access import NetworkDoor, OpenNetwork

CERTIFICATES = "Certificates and keys (*.pem *.crt *.cer *.key);;All files (*)"
MOST_PORT = 65_535
LONGEST_INTERFACES = 1000
LONGEST_INTERFACE = 64


class NetworkDialog(QDialog):
    """Asks how `door` is to be opened. Return cancels: this is meant, or not done."""

    asked = Signal(object)
    """OpenNetwork."""

    def __init__(self, door: NetworkDoor, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Local network")
        self.resize(640, 520)
        self.question = QLabel(NETWORK_QUESTION)
        self.question.setObjectName("dialogTitle")
        self.meaning = QLabel(NETWORK_MEANING)
        self.port = QSpinBox()
        self.port.setRange(0, MOST_PORT)
        self.port.setSpecialValueText("The one before, or any that is free")
        self.port.lineEdit().setTextMargins(NUMBER_INDENT_PX, 0, 0, 0)
        self.port.setValue(door.port)
        self.interfaces = QLineEdit(", ".join(door.interfaces))
        self.interfaces.setPlaceholderText("All that this machine has")
        self.interfaces.setMaxLength(LONGEST_INTERFACES)
        self.generated = QRadioButton("A certificate that &Seamount makes and keeps")
        self.own = QRadioButton("My &own certificate")
        (self.own if door.certificate == "own" else self.generated).setChecked(True)
        self.certificate, self.key = (ElidedLine(Qt.TextElideMode.ElideMiddle) for _ in range(2))
        self._chosen: dict[str, str] = {"certificate": "", "key": ""}
        self.choose_certificate = choice_button(
            "&Choose…", "Choose the certificate’s file", lambda: self._choose("certificate")
        )
        self.choose_key = choice_button(
            "C&hoose…", "Choose the private key’s file", lambda: self._choose("key")
        )
        self.message = QLabel()
        self.message.setProperty("danger", True)
        self.message.setAccessibleName("Outcome")
        self.message.hide()
        for label in (self.question, self.meaning, self.message):
            label.setTextFormat(Qt.TextFormat.PlainText)
            label.setWordWrap(True)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel)
        self.open_button = buttons.addButton(
            "Serve the local network", QDialogButtonBox.ButtonRole.ActionRole
        )
        self.open_button.setAutoDefault(False)
        self.open_button.clicked.connect(self._ask)
        cancel = buttons.button(QDialogButtonBox.StandardButton.Cancel)
        buttons.rejected.connect(self.reject)
        form = QWidget()
        column = QVBoxLayout(form)
        column.setContentsMargins(0, 0, 8, 0)
        column.setSpacing(8)
        column.addWidget(self.question)
        column.addWidget(self.meaning)
        column.addSpacing(8)
        column.addLayout(self._fields())
        column.addStretch(1)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(24, 20, 24, 20)
        outer.setSpacing(16)
        outer.addWidget(scrolled_form(form), 1)
        outer.addWidget(self.message)
        outer.addWidget(buttons)
        cancel.setDefault(True)
        self.own.toggled.connect(self._show)
        self._show()
        cancel.setFocus(Qt.FocusReason.OtherFocusReason)

    def _fields(self) -> QGridLayout:
        grid = QGridLayout()
        grid.setHorizontalSpacing(16)
        grid.setVerticalSpacing(8)
        grid.setColumnStretch(1, 1)
        port = QLabel("&Port")
        port.setBuddy(self.port)
        self.port.setAccessibleName("Port")
        grid.addWidget(port, 0, 0)
        grid.addWidget(self.port, 0, 1, 1, 2)
        interfaces = QLabel("&Listen at")
        interfaces.setBuddy(self.interfaces)
        self.interfaces.setAccessibleName("Listen at")
        hint = QLabel(INTERFACES_HINT)
        hint.setWordWrap(True)
        hint.setProperty("muted", True)
        self.interfaces.setAccessibleDescription(INTERFACES_HINT)
        grid.addWidget(interfaces, 1, 0)
        grid.addWidget(self.interfaces, 1, 1, 1, 2)
        grid.addWidget(hint, 2, 1, 1, 2)
        grid.addWidget(self.generated, 3, 0, 1, 3)
        grid.addWidget(self.own, 4, 0, 1, 3)
        self._captions = (QLabel("Certificate (PEM)"), QLabel("Private key (PEM)"))
        for row, (caption, line, button) in enumerate(
            zip(
                self._captions,
                (self.certificate, self.key),
                (self.choose_certificate, self.choose_key),
                strict=True,
            ),
            start=5,
        ):
            grid.addWidget(caption, row, 0)
            grid.addWidget(line, row, 1)
            grid.addWidget(button, row, 2)
        return grid

    def set_file(self, which: str, path: str) -> None:
        """This is the "certificate", or the "key"."""
        self._chosen[which] = path
        self._show()

    def refuse(self, sentence: str) -> None:
        """It is not open: say why, keep what was chosen."""
        self.message.setText(breakable(sentence))
        self.message.show()
        self._show()

    def wanted(self) -> OpenNetwork:
        """What the form asks for."""
        own = self.own.isChecked()
        return OpenNetwork(
            wanted=True,
            port=self.port.value(),
            interfaces=self._interfaces(),
            certificate_path=self._chosen["certificate"] or None if own else None,
            key_path=self._chosen["key"] or None if own else None,
        )

    def _choose(self, which: str) -> None:
        title = "The certificate" if which == "certificate" else "The private key"
        chosen: Callable[[str], None] = lambda path: self.set_file(which, path)  # noqa: E731
        choose_file(self, title, CERTIFICATES, chosen)

    def _show(self) -> None:
        own = self.own.isChecked()
        for caption, line, button, which in (
            (self._captions[0], self.certificate, self.choose_certificate, "certificate"),
            (self._captions[1], self.key, self.choose_key, "key"),
        ):
            for part in (caption, line, button):
                part.setVisible(own)
            line.set_words(self._chosen[which] or "None chosen")
        both = bool(self._chosen["certificate"]) and bool(self._chosen["key"])
        self.open_button.setEnabled(not own or both)

    def _interfaces(self) -> list[str]:
        return self.interfaces.text().replace(",", " ").split()

    def _ask(self) -> None:
        wanted = self._interfaces()
        if len(wanted) > MOST_INTERFACES or any(len(each) > LONGEST_INTERFACE for each in wanted):
            self.refuse(
                f"It cannot listen there: at most {MOST_INTERFACES} addresses of this machine can be named; leave some "
                "out, or all to listen everywhere."
            )
            return
        self.message.hide()
        self.open_button.setEnabled(False)
        self.asked.emit(self.wanted())
