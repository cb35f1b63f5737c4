"""A column in the middle of a page."""

from PySide6.QtCore import QPoint
from PySide6.QtWidgets import QLabel
from pytestqt.qtbot import QtBot

from app.views.scrolled_column import ABOVE_PX, ScrolledColumn


def test_it_is_centred_scrolls_and_is_no_higher_than_it_must(qtbot: QtBot) -> None:
    area = ScrolledColumn()
    qtbot.addWidget(area)
    area.set_most_px(300)
    label = QLabel("Words that wrap. " * 30)
    label.setWordWrap(True)
    area.rows.addWidget(label)
    area.resize(700, 500)
    area.show()
    qtbot.waitExposed(area)
    assert area.verticalScrollBar().maximum() == 0
    column = label.parentWidget()
    assert column.width() == 300
    left = column.mapTo(area, column.rect().topLeft()).x()
    assert abs(left - (700 - 300) // 2) <= 6
    area.resize(700, 60)
    qtbot.waitUntil(lambda: area.verticalScrollBar().maximum() > 0)
    assert label.height() >= label.heightForWidth(label.width())


def test_what_is_brought_up_stays_there_while_the_page_grows_until_somebody_scrolls(qtbot: QtBot) -> None:
    area = ScrolledColumn()
    qtbot.addWidget(area)
    above, part, below = QLabel("above"), QLabel("part"), QLabel("below")
    below.setMinimumHeight(2000)
    for label in (above, part, below):
        area.rows.addWidget(label)
    area.resize(400, 200)
    area.show()
    qtbot.waitExposed(area)

    def top() -> int:
        return part.mapTo(area.viewport(), QPoint()).y()

    area.bring_up(part)
    qtbot.waitUntil(lambda: top() == ABOVE_PX)
    above.setMinimumHeight(300)
    qtbot.waitUntil(lambda: above.height() >= 300 and top() == ABOVE_PX)
    area.verticalScrollBar().triggerAction(area.verticalScrollBar().SliderAction.SliderSingleStepAdd)
    above.setMinimumHeight(600)
    qtbot.waitUntil(lambda: above.height() >= 600)
    assert top() != ABOVE_PX
