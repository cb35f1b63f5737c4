"""The editor says what asking again costs, wherever there is room for it."""

import pytest
from PySide6.QtWidgets import QWidget
from pytestqt.qtbot import QtBot

from app.page_style import PageStyle
from app.theme import Theme
from app.views.message_editor import MessageEditor

COST = "reads 2,100 of 9,400 tokens again, about 38 s"


@pytest.fixture
def page(qtbot: QtBot) -> QWidget:
    made = QWidget()
    made.resize(900, 600)
    qtbot.addWidget(made)
    made.show()
    return made


@pytest.mark.parametrize(("width", "zoom"), [(800, 1.0), (320, 1.0), (700, 2.0)])
def test_the_cost_is_whole_and_covers_nothing(page: QWidget, width: int, zoom: float) -> None:
    editor = MessageEditor("What is it?", PageStyle(Theme.light().zoomed(zoom)), page)
    editor.show()
    editor.set_cost(COST)
    editor.resize(width, editor.height_for(width))
    cost = editor.cost
    assert cost.text() == cost.accessibleName() == f"Asking again: {COST}"
    assert cost.heightForWidth(cost.width()) <= cost.height() or cost.sizeHint().width() <= cost.width()
    for other in (editor.field, editor.save_button, editor.cancel_button):
        assert not cost.geometry().intersects(other.geometry())
    assert editor.rect().contains(cost.geometry())


def test_it_grows_for_the_cost_where_it_must_and_shrinks_again(page: QWidget, qtbot: QtBot) -> None:
    editor = MessageEditor("What is it?", PageStyle(Theme.light()), page)
    narrow, wide = editor.height_for(320), editor.height_for(800)
    with qtbot.waitSignal(editor.height_changed):
        editor.set_cost(COST)
    assert editor.height_for(320) > narrow
    assert editor.height_for(800) == wide
    editor.set_cost("")
    assert editor.height_for(320) == narrow
    assert editor.save_button.accessibleDescription() == ""
