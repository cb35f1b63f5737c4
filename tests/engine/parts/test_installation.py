"""Installing and removing a part: in order, stopped, killed in the middle, on a full disk, twice at once."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engine import fault_points
from engine.errors import Conflict, DataFolderError, DiskFull, PartBrokeOff, PartError, TaskStopped
from engine.parts import installation
from engine.parts.installation import MOST_TRIES, Watch, install, remove
from engine.parts.part_folder import PartFolder
from engine.parts.part_lock import Wheel
from tests.support.wheel_index import PROBE, small_part


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch, wheels: Path) -> list[str]:
    """Wheels are copied from the folder, without pip, which takes a second for each; the names that were asked for."""
    asked: list[str] = []

    def fetch(wheel: Wheel, into: Path, **_: object) -> Path:
        asked.append(wheel.name)
        fault_points.at("part-fetched")
        return Path(shutil.copy(wheels / wheel.file, into / wheel.file))

    monkeypatch.setattr(installation, "fetch", fetch)
    return asked


def left(part: PartFolder) -> list[str]:
    """What lies in the folder but the lock and marks."""
    return sorted(each.name for each in part.root.iterdir() if each.name not in (".lock", ".used"))


def test_by_pip_whole_and_removed(part: PartFolder) -> None:
    told: list[tuple[int, int, str]] = []
    variant = part.lock.variant[0]
    found = install(part, variant, Watch(lambda *each: told.append(each)))
    assert found == part.installed() and left(part) == [found.folder.name]
    assert (found.folder / "sea_part_beside" / "data.bin").stat().st_size == 102_400
    assert told[0] == (0, variant.size_bytes, f"{PROBE} 1.0")
    assert told[-1] == (variant.size_bytes, variant.size_bytes, "sea_part_beside 2.0")
    assert remove(part) == variant.unpacked_bytes
    assert left(part) == [] and part.installed() is None


def test_what_is_there_already_is_not_fetched_again(part: PartFolder, by_hand: list[str]) -> None:
    install(part, part.lock.variant[0])
    first = part.installed()
    install(part, part.lock.variant[0])
    assert by_hand == [PROBE, "sea_part_beside"] and part.installed() == first


def test_not_for_this_python(part: PartFolder, by_hand: list[str]) -> None:
    other = PartFolder(part.root, part.lock.model_copy(update={"python": "3.99"}))
    with pytest.raises(
        PartError, match=r'for Python 3.99 on .*; get it with `pip install "seamount\[native\]"`'
    ):
        install(other, other.lock.variant[0])
    assert by_hand == [] and not part.root.exists()


def test_another_version_takes_the_place_of_an_earlier_one(
    part: PartFolder, by_hand: list[str], tmp_path: Path, wheels: Path
) -> None:
    install(part, part.lock.variant[0])
    old = part.installed()
    newer = PartFolder(part.root, small_part(wheels, "1.1"))
    found = newer.installed()
    assert old is not None and found is not None and found.folder == old.folder and not found.current
    new = install(newer, newer.lock.variant[0])
    assert (new.version, new.current, left(part)) == ("1.1", True, [new.folder.name])
    again = PartFolder(part.root, small_part(wheels, "1.2"))
    mark = again.use(new.folder)
    newest = install(again, again.lock.variant[0])
    assert left(part) == sorted([new.folder.name, newest.folder.name]), "what is in use stays"
    assert again.installed() == newest
    mark.release()


@pytest.mark.parametrize("point", ["part-fetched", "part-unpacking", "part-whole"])
def test_a_full_disk_is_one_sentence_and_nothing_is_left(
    part: PartFolder, by_hand: list[str], monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    monkeypatch.setattr(fault_points, "_spec", f"{point}:1:enospc")
    monkeypatch.setattr(fault_points, "_passes", 0)
    with pytest.raises(DiskFull) as full:
        install(part, part.lock.variant[0])
    assert full.value.text == (
        f"The part was not installed: the disk that holds {part.root} is full; free some space there and try again."
    )
    assert left(part) == []
    assert install(part, part.lock.variant[0]).current


def test_a_disk_that_is_too_small_is_known_beforehand(
    part: PartFolder, by_hand: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(part.root.parents[1])._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(DiskFull, match=r"it needs .* while it is installed, and 1.* are free"):
        install(part, part.lock.variant[0])
    assert by_hand == [] and left(part) == []


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid"), reason="permissions are those of Unix")
def test_a_folder_that_cannot_be_written(
    part: PartFolder, by_hand: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(PartFolder, "unfinished", refused)
    with pytest.raises(DataFolderError, match=r"cannot be written \(Permission denied\)"):
        install(part, part.lock.variant[0])


def test_a_stop_leaves_nothing(part: PartFolder, by_hand: list[str]) -> None:
    with pytest.raises(TaskStopped):
        install(part, part.lock.variant[0], Watch(stopped=lambda: len(by_hand) == 2))
    assert left(part) == []


def test_a_download_that_breaks_off_begins_again_and_not_for_ever(
    part: PartFolder, by_hand: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    once, breaking = installation.fetch, [MOST_TRIES - 1]

    def fetch(wheel: Wheel, into: Path, **more: object) -> Path:
        if breaking[0] > 0:
            breaking[0] -= 1
            raise PartBrokeOff("The part was not installed", "it broke off", "try again")
        return once(wheel, into, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(installation, "fetch", fetch)
    assert install(part, part.lock.variant[0]).current
    remove(part)
    breaking[0] = MOST_TRIES
    with pytest.raises(PartBrokeOff):
        install(part, part.lock.variant[0])
    assert left(part) == []


KILLED = """
import sys
from pathlib import Path
from engine.parts import installation
from engine.parts.part_folder import PartFolder
from engine.parts.part_lock import PartLock
part = PartFolder(Path(sys.argv[1]), PartLock.model_validate_json(sys.argv[2]))
def fetch(wheel, into, **more):
    from engine import fault_points
    path = into / wheel.file
    path.write_bytes((Path(sys.argv[3]) / wheel.file).read_bytes())
    fault_points.at("part-fetched")
    return path
