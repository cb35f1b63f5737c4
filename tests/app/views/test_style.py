"""One stylesheet, made of tokens only."""

import re
from collections.abc import Callable, Iterator

import pytest
from PySide6.QtCore import QPoint
from PySide6.QtGui import QFontMetrics, QPalette
from PySide6.QtWidgets import QApplication, QLabel, QWidget
from pytestqt.qtbot import QtBot

from app.theme import Theme
from app.views import style
from app.views.composer import Composer
from app.views.settings_dialog import SettingsDialog
from app.views.sidebar import Sidebar
from app.views.style import palette, stylesheet
from engine.protocol import Settings


@pytest.fixture
def draw(qapp: QApplication) -> Iterator[Callable[[Theme], None]]:
    """Draws everything in a theme, for this test."""
    font, before = qapp.font(), qapp.palette()
    yield lambda theme: style.apply(theme, qapp)
    qapp.setStyleSheet("")
    qapp.setPalette(before)
    qapp.setFont(font)


@pytest.mark.parametrize("theme", [Theme.light(), Theme.dark()], ids=lambda t: t.name)
def test_every_colour_is_a_token(theme: Theme) -> None:
    tokens = {colour.name() for colour in theme.colours().values()}
    assert set(re.findall(r"#[0-9a-fA-F]{6}\b", stylesheet(theme))) <= tokens
    assert "{" in stylesheet(theme)
    assert "{{" not in stylesheet(theme)


def test_the_palette_follows_the_theme(qapp: object) -> None:
    made = palette(Theme.dark())
    assert made.color(QPalette.ColorRole.Window) == Theme.dark().background
    assert made.color(QPalette.ColorRole.Text) == Theme.dark().text


@pytest.mark.parametrize("theme", [Theme.light(), Theme.dark()], ids=lambda t: t.name)
def test_what_stands_in_an_empty_field_can_be_read(
    draw: Callable[[Theme], None], qtbot: QtBot, theme: Theme
) -> None:
    draw(theme)
    composer, sidebar = Composer(theme), Sidebar(theme)
    for part in (composer, sidebar):
        qtbot.addWidget(part)
        part.show()
    # Qt's own choice is the text's colour at half strength, which has a contrast of about 3.
    for field in (composer.edit, sidebar.search):
        assert field.palette().color(QPalette.ColorRole.PlaceholderText) == theme.muted


def test_numbers_stand_under_the_text_above_them(draw: Callable[[Theme], None], qtbot: QtBot) -> None:
    draw(Theme.light())
    dialog = SettingsDialog(Settings(), None)
    qtbot.addWidget(dialog)
    dialog.show()

    def text_x(field: QWidget, cursor_x: int) -> int:
        return field.mapTo(dialog, field.rect().topLeft()).x() + cursor_x

    message = dialog.system_message
    wanted = text_x(message.viewport(), message.cursorRect(message.cursorForPosition(QPoint())).left())
    for number in (dialog.temperature, dialog.context, dialog.threads):
        line = number.lineEdit()
        line.home(False)
        # A line edit's cursor rectangle is five pixels wider than the cursor on either side.
        assert abs(text_x(line, line.cursorRect().left() + 5) - wanted) <= 2


def test_no_hint_in_the_settings_is_cut_off(draw: Callable[[Theme], None], qtbot: QtBot) -> None:
    draw(Theme.light())
    dialog = SettingsDialog(Settings(), None)
    qtbot.addWidget(dialog)
    dialog.show()
    for label in dialog.findChildren(QLabel):
        assert label.width() >= label.sizeHint().width() or label.wordWrap() or not label.text()


def test_another_size_of_text_reaches_every_widget_at_once(
    draw: Callable[[Theme], None], qtbot: QtBot
) -> None:
    theme = Theme.light()
    draw(theme)
    sidebar = Sidebar(theme)
    qtbot.addWidget(sidebar)
    sidebar.show()
    before = sidebar.library_button.font().pointSizeF()
    for factor in (2.0, 1.0, 1.5):
        draw(theme.zoomed(factor))
        assert sidebar.library_button.font().pointSizeF() == pytest.approx(before * factor)


def test_zoomed_text_fits(draw: Callable[[Theme], None], qtbot: QtBot) -> None:
    theme = Theme.light()
    draw(theme)
    composer, sidebar = Composer(theme), Sidebar(theme)
    for part in (composer, sidebar):
        qtbot.addWidget(part)
        part.resize(sidebar.minimumWidth(), 400)
        part.show()
    large = theme.zoomed(2.0)
    draw(large)
    composer.set_theme(large)
    sidebar.set_theme(large)
    # The placeholder is drawn in the viewport's font.
    assert composer.edit.viewport().font().pointSizeF() == large.text_font().pointSizeF()
    button = sidebar.new_button
    qtbot.waitUntil(lambda: sidebar.width() >= sidebar.minimumWidth())
    text_px = QFontMetrics(button.font()).horizontalAdvance(button.text())
    qtbot.waitUntil(lambda: button.width() >= text_px + button.iconSize().width() + 18)
