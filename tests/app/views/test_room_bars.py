"""How full the disks are."""

from pytestqt.qtbot import QtBot

from app.views.room_bars import RoomBars
from engine.protocol_library import DiskRoom

MODELS = DiskRoom(role="models", path="/m", free_bytes=400, total_bytes=1000)
CHECKPOINTS = DiskRoom(role="checkpoints", path="/c", free_bytes=700, total_bytes=2000)


def test_one_line_for_each_disk(qtbot: QtBot) -> None:
    bars = RoomBars()
    qtbot.addWidget(bars)
    bars.show_rooms([MODELS, CHECKPOINTS])
    assert bars.words() == ["Models: 400 bytes free of 1.0 kB", "Checkpoints: 700 bytes free of 2.0 kB"]
    assert [bar.value() for _, bar, _ in bars._rows] == [600, 650]
    assert bars._rows[0][1].accessibleName() == "60% of the disk is used"
    bars.show_rooms([MODELS])
    assert len(bars.words()) == 1
    bars.show_rooms([])
    assert bars.isHidden()
