"""The local network's part of the page: whether it is served, where, with which certificate.

Owns: the widgets that tell it and the buttons that ask for a change. Does not open anything.
"""

import time

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QLabel, QPushButton, QVBoxLayout, QWidget

from app.access_words import SHOWN_ADDRESSES, certificate_words, network_words
from app.views.copy_line import CopyLine
from app.views.flow_row import FlowRow
from app.wrapping import breakable
from engine.protocol_access import NetworkDoor


class NetworkPanel(QWidget):
    """Shows a NetworkDoor."""

    open_requested = Signal()
    """It is to be opened, or opened otherwise: a question comes first."""
    close_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.state = QLabel()
        self.state.setAccessibleName("Local network")
        self.certificate = QLabel()
        self.certificate.setProperty("muted", True)
        self.notice = QLabel()
        for label in (self.state, self.certificate, self.notice):
            label.setTextFormat(Qt.TextFormat.PlainText)
            label.setWordWrap(True)
        self.fingerprint = CopyLine("Fingerprint of the certificate (SHA-256)", "the fingerprint", wraps=True)
        self.addresses: list[CopyLine] = []
        self.open_button = QPushButton("Open to the local network…")
        self.close_button = QPushButton("Close it")
        self.open_button.clicked.connect(self.open_requested)
        self.close_button.clicked.connect(self.close_requested)
        buttons = FlowRow()
        for button in (self.open_button, self.close_button):
            button.setAutoDefault(False)
            buttons.addWidget(button)
        self._places = QVBoxLayout()
        self._places.setSpacing(8)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addWidget(self.state)
        column.addWidget(self.notice)
        column.addLayout(self._places)
        column.addWidget(self.fingerprint.caption)
        column.addWidget(self.fingerprint)
        column.addWidget(self.certificate)
        column.addLayout(buttons)
        self.show_door(NetworkDoor())

    def show_door(self, door: NetworkDoor) -> None:
        """Show the latest of it."""
        self.state.setText(breakable(network_words(door)))
        self.state.setProperty("danger", door.problem is not None)
        self.state.style().polish(self.state)
        self.notice.setText(breakable(door.notice or ""))
        self.notice.setVisible(bool(door.notice))
        self._show_addresses(door.addresses[:SHOWN_ADDRESSES] if door.is_open else [])
        fingerprint = door.fingerprint or ""
        self.fingerprint.set_value(fingerprint)
        for part in (self.fingerprint, self.fingerprint.caption):
            part.setVisible(bool(fingerprint) and door.wanted)
        words = certificate_words(door, time.time()) if door.wanted else ""
        self.certificate.setText(words)
        self.certificate.setVisible(bool(words))
        self.open_button.setText("Change…" if door.wanted else "Open to the local network…")
        if self.close_button.hasFocus() and not door.wanted:
            self.open_button.setFocus(Qt.FocusReason.OtherFocusReason)
        self.close_button.setVisible(door.wanted)

    def _show_addresses(self, addresses: list[str]) -> None:
        while len(self.addresses) > len(addresses):
            line = self.addresses.pop()
            self._places.removeWidget(line)
            line.hide()
            line.deleteLater()
        while len(self.addresses) < len(addresses):
            line = CopyLine(f"Address {len(self.addresses) + 1} in the local network", "this address")
            self.addresses.append(line)
            self._places.addWidget(line)
        for line, address in zip(self.addresses, addresses, strict=True):
            line.set_value(address)
