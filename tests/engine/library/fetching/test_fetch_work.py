"""What a job that fetches does, and what can be done to the folder it made."""

import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from engine.errors import (
    BadRequest,
    Conflict,
    FetchFailed,
    FetchStopped,
    HubUnreachable,
    RepositoryGone,
    TokenNeeded,
)
from engine.library.fetching import fetch_stream, fetch_work
from engine.library.fetching import hub as hub_module
from engine.library.fetching.fetch import Fetch
from engine.library.fetching.fetch_manifest import manifest_path, parts_folder, read_manifest, replaced_folder
from engine.library.fetching.fetch_plan import FetchPlan
from engine.library.fetching.fetch_work import check_folder, fetch, remove_partial
from engine.library.fetching.hub import Hub
from engine.protocol import Settings
from engine.protocol_jobs import FetchRequest, JobProgress
from tests.support.local_hub import LocalHub, write_random_files

NAME = "deepseek-ai/DeepSeek-V4-Flash-0731"
SIZES = {"config.json": 900, "a.safetensors": 200_000, "b.safetensors": 100_000, "notes.bin": 5}


@pytest.fixture
def local(tmp_path: Path) -> Generator[LocalHub]:
    with LocalHub() as hub:
        hub.add(NAME, str(write_random_files(tmp_path / "hub", SIZES)))
        yield hub


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_stream, "BATCH_BYTES", 16 << 10)


def ignore(_: object) -> None:
    """Hear nothing."""


def work(
    local: LocalHub,
    folder: Path,
    *,
    what: str = NAME,
    revision: str | None = "main",
    files: tuple[str, ...] = (),
    stopped: Callable[[], bool] = lambda: False,
    report: Callable[[JobProgress], None] = ignore,
    begun: bool = False,
    **changes: object,
) -> list[Path]:
    settings = Settings(hub_endpoint=local.address).model_copy(update=changes)
    asked = FetchRequest(what=what, revision=revision, files=list(files), folder=str(folder))
    return fetch(asked, settings=lambda: settings, access=None, report=report, stopped=stopped, begun=begun)


def interrupted(local: LocalHub, folder: Path) -> None:
    """A download of which one shard is there and the other half."""
    local.fault("stall", path="a.safetensors", at=100_000)
    heard: list[JobProgress] = []
    with pytest.raises(FetchStopped):
        work(
            local,
            folder,
            report=heard.append,
            stopped=lambda: bool(heard) and heard[-1].done_bytes > 150_000 and heard[-1].items_done >= 2,
        )
    local.clear_faults()


def test_a_checkpoint_is_fetched_and_told_of(local: LocalHub, tmp_path: Path) -> None:
    heard: list[JobProgress] = []
    assert work(local, tmp_path / "got", report=heard.append) == [tmp_path / "got"]
    assert sorted(path.name for path in (tmp_path / "got").iterdir()) == [
        ".cache", "a.safetensors", "b.safetensors", "config.json",
    ]  # fmt: skip
    last = heard[-1]
    assert (last.done_bytes, last.total_bytes, last.fetched_bytes) == (300_900, 300_900, 300_900)
    assert (last.items_done, last.items, last.stage, last.note) == (3, 3, "fetching", "")
    manifest = read_manifest(tmp_path / "got")
    assert manifest is not None
    assert manifest.title == "DeepSeek-V4-Flash-0731"
    assert sum(path.stat().st_size for path in (tmp_path / "got").glob("*.*") if path.is_file()) == 300_900


