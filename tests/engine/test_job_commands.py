"""Jobs in a terminal, as far as it goes without an engine; tests/integration/test_get.py has one."""

import io
from typing import Any

import pytest

from engine import job_commands
from engine.engine_client import EngineSaidNo
from engine.errors import BadRequest, EngineUnreachable, NotFound
from engine.job_commands import Manners, follow, jobs
from engine.paths import DataFolder
from engine.protocol import ErrorBody
from engine.protocol_jobs import FetchRequest, Job, JobProgress, Verdict, VerifyRequest


def job(job_id: str = "1a2b3c4d5e6f7081", **more: Any) -> Job:
    first = {"id": job_id, "state": "running", "created_at": 1, "title": "Flash", "place": "/m/Flash"}
    return Job.model_validate({**first, "asked": FetchRequest(what="a/b"), **more})


class Answers:
    """In the place of an engine: each look at the list finds the next of these; None: the engine is gone."""

    def __init__(self, *jobs: "list[Job] | None") -> None:
        self.left = list(jobs)
        self.asked: list[tuple[str, str, Any]] = []

    def __call__(self, *_: object, **__: object) -> "Answers":
        return self

    def __enter__(self) -> "Answers":
        return self

    def __exit__(self, *_: object) -> None: ...

    def send(self, method: str, path: str, body: Any = None) -> Any:
        self.asked.append((method, path, body))
        if path != "/api/jobs":
            return job(state="paused").model_dump()
        now = self.left.pop(0) if len(self.left) > 1 else self.left[0]
        if now is None:
            raise EngineUnreachable("The engine does not answer any more", "it broke", "start again")
        return {"jobs": [each.model_dump() for each in now]}


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Any:
    def with_answers(*jobs: "list[Job] | None") -> Answers:
        answers = Answers(*jobs)
        monkeypatch.setattr(job_commands, "connected", answers)
        monkeypatch.setattr(job_commands, "LOOK_S", 0)
        monkeypatch.setattr("sys.stdin", io.StringIO())
        return answers

    return with_answers


@pytest.fixture
def folder(tmp_path: Any) -> DataFolder:
    return DataFolder(tmp_path)


MANNERS = Manners(pauses=True, go_on="seamount get a/b")
HALF = JobProgress(done_bytes=10**9, total_bytes=2 * 10**9, bytes_per_s=1e7, items_done=1, items=2)


def test_the_list(engine: Any, folder: DataFolder, capsys: pytest.CaptureFixture[str]) -> None:
    failed = job("99", state="failed", error=ErrorBody(code="fetch", text="It has failed."))
    engine([job(progress=HALF, stopping=True), failed])
    assert jobs(folder, None, None, remove_partial=False) == 0
    assert capsys.readouterr().out.splitlines() == [
        "1a2b3c4d  stopping     download    Flash  1.0 GB of 2.0 GB, 10 MB/s, 1 of 2",
        "99  failed       download    Flash",
        "          It has failed.",
    ]


def test_one_is_chosen_by_the_beginning_of_its_id(engine: Any, folder: DataFolder) -> None:
    answers = engine([job("1a"), job("1b"), job("2")])
    with pytest.raises(BadRequest, match="2 begin with 1"):
        jobs(folder, "1", "pause", remove_partial=False)
    for unknown in ("3", ""):
        with pytest.raises(NotFound, match="none begins with"):
            jobs(folder, unknown, "pause", remove_partial=False)
    assert jobs(folder, "1b", "cancel", remove_partial=True) == 0
    assert answers.asked[-1] == ("POST", "/api/jobs/1b/cancel", {"remove_partial": True})
    assert jobs(folder, "2", "forget", remove_partial=False) == 0
    assert answers.asked[-1] == ("DELETE", "/api/jobs/2", None)


def test_followed_to_each_of_its_ends(
    engine: Any, folder: DataFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    first = job()
    engine([job(state="queued")], [first], [job(state="done", files=["/m/Flash"])])
    assert follow(folder, first.id, MANNERS) == 0
    assert capsys.readouterr() == ("/m/Flash\n", "It waits for another job to end.\n")
    engine([job(state="paused")])
    assert follow(folder, first.id, MANNERS) == 130
    assert capsys.readouterr().err == "Paused; `seamount get a/b` goes on.\n"
    engine([job(state="cancelled")])
    assert follow(folder, first.id, MANNERS) == 130
    engine([job(state="interrupted", error=ErrorBody(code="interrupted", text="It has stopped."))])
    assert follow(folder, first.id, MANNERS) == 1
    assert "It has stopped. `seamount get a/b` does that." in capsys.readouterr().err
    # There is nobody to ask for a token: that is an error like others.
    engine([job(state="failed", error=ErrorBody(code="token_needed", text="A token is needed."))])
    with pytest.raises(EngineSaidNo, match="A token is needed"):
        follow(folder, first.id, MANNERS)
    engine([])
    with pytest.raises(NotFound, match="not in the list any more"):
        follow(folder, first.id, MANNERS)


def test_a_check_that_found_something_is_not_well(
    engine: Any, folder: DataFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = VerifyRequest(path="/m.gguf")
    verdict = Verdict(good=False, checked_bytes=5, differences=[f"tensor {number}" for number in range(22)])
    engine([job(state="done", asked=asked, verdict=verdict)])
    assert follow(folder, job().id, MANNERS) == 1
    lines = capsys.readouterr().out.splitlines()
    assert (lines[0], lines[-1]) == ("Flash: it is not as it should be", "      and 2 more")
    engine([job(state="done", asked=asked, verdict=Verdict(good=True, checked_bytes=5 * 10**9))])
    assert follow(folder, job().id, MANNERS) == 0
    assert capsys.readouterr().out == "Flash: all 5.0 GB are as they should be\n"


def test_an_engine_that_keeps_dying_is_given_up_but_not_the_job(engine: Any, folder: DataFolder) -> None:
    engine(None, [job(state="done")])
    assert follow(folder, job().id, MANNERS) == 0
    engine(None)
    with pytest.raises(EngineUnreachable, match="the job goes on by itself"):
        follow(folder, job().id, MANNERS)
