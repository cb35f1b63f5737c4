"""What Help shows of the keyboard: the keys of every action.

Owns: a dialog made from the table of actions.
"""

from PySide6.QtCore import Qt
from PySide6.QtGui import QKeySequence
from PySide6.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QGridLayout,
    QLabel,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from app.actions import ACTIONS, MENUS

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
