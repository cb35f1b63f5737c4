"""Every icon can be drawn, in the colour asked for."""

import pytest
from PySide6.QtGui import QColor, QIcon

from app.icons import application_icon, icon, pixmap
from app.theme import ASSETS

NAMES = sorted(path.stem for path in (ASSETS / "icons").glob("*.svg"))


@pytest.mark.parametrize("name", NAMES)
def test_an_icon_is_sharp_and_not_empty(qapp: object, name: str) -> None:
    picture = pixmap(name, QColor("#ff0000"), 16, 2)
    assert (picture.width(), picture.devicePixelRatio()) == (32, 2)
    image = picture.toImage()
    inked = [
        image.pixelColor(x, y) for x in range(32) for y in range(32) if image.pixelColor(x, y).alpha() > 200
    ]
    assert inked
    if "currentColor" in (ASSETS / "icons" / f"{name}.svg").read_text("utf-8"):
        assert all(colour.red() > 200 and colour.green() < 60 for colour in inked)


def test_a_disabled_icon_is_fainter(qapp: object) -> None:
    made = icon("send", QColor("#000000"))

    def ink(mode: QIcon.Mode) -> int:
        image = made.pixmap(16, mode).toImage()
        return sum(image.pixelColor(x, y).alpha() for x in range(16) for y in range(16))

    assert 0 < ink(QIcon.Mode.Disabled) < ink(QIcon.Mode.Normal)


def test_the_application_has_its_icon_at_every_size(qapp: object) -> None:
    assert {size.width() for size in application_icon().availableSizes()} >= {16, 32, 256}
