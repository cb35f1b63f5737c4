"""The one piece of work on all that is kept that an engine does at a time, and how far it is.

Owns: its thread, its state and its end. Does not know what is done (`housekeeping`) or who asked (`server/storage`).
"""

import logging
import secrets
import threading

from engine.errors import Conflict, NotFound, SeamountError, TaskStopped
from engine.housekeeping import Housekeeping
from engine.protocol_storage import ErrorBody, StartStorageTask, StorageTask
from engine.store.backup import Progress

_log = logging.getLogger(__name__)
CLOSE_TIMEOUT_S = 10.0


class StorageTasks:
    """The tasks of one engine. Any thread."""

    def __init__(self, housekeeping: Housekeeping) -> None:
        self._housekeeping = housekeeping
        self._lock = threading.Lock()
        self._task: StorageTask | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def start(self, asked: StartStorageTask) -> StorageTask:
        """Begin in the background. Raises Conflict while another one runs."""
        with self._lock:
            if self._task is not None and self._task.state == "running":
                raise Conflict(
                    "That was not begun",
                    f"a {self._task.kind} is running",
                    "wait until it has ended, or stop it",
                )
            self._stopping = stopping = threading.Event()
            task = self._task = StorageTask(id=secrets.token_hex(8), kind=asked.kind, state="running")
            self._thread = threading.Thread(
                target=self._run, args=(asked, stopping), name=f"storage {asked.kind}", daemon=True
            )
            self._thread.start()
            return task

    def task(self) -> StorageTask:
        """The last one, as it is now. Raises NotFound where there was none."""
        with self._lock:
            if self._task is None:
                raise NotFound("There is no such task", "none has been begun", "begin one")
            return self._task

    def stop(self) -> StorageTask:
        """Ask the running one to end; its state says when it has. Raises NotFound."""
        self._stopping.set()
        return self.task()

    def close(self) -> None:
        """End what runs."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(CLOSE_TIMEOUT_S)

    def _run(self, asked: StartStorageTask, stopping: threading.Event) -> None:
        progress = Progress(self._tell, stopping.is_set)
        try:
            result = self._housekeeping.carry_out(asked, progress)
        except TaskStopped:
            self._change(state="stopped")
        except SeamountError as error:
            self._change(state="failed", error=ErrorBody(code=error.code, text=error.text))
        except Exception as error:  # noqa: BLE001 - the task is to end, whatever happens in it
            _log.exception("the %s failed", asked.kind)
            trouble = SeamountError(
                f"The {asked.kind} failed",
                f"the engine met an error of its own ({type(error).__name__})",
                "try again; the engine's log says more",
            )
            self._change(state="failed", error=ErrorBody(code=trouble.code, text=trouble.text))
        else:
            self._change(state="done", lines=result.lines, problems=result.problems)

    def _tell(self, done_bytes: int, total_bytes: int, note: str) -> None:
        self._change(done_bytes=done_bytes, total_bytes=total_bytes, note=note)

    def _change(self, **changed: object) -> None:
        with self._lock:
            if self._task is not None:
                self._task = self._task.model_copy(update=changed)
