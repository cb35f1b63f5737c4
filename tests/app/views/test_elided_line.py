"""A line that gives way."""

from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from app.views.elided_line import ElidedLine


def test_it_is_one_line_that_fits_any_width_and_tells_the_rest(qtbot: QtBot) -> None:
    line = ElidedLine(Qt.TextElideMode.ElideMiddle)
    qtbot.addWidget(line)
    line.set_words("/a/very/long/path/" * 20 + "\n<b>model</b>.gguf")
    assert line.minimumSizeHint().width() == 0
    assert line.sizeHint().height() == line.fontMetrics().height()
    assert line.words().endswith("/ <b>model</b>.gguf")
    assert line.accessibleName() == line.words()
    assert line.toolTip().replace("\u200b", "") == line.words()
    line.resize(80, 20)
    assert not line.grab().isNull()


def test_new_words_ask_for_no_new_layout(qtbot: QtBot) -> None:
    line = ElidedLine()
    qtbot.addWidget(line)
    line.set_words("short")
    line.show()
    line.resize(200, 20)
    before = line.geometry()
    line.set_words("much longer than it was before, and still one line of text " * 4)
    qtbot.wait(0)
    assert line.geometry() == before


def test_another_font_is_another_height(qtbot: QtBot) -> None:
    line = ElidedLine()
    qtbot.addWidget(line)
    before = line.sizeHint().height()
    font = line.font()
    font.setPointSizeF(font.pointSizeF() * 2)
    line.setFont(font)
    assert line.sizeHint().height() > 1.5 * before
