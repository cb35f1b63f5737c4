"""Bars of what lies where."""

from itertools import combinations
from typing import Any, get_args

import pytest
from PySide6.QtCore import QRectF
from PySide6.QtGui import QImage, QPainter
from pytestqt.qtbot import QtBot

from app.placement_words import Piece, PieceKind
from app.theme import Theme
from app.views.placement_bars import PATTERNS, PlaceBar, PlacementBars, fill
from engine.protocol_placement import Place

GB = 1_000_000_000


def place(kind: str, *parts: tuple[str, int], **more: Any) -> Place:
    return Place.model_validate({
        "kind": kind, "name": kind, "total_bytes": 64 * GB, "used_bytes": 8 * GB, "reserve_bytes": 2 * GB,
        "parts": [{"what": what, "size_bytes": size} for what, size in parts], **more,
    })  # fmt: skip


def test_places_come_and_go_and_change_where_they_stand(qtbot: QtBot) -> None:
    bars = PlacementBars(Theme.light())
    qtbot.addWidget(bars)
    bars.show_places([place("gpu", ("dense", 8 * GB)), place("ram", ("experts", 30 * GB))])
    rows = list(bars.rows)
    assert [row.title.text() for row in rows] == [
        "gpu: 8.0 GB of 64.0 GB, 56.0 GB were free",
        "Memory: 30.0 GB of 64.0 GB, 56.0 GB were free",
    ]
    assert rows[0].legend() == [
        "in use by others 8.0 GB",
        "dense part 8.0 GB",
        "kept free 2.0 GB",
        "free 46.0 GB",
    ]
    assert rows[0].bar.accessibleName().startswith("gpu: 8.0 GB of 64.0 GB")
    bars.show_places([place("ram")])
    assert bars.rows == rows[:1]
    assert rows[0].legend() == ["in use by others 8.0 GB", "kept free 2.0 GB", "free 54.0 GB"]


@pytest.mark.parametrize("width", [4, 40, 300, 1200])
def test_what_is_small_is_seen_and_the_whole_stays_whole(qtbot: QtBot, width: int) -> None:
    bar = PlaceBar(Theme.dark())
    qtbot.addWidget(bar)
    bar.resize(width, 22)
    sizes = [1, 5 * GB, 40 * GB, 10, 3 * GB]
    bar.show_pieces([Piece("experts", size) for size in sizes], sum(sizes))
    widths = bar.widths()
    assert sum(widths) == pytest.approx(width - 2)
    assert min(widths) >= min(3, (width - 2) / 5) - 1e-6
    assert widths[2] == pytest.approx(max(widths))
    bar.grab()


@pytest.mark.parametrize("theme", [Theme.light(), Theme.dark()], ids=["light", "dark"])
def test_every_kind_looks_different_also_without_colours(qtbot: QtBot, theme: Theme) -> None:
    kinds: tuple[PieceKind, ...] = get_args(PieceKind)
    assert set(PATTERNS) == set(kinds)

    def grey(kind: PieceKind) -> bytes:
        picture = QImage(32, 32, QImage.Format.Format_RGB32)
        painter = QPainter(picture)
        fill(painter, QRectF(0, 0, 32, 32), kind, theme)
        painter.end()
        lines = picture.convertToFormat(QImage.Format.Format_Grayscale8)
        # Eight steps of grey: what a person tells apart, not what a computer does.
        return bytes(value // 32 for value in bytes(lines.constBits()))

    seen = {kind: grey(kind) for kind in kinds}
    assert [pair for pair in combinations(kinds, 2) if seen[pair[0]] == seen[pair[1]]] == []
