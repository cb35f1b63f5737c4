"""The rows of the list of conversations."""

from datetime import date, datetime

from PySide6.QtCore import Qt
from PySide6.QtTest import QAbstractItemModelTester
from pytestqt.qtbot import QtBot

from app.session_list import SessionList, SessionRole
from engine.protocol import SessionSummary

TODAY = date(2026, 3, 2)
NOON = datetime(2026, 3, 2, 12).timestamp()


def summary(session_id: str, title: str, age_days: float = 0.0) -> SessionSummary:
    return SessionSummary(id=session_id, title=title, created_at=0, updated_at=NOON - age_days * 86_400)


def made() -> SessionList:
    rows = SessionList(today=lambda: TODAY)
    rows.show([summary("a", "First"), summary("b", "", 1)])
    return rows


def test_headings_stand_between_and_cannot_be_chosen(qtbot: QtBot) -> None:
    rows = made()
    QAbstractItemModelTester(rows, QAbstractItemModelTester.FailureReportingMode.Fatal)
    texts = [rows.index(i).data() for i in range(rows.rowCount())]
    assert texts == ["Today", "First", "Yesterday", "New conversation"]
    assert rows.flags(rows.index(0)) == Qt.ItemFlag.NoItemFlags
    assert rows.flags(rows.index(1)) & Qt.ItemFlag.ItemIsEditable
    assert rows.session_ids() == ["a", "b"]


def test_a_new_title_changes_one_row_and_resets_nothing(qtbot: QtBot) -> None:
    rows = made()
    resets: list[bool] = []
    changes: list[int] = []
    rows.modelReset.connect(lambda: resets.append(True))
    rows.dataChanged.connect(lambda first, _last: changes.append(first.row()))
    rows.show([summary("a", "Renamed"), summary("b", "", 1)])
    assert (resets, changes) == ([], [1])
    assert rows.index(1).data() == "Renamed"


def test_editing_asks_and_leaves_the_row(qtbot: QtBot) -> None:
    rows = made()
    asked: list[tuple[str, str]] = []
    rows.rename_requested.connect(lambda *what: asked.append(what))
    assert rows.setData(rows.index_of("a"), "  A  new\ntitle ")
    assert asked == [("a", "A new title")]
    assert rows.index_of("a").data() == "First"
    assert not rows.setData(rows.index_of("a"), "   ")
    assert not rows.setData(rows.index_of("a"), "First")


def test_a_screen_reader_hears_what_a_row_is(qtbot: QtBot) -> None:
    rows = made()
    assert rows.index(1).data(Qt.ItemDataRole.AccessibleTextRole) == "Conversation: First"
    assert rows.index(1).data(SessionRole.SESSION_ID) == "a"
    assert not rows.index_of("zzz").isValid()
    assert not rows.index_of(None).isValid()
