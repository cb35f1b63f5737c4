"""The program's icon in the formats of Windows and macOS, drawn from the one picture in assets/.

    python packaging/program_icon.py seamount.ico
    python packaging/program_icon.py seamount.icns
    python packaging/program_icon.py seamount.bmp      what stands beside the last page of Windows' installer

Owns: the sizes that those systems ask for, and the two containers: Windows' .ico (a bitmap each up to 128 pixels,
PNG at 256, as its shell and the tools that put icons into programs expect) and Apple's .icns (PNG only, the types
that macOS 10.7 and later read). Also the one picture that NSIS shows beside a page. Qt draws the sizes; its own
writers put one size only into a file.
"""

import struct
import sys
from pathlib import Path
from typing import Any

PICTURE = Path(__file__).resolve().parents[1] / "assets" / "icons" / "seamount.svg"
ICO_SIZES = (16, 20, 24, 32, 40, 48, 64, 128, 256)
"""Windows' own list sizes, and those at 125 % and 150 %."""
ICNS_TYPES = {
    b"icp4": 16,
    b"icp5": 32,
    b"ic07": 128,
    b"ic08": 256,
    b"ic09": 512,
    b"ic11": 32,
    b"ic12": 64,
    b"ic13": 256,
    b"ic14": 512,
    b"ic10": 1024,
}
"""Type of an entry → pixels of its side; those from ic11 on are for screens of twice the density."""
SIDE_SIZE = (328, 628)
"""Of the installer's picture: twice what NSIS asks for, for screens of a high density."""
_LARGEST_BITMAP = 128
_SEA = ("#4FB3C6", "#124E5B")
"""From the surface down, as in the picture."""


def drawn(size: int) -> Any:
    """The picture as a QImage of `size` pixels a side, transparent where nothing is."""
    from PySide6.QtCore import Qt
    from PySide6.QtGui import QImage, QPainter
    from PySide6.QtSvg import QSvgRenderer

    image = QImage(size, size, QImage.Format.Format_ARGB32)
    image.fill(Qt.GlobalColor.transparent)
    painter = QPainter(image)
    QSvgRenderer(str(PICTURE)).render(painter)
    painter.end()
    return image


def png(image: Any) -> bytes:
    """A QImage as a PNG file."""
    return _file(image, "PNG")


def installer_side() -> bytes:
    """The installer's picture as a .bmp file: the sea, and the program's picture in it."""
    from PySide6.QtGui import QColor, QImage, QLinearGradient, QPainter

    width, height = SIDE_SIZE
    image = QImage(width, height, QImage.Format.Format_RGB888)  # NSIS reads no transparent ones
    painter = QPainter(image)
    sea = QLinearGradient(0, 0, 0, height)
    for place, colour in enumerate(_SEA):
        sea.setColorAt(place, QColor(colour))
    painter.fillRect(image.rect(), sea)
    side = width // 2
    painter.drawImage((width - side) // 2, (width - side) // 2, drawn(side))
    painter.end()
    return _file(image, "BMP")


def _file(image: Any, kind: str) -> bytes:
    from PySide6.QtCore import QBuffer, QByteArray, QIODevice

    data = QByteArray()
    buffer = QBuffer(data)
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    if not image.save(buffer, kind):
        raise RuntimeError(f"the icon cannot be made, because this Qt writes no {kind}; install PySide6 anew")
    return bytes(data.data())


def bitmap(image: Any) -> bytes:
    """A QImage as an icon's bitmap: header, rows from the bottom, blue first, then a mask of one bit a pixel."""
    size = image.width()
    pixels = bytes(image.constBits())  # 4 bytes a pixel, so rows have no padding
    rows = [pixels[4 * size * row : 4 * size * (row + 1)] for row in range(size)]
    mask_row_bytes = (size + 31) // 32 * 4
    mask = b""
    for row in reversed(rows):
        bits = sum((row[4 * column + 3] == 0) << (size - 1 - column) for column in range(size))
        mask += (bits << (mask_row_bytes * 8 - size)).to_bytes(mask_row_bytes, "big")
    # BITMAPINFOHEADER; its height counts the picture and the mask.
    header = struct.pack(
        "<IiiHHIIiiII", 40, size, 2 * size, 1, 32, 0, 4 * size * size + len(mask), 0, 0, 0, 0
    )
    return header + b"".join(reversed(rows)) + mask


def windows_icon() -> bytes:
    """The .ico file."""
    pictures = []
    for size in ICO_SIZES:
        image = drawn(size)
        pictures.append(bitmap(image) if size <= _LARGEST_BITMAP else png(image))
    directory = struct.pack("<HHH", 0, 1, len(pictures))
    offset = len(directory) + 16 * len(pictures)
    for size, picture in zip(ICO_SIZES, pictures, strict=True):
        side = size % 256  # 0 stands for 256
        directory += struct.pack("<BBBBHHII", side, side, 0, 0, 1, 32, len(picture), offset)
        offset += len(picture)
    return directory + b"".join(pictures)


def macos_icon() -> bytes:
    """The .icns file."""
    entries = b""
    for kind, size in ICNS_TYPES.items():
        picture = png(drawn(size))
        entries += kind + struct.pack(">I", 8 + len(picture)) + picture
    return b"icns" + struct.pack(">I", 8 + len(entries)) + entries


def main() -> int:
    """The command line; returns the exit status."""
    formats = {".ico": windows_icon, ".icns": macos_icon, ".bmp": installer_side}
    if len(sys.argv) != 2 or Path(sys.argv[1]).suffix not in formats:
        print(__doc__)
        return 2
    output = Path(sys.argv[1])
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(formats[output.suffix]())
    except (OSError, RuntimeError) as error:
        print(f"seamount icon: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
