"""Fetching and converting as one job: one progress, one end, the files of a conversion of the whole folder.

What fetches here is a stand-in that copies (`ArrivingShards`); `tests.support.fetch_kill_campaign` and the last tests
do it with the real one, from the hub on this machine.
"""

import errno
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from convert.arrivals import Beginning
from convert.conversion import convert
from convert.conversion_plan import Job
from convert.conversion_progress import consumed_shards, progress_path
from convert.metadata import Origin
from convert.target_file import part_of
from convert.tensor_map import Options
from engine.checkpoint_origin import origin_of
from engine.errors import (
    BadRequest,
    ConversionFailed,
    FetchDiskFull,
    FetchFailed,
    FetchStopped,
    HubUnreachable,
    ModelFileError,
    UnknownRelease,
)
from engine.library.fetching.fetch import FetchProgress
from engine.library.fetching.fetch_manifest import Manifest, replaced_folder, write_manifest
from engine.library.fetching.fetch_plan import FetchPlan
from engine.library.fetching.remote_file import RemoteFile
from engine.library.jobs import streamed_conversion
from engine.library.jobs.streamed_conversion import fetch_and_convert
from engine.protocol_jobs import ConvertAfter, DraftPlace, FetchRequest, JobProgress
from tests.convert.arriving_shards import ArrivingShards
from tests.convert.conversions import checkpoint

REPOSITORY = "deepseek-ai/DeepSeek-V4-Flash-0731"
COMMIT = "0123456789" * 4
FOURTH = "model-00004-of-00010.safetensors"


