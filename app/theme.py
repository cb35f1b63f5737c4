"""The look as values: colours, sizes and fonts.

Owns: reading `assets/themes/*.toml` into a `Theme`, and the fonts made of it. Does not know any widget;
`views/style.py` turns a theme into a stylesheet and a palette. Sizes are logical pixels.
"""

import tomllib
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QFont, QFontDatabase, QFontInfo, QGuiApplication

ASSETS = Path(__file__).resolve().parents[1] / "assets"

ThemeChoice = Literal["system", "light", "dark"]


@dataclass(frozen=True)
class Theme:
    """One look. Immutable: a change of theme or zoom is another Theme."""

    name: Literal["light", "dark"]
    background: QColor
    surface: QColor
    sidebar: QColor
    text: QColor
    muted: QColor
    accent: QColor
    accent_text: QColor
    border: QColor
    user_block: QColor
    code_background: QColor
    danger: QColor
    selection: QColor
    syntax_keyword: QColor
    syntax_string: QColor
    syntax_comment: QColor
    syntax_number: QColor
    syntax_name: QColor
    syntax_operator: QColor
    base_px: float
    code_px: float
    line_height: float
    """Distance of baselines ÷ font size."""
    grid: int
    radius: int
    column_px: int
    """Greatest width of a column of text."""

    @classmethod
    def light(cls) -> "Theme":
        """The light theme of assets/themes/light.toml."""
        return _load("light")

    @classmethod
    def dark(cls) -> "Theme":
        """The dark theme of assets/themes/dark.toml."""
        return _load("dark")

    @classmethod
    def for_scheme(cls, scheme: Qt.ColorScheme) -> "Theme":
        """The theme for the system's colour scheme; light where the system does not say."""
        return cls.dark() if scheme == Qt.ColorScheme.Dark else cls.light()

    @property
    def is_dark(self) -> bool:
        """Light text on a dark page."""
        return self.name == "dark"

    def zoomed(self, factor: float) -> "Theme":
        """This look with text and column `factor` times as large; grid and radius stay."""
        return replace(
            self,
            base_px=self.base_px * factor,
            code_px=self.code_px * factor,
            column_px=round(self.column_px * factor),
        )

    def text_font(self, scale: float = 1.0) -> QFont:
        """The system's own text face at `base_px` times `scale`."""
        font = QFontDatabase.systemFont(QFontDatabase.SystemFont.GeneralFont)
        font.setPointSizeF(_points(self.base_px * scale))
        return font

    def code_font(self, scale: float = 1.0) -> QFont:
        """The system's fixed-pitch face at `code_px` times `scale`."""
        font = QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont)
        if not QFontInfo(font).fixedPitch():
            # Some platforms name a proportional face here when no desktop settings are present.
            font.setFamilies(["monospace"])
            font.setStyleHint(QFont.StyleHint.Monospace)
        font.setPointSizeF(_points(self.code_px * scale))
        return font

    def colours(self) -> dict[str, QColor]:
        """Every colour by its token name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, QColor)}


def _points(size_px: float) -> float:
    # QFont takes whole pixels only; points carry the half of 13.5 px.
    screen = QGuiApplication.primaryScreen()
    return max(1.0, size_px * 72 / screen.logicalDotsPerInchY())


@cache
def _load(name: Literal["light", "dark"]) -> Theme:
    with (ASSETS / "themes" / f"{name}.toml").open("rb") as file:
        tokens = tomllib.load(file)
    values: dict[str, Any] = {key: QColor(value) for key, value in tokens["colours"].items()}
    values.update(tokens["sizes"])
    return Theme(name=name, **values)


def contrast(one: QColor, other: QColor) -> float:
    """Contrast ratio of two opaque colours, 1 to 21 (WCAG 2.2, "contrast ratio" and "relative luminance")."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: QColor) -> float:
    def linear(channel: float) -> float:
        return channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4

    red, green, blue = (linear(c) for c in (colour.redF(), colour.greenF(), colour.blueF()))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
