"""What a request for a job stands for, and what follows when the job is done.

Owns: putting catalogue, library and settings together into a plan that can be noted down, and taking what a job has
made or moved into the library. Does not run jobs (`library/jobs`) or know what catalogue and library hold.
"""

from dataclasses import replace
from pathlib import Path

from engine.errors import Conflict
from engine.library.jobs.job_plan import JobPlan, move_plan, plan_of
from engine.library.model_files import is_later_part
from engine.library.models import ModelLibrary
from engine.library.overview import Overview
from engine.paths import DataFolder
from engine.protocol_jobs import ConvertRequest, FetchRequest, Job, JobRequest, MoveRequest, VerifyRequest


class JobRequests:
    """The requests of one data folder. `is_loaded` says whether a model with this id is, or is about to be."""

    def __init__(self, folder: DataFolder, library: ModelLibrary, overview: Overview) -> None:
        self._folder = folder
        self._library = library
        self._overview = overview

    def plan(self, asked: JobRequest) -> JobPlan:
        """What is to be noted down. Raises BadRequest, NotFound, Conflict."""
        if isinstance(asked, MoveRequest):
            return self._move(asked)
        if isinstance(asked, FetchRequest):
            return self._fetch(asked)
        return plan_of(asked)

    def settle(self, job: Job, plan: JobPlan) -> tuple[str, str] | None:
        """Take what a job has made into the library, where it does not lie in a folder that is looked through anyway.

        Of a move (id before, id now) is told. May be called more than once for a job. Raises ModelFileError,
        LibraryError, DataFolderError.
        """
        asked = plan.asked
        if job.state != "done" or isinstance(asked, VerifyRequest):
            return None
        if isinstance(asked, MoveRequest):
            self._library.added.take_off(Path(plan.takes[0]))
            return asked.item_id, self._overview.add(plan.place).id
        whole = isinstance(asked, ConvertRequest) or asked.convert is not None
        # Of a conversion the model comes first, then what belongs to it; of fetched GGUFs each is a model.
        for file in job.files[:1] if whole else job.files:
            if not is_later_part(Path(file)):
                self._overview.add(file)
        return None

    def _fetch(self, asked: FetchRequest) -> JobPlan:
        from engine.library.catalogue import resolve, wanted

        resolved = self._overview.resolved(asked)
        entry = None if asked.release else load_catalogue(self._folder).find(asked.what.partition("@")[0])
        return replace(plan_of(resolved, entry.title if entry is not None else None), wanted=asked)

    def _move(self, asked: MoveRequest) -> JobPlan:
        what = "The move could not be begun"
        if asked.item_id.startswith(CHECKPOINT):
            path = Path(asked.item_id.removeprefix(CHECKPOINT))
            if not path.is_absolute() or not (path / "config.json").is_file():
                raise BadRequest(what, "there is no checkpoint in that folder", "look at the library again")
            if self._folder.root.is_relative_to(path):
                raise BadRequest(what, "the data folder lies in it", "move the files yourself")
            return move_plan(asked, path.name, [path])
        entry = self._library.entry(asked.item_id)
        if entry.id == STARTER_ID:
            raise Conflict(what, "the starter belongs to Seamount itself", "choose another model")
        if self._is_loaded(entry.id):
            raise Conflict(what, f"{entry.name} is loaded", "load another model first")
        return move_plan(asked, entry.name, files_of_model(Path(entry.path)))


def files_of_model(path: Path) -> list[Path]:
    """All that belongs to the model in the file `path`: its parts, the drafter beside it, and their receipts."""
    from convert.conversion_plan import path_of
    from convert.receipt import receipt_path
    from engine.library.model_files import parts_of

    files = [*parts_of(path)]
    draft = path_of(path, "draft")
    if draft not in files and draft.is_file():
        files.append(draft)
    return [*files, *(receipt for each in files if (receipt := receipt_path(each)).is_file())]
