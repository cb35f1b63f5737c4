"""Of Qt the bundle has what the window imports, and what that loads."""

import ast

import pytest

from tests.support.packaging_script import PACKAGING, script

qt_files = script("bundle/qt_files")


def test_the_modules_are_those_that_the_window_imports() -> None:
    found: set[str] = set()
    for path in (PACKAGING.parent / "app").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("PySide6."):
                found.add((node.module or "").split(".")[1])
    # The icons are drawn by a plugin of QtSvg and packages' by the module.
    assert found <= set(qt_files.MODULES)
    assert set(qt_files.MODULES) - found <= {"QtSvg"}


@pytest.mark.parametrize(
    "place",
    [
        "PySide6/QtWidgets.abi3.so",
        "PySide6/Qt/lib/libQt6XcbQpa.so.6",
        "PySide6/Qt/lib/libicudata.so.73",
        "PySide6/Qt/plugins/platforms/libqwayland.so",
        "PySide6/plugins/platforms/qwindows.dll",
        "libQt6Core.so.6",
        "PySide6/__init__.py",
        "numpy/_core/_multiarray_umath.so",
        "assets/icons/send.svg",
    ],
)
def test_it_is_taken(place: str) -> None:
    assert qt_files.wanted(place)


@pytest.mark.parametrize(
    "place",
    [
        "PySide6/QtQml.abi3.so",
        "PySide6/Qt/lib/libQt6Quick.so.6",
        "PySide6\\Qt6Pdf.dll",
        "libQt6Pdf.so.6",
        "PySide6/Qt/plugins/imageformats/libqpdf.so",
        "PySide6/Qt/plugins/platforms/libqeglfs.so",
        "PySide6/Qt/plugins/sqldrivers/libqsqlite.so",
        "PySide6/Qt/translations/qtbase_de.qm",
        "PySide6/Qt/qml/QtQuick/qmldir",
        "libpyside6qml.abi3.so.6.11",
    ],
)
def test_it_is_left_out(place: str) -> None:
    assert not qt_files.wanted(place)
