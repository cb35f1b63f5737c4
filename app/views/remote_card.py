"""One model on another machine: where it is, what was found out about it, and what can be done with it.

Owns: the card's widgets. Does not carry anything out.
"""

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from app.remote_words import features_words, remote_words
from app.views.card_list import Card
from app.views.elided_line import ElidedLine
from app.views.flow_row import FlowRow
from app.wrapping import breakable
from engine.protocol_remote import Remote


class RemoteCard(Card):
    """A Remote, and whether it is the model that answers now."""

    asked = Signal(str, object)
    """"use", "agree", "edit" or "remove", and the Remote."""

    def __init__(self, entry: tuple[Remote, bool], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.remote = entry[0]
        self.title = ElidedLine(Qt.TextElideMode.ElideMiddle)
        self.title.setObjectName("cardTitle")
        self.loaded = QLabel("Loaded")
        self.loaded.setObjectName("badge")
        self.loaded.setToolTip("This model answers now")
        self.words, self.features, self.problem = (QLabel() for _ in range(3))
        for label in (self.words, self.features, self.problem):
            label.setTextFormat(Qt.TextFormat.PlainText)
            label.setWordWrap(True)
            label.setProperty("muted", label is not self.problem)
        self.problem.setProperty("danger", True)
        self.use_button = QPushButton("Use")
        self.agree_button = QPushButton("Agree")
        self.edit_button = QPushButton("Edit…")
        self.remove_button = QPushButton("Remove…")
        head = QHBoxLayout()
        head.setSpacing(8)
        head.addWidget(self.title, 1)
        head.addWidget(self.loaded)
        words = QVBoxLayout()
        words.setSpacing(4)
        words.addLayout(head)
        for part in (self.words, self.features, self.problem):
            words.addWidget(part)
        row = QHBoxLayout(self)
        row.setContentsMargins(16, 12, 16, 12)
        row.setSpacing(8)
        row.addLayout(words, 1)
        row.addSpacing(8)
        # Below each other where the page is narrow.
        holder = QWidget()
        buttons = FlowRow(parent=holder)
        for verb, button in self._buttons():
            button.setAutoDefault(False)
            button.clicked.connect(lambda _=False, verb=verb: self.asked.emit(verb, self.remote))
            buttons.addWidget(button)
        row.addWidget(holder, 0, Qt.AlignmentFlag.AlignVCenter)
        self.show_entry(entry)

    def _buttons(self) -> tuple[tuple[str, QPushButton], ...]:
        return (
            ("use", self.use_button),
            ("agree", self.agree_button),
            ("edit", self.edit_button),
            ("remove", self.remove_button),
        )

    def show_entry(self, entry: tuple[Remote, bool]) -> None:
        """Show the latest of it."""
        self.remote, loaded = entry
        remote = self.remote
        self.title.set_words(remote.name)
        self.words.setText(breakable(remote_words(remote)))
        self.features.setText(breakable(features_words(remote.features)))
        self.loaded.setVisible(loaded)
        trouble = remote.change or (remote.problem.text if remote.problem else "")
        self.problem.setText(breakable(trouble))
        self.problem.setVisible(bool(trouble))
        self.use_button.setVisible(not loaded and remote.change is None)
        self.agree_button.setVisible(remote.change is not None)
        for _, button in self._buttons():
            button.setAccessibleName(f"{button.text().rstrip('…')}: {remote.name}")
        self.setAccessibleName(f"{remote.name}, on another machine{', loaded' if loaded else ''}")
