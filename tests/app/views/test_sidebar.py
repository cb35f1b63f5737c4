"""The list of conversations as it is used."""

from datetime import datetime

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QPainter, QPixmap
from PySide6.QtWidgets import QLineEdit, QStyle, QStyleOptionViewItem
from pytestqt.qtbot import QtBot

from app.session_list import SessionList
from app.theme import Theme
from app.views.sidebar import Sidebar
from engine.protocol import SessionSummary

NOW = datetime.now().timestamp()


def summary(session_id: str, title: str, age_days: float = 0.0) -> SessionSummary:
    return SessionSummary(id=session_id, title=title, created_at=0, updated_at=NOW - age_days * 86_400)


@pytest.fixture
def rows() -> SessionList:
    made = SessionList()
    made.show([summary("a", "Alpha"), summary("b", "Beta" * 40, 40), summary("c", "Gamma", 400)])
    return made


@pytest.fixture
def sidebar(qtbot: QtBot, rows: SessionList) -> Sidebar:
    made = Sidebar(Theme.light())
    qtbot.addWidget(made)
    made.set_rows(rows)
    made.resize(260, 500)
    made.show()
    return made


def test_a_click_opens_and_a_click_on_a_heading_does_not(
    sidebar: Sidebar, rows: SessionList, qtbot: QtBot
) -> None:
    opened: list[str] = []
    sidebar.open_requested.connect(opened.append)
    view = sidebar.list
    for row in (1, 0):
        place = view.visualRect(rows.index(row)).center()
        qtbot.mouseClick(view.viewport(), Qt.MouseButton.LeftButton, pos=place)
    assert opened == ["a"]


def test_the_keyboard_opens_and_deletes(sidebar: Sidebar, qtbot: QtBot) -> None:
    opened: list[str] = []
    deleted: list[str] = []
    sidebar.open_requested.connect(opened.append)
    sidebar.delete_requested.connect(deleted.append)
    sidebar.set_open("a")
    qtbot.keyClick(sidebar.list, Qt.Key.Key_Down)
    qtbot.keyClick(sidebar.list, Qt.Key.Key_Return)
    qtbot.keyClick(sidebar.list, Qt.Key.Key_Delete)
    assert (opened, deleted) == (["b"], ["b"])


def test_renaming_happens_in_the_row(sidebar: Sidebar, rows: SessionList, qtbot: QtBot) -> None:
    asked: list[tuple[str, str]] = []
    rows.rename_requested.connect(lambda *what: asked.append(what))
    sidebar.rename("a")
    editor = sidebar.list.viewport().findChild(QLineEdit)
    assert editor is not None
    assert editor.text() == "Alpha"
    editor.setText("Omega")
    qtbot.keyClick(editor, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: asked == [("a", "Omega")])  # Qt commits an editor from the event loop


def test_the_neighbour_skips_headings_and_stops_at_the_ends(sidebar: Sidebar) -> None:
    assert sidebar.neighbour(1) == "a"
    sidebar.set_open("a")
    assert sidebar.neighbour(1) == "b"
    assert sidebar.neighbour(-1) is None
    sidebar.set_open("c")
    assert sidebar.neighbour(1) is None


def test_the_open_row_stays_marked_when_the_rows_are_replaced(sidebar: Sidebar, rows: SessionList) -> None:
    sidebar.set_open("b")
    rows.show([summary("x", "New"), summary("a", "Alpha"), summary("b", "Beta", 40)])
    assert sidebar.list.current_id() == "b"
    sidebar.set_open(None)
    assert sidebar.list.current_id() is None


def test_search_tells_and_escape_empties_it(sidebar: Sidebar, qtbot: QtBot) -> None:
    told: list[str] = []
    sidebar.search_changed.connect(told.append)
    qtbot.keyClicks(sidebar.search, "wh")
    qtbot.keyClick(sidebar.search, Qt.Key.Key_Escape)
    assert told == ["w", "wh", ""]


def test_down_from_the_search_goes_into_the_list(sidebar: Sidebar, qtbot: QtBot) -> None:
    sidebar.activateWindow()
    qtbot.keyClick(sidebar.search, Qt.Key.Key_Down)
    assert sidebar.list.current_id() == "a"


def test_the_context_menu_offers_what_can_be_done(sidebar: Sidebar) -> None:
    deleted: list[str] = []
    sidebar.delete_requested.connect(deleted.append)
    menu = sidebar.menu_for("c")
    assert [a.text() for a in menu.actions() if a.text()] == ["Open", "Rename…", "Delete"]
    menu.actions()[-1].trigger()
    assert deleted == ["c"]


def test_everything_has_a_name(sidebar: Sidebar) -> None:
    assert sidebar.search.accessibleName()
    assert sidebar.list.accessibleName()
    assert sidebar.new_button.accessibleName()


def test_drawing_changes_no_colour_of_the_theme(sidebar: Sidebar, rows: SessionList) -> None:
    before = Theme.light().text.getRgbF()
    canvas = QPixmap(200, 40)
    painter = QPainter(canvas)
    option = QStyleOptionViewItem()
    option.rect = canvas.rect()
    option.state = QStyle.StateFlag.State_Enabled | QStyle.StateFlag.State_MouseOver
    sidebar.list.itemDelegate().paint(painter, option, rows.index(1))
    painter.end()
    assert Theme.light().text.getRgbF() == before


def test_an_empty_list_says_why(sidebar: Sidebar, rows: SessionList) -> None:
    def dark_pixels() -> int:
        picture = sidebar.list.viewport().grab().toImage()
        ground = picture.pixel(1, 1)
        area = [(x, y) for x in range(picture.width()) for y in range(60)]
        return sum(picture.pixel(x, y) != ground for x, y in area)

    rows.show([])
    assert dark_pixels() == 0
    sidebar.say_when_empty("Nothing holds “zebra”.")
    assert dark_pixels() > 50
    assert sidebar.list.accessibleDescription() == "Nothing holds “zebra”."
