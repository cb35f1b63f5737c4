"""One stylesheet, made of tokens only."""

import re

import pytest
from PySide6.QtGui import QPalette

from app.theme import Theme
from app.views.style import palette, stylesheet


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
