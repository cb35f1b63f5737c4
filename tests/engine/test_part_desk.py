"""The optional parts of a running engine: what is told of one, one installation at a time, its end, and removing."""

import threading
from pathlib import Path

import pytest

from engine import part_desk
from engine.errors import BadRequest, Conflict, DiskFull, NotFound, TaskStopped
from engine.part_desk import PartDesk
from engine.parts import installation, search_path
from engine.parts.part_folder import PartFolder
from engine.parts.part_lock import Variant
from engine.paths import DataFolder
from engine.placement.nvidia import Seen
from engine.protocol import ErrorBody, ModelEntry
from engine.protocol_parts import InstallPart, PartTask
from tests.support.wheel_index import small_part

V4_HERE = ModelEntry(id="m", name="V4", path="/m", size_bytes=1, source="folder", architecture="deepseek4")


class Installing:
    """Stands in for the installation: goes on when it is told to, and ends as it is told to."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.ends_with: Exception | None = None
        self.watch = installation.Watch()
        self.asked: tuple[str, Path | None] | None = None

    def __call__(
        self, part: PartFolder, variant: Variant, watch: installation.Watch, *, find_links: Path | None
    ) -> None:
        self.watch, self.asked = watch, (variant.name, find_links)
        self.begun.set()
        assert self.go_on.wait(30)
        if self.ends_with is not None:
            raise self.ends_with
        folder = part.place(variant)
        folder.mkdir(parents=True)
        (folder / "part.json").write_bytes(part.note(variant))


@pytest.fixture
def installing(monkeypatch: pytest.MonkeyPatch) -> Installing:
    stand_in = Installing()
    monkeypatch.setattr(installation, "install", stand_in)
    return stand_in


@pytest.fixture
def models() -> list[ModelEntry]:
    return []


@pytest.fixture
def desk(tmp_path: Path, models: list[ModelEntry], monkeypatch: pytest.MonkeyPatch) -> PartDesk:
    for name in ("_part", "_added", "_mark"):
        monkeypatch.setattr(search_path, name, None)
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    data = DataFolder(tmp_path)
    return PartDesk(
        data, lambda: models, gpus=Seen, part=PartFolder(data.parts, small_part(tmp_path / "wheels"))
    )


def ended(desk: PartDesk) -> PartTask:
    assert desk._thread is not None
    desk._thread.join(30)
    task = desk.entry().task
    assert task is not None and task.state != "running"
    return task


def test_what_is_told_of_a_part_that_is_not_there(desk: PartDesk, models: list[ModelEntry]) -> None:
    entry = desk.entry()
    assert (entry.name, entry.state, entry.suited, entry.why) == (
        "native",
        "absent",
        "cpu",
        "no NVIDIA GPU was found here",
    )
    variant = entry.variants[0]
    assert variant.download_bytes > 0 and 100_000 < variant.unpacked_bytes < variant.needed_bytes
    assert entry.free_bytes > 0 and not entry.pays and not entry.in_use
    models.append(V4_HERE.model_copy(update={"architecture": "llama"}))
    models.append(V4_HERE.model_copy(update={"problem": ErrorBody(code="x", text="torn")}))
    assert not desk.entry().pays
    models.append(V4_HERE)
    assert desk.listed().parts[0].pays


def test_installed_told_while_it_goes_and_removed(desk: PartDesk, installing: Installing) -> None:
    heard: list[str] = []
    desk.installed = lambda: heard.append("installed")
    task = desk.install("native", InstallPart())
    assert (task.state, task.variant, task.done_bytes) == ("running", "cpu", 0) and task.total_bytes > 0
    assert installing.begun.wait(30) and installing.asked == ("cpu", None)
    installing.watch.tell(task.total_bytes // 2, task.total_bytes, "half 1.0")
    told = desk.entry().task
    assert told is not None and told.done_bytes == task.total_bytes // 2 and told.item == "half 1.0"
    assert told.bytes_per_s > 0 and told.seconds_left is not None
    with pytest.raises(Conflict, match="it is being installed; wait"):
        desk.install("native", InstallPart())
    with pytest.raises(Conflict, match="it is being installed; stop that first"):
        desk.remove("native")
    assert desk.busy
    installing.go_on.set()
    assert ended(desk).state == "done" and heard == ["installed"] and not desk.busy
    entry = desk.entry()
    assert (entry.state, entry.version, entry.variant) == ("installed", "1.0", "cpu")
    gone = desk.remove("native")
    assert (gone.state, gone.task, search_path.added()) == ("absent", None, None)


def test_a_stop(desk: PartDesk, installing: Installing) -> None:
    installing.ends_with = TaskStopped("The part was not installed", "it was stopped", "begin again")
    desk.install("native", InstallPart())
    assert installing.begun.wait(30) and not installing.watch.stopped()
    assert desk.stop("native").state == "running"
    assert installing.watch.stopped()
    installing.go_on.set()
    task = ended(desk)
    assert (task.state, task.error) == ("stopped", None)


def test_the_end_of_the_engine_ends_it(desk: PartDesk, installing: Installing) -> None:
    installing.ends_with = TaskStopped("The part was not installed", "it was stopped", "begin again")
    desk.install("native", InstallPart())
    assert installing.begun.wait(30)
    installing.go_on.set()
    desk.close()
    assert installing.watch.stopped() and not desk.busy


def test_a_failure_is_a_sentence_and_another_try_is_free(desk: PartDesk, installing: Installing) -> None:
    installing.go_on.set()
    installing.ends_with = DiskFull("The part was not installed", "the disk is full", "free some space")
    desk.install("native", InstallPart())
    task = ended(desk)
    assert task.error is not None
    assert (task.state, task.error.code) == ("failed", "disk_full")
    assert task.error.text == "The part was not installed: the disk is full; free some space."
    installing.ends_with = ZeroDivisionError()
    desk.install("native", InstallPart())
    task = ended(desk)
    assert task.error is not None and "an error of its own (ZeroDivisionError)" in task.error.text
    installing.ends_with = None
    desk.install("native", InstallPart())
    assert ended(desk).state == "done"


def test_what_cannot_be_asked_for(desk: PartDesk, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"it has no variant 'rocm'; there are cpu"):
        desk.install("native", InstallPart(variant="rocm"))
    for place in ("wheels", str(tmp_path / "nowhere"), "https://somewhere"):
        with pytest.raises(BadRequest, match="is no folder here"):
            desk.install("native", InstallPart(find_links=place))
    for call in (desk.stop, desk.remove, lambda name: desk.install(name, InstallPart())):
        with pytest.raises(NotFound, match="none is named 'other'"):
            call("other")
    with pytest.raises(NotFound, match="nothing has been installed"):
        desk.stop("native")


def test_a_folder_of_wheels(desk: PartDesk, installing: Installing, tmp_path: Path) -> None:
    installing.go_on.set()
    desk.install("native", InstallPart(find_links=str(tmp_path)))
    ended(desk)
    assert installing.asked == ("cpu", tmp_path)


def test_a_package_of_the_pythons_own_counts_first(desk: PartDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_desk, "_outside", lambda _package: "2.13.0")
    entry = desk.entry()
    assert (entry.state, entry.version) == ("outside", "2.13.0")
    with pytest.raises(Conflict, match=r"has sea_part_probe 2.13.0, which is used; nothing is to be done"):
        desk.install("native", InstallPart())


def test_elsewhere_it_is_said_how_it_is_to_be_had(tmp_path: Path) -> None:
    lock = small_part(tmp_path / "wheels").model_copy(update={"python": "3.99"})
    entry = PartDesk(DataFolder(tmp_path), list, gpus=Seen, part=PartFolder(tmp_path / "parts", lock)).entry()
    assert (entry.state, entry.variants, entry.suited) == ("elsewhere", [], None)
    assert "Python 3.99" in entry.why and 'pip install "seamount[native]"' in entry.how


def test_an_earlier_versions_set_is_told_as_such(desk: PartDesk, tmp_path: Path) -> None:
    older = PartFolder(tmp_path / "parts", small_part(tmp_path / "older", "0.9"))
    folder = older.place(older.lock.variant[0])
    folder.mkdir(parents=True)
    (folder / "part.json").write_bytes(older.note(older.lock.variant[0]))
    desk.settle()
    entry = desk.entry()
    assert (entry.state, entry.version) == ("outdated", "0.9")
    assert search_path.added() == folder


def test_the_start_deletes_what_is_half_there_and_makes_no_folder(desk: PartDesk, tmp_path: Path) -> None:
    desk.settle()
    assert not (tmp_path / "parts").exists()
    half = tmp_path / "parts" / ".native-0123"
    half.mkdir(parents=True)
    with PartFolder(tmp_path / "parts", small_part(tmp_path / "wheels")).locked():
        desk.settle()
    assert half.exists(), "another process is at it"
    desk.settle()
    assert not half.exists()
