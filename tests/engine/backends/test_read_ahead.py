import os
from pathlib import Path

import pytest

from engine.backends.read_ahead import SMALLEST_PIECE_BYTES, ReadAhead, available, piece_bytes
from engine.placement.expert_ranges import ByteRange


def test_ranges_are_asked_for_whole_in_pieces_the_kernel_carries_out() -> None:
    asked: list[tuple[int, int, int]] = []
    reader = ReadAhead([7, 9], 1000, lambda *each: asked.append(each))
    reader.ask([ByteRange(50, 2500), ByteRange(10, 1000), ByteRange(0, 1, 1)])
    assert asked == [(7, 50, 1000), (7, 1050, 1000), (7, 2050, 500), (7, 10, 1000), (9, 0, 1)]
    assert reader.asked_bytes == 3501


@pytest.mark.skipif(not available(), reason="this system takes no advice on what to read ahead")
def test_a_real_file_takes_the_advice_until_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(3 << 20))
    reader = ReadAhead.open(path)
    reader.ask([ByteRange(4096, 2 << 20)])
    assert reader.asked_bytes == 2 << 20
    reader.close()
    reader.close()
    with pytest.raises(IndexError):
        reader.ask([ByteRange(0, 1)])
    with pytest.raises(FileNotFoundError):
        ReadAhead.open(tmp_path / "nothing")


numbered = pytest.mark.skipif(not hasattr(os, "makedev"), reason="this system does not number its devices")


def queue(folder: Path, **values: str) -> None:
    (folder / "queue").mkdir(parents=True)
    for name, value in values.items():
        (folder / "queue" / name).write_text(value)


@numbered
@pytest.mark.parametrize(
    ("values", "wanted_kib"),
    [
        ({"read_ahead_kb": "128\n", "max_sectors_kb": "1280\n"}, 1280),
        ({"read_ahead_kb": "4096\n", "max_sectors_kb": "512\n"}, 4096),
        ({"read_ahead_kb": "0\n", "max_sectors_kb": "64\n"}, 64),
        ({"read_ahead_kb": "1000000\n"}, 8192),
        ({"read_ahead_kb": "much\n"}, 128),
        ({}, 128),
    ],
)
def test_a_piece_is_what_the_device_does_at_once(
    tmp_path: Path, values: dict[str, str], wanted_kib: int
) -> None:
    queue(tmp_path / "8:1", **values)
    assert piece_bytes(os.makedev(8, 1), tmp_path) == wanted_kib << 10


@numbered
def test_a_partition_has_its_disks_queue(tmp_path: Path) -> None:
    queue(tmp_path / "disk", read_ahead_kb="256", max_sectors_kb="512")
    (tmp_path / "disk" / "part").mkdir()
    try:
        (tmp_path / "8:1").symlink_to(tmp_path / "disk" / "part", target_is_directory=True)
    except OSError:
        pytest.skip("this system gives no symbolic links")
    assert piece_bytes(os.makedev(8, 1), tmp_path) == 512 << 10


@numbered
def test_an_unknown_device_gets_the_smallest_pieces(tmp_path: Path) -> None:
    assert piece_bytes(os.makedev(9, 9), tmp_path) == SMALLEST_PIECE_BYTES
