"""An exported file is there whole, or not at all."""

from pathlib import Path

from pytestqt.qtbot import QtBot

from app.kept_file import KeptFile


def test_it_is_written_and_replaces_what_was_there(qtbot: QtBot, tmp_path: Path) -> None:
    target = tmp_path / "a.md"
    target.write_bytes(b"old")
    file = KeptFile(str(target))
    with qtbot.waitSignal(file.written) as told:
        file.write(b"new" * 1000)
    assert told.args == [str(target)]
    assert target.read_bytes() == b"new" * 1000
    assert list(tmp_path.iterdir()) == [target]


def test_what_cannot_be_written_is_told(qtbot: QtBot, tmp_path: Path) -> None:
    file = KeptFile(str(tmp_path / "missing" / "a.md"))
    with qtbot.waitSignal(file.failed) as told:
        file.write(b"x")
    assert told.args[0]