class Copying(ArrivingShards):
    """Stands in for `fetch.Fetch`: copies instead of fetching, in the thread of the caller."""

    streams_wanted = 2

    def __init__(self, whole: Path, folder: Path, **more: Any) -> None:
        self._given = whole, folder, more
        self.began: dict[str, Any] = {}
        self.closed = False
        self.whole, self.folder = whole, folder
        self.order, self.gone = [], []

    def begin(
        self,
        *,
        skip: Collection[str] = (),
        beginnings_first: bool = False,
        most_waiting: int | None = None,
        needed_bytes: Mapping[Path, int] | None = None,
    ) -> None:
        whole, folder, more = self._given
        self.began = {"skip": skip, "most_waiting": most_waiting, "needed_bytes": needed_bytes}
        super().__init__(whole, folder, **more)
        self._skip = frozenset(skip)
        for name in self.coming:
            if name in skip or not beginnings_first:
                self.bring(name)
            if name in skip:
                (folder / name).unlink()
                self.order.remove(name)

    def progress(self) -> FetchProgress:
        files = list(self.whole.iterdir())
        done = [path for path in files if self._is_done(path.name)]
        done_bytes = sum(path.stat().st_size for path in done)
        all_bytes = sum(path.stat().st_size for path in files)
        return FetchProgress(done_bytes, all_bytes, 1000.0, len(done), len(files), "a file", "a busy server")

    def missing_bytes(self) -> int:
        return sum(each.stat().st_size for each in self.whole.iterdir() if not self._is_done(each.name))

    def finish(self, stopped: Callable[[], bool]) -> None:
        for name in self.coming:
            self.bring(name)

    def stop(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    def _is_done(self, name: str) -> bool:
        return name in self.began.get("skip", ()) or name in self.gone or (self.folder / name).exists()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What lies at the hub."""
    return checkpoint(tmp_path_factory.mktemp("hub"), "0731", ratios="flash", seed=4)


@pytest.fixture(scope="module")
def wanted(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[DraftPlace, dict[str, bytes]]:
    """What conversions of the whole folder give."""
    found: dict[DraftPlace, dict[str, bytes]] = {}
    drafts: tuple[DraftPlace, DraftPlace] = ("separate", "skip")
    for draft in drafts:
        folder = tmp_path_factory.mktemp("straight")
        origin = Origin("DeepSeek-V4-Flash-0731", REPOSITORY, COMMIT)
        convert(Job(source, folder / "m.gguf", origin, Options(draft=draft)))
        found[draft] = contents(folder)
    return found


class Asked:
    """A job as the engine would hand it over, into folders of a test."""

    def __init__(self, source: Path, place: Path, **convert: Any) -> None:
        self.source, self.folder, self.target = source, place / "coming", place / "models" / "m.gguf"
        self.target.parent.mkdir(exist_ok=True)
        self.folder.mkdir(exist_ok=True)
        files = tuple(RemoteFile(path.name, path.stat().st_size) for path in sorted(source.iterdir()))
        self.plan = FetchPlan(self.folder, Manifest(REPOSITORY, COMMIT, files))
        write_manifest(self.folder, self.plan.manifest)
        self.asked = FetchRequest(
            what=REPOSITORY, folder=str(self.folder), convert=ConvertAfter(target=str(self.target), **convert)
        )
        self.told: list[JobProgress] = []
        self.stopped: Callable[[], bool] = lambda: False

    def run(self, fetch: Copying) -> list[Path]:
        return fetch_and_convert(fetch, self.plan, self.asked, self.told.append, lambda: self.stopped())

    def copying(self, seed: int = 0) -> Copying:
        return Copying(self.source, self.folder, seed=seed)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("draft", ["separate", "skip"])
@pytest.mark.parametrize("consume", [False, True])
def test_the_files_are_those_of_a_conversion_of_the_whole_folder(
    source: Path,
    wanted: dict[DraftPlace, dict[str, bytes]],
    tmp_path: Path,
    draft: DraftPlace,
    consume: bool,
) -> None:
    asked = Asked(source, tmp_path, draft=draft, consume=consume)
    fetch = asked.copying()
    files = asked.run(fetch)
    assert [path.name for path in files] == ["m.gguf", "m-draft.gguf"][: 1 + (draft == "separate")]
    assert contents(asked.target.parent) == wanted[draft]
    assert fetch.closed
    assert fetch.began["most_waiting"] == (4 if consume else None)
    if not consume:
        assert contents(source).items() <= contents(asked.folder).items()
        assert origin_of(asked.folder, None) == Origin("DeepSeek-V4-Flash-0731", REPOSITORY, COMMIT)


def test_nothing_of_a_consumed_checkpoint_is_left(source: Path, tmp_path: Path) -> None:
    asked = Asked(source, tmp_path, consume=True)
    fetch = asked.copying()
    begin = fetch.begin

    def begun(**given: Any) -> None:
        begin(**given)
        # As the stand-in keeps them elsewhere than the real one.
        (asked.folder / "arriving").rename(tmp_path / "arriving")
        (asked.folder / "arriving").symlink_to(tmp_path / "arriving")

    fetch.begin = begun  # type: ignore[method-assign]
    asked.run(fetch)
    (asked.folder / "arriving").unlink()
    (asked.folder / "fresh").unlink(missing_ok=True)
    assert [path.name for path in asked.folder.iterdir()] == []


def test_what_else_lies_in_the_folder_is_left(source: Path, tmp_path: Path) -> None:
    asked = Asked(source, tmp_path, consume=True)
    (asked.folder / "notes.txt").write_text("mine")
    asked.run(asked.copying())
    assert {path.name for path in asked.folder.iterdir() if path.is_file()} == {"notes.txt"}
    assert not (asked.folder / ".cache").exists()


def test_one_progress_tells_of_both(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed_conversion, "TELL_EVERY_S", 0.0)
    asked = Asked(source, tmp_path, consume=True)
    asked.run(asked.copying())
    done = [each.done_bytes for each in asked.told]
    assert done == sorted(done)
    last = asked.told[-1]
    assert last.done_bytes == last.total_bytes
    shares = [each.done_bytes / each.total_bytes for each in asked.told]
    # What the result will weigh is estimated until it is planned.
    assert all(before - after < 0.01 for before, after in pairwise(shares))
    assert last.fetched_bytes == last.fetch_bytes == asked.plan.total_bytes
    assert last.total_bytes > asked.plan.total_bytes + 5_000_000
    assert {each.stage for each in asked.told} == {"fetching", "converting"}
    assert {each.item for each in asked.told} > {"a file", "token_embd.weight"}
    waiting = [each for each in asked.told if each.stage == "fetching"]
    assert {each.note for each in waiting} == {"a busy server"}
    assert all(each.seconds_left is None or each.seconds_left >= 0 for each in asked.told)
    # The slower side counts: a kilobyte a second of the stand-in.
    left = [each for each in waiting if each.seconds_left]
    assert all(
        abs(each.seconds_left - (asked.plan.total_bytes - (each.fetched_bytes or 0)) / 1000) < 1
        for each in left
        if each.seconds_left is not None
    )
    assert left


@pytest.mark.parametrize("consume", [False, True])
def test_an_error_of_fetching_ends_both_and_it_goes_on(
    source: Path, wanted: dict[DraftPlace, dict[str, bytes]], tmp_path: Path, consume: bool
) -> None:
    asked = Asked(source, tmp_path, consume=consume)
    fetch = asked.copying()
    wait_for = fetch.wait_for

    def failing(names: Collection[str], cancelled: Callable[[], bool]) -> None:
        if FOURTH in names:
            raise HubUnreachable("It was not fetched", "there is no network", "try again later")
        wait_for(names, cancelled)

    fetch.wait_for = failing  # type: ignore[method-assign]
    with pytest.raises(HubUnreachable):
        asked.run(fetch)
    assert fetch.closed
    assert part_of(asked.target).exists()
    consumed = consumed_shards(asked.target)
    assert len(consumed) == (3 if consume else 0)
    again = asked.copying()
    first_told = len(asked.told)
    asked.run(again)
    assert again.began["skip"] == consumed
    assert consumed.isdisjoint(again.order)
    assert contents(asked.target.parent) == wanted["separate"]
    assert asked.told[first_told].fetched_bytes or 0 > 0
    assert asked.told[-1].done_bytes == asked.told[-1].total_bytes


def test_stopping_ends_both_and_it_goes_on(
    source: Path, wanted: dict[DraftPlace, dict[str, bytes]], tmp_path: Path
) -> None:
    asked = Asked(source, tmp_path, consume=True)
    calls = 0

    def stopped() -> bool:
        nonlocal calls
        calls += 1
        return calls > 90

    asked.stopped = stopped
    fetch = asked.copying()
    with pytest.raises(FetchStopped, match="resume it to go on where it was"):
        asked.run(fetch)
    assert fetch.closed
    assert consumed_shards(asked.target)
    asked.stopped = lambda: False
    asked.run(asked.copying())
    assert contents(asked.target.parent) == wanted["separate"]


def test_stopped_before_anything_has_arrived(source: Path, tmp_path: Path) -> None:
    asked = Asked(source, tmp_path)
    asked.stopped = lambda: True
    with pytest.raises(FetchStopped):
        asked.run(asked.copying())
    assert not part_of(asked.target).exists()


def test_a_result_that_is_there_already_is_not_made_again(
    source: Path, wanted: dict[DraftPlace, dict[str, bytes]], tmp_path: Path
) -> None:
    """A kill may have come after the last file got its name, or while the rest of the checkpoint was removed."""
    asked = Asked(source, tmp_path, consume=True)
    files = asked.run(asked.copying())
    shutil.copy(source / "config.json", asked.folder)
    again = Asked(source, tmp_path, consume=True)
    fetch = again.copying()
    assert again.run(fetch) == files
    assert fetch.began == {}
    assert not (again.folder / "config.json").exists()
    assert contents(again.target.parent) == wanted["separate"]
    assert again.told[-1].done_bytes == again.told[-1].total_bytes
    # Kept ones are fetched for all that.
    whole = Asked(source, tmp_path)
    assert whole.run(whole.copying()) == files
    assert contents(source).items() <= contents(whole.folder).items()


def test_what_it_had_replaced_is_not_taken_away_with_the_checkpoint(source: Path, tmp_path: Path) -> None:
    asked = Asked(source, tmp_path, consume=True)
    theirs = replaced_folder(asked.folder) / "config.json"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("theirs")
    asked.run(asked.copying())
    assert [path for path in asked.folder.rglob("*") if path.is_file()] == [theirs]


def test_another_commit_does_not_go_on_where_this_one_was(source: Path, tmp_path: Path) -> None:
    """Shards of both would look alike: the same names, sizes and headers."""
    asked = Asked(source, tmp_path, consume=True)
    asked.stopped = lambda: bool(consumed_shards(asked.target))
    with pytest.raises(FetchStopped):
        asked.run(asked.copying())
    consumed = consumed_shards(asked.target)
    manifest = Manifest(REPOSITORY, "f" * 40, asked.plan.manifest.files)
    asked.plan = FetchPlan(asked.folder, manifest)
    write_manifest(asked.folder, manifest)
    asked.stopped = lambda: False
    with pytest.raises(ConversionFailed, match="begun with other options"):
        asked.run(asked.copying())
    assert consumed_shards(asked.target) == consumed


@pytest.mark.parametrize("what", ["options", "commit", "no receipt", "another size"])
def test_another_file_in_its_place_is_refused_before_anything_is_fetched(
    source: Path, tmp_path: Path, what: str
) -> None:
    asked = Asked(source, tmp_path, draft="skip")
    asked.run(asked.copying())
    again = Asked(source, tmp_path, draft="skip", dense="bf16" if what == "options" else "q8_0")
    if what == "commit":
        again.plan = FetchPlan(again.folder, Manifest(REPOSITORY, "f" * 40, again.plan.manifest.files))
    elif what == "no receipt":
        again.target.with_name("m.gguf.receipt.json").unlink()
    elif what == "another size":
        os.truncate(again.target, 1000)
    fetch = again.copying()
    with pytest.raises(ConversionFailed, match="it is there already"):
        again.run(fetch)
    assert fetch.began == {}


def test_a_folder_that_is_not_there_is_told_before_anything_is_fetched(source: Path, tmp_path: Path) -> None:
    asked = Asked(source, tmp_path)
    asked.target.parent.rmdir()
    fetch = asked.copying()
    with pytest.raises(ConversionFailed, match="no such folder"):
        asked.run(fetch)
    assert fetch.began == {}


def test_a_job_without_a_target_is_refused(source: Path, tmp_path: Path) -> None:
    asked = Asked(source, tmp_path)
    asked.asked = FetchRequest(what=REPOSITORY, convert=ConvertAfter())
    with pytest.raises(BadRequest):
        asked.run(asked.copying())


def test_a_release_that_is_not_known_is_told_when_the_small_files_are_there(
    source: Path, tmp_path: Path
) -> None:
    asked = Asked(source, tmp_path)
    manifest = Manifest("someone/their-own-model", COMMIT, asked.plan.manifest.files)
    asked.plan = FetchPlan(asked.folder, manifest)
    write_manifest(asked.folder, manifest)
    fetch = asked.copying()
    with pytest.raises(UnknownRelease, match="--release"):
        asked.run(fetch)
    assert fetch.closed
    assert fetch.order == []
    asked.asked = asked.asked.model_copy(update={"release": "DeepSeek-V4-Flash-0731"})
    assert asked.run(asked.copying())


# --- beginnings that are not true ------------------------------------------------------------------


def edited(path: Path, old: bytes, new: bytes) -> None:
    raw = path.read_bytes()
    assert len(old) == len(new)
    assert old in raw
    path.write_bytes(raw.replace(old, new, 1))


@pytest.mark.slow
@pytest.mark.parametrize("name", [FOURTH, "model-00009-of-00010.safetensors"])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"pt"', b'"qt"'),  # another digest, and nothing else
        (b'"dtype"', b'"dtypo"'),  # no header of a safetensors file
        (b".ffn_norm.", b".ffn_gnom."),  # not the tensors that the index places there
    ],
)
@pytest.mark.parametrize("draft", ["separate", "skip"])
def test_a_beginning_with_wrong_bytes_does_no_harm(
    source: Path,
    wanted: dict[DraftPlace, dict[str, bytes]],
    tmp_path: Path,
    name: str,
    old: bytes,
    new: bytes,
    draft: DraftPlace,
) -> None:
    asked = Asked(source, tmp_path, draft=draft)
    fetch = asked.copying()
    begin = fetch.begin

    def begun(**given: Any) -> None:
        begin(**given)
        edited(asked.folder / "arriving" / name, old, new)

    fetch.begin = begun  # type: ignore[method-assign]
    asked.run(fetch)
    assert contents(asked.target.parent) == wanted[draft]


def test_a_shard_that_is_broken_at_the_hub_is_told(source: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(source, tmp_path / "broken")
    edited(broken / FOURTH, b'"dtype"', b'"dtypo"')
    asked = Asked(broken, tmp_path)
    fetch = asked.copying()
    with pytest.raises(ModelFileError, match=r"00004.*header is damaged"):
        asked.run(fetch)
    assert FOURTH in fetch.order
    assert fetch.closed
    assert not progress_path(asked.target).exists()


def test_a_shard_that_changes_underneath_is_told(source: Path, tmp_path: Path) -> None:
    asked = Asked(source, tmp_path)
    fetch = asked.copying()
    bring = fetch.bring

    def other(name: str) -> None:
        bring(name)
        if name == FOURTH:
            os.truncate(asked.folder / name, 1000)

    fetch.bring = other  # type: ignore[method-assign]
    with pytest.raises((ConversionFailed, ModelFileError), match="00004"):
        asked.run(fetch)
    assert fetch.closed


# --- room ------------------------------------------------------------------------------------------


class Disks:
    """Disks as they are told of: `free` bytes by a part of the path."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **free: int) -> None:
        self.asked: list[dict[Path, int]] = []

        def check(needed: dict[Path, int]) -> None:
            self.asked.append(dict(needed))
            for folder, needed_bytes in needed.items():
                if needed_bytes > free.get(folder.name, 1 << 60):
                    raise FetchDiskFull("There is not enough room for it", folder.name, "make room")

        monkeypatch.setattr(streamed_conversion, "check_room", check)


def test_room_is_asked_for_before_anything_large_comes(
    source: Path, wanted: dict[DraftPlace, dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disks = Disks(monkeypatch, models=1_000_000)
    asked = Asked(source, tmp_path)
    fetch = asked.copying()
    with pytest.raises(FetchDiskFull, match="models"):
        asked.run(fetch)
    assert fetch.order == []
    assert not part_of(asked.target).exists()
    assert not progress_path(asked.target).exists()
    (needed,) = disks.asked
    result = sum(len(raw) for name, raw in wanted["separate"].items() if name.endswith(".gguf"))
    assert needed[asked.target.parent] == result
    shards = sum(path.stat().st_size for path in source.glob("*.safetensors"))
    assert needed[asked.folder] == shards


def test_a_consumed_checkpoint_needs_room_for_a_few_shards(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Copying, "streams_wanted", 1)
    disks = Disks(monkeypatch)
    asked = Asked(source, tmp_path, consume=True)
    asked.run(asked.copying())
    sizes = sorted(path.stat().st_size for path in source.glob("*.safetensors"))
    (needed,) = disks.asked
    assert needed[asked.folder] == sum(sizes[-3:])


def test_what_is_written_and_has_arrived_needs_no_room_again(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(source, tmp_path)
    calls = 0

    def stopped() -> bool:
        nonlocal calls
        calls += 1
        return calls > 250

    asked.stopped = stopped
    with pytest.raises(FetchStopped):
        asked.run(asked.copying())
    asked.stopped = lambda: False
    disks = Disks(monkeypatch)
    asked.run(asked.copying())
    (needed,) = disks.asked
    shards = sum(path.stat().st_size for path in source.glob("*.safetensors"))
    assert needed[asked.folder] < shards * 3 / 4
    # Room for all of a result that is not consumed for was taken at the start.
    assert needed[asked.target.parent] < 100_000


def test_a_disk_that_fills_up_is_told_with_numbers(
    source: Path,
    wanted: dict[DraftPlace, dict[str, bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = Asked(source, tmp_path, consume=True)
    fallocate = os.posix_fallocate
    calls = 0

    def full(descriptor: int, start: int, count: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 60:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fallocate(descriptor, start, count)

    fetch = asked.copying()
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(
            FetchDiskFull, match=r"m.*\.gguf .*: the disk is full: .*B are still .*B are free"
        ):
            asked.run(fetch)
    assert fetch.closed
    asked.run(asked.copying())
    assert contents(asked.target.parent) == wanted["separate"]


def test_what_cannot_be_removed_at_the_end_is_no_failure(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(source, tmp_path, consume=True)
    unlink = Path.unlink

    def refused(path: Path, missing_ok: bool = False) -> None:
        if path.name == "config.json":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refused)
    assert asked.run(asked.copying())


def test_notes_of_a_download_that_are_broken_make_no_checkpoint_unusable(
    source: Path, tmp_path: Path
) -> None:
    asked = Asked(source, tmp_path)
    asked.run(asked.copying())
    (asked.folder / ".cache" / "seamount" / "fetch.json").write_text("{")
    with pytest.raises(UnknownRelease):  # the folder's own name says nothing
        origin_of(asked.folder, None)
    assert origin_of(asked.folder, "DeepSeek-V4-Flash-0731").repository == ""


def test_the_stand_in_promises_what_it_brings(source: Path, tmp_path: Path) -> None:
    asked = Asked(source, tmp_path)
    fetch = asked.copying()
    fetch.begin(beginnings_first=True)
    promised = fetch.beginning(FOURTH)
    assert isinstance(promised, Beginning)
    fetch.bring(FOURTH)
    found = (asked.folder / FOURTH).stat()
    assert (found.st_size, found.st_mtime_ns) == (promised.size_bytes, promised.modified_ns)
    assert issubclass(FetchStopped, FetchFailed)