def test_of_a_gguf_the_files_are_the_result(local: LocalHub, tmp_path: Path) -> None:
    names = ("m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "README.md")
    local.add("some/gguf", str(write_random_files(tmp_path / "g", dict.fromkeys(names, 50))))
    found = work(local, tmp_path / "got", what="some/gguf", files=("*.gguf",))
    assert found == [tmp_path / "got" / name for name in names[:2]]


def test_it_goes_on_by_its_own_notes_and_needs_no_listing(local: LocalHub, tmp_path: Path) -> None:
    interrupted(local, tmp_path / "got")
    local.add(NAME, str(write_random_files(tmp_path / "newer", SIZES, seed=5)))
    local.forget()
    local.fault("status", door="api", status=500, times=0)
    work(local, tmp_path / "got")
    assert local.asked(door="api") == []
    for name in ("a.safetensors", "b.safetensors", "config.json"):
        assert (tmp_path / "got" / name).read_bytes() == (tmp_path / "hub" / name).read_bytes()


def test_a_renamed_repository_goes_on_and_a_removed_one_says_so(local: LocalHub, tmp_path: Path) -> None:
    interrupted(local, tmp_path / "got")
    local.rename(NAME, "some/new-name")
    work(local, tmp_path / "got")
    interrupted_again = tmp_path / "again"
    interrupted(local, interrupted_again)
    local.remove("some/new-name")
    with pytest.raises(RepositoryGone):
        work(local, interrupted_again)
    assert parts_folder(interrupted_again).is_dir()


def test_another_commit_does_not_go_into_the_same_folder(local: LocalHub, tmp_path: Path) -> None:
    work(local, tmp_path / "got")
    newer = local.add(NAME, str(write_random_files(tmp_path / "newer", SIZES, seed=5)))
    with pytest.raises(Conflict, match="choose another folder"):
        work(local, tmp_path / "got", revision=newer)


def test_another_branch_is_not_taken_for_the_one_that_lies_there(local: LocalHub, tmp_path: Path) -> None:
    work(local, tmp_path / "got")
    local.add(NAME, str(write_random_files(tmp_path / "dev", SIZES, seed=5)), "dev")
    with pytest.raises(Conflict, match="choose another folder"):
        work(local, tmp_path / "got", revision="dev")
    local.forget()
    work(local, tmp_path / "got")
    assert local.asked() == []


def test_a_folder_that_has_gone_is_not_made_anew(local: LocalHub, tmp_path: Path) -> None:
    interrupted(local, tmp_path / "got")
    (tmp_path / "got").rename(tmp_path / "unplugged")
    with pytest.raises(FetchFailed, match="connect its disk again and resume"):
        work(local, tmp_path / "got", begun=True)
    assert not (tmp_path / "got").exists()
    (tmp_path / "got").mkdir()  # where the disk is put when it is there
    with pytest.raises(FetchFailed, match="connect its disk again and resume"):
        work(local, tmp_path / "got", begun=True)
    (tmp_path / "got").rmdir()
    (tmp_path / "unplugged").rename(tmp_path / "got")
    work(local, tmp_path / "got", begun=True)


def test_what_somebody_had_there_outlives_what_a_cancelled_job_left(local: LocalHub, tmp_path: Path) -> None:
    (tmp_path / "got").mkdir()
    (tmp_path / "got" / "config.json").write_text("mine")
    interrupted(local, tmp_path / "got")
    remove_partial(tmp_path / "got", fetched=True)
    assert [each.read_text() for each in replaced_folder(tmp_path / "got").iterdir()] == ["mine"]
    assert [each.name for each in (tmp_path / "got").iterdir()] == [".cache"]


def test_what_lies_whole_is_not_fetched_even_offline(local: LocalHub, tmp_path: Path) -> None:
    work(local, tmp_path / "got")
    local.go_away()
    work(local, tmp_path / "got", offline=True)
    with pytest.raises(HubUnreachable, match="offline mode is on in the settings"):
        work(local, tmp_path / "other", offline=True)


def test_files_that_hugging_faces_tools_brought_are_taken(local: LocalHub, tmp_path: Path) -> None:
    program = (
        "import sys; from huggingface_hub import snapshot_download; "
        "snapshot_download(sys.argv[1], local_dir=sys.argv[2], endpoint=sys.argv[3])"
    )
    command = [sys.executable, "-c", program, NAME, str(tmp_path / "got"), local.address]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    local.forget()
    work(local, tmp_path / "got")
    assert local.sent() == 0


def test_an_unreachable_hub_is_waited_for_and_that_can_be_stopped(local: LocalHub, tmp_path: Path) -> None:
    local.go_away()
    heard: list[JobProgress] = []
    with pytest.raises(FetchStopped):
        work(local, tmp_path / "got", report=heard.append, stopped=lambda: bool(heard))
    assert heard[0].stage == "listing"
    assert "no way to 127.0.0.1" in heard[0].note


def test_a_busy_hub_is_asked_again(local: LocalHub, tmp_path: Path) -> None:
    local.fault("status", door="api", status=429, retry_after=0, times=2)
    work(local, tmp_path / "got")
    assert [each["status"] for each in local.asked(door="api")] == [429, 429, 200]


def test_a_request_without_a_folder_is_refused(local: LocalHub) -> None:
    with pytest.raises(BadRequest):
        fetch(
            FetchRequest(what=NAME), settings=Settings, access=None, report=ignore, stopped=lambda: False
        )  # fmt: skip


def test_names_that_climb_out_are_refused_and_nothing_is_written(local: LocalHub, tmp_path: Path) -> None:
    local.lie(NAME, "a.safetensors", told="../../../evil.safetensors")
    with pytest.raises(FetchFailed, match="outside of its folder"):
        work(local, tmp_path / "deep" / "got")
    assert not list(tmp_path.rglob("evil*"))
    assert not (tmp_path / "deep").exists()


def test_the_limit_and_the_streams_follow_the_settings(
    local: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, float]] = []
    real = Fetch.__init__

    def spy(self: Fetch, plan: FetchPlan, hub: Hub, **wishes: Callable[[], float]) -> None:
        seen.append((int(wishes["streams"]()), wishes["limit_bytes_per_s"]()))
        real(self, plan, hub, **wishes)  # type: ignore[arg-type]

    monkeypatch.setattr(fetch_work.Fetch, "__init__", spy)
    work(local, tmp_path / "got", download_streams=7, download_limit_mb_s=12.5)
    assert seen == [(7, 12_500_000.0)]


