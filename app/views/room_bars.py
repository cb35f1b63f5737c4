"""How full the disks are that things go into: one quiet line for each, with a bar.

Owns: the lines. Does not measure anything.
"""

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QVBoxLayout, QWidget

from app.library_words import room_words
from engine.protocol_library import DiskRoom

BAR_PX = 96
BAR_STEPS = 1000


class RoomBars(QWidget):
    """Shows rooms; nothing before they are known."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName("Free space")
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(4)
        self._rows: list[tuple[QWidget, QProgressBar, QLabel]] = []

    def show_rooms(self, rooms: list[DiskRoom]) -> None:
        """Show these."""
        lines = room_words(rooms)
        tips = "\n".join(f"{room.role.capitalize()}: {room.path}" for room in rooms)
        while len(self._rows) < len(lines):
            self._rows.append(self._row())
        for place, (row, bar, label) in enumerate(self._rows):
            row.setVisible(place < len(lines))
            if place < len(lines):
                words, used = lines[place]
                if label.text() != words:
                    label.setText(words)
                bar.setValue(round(used * BAR_STEPS))
                bar.setAccessibleName(f"{used:.0%} of the disk is used")
                row.setToolTip(tips)
        self.setVisible(bool(lines))

    def words(self) -> list[str]:
        """What the lines say."""
        return [label.text() for row, _, label in self._rows if not row.isHidden()]

    def _row(self) -> tuple[QWidget, QProgressBar, QLabel]:
        row = QWidget()
        bar = QProgressBar()
        bar.setRange(0, BAR_STEPS)
        bar.setTextVisible(False)
        bar.setFixedWidth(BAR_PX)
        label = QLabel()
        label.setTextFormat(Qt.TextFormat.PlainText)
        label.setProperty("muted", True)
        label.setWordWrap(True)
        line = QHBoxLayout(row)
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(12)
        line.addWidget(bar, 0, Qt.AlignmentFlag.AlignVCenter)
        line.addWidget(label, 1)
        self._column.addWidget(row)
        return row, bar, label
