"""One program that is connected: who it is, and each answer that it waits for, with a way to end it.

Owns: the card's widgets; rows stay where they are while their numbers change, so that End can be hit. Does not end
anything.
"""

import time

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from app.access_words import client_words, program_name, request_words
from app.views.card_list import Card
from app.views.elided_line import ElidedLine
from engine.protocol_access import ClientRequest, ConnectedClient


class ClientCard(Card):
    """A ConnectedClient."""

    end_requested = Signal(str)
    """The request's id."""
    focus_lost = Signal()
    """The answer whose End had the keyboard has come to its end."""

    def __init__(self, client: ConnectedClient, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.title = ElidedLine()
        self.title.setObjectName("cardTitle")
        self.words = ElidedLine()
        self.words.setProperty("muted", True)
        self.rows: dict[str, RequestRow] = {}
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(16, 12, 16, 12)
        self._column.setSpacing(4)
        self._column.addWidget(self.title)
        self._column.addWidget(self.words)
        self.show_entry(client)

    def show_entry(self, entry: ConnectedClient) -> None:
        """Show the latest of it."""
        self.client = entry
        name = program_name(entry)
        self.title.set_words(name)
        self.tell_time(time.time())
        self.setAccessibleName(f"{name}, {len(entry.requests)} running or waiting")
        wanted = {request.id: request for request in entry.requests}
        for request_id in [each for each in self.rows if each not in wanted]:
            row = self.rows.pop(request_id)
            had_focus = row.end_button.hasFocus()
            self._column.removeWidget(row)
            row.hide()
            row.deleteLater()
            if had_focus:
                self.focus_lost.emit()
        for request_id, request in wanted.items():
            row = self.rows.get(request_id)
            if row is None:
                row = self.rows[request_id] = RequestRow(request_id)
                row.end_requested.connect(self.end_requested)
                self._column.addWidget(row)
            row.show_request(request, name)

    def tell_time(self, now_s: float) -> None:
        """How long ago it asked, at `now_s`."""
        self.words.set_words(client_words(self.client, now_s))


class RequestRow(QWidget):
    """One answer that is waited for."""

    end_requested = Signal(str)

    def __init__(self, request_id: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.words = ElidedLine()
        self.end_button = QPushButton("End")
        self.end_button.setAutoDefault(False)
        self.end_button.clicked.connect(lambda: self.end_requested.emit(request_id))
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 4, 0, 0)
        row.setSpacing(8)
        row.addWidget(self.words, 1)
        row.addWidget(self.end_button, 0, Qt.AlignmentFlag.AlignVCenter)

    def show_request(self, request: ClientRequest, program: str) -> None:
        """Show the latest of it."""
        self.words.set_words(request_words(request))
        self.end_button.setAccessibleName(f"End the answer to {program}")
        self.end_button.setToolTip(f"End this answer; {program} is told that it was stopped")
