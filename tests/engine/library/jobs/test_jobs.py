"""Jobs as the list keeps them: real processes on small checkpoints."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from engine.errors import Conflict, NotFound
from engine.library.jobs.job_folder import JobFolder
from engine.library.jobs.job_plan import JobPlan, plan_of
from engine.library.jobs.jobs import Jobs, running_titles
from engine.protocol_jobs import ConvertRequest, FetchRequest, Job, JobProgress, VerifyRequest
from tests.convert.conversions import checkpoint

pytestmark = pytest.mark.slow

Made = Callable[[], Jobs]
TIMEOUT_S = 60.0


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("source"), "0731")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Takes long enough to be stopped in the middle."""
    return checkpoint(tmp_path_factory.mktemp("large"), "0731", layers=24, n_routed_experts=24)


@pytest.fixture
def new_jobs(tmp_path: Path) -> Iterator[Made]:
    """Each call is another engine's look at the same folder; the one before is closed."""
    made: list[Jobs] = []

    def make() -> Jobs:
        for earlier in made:
            earlier.close()
        made.append(Jobs(tmp_path / "jobs"))
        made[-1].start_watching()
        return made[-1]

    yield make
    for jobs in made:
        jobs.close()
    for job in made[-1].entries() if made else []:
        for process in processes_of(job):
            process.kill()
            process.wait(10)


