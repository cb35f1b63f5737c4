"""A row that goes on in the next line."""

from PySide6.QtWidgets import QPushButton, QWidget
from pytestqt.qtbot import QtBot

from app.views.flow_row import FlowRow


def made(qtbot: QtBot, count: int = 4) -> tuple[QWidget, FlowRow, list[QPushButton]]:
    page = QWidget()
    qtbot.addWidget(page)
    row = FlowRow(8, page)
    buttons = [QPushButton(f"Button {number}") for number in range(count)]
    for button in buttons:
        row.addWidget(button)
    return page, row, buttons


def test_wide_it_is_one_line_and_narrow_it_is_several(qtbot: QtBot) -> None:
    page, row, buttons = made(qtbot)
    width, height = row.sizeHint().width(), buttons[0].sizeHint().height()
    assert row.heightForWidth(width) == height
    assert row.heightForWidth(width - 1) == 2 * height + 8
    assert row.heightForWidth(row.minimumSize().width()) == 4 * height + 3 * 8
    page.resize(width, 200)
    page.show()
    assert len({button.y() for button in buttons}) == 1
    page.resize(width // 2 + 8, 200)
    assert len({button.y() for button in buttons}) == 2
    assert all(button.geometry().right() < page.width() for button in buttons)


def test_hidden_ones_take_no_room(qtbot: QtBot) -> None:
    page, row, buttons = made(qtbot)
    page.show()
    before = row.sizeHint().width()
    buttons[1].hide()
    assert row.sizeHint().width() < before
    for button in buttons:
        button.hide()
    assert row.heightForWidth(300) == 0
    assert row.sizeHint().width() == 0


def test_what_is_taken_is_gone(qtbot: QtBot) -> None:
    _page, row, buttons = made(qtbot)
    assert row.count() == 4
    item = row.takeAt(0)
    assert item is not None
    assert item.widget() is buttons[0]
    assert row.count() == 3
    assert row.itemAt(7) is row.takeAt(7) is None
    assert not row.expandingDirections()
