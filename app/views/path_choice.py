"""Asking for a place on the disk, as the dialogs do it.

Owns: the file dialogs and the small buttons that open them. Does not know what is done with the place.
"""

from collections.abc import Callable

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFileDialog, QPushButton, QWidget


def choose_folder(parent: QWidget, title: str, start: str, chosen: Callable[[str], None]) -> None:
    """Ask for a folder, beginning at `start`; `chosen` gets its path."""
    dialog = QFileDialog(parent, title, start)
    dialog.setFileMode(QFileDialog.FileMode.Directory)
    _open(dialog, chosen)


def choose_file(parent: QWidget, title: str, kinds: str, chosen: Callable[[str], None]) -> None:
    """Ask for a file that is there; `kinds` is a filter of Qt's."""
    dialog = QFileDialog(parent, title, "", kinds)
    dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
    _open(dialog, chosen)


def choose_model_target(parent: QWidget, start: str, chosen: Callable[[str], None]) -> None:
    """Ask for the .gguf file to write; `chosen` gets its path."""
    dialog = QFileDialog(parent, "Save the model as", start, "Model files (*.gguf)")
    dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
    dialog.setDefaultSuffix("gguf")
    _open(dialog, chosen)


def choice_button(text: str, name: str, slot: Callable[[], None]) -> QPushButton:
    """A button beside a field; `name` says to a screen reader and in its tooltip what it chooses."""
    button = QPushButton(text)
    button.setAccessibleName(name)
    button.setToolTip(name)
    button.setAutoDefault(False)
    button.clicked.connect(lambda: slot())
    return button


def _open(dialog: QFileDialog, chosen: Callable[[str], None]) -> None:
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    dialog.fileSelected.connect(chosen)
    dialog.open()
