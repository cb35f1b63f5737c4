"""Checkpoints from the hub on this machine, converted as they arrive: the real download, the real conversion."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from convert.conversion import convert
from convert.conversion_plan import Job
from convert.conversion_progress import consumed_shards, progress_path
from convert.metadata import Origin
from convert.tensor_map import Options
from engine.errors import Conflict, ConversionFailed, FetchDiskFull, FetchStopped, RepositoryGone
from engine.library.fetching import fetch_work
from engine.library.fetching.fetch_stream import FIRST_BYTES
from engine.library.jobs import streamed_conversion
from engine.protocol import Settings
from engine.protocol_jobs import ConvertAfter, FetchRequest, JobProgress
from tests.support import fetch_kill_campaign
from tests.support.local_hub import LocalHub, write_repository

pytestmark = pytest.mark.slow

REPOSITORY = "deepseek-ai/DeepSeek-V4-Flash-0731"
SHARD = "model-{:05d}-of-00010.safetensors"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_repository(tmp_path_factory.mktemp("hub"), REPOSITORY, seed=5)


@pytest.fixture
def hub() -> Iterator[LocalHub]:
    with LocalHub() as hub:
        yield hub


class Work:
    """One job as its process would do it."""

    def __init__(self, hub: LocalHub, source: Path, place: Path, *, consume: bool = True) -> None:
        self.hub, self.source, self.folder = hub, source, place / "coming"
        self.target = place / "models" / "m.gguf"
        self.target.parent.mkdir(exist_ok=True)
        self.commit = hub.add(REPOSITORY, str(source))
        self.asked = FetchRequest(
            what=REPOSITORY,
            folder=str(self.folder),
            convert=ConvertAfter(target=str(self.target), consume=consume),
        )
        self.told: list[JobProgress] = []
        self.report: Callable[[JobProgress], None] = self.told.append

    def __call__(self, stopped: Callable[[], bool] = lambda: False, streams: int = 3) -> list[Path]:
        settings = Settings(hub_endpoint=self.hub.address, download_streams=streams)
        return fetch_work.fetch(
            self.asked, settings=lambda: settings, access=None, report=self.report, stopped=stopped
        )

    def wanted(self, place: Path) -> dict[str, bytes]:
        """What a conversion of the whole folder gives."""
        place.mkdir()
        origin = Origin("DeepSeek-V4-Flash-0731", REPOSITORY, self.commit)
        convert(Job(self.source, place / "m.gguf", origin))
        return contents(place)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


@pytest.mark.parametrize("consume", [False, True])
def test_no_byte_comes_twice_and_the_files_are_alike(
    hub: LocalHub, source: Path, tmp_path: Path, consume: bool
) -> None:
    work = Work(hub, source, tmp_path, consume=consume)
    files = work()
    assert files == [work.target, work.target.with_name("m-draft.gguf")]
    assert contents(work.target.parent) == work.wanted(tmp_path / "straight")
    assert hub.sent() == sum(path.stat().st_size for path in source.iterdir())
    assert work.folder.exists() != consume
    assert work.told[-1].done_bytes == work.told[-1].total_bytes
    # Done once more it is done at once.
    hub.forget()
    assert work() == files
    assert hub.sent() == 0


def test_few_shards_lie_on_the_disk_however_slow_the_conversion_is(
    hub: LocalHub, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is held up where it has begun, until the streams have nothing to do any more."""
    monkeypatch.setattr(streamed_conversion, "TELL_EVERY_S", 0.0)
    work = Work(hub, source, tmp_path)
    most: list[int] = []

    def report(progress: JobProgress) -> None:
        if progress.stage != "converting" or progress.done_bytes == progress.total_bytes:
            return
        until_s = time.monotonic() + (0 if most else 30)
        while time.monotonic() < until_s and _whole(work) < 3:
            time.sleep(0.01)
        most.append(_whole(work))

    work.report = report
    assert work(streams=1)
    # One for the stream, and two that wait.
    assert most[0] == max(most) == 3
    assert contents(work.target.parent) == work.wanted(tmp_path / "straight")


def _whole(work: Work) -> int:
    return len(list(work.folder.glob("*.safetensors")))


