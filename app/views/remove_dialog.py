"""Asks before something is removed: to the trash, for good, or off the list alone.

Owns: the question. Does not remove anything.
"""

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QMessageBox, QWidget

from app.library_words import removal_words
from app.wrapping import breakable
from engine.protocol_library import LibraryItem


class RemoveDialog(QMessageBox):
    """Names what goes, its size and its place; Escape and Return leave it where it is."""

    chosen = Signal(bool)
    """For good."""

    def __init__(self, item: LibraryItem, parent: QWidget | None = None, *, stays: bool = False) -> None:
        """`stays`: it is only taken off the list."""
        super().__init__(parent)
        question, meaning = removal_words(item, stays=stays)
        self.setWindowTitle("Remove")
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setText(question)
        self.setInformativeText(breakable(meaning))
        self.trash_button = self.addButton(
            "Take off the list" if stays else "Move to trash", QMessageBox.ButtonRole.AcceptRole
        )
        self.keep_button = self.addButton("Keep it", QMessageBox.ButtonRole.RejectRole)
        self.setDefaultButton(self.keep_button)
        self.setEscapeButton(self.keep_button)
        self.trash_button.clicked.connect(lambda: self.chosen.emit(False))
        if not stays:
            self.delete_button = self.addButton("Delete for good", QMessageBox.ButtonRole.DestructiveRole)
            self.delete_button.clicked.connect(lambda: self.chosen.emit(True))
