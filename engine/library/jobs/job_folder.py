"""One job on disk: what was asked, how it went so far, and what its process says.

Owns: `jobs/<id>/` in the data folder:

    job.json      what was asked, its title and place; written once
    course.json   what is wanted now, and the process of the last run; replaced as a whole
    events.jsonl  what the process prints, a JSON object a line, with a line `begun` before each run
    errors.log    what it says besides
    work.lock     held by the process (`work`)

Format 2; of format 1, in which every job was a conversion, the request is read as one.

Does not know processes (`job_process`) or what follows from all this (`jobs`). A torn last line is no event.
"""

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

from engine.atomic_file import is_disk_full, write_atomically
from engine.errors import DataFolderError, DiskFull
from engine.library.jobs.job_plan import JobPlan, plan_of
from engine.protocol_jobs import ConvertRequest, FetchRequest, JobProgress, StartJob, Verdict

FORMAT = 2
MAX_JSON_BYTES = 16 << 20
"""More than the longest request comes to, and than the paths of a model in thousands of parts."""
TAIL_BYTES = 64 << 10
LARGEST_EVENTS_BYTES = 4 << 20
"""Beyond it, what earlier runs said is cut down when another run begins."""

LOG_MARK = "log: "
"""What a line of the process's log begins with."""

Wish = Literal["run", "pause", "cancel"]


@dataclass(frozen=True)
class Course:
    """What is wanted of a job, and its last process. `run` 0: it was never begun.

    `started_at`: when the system says that the process began, None while that is not known.
    """

    wish: Wish = "run"
    remove_partial: bool = False
    run: int = 0
    ended: bool = True
    """The last run is over, by what was last seen."""
    pid: int | None = None
    started_at: float | None = None
    problem: str | None = None
    """What could not be done at its end, as a sentence."""


@dataclass(frozen=True)
class Said:
    """The end of what a job's runs have said. `last`: the event that ended the last run, None if none did."""

    progress: JobProgress | None = None
    verdict: Verdict | None = None
    last: dict[str, Any] | None = None


