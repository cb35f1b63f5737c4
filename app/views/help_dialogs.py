"""What Help shows: the keys of every action, and what this program is.

Owns: two small dialogs made from the table of actions and from plain facts.
"""

from PySide6.QtCore import Qt
from PySide6.QtGui import QKeySequence
from PySide6.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from app.actions import ACTIONS, MENUS
from app.icons import application_icon

EXTRA_KEYS = (
    ("Send the message", "Enter"),
    ("Break the line", "Shift+Enter"),
    ("Edit the last message, in an empty composer", "Up"),
)


class ShortcutsDialog(QDialog):
    """Every action and its keys, by menu."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Keyboard shortcuts")
        self.resize(600, 620)
        inner = QWidget()
        grid = QGridLayout(inner)
        grid.setContentsMargins(4, 4, 16, 4)
        grid.setHorizontalSpacing(24)
        grid.setVerticalSpacing(6)
        row = 0
        for menu in MENUS:
            row = self._heading(grid, row, menu)
            for action in ACTIONS:
                if action.menu == menu:
                    keys = action.sequences()[0].toString(QKeySequence.SequenceFormat.NativeText)
                    row = self._line(grid, row, action.label.rstrip("…"), keys, action.tooltip)
        row = self._heading(grid, row, "In the composer")
        for text, keys in EXTRA_KEYS:
            row = self._line(grid, row, text, keys, "")
        grid.setRowStretch(row, 1)
        grid.setColumnStretch(0, 1)
        area = QScrollArea()
        area.setWidget(inner)
        area.setWidgetResizable(True)
        area.setFrameShape(QScrollArea.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setAccessibleName("List of keyboard shortcuts")
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.rejected.connect(self.reject)
        column = QVBoxLayout(self)
        column.setContentsMargins(24, 20, 24, 20)
        column.addWidget(area)
        column.addWidget(buttons)

    @staticmethod
    def _heading(grid: QGridLayout, row: int, text: str) -> int:
        label = QLabel(f"<b>{text}</b>")
        label.setContentsMargins(0, 10 if row else 0, 0, 2)
        grid.addWidget(label, row, 0, 1, 2)
        return row + 1

    @staticmethod
    def _line(grid: QGridLayout, row: int, text: str, keys: str, tooltip: str) -> int:
        left, right = QLabel(text), QLabel(keys)
        left.setToolTip(tooltip)
        right.setProperty("muted", True)
        grid.addWidget(left, row, 0)
        grid.addWidget(right, row, 1, Qt.AlignmentFlag.AlignRight)
        return row + 1


class AboutDialog(QDialog):
    """Version, licence, where the data lies."""

    def __init__(self, version: str, data_folder: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("About Seamount")
        picture = QLabel()
        picture.setPixmap(application_icon().pixmap(64, 64))
        picture.setAccessibleName("Seamount's icon: a mountain under the sea")
        title = QLabel("Seamount" + (f" {version}" if version else ""))
        title.setObjectName("dialogTitle")
        text = QLabel(
            "Runs language models on this computer. What you write stays here.\n\n"
            f"Your conversations and settings: {data_folder}\n\n"
            "MIT licence. Built with Qt (PySide6, LGPL 3) and llama.cpp (MIT)."
        )
        text.setWordWrap(True)
        text.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
        )
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.rejected.connect(self.reject)
        words = QVBoxLayout()
        words.setSpacing(10)
        words.addWidget(title)
        words.addWidget(text)
        row = QHBoxLayout()
        row.setSpacing(20)
        row.addWidget(picture, 0, Qt.AlignmentFlag.AlignTop)
        row.addLayout(words, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(24, 20, 24, 20)
        column.setSpacing(16)
        column.addLayout(row)
        column.addWidget(buttons)
        self.setMinimumWidth(460)
