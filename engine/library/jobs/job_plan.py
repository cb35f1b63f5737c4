"""A job before it is noted down: checked paths, a title for people, and what it claims of the disk.

Owns: whole paths, the place that a job writes or checks, and whether two jobs would get into each other's way. Does
not know catalogue or library: what a name stands for was looked up before (`engine/job_requests`).
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.errors import BadRequest
from engine.protocol_jobs import ConvertRequest, FetchRequest, JobRequest, MoveRequest, VerifyRequest

SUFFIX = ".gguf"
_WHAT = {
    "fetch": "The download could not be begun",
    "convert": "The conversion could not be begun",
    "verify": "The check could not be begun",
    "move": "The move could not be begun",
}


@dataclass(frozen=True)
class JobPlan:
    """What is noted down of a job. `place`: the file or folder that it writes or checks. `takes`: of a move, the
    files, or the one folder, that it takes away from where they lie. `fresh`: of a download, its folder was empty: all
    that lies there is its own. `wanted`: of a download, the request as it came, with what it left open."""

    asked: JobRequest
    title: str
    place: str
    takes: tuple[str, ...] = ()
    fresh: bool = False
    wanted: FetchRequest | None = None


@dataclass(frozen=True)
class Claims:
    """Real paths of files and folders. What is claimed `alone` nobody else may use; what is claimed `shared` others
    may read as well. A folder stands for all that is in it."""

    alone: frozenset[str]
    shared: frozenset[str] = frozenset()

    def clash_with(self, other: "Claims") -> bool:
        """Whether the two cannot go on at the same time."""
        return (
            _meet(self.alone, other.alone)
            or _meet(self.alone, other.shared)
            or _meet(self.shared, other.alone)
        )


def plan_of(asked: FetchRequest | ConvertRequest | VerifyRequest, title: str | None = None) -> JobPlan:
    """The plan of a request that says all that there is to know. Raises BadRequest for paths that are not whole.

    A FetchRequest has its folder, and the target of its conversion. `title` None: what the request itself tells.
    """
    if isinstance(asked, ConvertRequest):
        source, target = _whole(asked, "source", asked.source), _whole(asked, "target", asked.target)
        _refuse_other_suffix(asked, target)
        release = asked.release if asked.release and asked.release.strip() else None
        asked = asked.model_copy(update={"source": source, "target": target, "release": release})
        return JobPlan(asked, title or release or Path(target).stem, target)
    if isinstance(asked, VerifyRequest):
        path = _whole(asked, "path", asked.path)
        return JobPlan(asked.model_copy(update={"path": path}), title or Path(path).stem, path)
    folder = _whole(asked, "folder", asked.folder or "")
    place, after = folder, asked.convert
    if after is not None:
        place = _whole(asked, "file to write", after.target or "")
        _refuse_other_suffix(asked, place)
        after = after.model_copy(update={"target": place})
    asked = asked.model_copy(update={"folder": folder, "convert": after})
    title = title or asked.release or asked.what.rstrip("/").rpartition("/")[2]
    return JobPlan(asked, title, place, fresh=_is_empty(folder))


def move_plan(asked: MoveRequest, title: str, takes: Sequence[Path]) -> JobPlan:
    """The plan of moving `takes`, the model's file or the folder first. Raises BadRequest."""
    folder = _whole(asked, "folder", asked.folder)
    place = str(Path(folder) / takes[0].name)
    return JobPlan(
        asked.model_copy(update={"folder": folder}), title, place, tuple(str(path) for path in takes)
    )


def claims_of(plan: JobPlan) -> Claims:
    """What a job writes or uses up, and what it reads."""
    asked = plan.asked
    if isinstance(asked, ConvertRequest):
        written = _conversion_files(asked.target)
        if asked.consume:
            return Claims(_real([*written, asked.source]))
        return Claims(_real(written), _real([asked.source]))
    if isinstance(asked, VerifyRequest):
        return Claims(frozenset(), _real(_conversion_files(asked.path)))
    if isinstance(asked, MoveRequest):
        arriving = [str(Path(asked.folder) / Path(path).name) for path in plan.takes]
        return Claims(_real([*plan.takes, *arriving]))
    target = asked.convert.target if asked.convert else None
    return Claims(_real([asked.folder or plan.place, *(_conversion_files(target) if target else [])]))


def _conversion_files(target: str) -> list[str]:
    from engine.library.jobs import partial_file

    if not target.lower().endswith(SUFFIX):
        return [target]
    return [str(path) for path in partial_file.files_of(Path(target))]


def _real(paths: Iterable[str]) -> frozenset[str]:
    return frozenset(os.path.normcase(os.path.realpath(path)) for path in paths)


def _meet(some: frozenset[str], others: frozenset[str]) -> bool:
    if some & others:
        return True
    return any(
        one.startswith(_within(other)) or other.startswith(_within(one)) for one in some for other in others
    )


def _within(folder: str) -> str:
    return folder if folder.endswith(os.sep) else folder + os.sep


def _is_empty(folder: str) -> bool:
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except FileNotFoundError:
        return True
    except OSError:
        return False


def _whole(asked: JobRequest, name: str, text: str) -> str:
    what = _WHAT[asked.kind]
    try:
        path = Path(text).expanduser()
    except RuntimeError as error:
        raise BadRequest(what, "there is no such home folder", "write the whole path") from error
    if not path.is_absolute():
        raise BadRequest(what, f"the {name} is not a whole path", "write it from the root on")
    return os.path.normpath(path)


def _refuse_other_suffix(asked: JobRequest, target: str) -> None:
    if not target.lower().endswith(SUFFIX) or Path(target).name.lower() == SUFFIX:
        raise BadRequest(
            _WHAT[asked.kind],
            f"the file to write is not a {SUFFIX} file",
            f"give it a name that ends in {SUFFIX}",
        )
