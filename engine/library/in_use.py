"""What of the library is being used at this moment: by the loaded model, or by a job.

Owns: that answer, by real paths. Jobs that are paused or were interrupted count: they would go on with what lies
there. Does not know how a job runs.
"""

import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from convert.conversion_plan import path_of
from engine.protocol_jobs import ConvertRequest, FetchRequest, Job, JobState, MoveRequest, VerifyRequest

OPEN: tuple[JobState, ...] = ("queued", "running", "paused", "interrupted")


class InUse:
    """`loaded`: ids of models that are loaded or about to be."""

    def __init__(self, loaded: Collection[str], jobs: Iterable[Job]) -> None:
        self._loaded = set(loaded)
        self._items: set[str] = set()
        self._places: list[str] = []
        for job in jobs:
            if job.state in OPEN:
                self._note(job)

    def by_model(self, item_id: str) -> bool:
        """Whether it is loaded, or about to be."""
        return item_id in self._loaded

    def by_job(self, item_id: str, takes: Sequence[Path]) -> bool:
        """Whether a job works on the item, or on one of its files or folders."""
        if item_id in self._items:
            return True
        return any(_meet(_real(path), place) for path in takes for place in self._places)

    def _note(self, job: Job) -> None:
        asked = job.asked
        places: list[str] = []
        match asked:
            case FetchRequest():
                places += [asked.folder or ""]
                if asked.convert and asked.convert.target:
                    places += _results(asked.convert.target)
            case ConvertRequest():
                places += [asked.source, *_results(asked.target)]
            case VerifyRequest():
                places += [asked.path]
            case MoveRequest():
                # Its folder is where many others lie; the item is what it works on.
                self._items.add(asked.item_id)
        self._places += [_real(Path(place)) for place in places if place]


def _results(target: str) -> list[str]:
    return [target, str(path_of(Path(target), "draft"))]


def _real(path: Path) -> str:
    return os.path.normcase(os.path.realpath(path))


def _meet(one: str, other: str) -> bool:
    """Whether they are the same, or one lies in the other."""
    return one == other or one.startswith(other + os.sep) or other.startswith(one + os.sep)