def processes_of(job: Job) -> list[psutil.Process]:
    """By the folder that the process was given, wherever the data folder is."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            command = process.cmdline()
            if command[-2:-1] == ["work"] and Path(command[-1]).name == job.id:
                found.append(process)
    return [process for process in found if process.status() != psutil.STATUS_ZOMBIE]


def wait(jobs: Jobs, job_id: str, condition: Callable[[Job], object]) -> Job:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition(job := jobs.get(job_id)):
        assert time.monotonic() < deadline, job
        time.sleep(0.02)
    return job


def is_state(*states: str) -> Callable[[Job], bool]:
    return lambda job: job.state in states and not job.stopping


def under_way(job: Job) -> bool:
    """Something is written, and much is left."""
    progress = job.progress
    assert job.state in ("queued", "running"), job
    return progress is not None and 0 < progress.done_bytes < progress.total_bytes / 2


def asking(source: Path, target: Path, **more: object) -> JobPlan:
    return plan_of(ConvertRequest.model_validate({"source": str(source), "target": str(target), **more}))


def verifying(path: Path) -> JobPlan:
    return plan_of(VerifyRequest(path=str(path)))


def test_a_conversion_runs_in_a_session_of_its_own_and_tells_its_exactness(
    new_jobs: Made, source: Path, tmp_path: Path
) -> None:
    jobs = new_jobs()
    told: list[str] = []
    jobs.changed = told.append
    begun = jobs.start(asking(source, tmp_path / "m.gguf"))
    assert begun.state == "running"
    [process] = processes_of(begun)
    if sys.platform != "win32":
        assert os.getsid(process.pid) == process.pid
    job = wait(jobs, begun.id, is_state("done"))
    assert job.files == [str(tmp_path / "m.gguf"), str(tmp_path / "m-draft.gguf")]
    assert job.progress is not None
    assert job.progress.done_bytes == job.progress.total_bytes > 0
    assert job.exactness is not None
    assert not job.exactness.lossless
    assert job.exactness.exact > job.exactness.approximate > 0
    assert 0 < job.exactness.worst_relative_rms < 0.02
    assert begun.id in told
    jobs.forget(job.id)
    assert jobs.entries() == []
    assert (tmp_path / "m.gguf").is_file()
    assert list((tmp_path / "jobs").iterdir()) == []


def test_bf16_is_lossless(new_jobs: Made, source: Path, tmp_path: Path) -> None:
    jobs = new_jobs()
    job = jobs.start(asking(source, tmp_path / "m.gguf", dense="bf16", draft="skip"))
    done = wait(jobs, job.id, is_state("done"))
    assert done.exactness is not None
    assert done.exactness.lossless
    assert done.exactness.approximate == 0


def test_paused_and_resumed_it_gives_the_same_bytes(new_jobs: Made, large: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole" / "m.gguf"
    whole.parent.mkdir()
    command = [sys.executable, "-m", "seamount", "convert", str(large), str(whole)]
    subprocess.run(command, check=True, capture_output=True)
    jobs = new_jobs()
    job = jobs.start(asking(large, tmp_path / "m.gguf"))
    wait(jobs, job.id, under_way)
    pausing = jobs.pause(job.id)
    assert pausing.state == "paused" or pausing.stopping
    paused = wait(jobs, job.id, is_state("paused"))
    assert paused.error is None
    assert not processes_of(job)
    assert not (tmp_path / "m.gguf").exists()
    assert jobs.resume(job.id).state == "running"
    wait(jobs, job.id, is_state("done"))
    for name in ("m.gguf", "m-draft.gguf", "m.gguf.receipt.json"):
        assert (tmp_path / name).read_bytes() == (whole.parent / name).read_bytes(), name


def test_another_engine_finds_it_running_and_sees_its_end(
    new_jobs: Made, large: Path, tmp_path: Path
) -> None:
    job = new_jobs().start(asking(large, tmp_path / "m.gguf"))
    later = new_jobs()
    assert later.get(job.id).state == "running"
    assert running_titles(tmp_path / "jobs") == [later.get(job.id).title], "also for who has no engine"
    wait(later, job.id, is_state("done"))


def test_one_whose_process_was_killed_can_be_resumed(new_jobs: Made, large: Path, tmp_path: Path) -> None:
    jobs = new_jobs()
    job = jobs.start(asking(large, tmp_path / "m.gguf"))
    wait(jobs, job.id, under_way)
    [process] = processes_of(job)
    process.kill()
    cut = wait(jobs, job.id, is_state("interrupted"))
    assert cut.error is not None
    assert "ended from outside; resume it" in cut.error.text
    later = new_jobs()
    assert later.get(job.id).state == "interrupted"
    later.resume(job.id)
    wait(later, job.id, is_state("done"))


def test_a_strangers_process_with_the_same_number_is_not_ours(
    new_jobs: Made, large: Path, tmp_path: Path
) -> None:
    jobs = new_jobs()
    job = jobs.start(asking(large, tmp_path / "m.gguf"))
    wait(jobs, job.id, under_way)
    jobs.close()
    [process] = processes_of(job)
    process.kill()
    process.wait(10)
    course = tmp_path / "jobs" / job.id / "course.json"
    table = json.loads(course.read_text("utf-8"))
    table["pid"] = os.getpid()  # it lives, began at another time, and does something else
    course.write_text(json.dumps(table), "utf-8")
    later = new_jobs()
    assert later.get(job.id).state == "interrupted"
    later.cancel(job.id)
    assert later.get(job.id).state == "cancelled"


def test_one_that_was_begun_but_not_noted_is_found(new_jobs: Made, large: Path, tmp_path: Path) -> None:
    jobs = new_jobs()
    job = jobs.start(asking(large, tmp_path / "m.gguf"))
    jobs.close()
    course = tmp_path / "jobs" / job.id / "course.json"
    table = json.loads(course.read_text("utf-8"))
    course.write_text(json.dumps(table | {"pid": None, "started_at": None}), "utf-8")
    later = new_jobs()
    assert later.get(job.id).state == "running"
    assert wait(later, job.id, is_state("done", "failed")).state == "done"
    assert json.loads(course.read_text("utf-8"))["run"] == 1


def test_cancelling_leaves_or_removes_what_was_written(new_jobs: Made, large: Path, tmp_path: Path) -> None:
    jobs = new_jobs()
    target = tmp_path / "m.gguf"
    job = jobs.start(asking(large, target))
    wait(jobs, job.id, under_way)
    jobs.cancel(job.id)
    wait(jobs, job.id, is_state("cancelled"))
    assert target.with_name("m.gguf.part").exists()
    again = jobs.start(asking(large, target))
    wait(jobs, again.id, lambda job: job.progress is not None)
    jobs.cancel(again.id, remove_partial=True)
    wait(jobs, again.id, is_state("cancelled"))
    deadline = time.monotonic() + 10
    while list(tmp_path.glob("m*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert list(tmp_path.glob("m*")) == []


def test_what_consuming_has_left_nowhere_else_is_not_removed(new_jobs: Made, tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "own", "0731", layers=24, n_routed_experts=24)
    jobs = new_jobs()
    count = len(list(source.glob("*.safetensors")))
    job = jobs.start(asking(source, tmp_path / "m.gguf", consume=True))
    wait(jobs, job.id, lambda _: len(list(source.glob("*.safetensors"))) < count - 1)
    jobs.pause(job.id)
    wait(jobs, job.id, is_state("paused"))
    with pytest.raises(Conflict, match="what was in them is only there"):
        jobs.cancel(job.id, remove_partial=True)
    jobs.resume(job.id)
    wait(jobs, job.id, is_state("done"))


def test_one_target_has_one_conversion_and_others_wait_their_turn(
    new_jobs: Made, large: Path, source: Path, tmp_path: Path
) -> None:
    jobs = new_jobs()
    first = jobs.start(asking(large, tmp_path / "m.gguf"))
    with pytest.raises(Conflict, match="another conversion in the list, of m, works on the same files"):
        jobs.start(asking(source, tmp_path / "sub" / ".." / "m.gguf"))
    with pytest.raises(Conflict, match="The conversion of m-draft could not be begun"):
        jobs.start(asking(source, tmp_path / "m-draft.gguf"))
    second = jobs.start(asking(source, tmp_path / "n.gguf"))
    assert second.state == "queued"
    with pytest.raises(Conflict, match="waits for its turn"):
        jobs.forget(second.id)
    assert jobs.pause(second.id).state == "paused"
    assert jobs.resume(second.id).state == "queued"
    wait(jobs, first.id, under_way)
    jobs.pause(first.id)
    wait(jobs, second.id, is_state("done"))
    assert jobs.get(first.id).state == "paused"
    assert [job.id for job in jobs.entries()] == [second.id, first.id]
    with pytest.raises(Conflict):
        jobs.pause(second.id)
    with pytest.raises(Conflict):
        jobs.resume(second.id)
    with pytest.raises(Conflict):
        jobs.cancel(second.id)


def test_errors_are_the_commands_own_sentence(new_jobs: Made, source: Path, tmp_path: Path) -> None:
    jobs = new_jobs()
    nowhere = jobs.start(asking(source, tmp_path / "missing" / "m.gguf"))
    failed = wait(jobs, nowhere.id, is_state("failed"))
    assert failed.error is not None
    assert failed.error.text == (
        "m.gguf could not be written: there is no such folder; choose another place."
    )
    with pytest.raises(NotFound):
        jobs.get("../m")


def test_no_shell_sees_a_name(new_jobs: Made, tmp_path: Path) -> None:
    odd = tmp_path / "a; touch owned $(touch owned) `touch owned`"
    source = checkpoint(odd, "0731")
    jobs = new_jobs()
    job = jobs.start(asking(source, odd / "--dense=x; 'm\".gguf", release="DeepSeek-V4-Flash-0731"))
    done = wait(jobs, job.id, is_state("done", "failed"))
    assert done.state == "done", done.error
    assert not list(tmp_path.rglob("owned"))


def test_a_folder_that_cannot_be_read_is_left_alone(new_jobs: Made, source: Path, tmp_path: Path) -> None:
    for name, content in (("a", "{"), ("b", "[]"), ("c", '{"format": 2}'), ("d", "[" * 9000)):
        (tmp_path / "jobs" / name).mkdir(parents=True)
        for file in ("job.json", "course.json"):
            (tmp_path / "jobs" / name / file).write_text(content, "utf-8")
    jobs = new_jobs()
    assert jobs.entries() == []
    assert (tmp_path / "jobs" / "a").is_dir()


def test_torn_and_foreign_lines_are_no_events(new_jobs: Made, source: Path, tmp_path: Path) -> None:
    jobs = new_jobs()
    job = jobs.start(asking(source, tmp_path / "m.gguf"))
    wait(jobs, job.id, is_state("done"))
    events = tmp_path / "jobs" / job.id / "events.jsonl"
    with events.open("ab") as file:
        file.write(b'5\n"x"\n[1]\n{"event": "progress", "done_bytes": "?"}\n\xff\n{"event": "err')
    assert new_jobs().get(job.id).state == "done"


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no kill -9")
def test_a_stop_before_the_command_listens_is_a_pause(new_jobs: Made, large: Path, tmp_path: Path) -> None:
    jobs = new_jobs()
    job = jobs.start(asking(large, tmp_path / "m.gguf"))
    jobs.pause(job.id)
    wait(jobs, job.id, is_state("paused"))
    jobs.resume(job.id)
    wait(jobs, job.id, is_state("done"))


def left_by_an_earlier_engine(
    folder: Path, name: str, plan: JobPlan, created_at: float, *last: object
) -> JobFolder:
    job = JobFolder.create(folder / name, plan, created_at)
    job.begin_run(1)
    with job.events.open("a", encoding="utf-8") as events:
        for event in last:
            events.write(json.dumps(event) + "\n")
    job.save(replace(job.course, run=1, ended=bool(last), pid=None if last else 2**31 - 1))
    return job


def test_one_that_cannot_be_noted_down_does_not_keep_the_others_waiting(tmp_path: Path) -> None:
    broken = left_by_an_earlier_engine(tmp_path / "jobs", "a", verifying(tmp_path / "a.gguf"), 1.0)
    jobs = Jobs(tmp_path / "jobs")
    shutil.rmtree(broken.path)
    broken.path.write_bytes(b"")  # nothing can be written into it
    other = jobs.start(verifying(tmp_path / "b.gguf"))
    assert other.state in ("running", "failed")
    wait(jobs, other.id, is_state("failed"))


def test_what_another_job_has_finished_since_is_not_deleted_with_one_that_failed(tmp_path: Path) -> None:
    folder = tmp_path / "got"
    failed = plan_of(FetchRequest(what="a/b", folder=str(folder)))
    assert failed.fresh
    later = plan_of(FetchRequest(what="a/b", revision="main", folder=str(folder)))
    progress = JobProgress(done_bytes=5, total_bytes=9, bytes_per_s=0, fetched_bytes=5).model_dump()
    heard = {"event": "progress", **progress}
    error = {"event": "error", "code": "fetch_failed", "text": "It failed."}
    left_by_an_earlier_engine(tmp_path / "jobs", "a", failed, 1.0, heard, error)
    left_by_an_earlier_engine(tmp_path / "jobs", "b", later, 2.0, heard, {"event": "done", "files": []})
    jobs = Jobs(tmp_path / "jobs")
    with pytest.raises(Conflict, match="has worked on the same files since"):
        jobs.cancel("a", remove_partial=True)
    assert jobs.get("a").state == "failed"
    assert jobs.cancel("a").state == "cancelled"


def test_the_longest_request_is_still_read_by_the_next_engine(tmp_path: Path) -> None:
    asked = FetchRequest(
        what="a/b", files=["é" * 490 + str(each) for each in range(100)], folder=str(tmp_path)
    )
    left_by_an_earlier_engine(
        tmp_path / "jobs", "a", replace(plan_of(asked), wanted=asked), 1.0, {"event": "done"}
    )
    assert [job.asked for job in Jobs(tmp_path / "jobs").entries()] == [asked]


def test_nobody_is_told_that_a_job_is_over_before_what_follows_from_it_is_done(tmp_path: Path) -> None:
    done = {"event": "done", "files": []}
    left = left_by_an_earlier_engine(tmp_path / "jobs", "a", verifying(tmp_path / "a.gguf"), 1.0, done)
    left.save(replace(left.course, ended=False, pid=2**31 - 2, started_at=1.0))
    jobs = Jobs(tmp_path / "jobs")
    heard: list[list[str]] = []
    # What follows may ask for the list itself.
    jobs.ended = lambda _job, _plan: heard.append([each.id for each in jobs.entries()])
    assert jobs.get("a").state == "done"
    assert heard == [["a"]]
    assert [each.state for each in jobs.entries()] == ["done"]
    assert heard == [["a"]]