class JobFolder:
    """The folder of one job."""

    def __init__(self, path: Path, plan: JobPlan, created_at: float, course: Course) -> None:
        self.path = path
        self.plan = plan
        self.created_at = created_at
        self.course = course

    @property
    def id(self) -> str:
        """The folder's name."""
        return self.path.name

    @classmethod
    def create(cls, path: Path, plan: JobPlan, created_at: float) -> "JobFolder":
        """Make the folder of a new job. Raises DataFolderError and its kinds."""
        made = cls(path, plan, created_at, Course())
        table = {
            "format": FORMAT,
            "created_at": created_at,
            "title": plan.title,
            "place": plan.place,
            "takes": list(plan.takes),
            "fresh": plan.fresh,
            "wanted": plan.wanted.model_dump() if plan.wanted is not None else None,
            "asked": plan.asked.model_dump(),
        }
        try:
            path.mkdir(parents=True, mode=0o700)
            write_atomically(path / "course.json", _bytes(asdict(made.course)))
            write_atomically(path / "job.json", _bytes(table))
        except OSError as error:
            shutil.rmtree(path, ignore_errors=True)
            raise _refused(path, error) from error
        return made

    @classmethod
    def load(cls, path: Path) -> "JobFolder":
        """What an earlier engine left. Raises OSError, ValueError for a folder that cannot be used."""
        table, course = _table(path / "job.json"), _table(path / "course.json")
        return cls(path, _plan(table), float(table["created_at"]), _course(course))

    def save(self, course: Course) -> None:
        """Keep another course. Raises DataFolderError and its kinds; it is then as it was."""
        if course == self.course:
            return
        try:
            write_atomically(self.path / "course.json", _bytes(asdict(course)))
        except OSError as error:
            raise _refused(self.path, error) from error
        self.course = course

    @property
    def events(self) -> Path:
        """The file that the process's output goes to."""
        return self.path / "events.jsonl"

    @property
    def errors(self) -> Path:
        """The file for what it says besides."""
        return self.path / "errors.log"

    def begin_run(self, run: int) -> None:
        """Separate what another run will say from what was said before. Raises DataFolderError and its kinds."""
        try:
            if self.events.exists() and self.events.stat().st_size > LARGEST_EVENTS_BYTES:
                progress = self.said().progress
                kept = _line({"event": "progress", **progress.model_dump()}) if progress else b""
                write_atomically(self.events, kept)
            with self.events.open("ab") as file:
                # What a kill has torn stays a line of its own.
                file.write(b"\n" + _line({"event": "begun", "run": run}))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _refused(self.path, error) from error

    def said(self) -> Said:
        """The end of the events, read in bounded memory; of what is no event nothing is taken."""
        progress: JobProgress | None = None
        verdict: Verdict | None = None
        last: dict[str, Any] | None = None
        for line in _tail(self.events):
            try:
                event: Any = json.loads(line)
                if not isinstance(event, dict):
                    continue
                table = cast(dict[str, Any], event)
                kind = table.get("event")
                if kind == "progress":
                    progress = JobProgress.model_validate(table)
                elif kind == "verdict":
                    verdict = Verdict.model_validate(table)
                elif kind == "begun":
                    last, verdict = None, None
                elif kind in ("done", "error"):
                    last = table
            except (ValueError, RecursionError):
                continue
        return Said(progress, verdict, last)

    def complaint(self) -> str:
        """The last line of what the process said besides its events and its log, at most 300 characters; or ""."""
        lines = [line.strip() for line in _tail(self.errors) if not line.startswith(LOG_MARK.encode())]
        text = next((line for line in reversed(lines) if line), b"").decode("utf-8", "replace")
        return "".join(character for character in text if character.isprintable())[:300]

    def forget(self) -> None:
        """Delete the folder. Raises DataFolderError."""
        try:
            shutil.rmtree(self.path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _refused(self.path, error) from error


def _tail(path: Path) -> list[bytes]:
    """The last whole lines of a file; none if there is no such file."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            start = max(0, end - TAIL_BYTES)
            file.seek(start)
            lines = file.read(TAIL_BYTES).split(b"\n")
    except OSError:
        return []
    return lines[1 if start else 0 : -1]


def _table(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        found: Any = json.loads(file.read(MAX_JSON_BYTES))
    if not isinstance(found, dict):
        raise ValueError(f"{path.name} is not a JSON object")
    return cast(dict[str, Any], found)


def _plan(table: dict[str, Any]) -> JobPlan:
    written = table.get("format")
    if written == 1:
        return plan_of(ConvertRequest.model_validate(table["asked"]))
    if written != FORMAT:
        raise ValueError(f"its format is {written!r}, not {FORMAT}")
    return JobPlan(
        StartJob.model_validate({"asked": table["asked"]}).asked,
        str(table["title"]),
        str(table["place"]),
        tuple(str(each) for each in table.get("takes", [])),
        fresh=table.get("fresh") is True,
        wanted=FetchRequest.model_validate(table["wanted"]) if table.get("wanted") is not None else None,
    )


def _course(table: dict[str, Any]) -> Course:
    wish, pid, started_at, problem = (table.get(key) for key in ("wish", "pid", "started_at", "problem"))
    if wish not in ("run", "pause", "cancel"):
        raise ValueError(f"its wish is {wish!r}")
    return Course(
        wish=wish,
        remove_partial=table.get("remove_partial") is True,
        run=int(table.get("run") or 0),
        ended=table.get("ended") is True,
        pid=pid if isinstance(pid, int) and pid > 0 else None,
        started_at=float(started_at) if isinstance(started_at, int | float) else None,
        problem=problem if isinstance(problem, str) else None,
    )


def _bytes(table: dict[str, Any]) -> bytes:
    return (json.dumps(table, ensure_ascii=False, indent=1) + "\n").encode()


def _line(event: dict[str, Any]) -> bytes:
    return json.dumps(event, ensure_ascii=False).encode() + b"\n"


def _refused(path: Path, error: OSError) -> DataFolderError:
    what = "The job cannot be noted down"
    if is_disk_full(error):
        return DiskFull(
            what, f"the disk that holds {path.parent} is full", "free some space there and try again"
        )
    why = f"{path} cannot be written ({error.strerror or error})"
    return DataFolderError(what, why, "give yourself permission to write there")
