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
    """The requests of one data folder."""

    def __init__(self, folder: DataFolder, library: ModelLibrary, overview: Overview) -> None:
        self._folder = folder
        self._library = library
        self._overview = overview

    def plan(self, asked: JobRequest) -> JobPlan:
        """What is to be noted down. Raises BadRequest, NotFound, Conflict."""
        if isinstance(asked, FetchRequest):
            return self._fetch(asked)
        return self._move(asked) if isinstance(asked, MoveRequest) else plan_of(asked)

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
        from engine.library.catalogue_entries import load_catalogue

        resolved = self._overview.resolved(asked)
        entry = None if asked.release else load_catalogue(self._folder).find(asked.what.partition("@")[0])
        return replace(plan_of(resolved, entry.title if entry is not None else None), wanted=asked)

    def _move(self, asked: MoveRequest) -> JobPlan:
        holding = self._overview.holding(asked.item_id)
        item, what = holding.item, "The move could not be begun"
        if not item.movable:
            raise Conflict(what, f"{item.name} belongs to Seamount itself", "choose another model")
        if item.in_use:
            raise Conflict(
                what, f"{item.name} is in use", "load another model, or let the job that works on it finish"
            )
        return move_plan(asked, item.name, holding.takes)