def test_of_what_is_left_out_only_the_headers_come_where_shards_are_consumed(
    hub: LocalHub, source: Path, tmp_path: Path
) -> None:
    work = Work(hub, source, tmp_path)
    assert work.asked.convert is not None
    after = work.asked.convert.model_copy(update={"draft": "skip"})
    work.asked = work.asked.model_copy(update={"convert": after})
    assert work() == [work.target]
    assert not work.folder.exists()
    for number in (8, 9, 10):
        size = (source / SHARD.format(number)).stat().st_size
        assert 0 < hub.sent(SHARD.format(number)) <= FIRST_BYTES < size / 2
    straight = tmp_path / "straight"
    straight.mkdir()
    origin = Origin("DeepSeek-V4-Flash-0731", REPOSITORY, work.commit)
    convert(Job(source, straight / "m.gguf", origin, Options(draft="skip")))
    assert contents(work.target.parent) == contents(straight)


def test_a_repository_that_is_gone_meanwhile_ends_both_and_it_goes_on_when_it_is_back(
    hub: LocalHub, source: Path, tmp_path: Path
) -> None:
    work = Work(hub, source, tmp_path)
    hub.fault(
        "status", path=SHARD.format(5), after=1, times=0, status=404, code="RepoNotFound", door="resolve"
    )
    with pytest.raises(RepositoryGone):
        work(streams=1)
    assert consumed_shards(work.target) == {SHARD.format(number) for number in (1, 2, 3, 4)}
    hub.clear_faults()
    before = hub.sent()
    work()
    assert contents(work.target.parent) == work.wanted(tmp_path / "straight")
    assert before < hub.sent() == sum(path.stat().st_size for path in source.iterdir())


def test_stopping_while_there_is_no_network_ends_at_once(hub: LocalHub, source: Path, tmp_path: Path) -> None:
    """Before all beginnings have arrived nothing of the conversion runs that could be asked."""
    work = Work(hub, source, tmp_path)
    hub.fault("drop", path=SHARD.format(7), times=0, door="any")
    with pytest.raises(FetchStopped):
        work(stopped=lambda: any(each.note for each in work.told))
    assert not progress_path(work.target).exists()
    assert work.told[-1].stage == "fetching"
    hub.clear_faults()
    work()
    assert contents(work.target.parent) == work.wanted(tmp_path / "straight")


def test_bytes_that_are_wrong_once_do_no_harm_wherever_they_are(
    hub: LocalHub, source: Path, tmp_path: Path
) -> None:
    """In a header too, which is believed before the whole shard is known to be right."""
    work = Work(hub, source, tmp_path, consume=False)
    raw = (source / SHARD.format(6)).read_bytes()
    hub.fault("wrong_bytes", path=SHARD.format(3), at=700_000)
    hub.fault("wrong_bytes", path=SHARD.format(6), at=raw.index(b"dtype"))
    hub.fault("wrong_bytes", path=SHARD.format(8), at=raw.index(b'"pt"') + 1)
    work()
    assert contents(work.target.parent) == work.wanted(tmp_path / "straight")
    assert contents(source).items() <= contents(work.folder).items()


def test_two_jobs_of_one_folder_or_one_target_are_refused(
    hub: LocalHub, source: Path, tmp_path: Path
) -> None:
    work = Work(hub, source, tmp_path)
    other = Work(hub, source, tmp_path)
    third = Work(hub, source, tmp_path)
    third.asked = third.asked.model_copy(update={"folder": str(tmp_path / "elsewhere")})
    hub.fault("trickle", path="*.safetensors", times=0, rate=1 << 20)
    begun, over = threading.Event(), threading.Event()
    failures: list[BaseException] = []

    def first() -> None:
        try:
            work(stopped=lambda: begun.set() is None and over.is_set() if _is_begun(work) else over.is_set())
        except BaseException as error:  # noqa: BLE001 - looked at below
            failures.append(error)

    thread = threading.Thread(target=first)
    thread.start()
    try:
        assert begun.wait(60)
        with pytest.raises(Conflict, match="another download into this folder is running"):
            other()
        with pytest.raises(ConversionFailed, match="another conversion to it is running"):
            third()
    finally:
        over.set()
        thread.join()
    assert [type(each) for each in failures] == [FetchStopped]


def _is_begun(work: Work) -> bool:
    return progress_path(work.target).exists()


def test_without_room_nothing_large_is_fetched(
    hub: LocalHub, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work(hub, source, tmp_path)
    monkeypatch.setattr("engine.library.fetching.fetch_plan.SPARE_BYTES", 1 << 60)
    with pytest.raises(FetchDiskFull, match="more are needed on the disk of"):
        work()
    assert not progress_path(work.target).exists()
    monkeypatch.undo()
    assert work()


def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    """A few kills of the campaign; `python -m tests.support.fetch_kill_campaign` does two hundred."""
    count = fetch_kill_campaign.run(tmp_path, kills=20, seed=7)
    assert count.kills >= 20
    assert count.conversions