def test_settings_are_not_read_for_every_piece(
    local: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_work, "WISHES_EVERY_S", 3600.0)
    asked: list[int] = []

    def settings() -> Settings:
        asked.append(1)
        return Settings(hub_endpoint=local.address)

    request = FetchRequest(what=NAME, folder=str(tmp_path / "got"))
    fetch(request, settings=settings, access=None, report=ignore, stopped=lambda: False)
    assert len(asked) == 1


def test_a_fetched_folder_is_checked_against_the_hubs_digests(local: LocalHub, tmp_path: Path) -> None:
    work(local, tmp_path / "got")
    heard: list[JobProgress] = []
    good = check_folder(tmp_path / "got", heard.append, lambda: False)
    assert (good.good, good.checked_bytes, good.differences) == (True, 300_900, [])
    assert heard[0].stage == "checking"
    with (tmp_path / "got" / "a.safetensors").open("r+b") as file:
        file.seek(777)
        file.write(b"\0\1\2")
    (tmp_path / "got" / "b.safetensors").write_bytes(b"short")
    (tmp_path / "got" / "config.json").unlink()
    bad = check_folder(tmp_path / "got", ignore, lambda: False)
    assert not bad.good
    assert bad.differences == [
        "config.json is not there",
        "a.safetensors has other content than at the hub",
        "b.safetensors has 5 bytes, and 100,000 at the hub",
    ]
    with pytest.raises(FetchStopped):
        check_folder(tmp_path / "got", ignore, lambda: True)
    with pytest.raises(FetchFailed, match="was not fetched by Seamount"):
        check_folder(tmp_path / "hub", ignore, lambda: False)


def test_what_a_cancelled_job_left_is_removed_and_nothing_else(local: LocalHub, tmp_path: Path) -> None:
    folder = tmp_path / "got"
    interrupted(local, folder)
    (folder / "mine.txt").write_text("mine")
    remove_partial(folder)
    assert not parts_folder(folder).exists()
    assert manifest_path(folder).exists()  # whole files are there, and what they are
    assert (folder / "b.safetensors").exists()
    (folder / "b.safetensors").unlink()  # as a conversion does that consumes
    remove_partial(folder, fetched=True)
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]
    remove_partial(folder)
    remove_partial(tmp_path / "not there")


def test_nothing_is_left_of_a_download_that_brought_nothing(local: LocalHub, tmp_path: Path) -> None:
    heard: list[JobProgress] = []
    local.fault("stall", path="*", at=0, times=0)
    with pytest.raises(FetchStopped):
        work(local, tmp_path / "got", report=heard.append, stopped=lambda: len(heard) > 1)
    remove_partial(tmp_path / "got")
    assert not (tmp_path / "got").exists()


def test_a_running_download_is_not_removed(local: LocalHub, tmp_path: Path) -> None:
    interrupted(local, tmp_path / "got")
    manifest = read_manifest(tmp_path / "got")
    assert manifest is not None
    with Fetch(FetchPlan(tmp_path / "got", manifest), Hub(local.address)) as running:
        running.begin()
        with pytest.raises(Conflict, match="is running"):
            remove_partial(tmp_path / "got")


def test_hugging_faces_library_is_told_what_not_to_do() -> None:
    program = (
        "import os; from engine.library.fetching.hub import default_endpoint; default_endpoint(); "
        "from huggingface_hub import constants as c; "
        "print(c.HF_HUB_DISABLE_XET, c.HF_HUB_DISABLE_TELEMETRY, c.HF_HUB_DISABLE_PROGRESS_BARS)"
    )
    root = Path(hub_module.__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True)
    assert done.stdout.split() == ["True", "True", "True"], done.stderr


def test_a_token_goes_to_the_hub_that_it_was_given_for_alone(tmp_path: Path) -> None:
    """Somebody may change the mirror between the start of a job and its first request."""
    with LocalHub() as hub:
        hub.add(
            NAME, str(write_random_files(tmp_path / "hub", {"config.json": 10, "model.safetensors": 100}))
        )
        hub.gate(NAME, "private", ["hf_mine"])
        request = FetchRequest(what=NAME, folder=str(tmp_path / "to"))
        settings = Settings(hub_endpoint=hub.address)
        for endpoint in ("https://elsewhere.example", f"{hub.address}.example"):
            with pytest.raises(TokenNeeded):
                fetch(
                    request,
                    settings=lambda: settings,
                    access=(endpoint, "hf_mine"),
                    report=ignore,
                    stopped=lambda: False,
                )
        assert not any(asked["authorized"] for asked in hub.asked())
        access = (hub.address, "hf_mine")
        fetch(request, settings=lambda: settings, access=access, report=ignore, stopped=lambda: False)
        assert (tmp_path / "to" / "config.json").stat().st_size == 10
