"""Parts below each other, and places that stay findable while parts come, grow and go."""

from typing import Any

import pytest
from PySide6.QtWidgets import QWidget
from pytestqt.qtbot import QtBot

from app.views.part_column import PartColumn, RigidPart


class Box(RigidPart, QWidget):
    def __init__(self, parent: QWidget, height: int) -> None:
        super().__init__(parent)
        self.wanted = height

    def height_for(self, width: int, /) -> int:
        return self.wanted


@pytest.fixture
def column(qtbot: QtBot) -> Any:
    around = QWidget()
    qtbot.addWidget(around)
    made: Any = PartColumn(around, (5, 10, 5, 20))
    made.kept = around
    made.boxes = [Box(made, height) for height in (30, 0, 50)]
    for box in made.boxes:
        made.add(box, gap=8)
    made.set_width(200)
    return made


def test_gaps_stand_between_parts_that_have_a_height(column: Any) -> None:
    assert column.height_px == 10 + 30 + 8 + 50 + 20
    column.place_parts()
    first, empty, last = column.boxes
    assert (first.y(), last.y(), first.width()) == (10, 48, 190)
    empty.wanted = 4
    assert column.height_px == 10 + 30 + 8 + 4 + 8 + 50 + 20


def test_without_any_height_there_are_no_margins(column: Any) -> None:
    for box in column.boxes:
        box.wanted = 0
    assert column.height_px == 0


def test_every_place_is_found_again(column: Any) -> None:
    for y in range(column.height_px):
        slot, offset = column.slot_at(y)
        assert column.slot_top(slot) + offset == y


def test_a_place_moves_with_its_part(column: Any) -> None:
    slot, offset = column.slot_at(60)
    column.boxes[0].wanted += 100
    assert column.slot_top(slot) + offset == 160
    column.set_shown(column.boxes[0], False)
    assert column.slot_top(slot) + offset == 60 - 30 - 8


def test_a_folded_part_keeps_its_place(column: Any) -> None:
    slot, _ = column.slot_at(60)
    column.set_shown(column.boxes[2], False)
    assert column.height_px == 10 + 30 + 20
    assert 0 <= column.slot_top(slot) <= column.height_px
    assert column.boxes[2] not in column.parts()


def test_columns_stand_in_columns(qtbot: QtBot) -> None:
    around = QWidget()
    qtbot.addWidget(around)
    outer = PartColumn(around)
    inner = PartColumn(outer, (0, 7, 0, 7))
    for height in (10, 20):
        inner.add(Box(inner, height), gap=3)
    outer.add(Box(outer, 15))
    outer.add(inner, gap=4, indent=6)
    outer.set_width(100)
    assert outer.height_px == 15 + 4 + 7 + 10 + 3 + 20 + 7
    for y in range(outer.height_px):
        slot, offset = outer.slot_at(y)
        assert outer.slot_top(slot) + offset == y


def test_a_part_can_be_taken_away(column: Any) -> None:
    column.take_away(column.boxes[0])
    assert column.height_px == 10 + 50 + 20
    assert column.slot_top(2) == column.height_px


def test_measuring_fifty_parts_asks_each_for_its_height_a_few_times(column: Any) -> None:
    asked = 0

    class Counted(Box):
        def height_for(self, width: int, /) -> int:
            nonlocal asked
            asked += 1
            return self.wanted

    for _ in range(50):
        column.add(Counted(column, 10), gap=8)
    column.lay_out(0, 100)
    column.place_parts()
    assert column.slot_at(60) == (2, 12)
    assert asked <= 50 * 10
