"""Icons from `assets/icons`, tinted with a colour of the theme.

Owns: reading the SVGs and painting them at one, two and three pixels per point. Every line icon draws with
`currentColor`; the application's own icon keeps its colours.
"""

from functools import cache

from PySide6.QtCore import QByteArray, QRectF, Qt
from PySide6.QtGui import QColor, QIcon, QPainter, QPixmap
from PySide6.QtSvg import QSvgRenderer

from app.theme import ASSETS

SCALES = (1, 2, 3)


def icon(name: str, colour: QColor, faint: QColor | None = None, size_px: int = 16) -> QIcon:
    """`assets/icons/NAME.svg` in `colour`; `faint` is its colour when disabled, else half as strong."""
    result = QIcon()
    disabled = faint or QColor(colour.red(), colour.green(), colour.blue(), 110)
    for scale in SCALES:
        result.addPixmap(_pixmap(name, colour.name(), size_px, scale, 1.0))
        picture = _pixmap(name, disabled.name(), size_px, scale, disabled.alphaF())
        result.addPixmap(picture, QIcon.Mode.Disabled)
    return result


def application_icon() -> QIcon:
    """The seamount, at the sizes that desktops ask for."""
    result = QIcon()
    for size_px in (16, 24, 32, 48, 64, 128, 256):
        result.addPixmap(_pixmap("seamount", "", size_px, 1, 1.0))
    return result


def pixmap(name: str, colour: QColor, size_px: int, scale: float) -> QPixmap:
    """One picture of `size_px` logical pixels for a screen of `scale` device pixels per logical one."""
    return _pixmap(name, colour.name(), size_px, scale, 1.0)


@cache
def _pixmap(name: str, colour: str, size_px: int, scale: float, opacity: float) -> QPixmap:
    renderer = QSvgRenderer(QByteArray(_source(name).replace("currentColor", colour).encode()))
    side = round(size_px * scale)
    picture = QPixmap(side, side)
    picture.fill(Qt.GlobalColor.transparent)
    painter = QPainter(picture)
    painter.setOpacity(opacity)
    renderer.render(painter, QRectF(0, 0, side, side))
    painter.end()
    picture.setDevicePixelRatio(scale)
    return picture


@cache
def _source(name: str) -> str:
    return (ASSETS / "icons" / f"{name}.svg").read_text("utf-8")
