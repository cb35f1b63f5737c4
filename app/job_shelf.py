"""The jobs that the engine knows, and what is asked of them.

Owns: the list as the engine last told it, and the requests. Does not know how it is shown (`job_words`, `views/`).
News of a job only says that it has changed: the list is fetched anew, never twice at the same time, and not more
often than it can be read.
"""

from collections.abc import Callable

from PySide6.QtCore import QObject, QTimer, Signal

from app.api import EngineApi, Failed
from engine.protocol import ErrorBody, Wire
from engine.protocol_jobs import CancelJob, Inspection, InspectRequest, Job, JobList, StartJob

PAUSE_MS = 150
"""Between two fetches of the list: four streams make more news than anybody reads."""
INSPECT_TIMEOUT_S = 120.0
"""Headers of a thousand shards on a slow disk."""


class JobShelf(QObject):
    """Jobs, the newest first."""

    changed = Signal()
    refused = Signal(object)
    """ErrorBody."""

    def __init__(self, api: EngineApi, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._api = api
        self.jobs: list[Job] = []
        self.known = False
        """The list has been fetched at least once."""
        self._asked = False
        self._stale = False

    def refresh(self) -> None:
        """Fetch the list; once more a moment later if it is under way, or was fetched just now."""
        if self._asked:
            self._stale = True
            return
        self._asked = True

        def ok(answer: JobList) -> None:
            self.jobs, self.known = answer.jobs, True
            self.changed.emit()
            again()

        def failed(_: ErrorBody) -> None:
            # The engine has gone: the window says so, and asks anew when there is one.
            again()

        def again() -> None:
            QTimer.singleShot(PAUSE_MS, self, lambda: self._refresh_if_stale())

        self._api.get("/api/jobs", JobList, ok, failed)

    def _refresh_if_stale(self) -> None:
        self._asked = False
        stale, self._stale = self._stale, False
        if stale:
            self.refresh()

    def start(self, asked: StartJob, ok: Callable[[Job], None], failed: Failed) -> None:
        """Begin one."""

        def begun(job: Job) -> None:
            self._take(job)
            ok(job)

        self._api.send("POST", "/api/jobs", asked, Job, begun, failed)

    def pause(self, job_id: str) -> None:
        """Stop it so that it can go on."""
        self._wish(job_id, "pause", None)

    def resume(self, job_id: str) -> None:
        """Go on."""
        self._wish(job_id, "resume", None)

    def cancel(self, job_id: str, *, remove_partial: bool) -> None:
        """Give it up."""
        self._wish(job_id, "cancel", CancelJob(remove_partial=remove_partial))

    @property
    def running(self) -> list[Job]:
        """Those that run now, the oldest first."""
        return [job for job in reversed(self.jobs) if job.state == "running"]

    def forget(self, job_id: str) -> None:
        """Take one that is over off the list."""

        def ok() -> None:
            self.jobs = [job for job in self.jobs if job.id != job_id]
            self.changed.emit()

        self._api.command("DELETE", f"/api/jobs/{job_id}", ok, self.refused.emit)

    def inspect(self, path: str, target: str, ok: Callable[[Inspection], None], failed: Failed) -> None:
        """Look at a checkpoint; `target` "": not chosen yet."""
        request = InspectRequest(path=path, target=target or None)
        self._api.send("POST", "/api/inspect", request, Inspection, ok, failed, INSPECT_TIMEOUT_S)

    def _wish(self, job_id: str, wish: str, body: Wire | None) -> None:
        self._api.send("POST", f"/api/jobs/{job_id}/{wish}", body, Job, self._take, self.refused.emit)

    def _take(self, job: Job) -> None:
        known = any(each.id == job.id for each in self.jobs)
        self.jobs = [job if each.id == job.id else each for each in self.jobs] if known else [job, *self.jobs]
        self.changed.emit()
