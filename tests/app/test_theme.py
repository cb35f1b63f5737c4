"""The look holds its promises: every colour is a token, and every text can be read."""

import tomllib
from dataclasses import fields

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QFontMetricsF, QGuiApplication

from app.theme import ASSETS, Theme, contrast

THEMES = {"light": Theme.light, "dark": Theme.dark}
PAGES = ("background", "surface", "sidebar", "user_block", "code_background", "selection")


@pytest.fixture(params=THEMES)
def theme(request: pytest.FixtureRequest) -> Theme:
    return THEMES[request.param]()


def test_contrast_of_black_on_white_is_the_published_21() -> None:
    assert contrast(QColor("#000"), QColor("#fff")) == pytest.approx(21.0)
    # WCAG's well-known border case: #767676 is the lightest grey that passes 4.5:1 on white.
    assert contrast(QColor("#767676"), QColor("#fff")) == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("page", PAGES)
def test_body_text_stands_out_at_seven_to_one(theme: Theme, page: str) -> None:
    assert contrast(theme.text, getattr(theme, page)) >= 7


@pytest.mark.parametrize("ink", ["muted", "accent", "danger"])
@pytest.mark.parametrize("page", ["background", "surface", "sidebar", "user_block", "code_background"])
def test_other_text_stands_out_at_four_and_a_half_to_one(theme: Theme, ink: str, page: str) -> None:
    assert contrast(getattr(theme, ink), getattr(theme, page)) >= 4.5


def test_text_on_the_accent_can_be_read(theme: Theme) -> None:
    assert contrast(theme.accent_text, theme.accent) >= 4.5


def test_code_can_be_read(theme: Theme) -> None:
    for name, colour in theme.colours().items():
        if name.startswith("syntax_"):
            assert contrast(colour, theme.code_background) >= 4.5, name


@pytest.mark.parametrize("name", THEMES)
def test_the_file_names_every_token_and_no_other(name: str) -> None:
    tokens = tomllib.loads((ASSETS / "themes" / f"{name}.toml").read_text("utf-8"))
    assert {*tokens["colours"], *tokens["sizes"], "name"} == {field.name for field in fields(Theme)}


def test_the_scheme_chooses_the_theme() -> None:
    assert Theme.for_scheme(Qt.ColorScheme.Dark).name == "dark"
    assert Theme.for_scheme(Qt.ColorScheme.Light).name == "light"
    assert Theme.for_scheme(Qt.ColorScheme.Unknown).name == "light"


def test_zoom_changes_text_and_column_but_not_the_grid() -> None:
    theme = Theme.light().zoomed(2.0)
    assert (theme.base_px, theme.code_px, theme.column_px) == (30.0, 27.0, 1440)
    assert (theme.grid, theme.radius) == (8, 8)


def test_code_is_set_in_a_fixed_pitch(qapp: object, theme: Theme) -> None:
    metrics = QFontMetricsF(theme.code_font())
    assert metrics.horizontalAdvance("i") == metrics.horizontalAdvance("W")


def test_fonts_have_the_size_of_the_token_to_half_a_pixel(qapp: object, theme: Theme) -> None:
    dpi = QGuiApplication.primaryScreen().logicalDotsPerInchY()
    assert theme.code_font().pointSizeF() * dpi / 72 == pytest.approx(13.5, abs=0.1)
    assert theme.text_font(2.0).pointSizeF() * dpi / 72 == pytest.approx(30.0, abs=0.1)
