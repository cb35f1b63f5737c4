"""The folder of parts: which set counts, who uses it, and what is deleted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from engine.errors import Conflict, DataFolderError
from engine.parts.part_folder import Installed, PartFolder
from tests.support.wheel_index import lock_of, small_part


def put(part: PartFolder, **changed: object) -> Path:
    """A whole set, as if it had been installed."""
    variant = part.lock.variant[0]
    folder = part.place(variant)
    folder.mkdir(parents=True)
    note = json.loads(part.note(variant)) | changed
    (folder / "part.json").write_text(json.dumps(note))
    (folder / "module.py").write_text("")
    return folder


def test_a_whole_set_is_installed_and_half_of_one_is_not(part: PartFolder) -> None:
    assert part.installed() is None
    part.root.mkdir(parents=True)
    (part.unfinished() / "part.json").write_bytes(part.note(part.lock.variant[0]))
    assert part.installed() is None
    folder = put(part)
    size = part.lock.variant[0].unpacked_bytes
    assert part.installed() == Installed(folder, "cpu", "1.0", size, current=True)


@pytest.mark.parametrize(
    "changed",
    [
        {"python": "2.7"},
        {"platform": "plan9-mips"},
        {"format": 2},
        {"name": "other"},
        {"packages": []},
        {"packages": None},
    ],
)
def test_a_set_that_could_not_be_loaded_here_is_none(part: PartFolder, changed: dict[str, object]) -> None:
    put(part, **changed)
    assert part.installed() is None


def test_a_note_that_cannot_be_read(part: PartFolder) -> None:
    folder = put(part)
    for text in ("", "[" * 100_000, "7", '{"format": 1}', "\xff"):
        (folder / "part.json").write_text(text, "latin-1")
        assert part.installed() is None
    (folder / "part.json").unlink()
    assert part.installed() is None


def test_a_link_in_the_place_of_a_set_is_neither_used_nor_deleted(part: PartFolder, tmp_path: Path) -> None:
    folder = put(part)
    elsewhere = tmp_path / "elsewhere"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)
    assert part.installed() is None
    part.remove_all()
    part.clean()
    assert (elsewhere / "module.py").exists()


def test_an_earlier_versions_set_counts_until_there_is_this_versions_and_then_goes(
    part: PartFolder, tmp_path: Path
) -> None:
    older = PartFolder(part.root, small_part(tmp_path / "older", "0.9"))
    old = put(older)
    found = part.installed()
    assert found is not None and (found.folder, found.version, found.current) == (old, "0.9", False)
    part.clean()
    assert old.exists()
    new = put(part)
    found = part.installed()
    assert found is not None and found.folder == new and found.current
    mark = part.use(old)
    part.clean()
    assert old.exists(), "in use"
    mark.release()
    part.clean()
    assert not old.exists() and new.exists()


def test_what_is_half_there_is_deleted(part: PartFolder) -> None:
    part.root.mkdir(parents=True)
    left = part.unfinished()
    (left / "packages").mkdir()
    (left / "packages" / "x.py").write_text("")
    part.clean()
    assert not left.exists()


def test_one_changes_the_folder_at_a_time(part: PartFolder) -> None:
    other = PartFolder(part.root, part.lock)
    with (
        part.locked(),
        pytest.raises(Conflict, match="another program is installing or removing"),
        other.locked(),
    ):
        pass
    with other.locked():
        pass


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    lost = PartFolder(tmp_path / "file" / "parts", small_part(tmp_path))
    with pytest.raises(DataFolderError, match="cannot be used"), lost.locked():
        pass
    assert lost.installed() is None and lost.sets() == []


def test_who_uses_a_set_is_known_until_that_process_is_gone(part: PartFolder) -> None:
    folder = put(part)
    program = (
        "import sys; from pathlib import Path\n"
        "from engine.parts.part_folder import PartFolder\n"
        "from engine.parts.part_lock import PartLock\n"
        "part = PartFolder(Path(sys.argv[1]), PartLock.model_validate_json(sys.argv[2]))\n"
        "mark = part.use(Path(sys.argv[3]))\n"
        "print('held', flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, str(part.root), part.lock.model_dump_json(), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert part.users(folder) == [process.pid]
        process.kill()
        process.wait()
    assert part.users(folder) == []
    assert list((part.root / ".used").glob(f"{folder.name}-*")) == []


def test_the_note_tells_what_is_in_it(part: PartFolder, wheels: Path) -> None:
    told = json.loads(part.note(part.lock.variant[0]))
    assert told["packages"] == {"sea_part_probe": "1.0", "sea_part_beside": "2.0"}
    assert lock_of(*sorted(wheels.glob("*.whl"))).python == told["python"]
