"""Whole downloads from a hub on this machine, with everything that goes wrong there."""

import os
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from convert.arrivals import Arrivals
from engine.errors import Conflict, FetchDiskFull, FetchFailed, FetchStopped, RepositoryGone, TokenNeeded
from engine.library.fetching import fetch_stream, file_fetch
from engine.library.fetching import hub as hub_module
from engine.library.fetching.fetch import Fetch, FetchProgress
from engine.library.fetching.fetch_manifest import parts_folder, quarantine_folder
from engine.library.fetching.fetch_plan import FetchPlan, planned
from engine.library.fetching.file_fetch import is_noted
from engine.library.fetching.hub import Hub, WrongContentError
from tests.support.local_hub import LocalHub, write_random_files, write_repository

NAME = "deepseek-ai/DeepSeek-V4-Flash-0731"
SHARDS = [f"model-0000{number}-of-00005.safetensors" for number in range(1, 6)]
SIZES = dict.fromkeys(SHARDS, 400_000) | {"config.json": 900, "model.safetensors.index.json": 2000}


@pytest.fixture
def local(tmp_path: Path) -> Generator[LocalHub]:
    with LocalHub() as hub:
        hub.add(NAME, str(write_random_files(tmp_path / "hub", SIZES)))
        yield hub


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes seconds takes less, and what is large is small."""
    monkeypatch.setattr(hub_module, "READ_TIMEOUT_S", 0.3)
    monkeypatch.setattr(fetch_stream, "BATCH_BYTES", 16 << 10)
    monkeypatch.setattr(file_fetch, "SURE_EVERY_BYTES", 100_000)


def plan(local: LocalHub, folder: Path, repository: str = NAME) -> FetchPlan:
    return planned(folder, Hub(local.address).listing(repository))


def download(local: LocalHub, plan: FetchPlan, token: str | None = None, streams: int = 2) -> Fetch:
    return Fetch(plan, Hub(local.address, token), streams=lambda: streams, first_wait_s=0.01)


def fetched(
    local: LocalHub, plan: FetchPlan, token: str | None = None, streams: int = 2
) -> list[FetchProgress]:
    """Fetch all of it; returns what was reported."""
    seen: list[FetchProgress] = []
    with download(local, plan, token, streams) as running:
        running.begin()
        running.finish(lambda: False, seen.append)
    return seen


def wait_until(condition: Callable[[], bool]) -> None:
    """Return as soon as it holds; fails when it never does."""
    until_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.002)


def assert_same(source: Path, folder: Path) -> None:
    for path in source.iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes(), path.name


def test_everything_arrives_once_with_one_time_of_change(local: LocalHub, tmp_path: Path) -> None:
    made = plan(local, tmp_path / "Größe 模型")
    seen = fetched(local, made)
    assert_same(tmp_path / "hub", made.folder)
    assert local.sent() == sum(SIZES.values()) == made.total_bytes
    for file in made.manifest.files:
        assert (made.folder / file.path).stat().st_mtime_ns == made.manifest.modified_ns
        assert is_noted(made.folder, file)
    assert (seen[-1].fetched_bytes, seen[-1].files_done, seen[-1].note) == (made.total_bytes, 7, "")
    assert not parts_folder(made.folder).exists()
    local.forget()
    fetched(local, made)
    assert local.asked() == []


def test_small_files_come_first_then_shards_in_order(local: LocalHub, tmp_path: Path) -> None:
    fetched(local, plan(local, tmp_path / "got"), streams=1)
    order = [each["path"] for each in local.asked(door="resolve")]
    assert order == ["config.json", "model.safetensors.index.json", *SHARDS]


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "cut", "at": 123_456, "times": 3},
        {"kind": "cut", "at": 0, "times": 2},
        {"kind": "stall", "at": 50_000},
        {"kind": "status", "status": 500, "times": 3},
        {"kind": "status", "status": 503, "times": 3, "door": "resolve"},
        {"kind": "status", "status": 429, "retry_after": 0, "times": 2, "door": "resolve"},
        {"kind": "drop", "times": 2},
        {"kind": "expired", "times": 2},
        {"kind": "wrong_length", "at": 77},
        {"kind": "etag"},
        {"kind": "etag", "door": "resolve"},
        {"kind": "trickle", "rate": 10_000_000},
    ],
    ids=lambda fault: f"{fault['kind']}-{fault.get('status', '')}{fault.get('door', '')}",
)
def test_what_passes_costs_no_byte_twice(local: LocalHub, tmp_path: Path, fault: dict[str, object]) -> None:
    local.fault(path=SHARDS[2], **fault)  # type: ignore[arg-type]
    made = plan(local, tmp_path / "got")
    fetched(local, made)
    assert_same(tmp_path / "hub", made.folder)
    # What is given up at its head leaves in the sockets what the hub has sent already.
    assert local.sent(SHARDS[2]) <= 400_000 * (2 if fault["kind"] in ("wrong_length", "etag") else 1)
    assert not quarantine_folder(made.folder).exists() or not list(quarantine_folder(made.folder).iterdir())


def test_ranges_that_are_ignored_cost_traffic_and_nothing_else(local: LocalHub, tmp_path: Path) -> None:
    local.fault("cut", path=SHARDS[0], at=200_000)
    local.fault("ignore_range", path=SHARDS[0], times=0)
    made = plan(local, tmp_path / "got")
    fetched(local, made)
    assert_same(tmp_path / "hub", made.folder)


def test_wrong_bytes_are_fetched_again(local: LocalHub, tmp_path: Path) -> None:
    local.fault("wrong_bytes", path=SHARDS[1], at=333_333, times=2)
    local.fault("wrong_bytes", path="config.json", at=5)
    made = plan(local, tmp_path / "got")
    fetched(local, made)
    assert_same(tmp_path / "hub", made.folder)
    assert local.sent(SHARDS[1]) == 3 * 400_000
    assert list(quarantine_folder(made.folder).iterdir()) == []


def test_what_stays_wrong_is_given_up_with_both_digests(local: LocalHub, tmp_path: Path) -> None:
    local.fault("wrong_bytes", path=SHARDS[1], at=5, times=0)
    made = plan(local, tmp_path / "got")
    with pytest.raises(WrongContentError, match="what came 3 times") as raised:
        fetched(local, made)
    file = made.file(SHARDS[1])
    assert file is not None
    assert file.digest[:12] in raised.value.why
    assert not (made.folder / SHARDS[1]).exists()
    assert len(list(quarantine_folder(made.folder).iterdir())) == 1


@pytest.mark.parametrize("told", [399_000, 401_000])
def test_a_hub_that_lies_about_sizes_is_found_out(local: LocalHub, tmp_path: Path, told: int) -> None:
    local.lie(NAME, SHARDS[3], size=told)
    with pytest.raises(FetchFailed, match=f"listed {told:,} bytes, and now offers 400,000"):
        fetched(local, plan(local, tmp_path / "got"))


@pytest.mark.slow
def test_an_address_that_always_expires_is_given_up(local: LocalHub, tmp_path: Path) -> None:
    local.fault("expired", path=SHARDS[0], times=0)
    with pytest.raises(FetchFailed, match="store behind"):
        fetched(local, plan(local, tmp_path / "got"))


def test_without_a_network_it_waits_and_says_so(local: LocalHub, tmp_path: Path) -> None:
    made = plan(local, tmp_path / "got")
    local.go_away()
    with download(local, made) as running:
        running.begin()
        wait_until(lambda: "no way to 127.0.0.1" in running.progress().note)
        assert running.progress().bytes_per_s == 0
        local.come_back()
        running.finish(lambda: False)
    assert_same(tmp_path / "hub", made.folder)


def stopped_midway(local: LocalHub, made: FetchPlan) -> int:
    """Stop a download in which no shard can end, as a person does; returns what had arrived."""
    for shard in SHARDS:
        local.fault("stall", path=shard, at=150_000)
    with download(local, made) as running:
        running.begin()
        wait_until(lambda: running.progress().fetched_bytes >= 300_000)
        arrived = running.progress().fetched_bytes
        with pytest.raises(FetchStopped):
            running.finish(lambda: True)
    local.clear_faults()
    return arrived


def test_a_stopped_download_goes_on_where_it_was(local: LocalHub, tmp_path: Path) -> None:
    made = plan(local, tmp_path / "got")
    arrived = stopped_midway(local, made)
    first = local.sent()
    local.forget()
    seen = fetched(local, made)
    assert_same(tmp_path / "hub", made.folder)
    assert seen[0].fetched_bytes >= arrived
    assert local.sent() + arrived <= made.total_bytes
    assert local.sent() + first >= made.total_bytes


def test_a_branch_that_moves_changes_nothing_that_was_begun(local: LocalHub, tmp_path: Path) -> None:
    made = plan(local, tmp_path / "got")
    stopped_midway(local, made)
    local.add(NAME, str(write_random_files(tmp_path / "other", SIZES, seed=9)))
    fetched(local, made)
    assert_same(tmp_path / "hub", made.folder)


@pytest.mark.parametrize("trouble", ["removed", "revoked", "gated"])
def test_a_definite_end_midway_is_told_and_keeps_what_came(
    local: LocalHub, tmp_path: Path, trouble: str
) -> None:
    local.gate(NAME, "private", ["hf_good"])
    made = planned(tmp_path / "got", Hub(local.address, "hf_good").listing(NAME))
    local.fault("cut", path=SHARDS[0], at=200_000)
    local.fault("stall", path=SHARDS[1], at=100_000)
    with download(local, made, "hf_good") as running:
        running.begin()
        wait_until(lambda: len(local.asked(SHARDS[1], "cdn")) > 0)
        if trouble == "removed":
            local.remove(NAME)
        else:
            local.gate(NAME, "gated" if trouble == "gated" else "private", ["hf_new"])
            local.tokens(["hf_good"] if trouble == "gated" else [])
        with pytest.raises(RepositoryGone if trouble == "removed" else TokenNeeded):
            running.finish(lambda: False)
    if trouble != "removed":
        local.forget()
        fetched(local, made, "hf_new")
        assert_same(tmp_path / "hub", made.folder)
        assert local.sent() < made.total_bytes - 200_000


def test_two_downloads_into_one_folder_are_refused(local: LocalHub, tmp_path: Path) -> None:
    made = plan(local, tmp_path / "got")
    with download(local, made) as first, download(local, made) as second:
        first.begin()
        with pytest.raises(Conflict, match="another download into this folder"):
            second.begin()
        first.finish(lambda: False)
    assert_same(tmp_path / "hub", made.folder)


def test_no_room_is_told_before_anything_is_asked(
    local: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plan(local, tmp_path / "got")
    local.forget()
    with download(local, made) as running, pytest.raises(FetchDiskFull, match="more are needed"):
        running.begin(needed_bytes={made.folder: 1 << 60})
    assert local.asked() == []
    fetched(local, made)  # the lock was given back


def test_a_disk_that_fills_up_ends_it_with_numbers_and_it_goes_on(
    local: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plan(local, tmp_path / "got")
    real, room = os.write, [900_000]

    def full(descriptor: int, data: bytes) -> int:
        if len(data) < 4096:
            return real(descriptor, data)
        if room[0] <= 0:
            raise OSError(28, "No space left on device")
        written = real(descriptor, bytes(data[: room[0]]))
        room[0] -= written
        return written

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(FetchDiskFull, match=r"the disk is full .* are free"):
        fetched(local, made)
    monkeypatch.setattr(os, "write", real)
    arrived = [*made.folder.glob("*.*"), *parts_folder(made.folder).glob("*.part")]
    there = sum(path.stat().st_size for path in arrived if path.is_file())
    assert 900_000 <= there <= 1_000_000
    local.forget()
    fetched(local, made)
    assert_same(tmp_path / "hub", made.folder)
    assert local.sent() == made.total_bytes - there


def test_a_folder_that_may_not_be_written_any_more_is_told(
    local: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plan(local, tmp_path / "got")
    stopped_midway(local, made)
    real = os.open

    def refuse(path: str | Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_RDWR:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(FetchFailed, match="not permitted"):
        fetched(local, made)
    monkeypatch.setattr(os, "open", real)
    fetched(local, made)
    assert_same(tmp_path / "hub", made.folder)


def test_a_disk_that_is_pulled_midway_is_told_and_not_written_to_another(
    local: LocalHub, tmp_path: Path
) -> None:
    made = plan(local, tmp_path / "disk" / "got")
    for shard in SHARDS:
        local.fault("cut", path=shard, at=100_000)
    local.fault("stall", path=SHARDS[4], at=0)
    with download(local, made) as running:
        running.begin()
        wait_until(lambda: running.progress().fetched_bytes > 500_000)
        (tmp_path / "disk").rename(tmp_path / "pulled")
        with pytest.raises(FetchFailed, match="not there any more"):
            running.finish(lambda: False)
    assert not (tmp_path / "disk").exists()


def test_a_path_of_more_than_260_characters_is_no_trouble(local: LocalHub, tmp_path: Path) -> None:
    made = plan(local, tmp_path / ("a" * 120) / ("b" * 120) / ("c" * 120))
    fetched(local, made)
    assert_same(tmp_path / "hub", made.folder)


def test_the_rate_is_limited_over_all_streams(local: LocalHub, tmp_path: Path) -> None:
    made = plan(local, tmp_path / "got")
    began_s = time.monotonic()
    with Fetch(made, Hub(local.address), streams=lambda: 4, limit_bytes_per_s=lambda: 4e6) as running:
        running.begin()
        running.finish(lambda: False)
    assert time.monotonic() - began_s >= made.total_bytes / 4e6 - 0.3  # less the burst


@pytest.mark.slow
def test_as_many_streams_as_wanted_run_and_that_can_change(local: LocalHub, tmp_path: Path) -> None:
    for shard in SHARDS:
        local.fault("trickle", path=shard, times=0, rate=200_000)
    made = plan(local, tmp_path / "got")
    wanted = [1]
    with Fetch(made, Hub(local.address), streams=lambda: wanted[0], first_wait_s=0.01) as running:
        running.begin()
        wait_until(lambda: len({each["path"] for each in local.asked("*.safetensors", "cdn")}) == 1)
        wanted[0] = 3
        wait_until(lambda: len({each["path"] for each in local.asked("*.safetensors", "cdn")}) == 3)
        wanted[0] = 1
        local.clear_faults()
        running.finish(lambda: False)
    assert_same(tmp_path / "hub", made.folder)


# --- what a conversion asks ----------------------------------------------------------------------------


@pytest.fixture
def checkpoint(tmp_path: Path) -> Generator[tuple[LocalHub, FetchPlan, Path]]:
    source = write_repository(tmp_path / "true", NAME, layers=2)
    with LocalHub() as hub:
        hub.add(NAME, str(source))
        yield hub, plan(hub, tmp_path / "got"), source


def header_of(path: Path) -> bytes:
    raw = path.read_bytes()
    return raw[: 8 + int.from_bytes(raw[:8], "little")]


def never() -> bool:
    return False


def test_beginnings_come_before_any_shard_and_no_byte_comes_twice(
    checkpoint: tuple[LocalHub, FetchPlan, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_stream, "FIRST_BYTES", 1000)
    local, made, source = checkpoint
    with download(local, made) as running:
        arrivals: Arrivals = running
        running.begin(beginnings_first=True)
        for shard in made.shards:
            beginning = arrivals.beginning(shard)
            assert beginning is not None
            assert beginning.path.read_bytes() == header_of(source / shard)
            assert beginning.size_bytes == (source / shard).stat().st_size
            assert beginning.modified_ns == made.manifest.modified_ns
        arrivals.wait_for(made.shards, never)
        for shard in made.shards:
            found = (made.folder / shard).stat()
            assert found.st_mtime_ns == made.manifest.modified_ns
        assert arrivals.beginning("config.json") is None
        assert arrivals.beginning("not there") is None
        running.finish(never)
    assert local.sent() == made.total_bytes
    asked = local.asked("*.safetensors", "cdn")
    last_beginning = max(n for n, each in enumerate(asked) if each["range"].startswith("bytes=0-"))
    ends = [int(each["range"].rpartition("-")[2]) + 1 for each in asked[: last_beginning + 1]]
    assert max(ends) < max(file.size_bytes for file in made.manifest.files if file.is_shard)
    assert not parts_folder(made.folder).exists()


def test_what_somebody_waits_for_comes_before_the_rest(local: LocalHub, tmp_path: Path) -> None:
    made = plan(local, tmp_path / "got")
    local.fault("trickle", path=SHARDS[0], rate=2_000_000)
    with download(local, made, streams=1) as running:
        running.begin()
        running.wait_for([SHARDS[4]], never)
        assert (made.folder / SHARDS[4]).exists()
        running.finish(never)
    order = [each["path"] for each in local.asked("*.safetensors", "resolve")]
    assert order.index(SHARDS[4]) <= 1


def test_no_more_shards_are_begun_than_may_wait(local: LocalHub, tmp_path: Path) -> None:
    made = plan(local, tmp_path / "got")
    with download(local, made) as running:
        running.begin(most_waiting=2)
        running.wait_for(SHARDS[:2], never)
        running.wait_for([SHARDS[4]], never)  # who waits is served
        begun = {each["path"] for each in local.asked("*.safetensors")}
        assert begun == {SHARDS[0], SHARDS[1], SHARDS[4]}
        for shard in (SHARDS[0], SHARDS[1], SHARDS[4]):
            (made.folder / shard).unlink()
            running.deleted(shard)
        running.finish(never)
    assert not (made.folder / SHARDS[0]).exists()
    assert (made.folder / SHARDS[3]).exists()


def test_what_is_skipped_is_not_fetched(local: LocalHub, tmp_path: Path) -> None:
    made = plan(local, tmp_path / "got")
    with download(local, made) as running:
        running.begin(skip=SHARDS[:3])
        running.wait_for(SHARDS, never)
        running.finish(never)
    assert {each["path"] for each in local.asked("*.safetensors")} == set(SHARDS[3:])


def test_a_shard_that_is_not_needed_after_all_is_given_up(local: LocalHub, tmp_path: Path) -> None:
    made = plan(local, tmp_path / "got")
    local.fault("trickle", path=SHARDS[0], rate=100_000)
    with download(local, made) as running:
        running.begin(most_waiting=3)
        wait_until(lambda: len(local.asked(SHARDS[0], "cdn")) == 1)
        running.deleted(SHARDS[0])
        running.wait_for(SHARDS, never)
        running.finish(never)
    assert not (made.folder / SHARDS[0]).exists()
    assert local.sent(SHARDS[0]) < 400_000


def test_who_waits_hears_what_went_wrong_or_can_be_called_off(local: LocalHub, tmp_path: Path) -> None:
    made = plan(local, tmp_path / "got")
    local.fault("stall", path=SHARDS[0], at=0, times=0)
    with download(local, made) as running:
        running.begin()
        asked: list[float] = []

        def cancelled() -> bool:
            asked.append(time.monotonic())
            return len(asked) > 2

        running.wait_for([SHARDS[0]], cancelled)
        assert asked[-1] - asked[0] < 1.5
        with pytest.raises(FetchFailed, match="no part of it"):
            running.wait_for(["other.safetensors"], never)
        threading.Timer(0.05, local.remove, [NAME]).start()
        with pytest.raises(RepositoryGone):
            running.wait_for([SHARDS[0]], never)
        with pytest.raises(RepositoryGone):
            running.finish(never)


def test_a_shard_that_is_none_is_refused_at_its_beginning(local: LocalHub, tmp_path: Path) -> None:
    made = plan(local, tmp_path / "got")
    (tmp_path / "hub" / SHARDS[1]).write_bytes(b"\xff" * 400_000)
    made = plan(local, tmp_path / "again")
    with download(local, made) as running:
        running.begin(beginnings_first=True)
        with pytest.raises(FetchFailed, match="does not begin as a safetensors file does"):
            running.beginning(SHARDS[1])


def test_beginnings_are_there_again_after_a_stop(checkpoint: tuple[LocalHub, FetchPlan, Path]) -> None:
    local, made, source = checkpoint
    for shard in made.shards:
        local.fault("stall", path=shard, at=10_000, times=0)
    with download(local, made) as running:
        running.begin(beginnings_first=True)
        wait_until(lambda: running.progress().fetched_bytes > 20_000)
    local.clear_faults()
    with download(local, made) as running:
        running.begin(beginnings_first=True)
        for shard in made.shards:
            beginning = running.beginning(shard)
            assert beginning is not None or (made.folder / shard).exists()
            if beginning is not None:
                assert beginning.path.read_bytes() == header_of(source / shard)
        running.finish(never)
    assert_same(source, made.folder)
