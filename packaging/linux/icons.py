"""The program's icon in the sizes that desktops want.

    .venv-bundle/bin/python packaging/linux/icons.py FOLDER     writes hicolor/SIZExSIZE/apps/seamount.png and the SVG

Owns: drawing them from assets/icons/seamount.svg with Qt, which the window draws it with. Runs in `.venv-bundle`.
"""

import os
import shutil
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "assets" / "icons" / "seamount.svg"
SIZES = (16, 22, 24, 32, 48, 64, 128, 256, 512)
"""Pixels."""


def draw(folder: Path) -> None:
    """Write the icon theme's files beneath `folder` (…/share/icons)."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from PySide6.QtGui import QGuiApplication, QImage, QPainter
    from PySide6.QtSvg import QSvgRenderer

    application = QGuiApplication.instance() or QGuiApplication([])
    renderer = QSvgRenderer(str(SOURCE))
    if not renderer.isValid():
        raise SystemExit(f"{SOURCE} cannot be drawn")
    for size in SIZES:
        image = QImage(size, size, QImage.Format.Format_ARGB32)
        image.fill(0)
        painter = QPainter(image)
        renderer.render(painter)
        painter.end()
        path = folder / "hicolor" / f"{size}x{size}" / "apps" / "seamount.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not image.save(str(path)):
            raise SystemExit(f"{path} cannot be written")
    scalable = folder / "hicolor" / "scalable" / "apps" / "seamount.svg"
    scalable.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(SOURCE, scalable)
    del application


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
