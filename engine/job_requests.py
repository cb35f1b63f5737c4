"""What a request for a job stands for, and what follows when the job is done.

Owns: putting catalogue, library and settings together into a plan that can be noted down, and keeping the library's
list true after a move. Does not run jobs (`library/jobs`) or know what catalogue and library hold.
"""

from collections.abc import Callable
from pathlib import Path

from engine.errors import BadRequest, Conflict
from engine.library.job_plan import JobPlan, move_plan, plan_of
from engine.library.models import STARTER_ID, ModelLibrary
from engine.paths import DataFolder
from engine.protocol import Settings
from engine.protocol_jobs import FetchRequest, Job, JobRequest, MoveRequest

CHECKPOINT = "checkpoint:"
"""What the ids of checkpoints begin with; their path follows."""


class JobRequests:
    """The requests of one data folder. `is_loaded` says whether a model with this id is, or is about to be."""

    def __init__(
        self,
        folder: DataFolder,
        library: ModelLibrary,
        settings: Callable[[], Settings],
        is_loaded: Callable[[str], bool],
    ) -> None:
        self._folder = folder
        self._library = library
        self._settings = settings
        self._is_loaded = is_loaded

    def plan(self, asked: JobRequest) -> JobPlan:
        """What is to be noted down. Raises BadRequest, NotFound, Conflict."""
        if isinstance(asked, MoveRequest):
            return self._move(asked)
        if isinstance(asked, FetchRequest):
            return self._fetch(asked)
        return plan_of(asked)

    def settle(self, job: Job, plan: JobPlan) -> tuple[str, str] | None:
        """Take what a move has moved into the library at its new place; (id before, id now) of a model.

        May be called more than once for a job. Raises ModelFileError, DataFolderError.
        """
        asked = plan.asked
        if job.state != "done" or not isinstance(asked, MoveRequest) or asked.item_id.startswith(CHECKPOINT):
            return None
        return asked.item_id, self._library.add(plan.place).id

    def _fetch(self, asked: FetchRequest) -> JobPlan:
        from engine.library.catalogue import resolve, wanted

        settings = self._settings()
        resolved = resolve(asked, settings, self._folder)
        entry = wanted(resolved.what, None, settings, self._folder).entry if not asked.release else None
        return plan_of(resolved, entry.title if entry is not None else None)

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
