"""A column in the middle of a page."""

from PySide6.QtWidgets import QLabel
from pytestqt.qtbot import QtBot

from app.views.scrolled_column import ScrolledColumn


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
