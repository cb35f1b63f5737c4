"""Qt's Python binding gives back what it borrows.

PySide6 6.12.0 gave back one reference to None too many for each call that returned nothing, and one to True
for each signal. Before Python 3.12 both are counted like any object, and the program aborted when a count
reached zero, which took some minutes of painting.
"""

import ast
import sys
from pathlib import Path

from PySide6.QtCore import QObject, Signal
from PySide6.QtGui import QPaintEvent
from PySide6.QtWidgets import QWidget
from pytestqt.qtbot import QtBot

ROOT = Path(__file__).resolve().parents[2]
TIMES = 500


class Bell(QObject):
    """Rings."""

    rung = Signal()


class Painted(QWidget):
    """Counts how often it is painted."""

    times = 0

    def paintEvent(self, event: QPaintEvent) -> None:
        self.times += 1


def test_an_overridden_method_costs_no_reference_to_none(qtbot: QtBot) -> None:
    widget = Painted()
    qtbot.addWidget(widget)
    widget.resize(40, 40)
    with qtbot.waitExposed(widget):
        widget.show()
    before = sys.getrefcount(None)
    for _ in range(TIMES):
        widget.repaint()
    after = sys.getrefcount(None)
    assert widget.times >= TIMES
    assert abs(after - before) < TIMES // 10


def test_a_signal_costs_no_reference_to_true_or_none() -> None:
    bell = Bell()
    bell.rung.connect(lambda: None)
    before = sys.getrefcount(True), sys.getrefcount(None)
    for _ in range(TIMES):
        bell.rung.emit()
        bell.setObjectName("bell")
    after = sys.getrefcount(True), sys.getrefcount(None)
    assert all(abs(a - b) < TIMES // 10 for a, b in zip(after, before, strict=True))


def test_a_single_shot_is_never_given_a_bound_method() -> None:
    """`QTimer.singleShot` keeps a lambda alive, but not the object of a bound method: calling it then crashes.

    (PySide6 6.11.3. A signal's `connect` forgets an object that is gone, and is safe.)
    """
    calls = [
        (path, node)
        for path in sorted((ROOT / "app").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "singleShot"
    ]
    assert calls
    careless = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path, node in calls
        if not isinstance(node.args[-1], ast.Lambda)
    ]
    assert careless == []