installation.fetch = fetch
if sys.argv[4] == "install":
    installation.install(part, part.lock.variant[0])
else:
    installation.remove(part)
"""


def killed(part: PartFolder, wheels: Path, what: str, fault: str) -> None:
    """A process that installs or removes and dies at a fault point."""
    command = [sys.executable, "-c", KILLED, str(part.root), part.lock.model_dump_json(), str(wheels), what]
    done = subprocess.run(command, env=os.environ | {"SEAMOUNT_FAULT": fault}, capture_output=True, text=True)
    assert done.returncode != 0 and "Error" not in done.stderr, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["part-fetched:2", "part-unpacking:3", "part-whole:1"])
def test_a_kill_in_the_middle_leaves_nothing_that_counts(
    part: PartFolder, wheels: Path, by_hand: list[str], fault: str
) -> None:
    killed(part, wheels, "install", fault)
    assert part.installed() is None
    assert len(left(part)) == 1
    found = install(part, part.lock.variant[0])
    assert left(part) == [found.folder.name]


@pytest.mark.slow
def test_a_kill_between_the_new_one_and_the_end_of_the_old_one(
    part: PartFolder, wheels: Path, by_hand: list[str]
) -> None:
    install(part, part.lock.variant[0])
    newer = PartFolder(part.root, small_part(wheels, "1.1"))
    killed(newer, wheels, "install", "part-renamed:1")
    found = newer.installed()
    assert found is not None and found.version == "1.1" and len(left(part)) == 2
    newer.clean()
    assert left(part) == [found.folder.name]


@pytest.mark.slow
def test_a_kill_in_the_middle_of_removing(part: PartFolder, wheels: Path, by_hand: list[str]) -> None:
    install(part, part.lock.variant[0])
    killed(part, wheels, "remove", "part-removing:1")
    assert part.installed() is None and len(left(part)) == 1
    remove(part)
    assert left(part) == []


def test_two_at_once(part: PartFolder, by_hand: list[str]) -> None:
    def tell(*_: object) -> None:
        with pytest.raises(Conflict, match="another program is installing or removing a part here"):
            install(PartFolder(part.root, part.lock), part.lock.variant[0])

    assert install(part, part.lock.variant[0], Watch(tell)).current
    assert len(by_hand) == 2


def test_what_is_in_use_is_not_removed(part: PartFolder, by_hand: list[str]) -> None:
    found = install(part, part.lock.variant[0])
    mark = part.use(found.folder)
    with pytest.raises(Conflict, match=r"this engine has it loaded.*restart the engine"):
        remove(part)
    assert part.installed() == found
    mark.release()
    assert remove(part) > 0
    assert [each.name for each in part.root.iterdir()] == [".lock"]


def test_in_use_elsewhere_is_told_with_the_process(
    part: PartFolder, by_hand: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(part, part.lock.variant[0])
    monkeypatch.setattr(PartFolder, "users", lambda _self, _folder: [4711])
    with pytest.raises(Conflict, match="process 4711 has it loaded; end what runs there"):
        remove(part)
    monkeypatch.setattr(PartFolder, "users", lambda _self, _folder: [1, 2])
    with pytest.raises(Conflict, match="the processes 1, 2 have it loaded"):
        remove(part)
