"""The icon files for Windows and macOS, read back by Qt's own readers."""

import importlib.util
import struct
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PySide6.QtCore import QBuffer, QByteArray, QIODevice, QSize
from PySide6.QtGui import QImage, QImageReader

SCRIPT = Path(__file__).resolve().parents[2] / "packaging" / "program_icon.py"


@pytest.fixture(scope="module")
def program_icon() -> ModuleType:
    spec = importlib.util.spec_from_file_location("seamount_program_icon", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pictures(content: bytes, kind: str) -> list[QImage]:
    """Every picture of a file, as Qt reads it."""
    data = QByteArray(content)
    buffer = QBuffer(data)
    buffer.open(QIODevice.OpenModeFlag.ReadOnly)
    reader = QImageReader(buffer, QByteArray(kind.encode()))
    assert reader.canRead(), reader.errorString()
    found = []
    for number in range(reader.imageCount()):
        reader.jumpToImage(number)
        image = QImage(reader.read())
        assert not image.isNull(), reader.errorString()
        found.append(image.convertToFormat(QImage.Format.Format_ARGB32))
    return found


def farthest(one: QImage, other: QImage) -> int:
    """The largest difference of a colour's parts, as they count where the picture is seen through."""
    kind = QImage.Format.Format_ARGB32_Premultiplied
    mine, theirs = (
        image.convertToFormat(kind) for image in (one, other)
    )  # held as long as their bytes are read
    return max(abs(a - b) for a, b in zip(mine.constBits(), theirs.constBits(), strict=True))


def test_windows_reads_every_size_as_it_was_drawn(program_icon: Any) -> None:
    found = pictures(program_icon.windows_icon(), "ico")
    assert [image.width() for image in found] == list(program_icon.ICO_SIZES)
    for image in found:
        # Compared where it can be seen: a transparent pixel has no colour.
        drawn = program_icon.drawn(image.width())
        assert image.convertToFormat(QImage.Format.Format_ARGB32_Premultiplied) == drawn.convertToFormat(
            QImage.Format.Format_ARGB32_Premultiplied
        )


def test_corners_are_transparent_and_the_middle_is_not(program_icon: Any) -> None:
    image = pictures(program_icon.windows_icon(), "ico")[0]
    assert image.pixelColor(0, 0).alpha() == 0
    assert image.pixelColor(8, 8).alpha() == 255


def test_the_mask_of_old_programs_is_where_the_picture_is_transparent(program_icon: Any) -> None:
    image = program_icon.drawn(20)
    mask = program_icon.bitmap(image)[40 + 4 * 20 * 20 :]
    assert len(mask) == 20 * 4
    for row in range(20):
        (bits,) = struct.unpack_from(">I", mask, 4 * (19 - row))
        hidden = [bool(bits >> (31 - column) & 1) for column in range(20)]
        assert hidden == [image.pixelColor(column, row).alpha() == 0 for column in range(20)]


def test_macos_reads_every_type_in_its_size(program_icon: Any) -> None:
    content = program_icon.macos_icon()
    assert content[:4] == b"icns"
    assert struct.unpack_from(">I", content, 4) == (len(content),)
    offset, sizes = 8, {}
    while offset < len(content):
        kind, length = struct.unpack_from(">4sI", content, offset)
        image = QImage()
        assert image.loadFromData(content[offset + 8 : offset + length], "PNG")
        assert image.size() == QSize(program_icon.ICNS_TYPES[kind], program_icon.ICNS_TYPES[kind])
        sizes[kind] = image.width()
        offset += length
    assert sizes == program_icon.ICNS_TYPES
    assert {image.width() for image in pictures(content, "icns")} == {16, 32, 64, 128, 256, 512, 1024}


def test_the_command_writes_what_its_name_says(program_icon: Any, tmp_path: Path) -> None:
    output = tmp_path / "new folder" / "seamount.ico"
    done = subprocess.run([sys.executable, str(SCRIPT), str(output)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # Qt may round a colour otherwise in a process that has drawn before.
    for mine, theirs in zip(
        pictures(output.read_bytes(), "ico"), pictures(program_icon.windows_icon(), "ico"), strict=True
    ):
        assert mine.size() == theirs.size()
        assert farthest(mine, theirs) <= 2
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path / "icon.gif")], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "seamount.icns" in done.stdout


def test_the_installers_picture_is_the_sea_with_the_icon_in_it(program_icon: Any) -> None:
    (image,) = pictures(program_icon.installer_side(), "bmp")
    assert (image.width(), image.height()) == program_icon.SIDE_SIZE
    assert not image.hasAlphaChannel() or image.pixelColor(0, 0).alpha() == 255
    surface, ground = image.pixelColor(0, 0), image.pixelColor(0, image.height() - 1)
    assert surface.lightness() > ground.lightness()
    middle = image.width() // 2
    assert image.pixelColor(middle, middle) == program_icon.drawn(middle).pixelColor(middle // 2, middle // 2)
