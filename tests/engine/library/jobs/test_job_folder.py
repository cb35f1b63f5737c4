"""What lies in a job's folder, also what earlier versions left there."""

import json
from pathlib import Path

import pytest

from engine.library.jobs.job_folder import LOG_MARK, JobFolder
from engine.library.jobs.job_plan import move_plan, plan_of
from engine.protocol_jobs import ConvertRequest, FetchRequest, MoveRequest


def test_what_was_noted_is_read_again(tmp_path: Path) -> None:
    fetch = plan_of(FetchRequest(what="a/b", revision="main", files=["*.gguf"], folder=str(tmp_path / "é")))
    move = move_plan(MoveRequest(item_id="m", folder=str(tmp_path)), "M", [tmp_path / "x" / "m.gguf"])
    for number, plan in enumerate((fetch, move)):
        JobFolder.create(tmp_path / str(number), plan, 5.0)
        again = JobFolder.load(tmp_path / str(number))
        assert (again.plan, again.created_at) == (plan, 5.0)


def test_a_job_of_the_first_format_is_a_conversion(tmp_path: Path) -> None:
    asked = {"kind": "convert", "source": "/s", "target": "/m.gguf", "dense": "bf16", "draft": "skip"}
    for name, table in (("with_kind", asked), ("without", {**asked, "kind": "convert"})):
        (tmp_path / name).mkdir()
        written = {"format": 1, "created_at": 1.0, "asked": {**table, "consume": True, "release": None}}
        (tmp_path / name / "job.json").write_text(json.dumps(written))
        (tmp_path / name / "course.json").write_text('{"wish": "pause", "run": 1, "ended": true}')
        job = JobFolder.load(tmp_path / name)
        assert job.plan.asked == ConvertRequest(
            source="/s", target="/m.gguf", dense="bf16", draft="skip", consume=True
        )
        assert (job.plan.title, job.plan.place, job.course.wish) == ("m", "/m.gguf", "pause")
    (tmp_path / name / "job.json").write_text('{"format": 3}')
    with pytest.raises(ValueError, match="its format is 3, not 2"):
        JobFolder.load(tmp_path / name)


def test_the_end_of_what_was_said(tmp_path: Path) -> None:
    job = JobFolder.create(tmp_path / "j", plan_of(ConvertRequest(source="/s", target="/m.gguf")), 1.0)
    job.begin_run(1)
    verdict = {"event": "verdict", "good": False, "checked_bytes": 7, "differences": ["x"]}
    progress = {
        "event": "progress",
        "done_bytes": 1,
        "total_bytes": 2,
        "bytes_per_s": 3.5,
        "stage": "checking",
    }
    lines = [progress, verdict, {"event": "done", "files": ["/m.gguf"]}]
    with job.events.open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
        file.write('{"event": "error", "code"')
    said = job.said()
    assert said.progress is not None
    assert said.progress.stage == "checking"
    assert said.verdict is not None
    assert said.verdict.differences == ["x"]
    assert said.last == lines[2]
    job.begin_run(2)
    assert (job.said().verdict, job.said().last) == (None, None)


def test_its_log_is_no_complaint(tmp_path: Path) -> None:
    job = JobFolder.create(tmp_path / "j", plan_of(ConvertRequest(source="/s", target="/m.gguf")), 1.0)
    assert job.complaint() == ""
    job.errors.write_text(f"{LOG_MARK}it is well\n")
    assert job.complaint() == ""
    job.errors.write_text(f"Kil\x1bled\n{LOG_MARK}it is well\n")
    assert job.complaint() == "Killed"
