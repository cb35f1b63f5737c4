"""The list of conversations as rows: headings by day and the conversations under them.

Owns: the Qt item model. Does not fetch anything (`session_catalogue.py`) and does not draw.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from enum import IntEnum
from typing import TYPE_CHECKING

from PySide6.QtCore import QAbstractListModel, QModelIndex, QObject, QPersistentModelIndex, Qt, Signal

from app.session_groups import grouped

if TYPE_CHECKING:
    from engine.protocol import SessionSummary

Index = QModelIndex | QPersistentModelIndex
UNTITLED = "New conversation"


class SessionRole(IntEnum):
    """What a row can be asked for beyond its text."""

    SESSION_ID = int(Qt.ItemDataRole.UserRole) + 1
    """None for a heading."""


@dataclass(frozen=True)
class _Row:
    text: str
    session_id: str | None


class SessionList(QAbstractListModel):
    """Rows for a QListView. Editing a title only asks for it; the row changes when the engine has agreed."""

    rename_requested = Signal(str, str)
    """Session id, new title."""

    def __init__(self, parent: QObject | None = None, today: Callable[[], date] = date.today) -> None:
        super().__init__(parent)
        self._rows: list[_Row] = []
        self._today = today

    def show(self, summaries: Sequence["SessionSummary"]) -> None:
        """Replace the rows. Rows that stay where they are keep selection and editors."""
        rows: list[_Row] = []
        for heading, members in grouped(summaries, self._today()):
            rows.append(_Row(heading, None))
            rows.extend(_Row(member.title or UNTITLED, member.id) for member in members)
        if [row.session_id for row in rows] == [row.session_id for row in self._rows]:
            for number, (old, new) in enumerate(zip(self._rows, rows, strict=True)):
                if old != new:
                    self._rows[number] = new
                    index = self.index(number)
                    self.dataChanged.emit(index, index)
            return
        self.beginResetModel()
        self._rows = rows
        self.endResetModel()

    def index_of(self, session_id: str | None) -> QModelIndex:
        """Where a conversation stands; an invalid index if it does not."""
        for number, row in enumerate(self._rows):
            if session_id is not None and row.session_id == session_id:
                return self.index(number)
        return QModelIndex()

    def session_ids(self) -> list[str]:
        """Every conversation in the order of the rows."""
        return [row.session_id for row in self._rows if row.session_id is not None]

    def rowCount(self, parent: Index | None = None) -> int:
        """Rows, headings included."""
        return 0 if parent is not None and parent.isValid() else len(self._rows)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        """The text, the session's id, and what a screen reader says."""
        if not index.isValid():
            return None
        row = self._rows[index.row()]
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.EditRole):
            return row.text
        if role == SessionRole.SESSION_ID:
            return row.session_id
        if role == Qt.ItemDataRole.ToolTipRole and row.session_id is not None:
            return row.text
        if role == Qt.ItemDataRole.AccessibleTextRole:
            return row.text if row.session_id is None else f"Conversation: {row.text}"
        return None

    def setData(self, index: Index, value: object, role: int = Qt.ItemDataRole.EditRole) -> bool:
        """Ask for another title; an empty or unchanged one asks for nothing."""
        if not index.isValid() or role != Qt.ItemDataRole.EditRole:
            return False
        row = self._rows[index.row()]
        title = " ".join(str(value).split())
        if row.session_id is None or not title or title == row.text:
            return False
        self.rename_requested.emit(row.session_id, title)
        return True

    def flags(self, index: Index) -> Qt.ItemFlag:
        """Headings are there to be read only."""
        if not index.isValid() or self._rows[index.row()].session_id is None:
            return Qt.ItemFlag.NoItemFlags
        return Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable | Qt.ItemFlag.ItemIsEditable
