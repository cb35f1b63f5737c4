"""The one piece of work on all that is kept that an engine does at a time."""

import threading
from typing import Any

import pytest

from engine.errors import Conflict, DiskFull, NotFound, TaskStopped
from engine.housekeeping import Result
from engine.protocol_storage import StartStorageTask, StorageTask
from engine.storage_tasks import StorageTasks
from engine.store.backup import Progress

VERIFY = StartStorageTask(kind="verify")


class Work:
    """In the place of a Housekeeping: works until it may end, as it was told to."""

    def __init__(self, outcome: Any = None) -> None:
        self.outcome = outcome
        self.begun, self.may_end = threading.Event(), threading.Event()

    def carry_out(self, asked: StartStorageTask, progress: Progress) -> Result:
        progress.expect(10)
        progress.add(3, "a file")
        self.begun.set()
        self.may_end.wait(30)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        progress.add(7, "the last")
        return self.outcome or Result(("Done.",), ("A problem.",))


def ended(work: Work, tasks: StorageTasks) -> StorageTask:
    work.may_end.set()
    tasks.close()
    return tasks.task()


def test_it_runs_and_says_how_far_it_is() -> None:
    work = Work()
    tasks = StorageTasks(work)  # type: ignore[arg-type]
    with pytest.raises(NotFound):
        tasks.task()
    begun = tasks.start(VERIFY)
    assert (begun.kind, begun.state) == ("verify", "running")
    work.begun.wait(30)
    now = tasks.task()
    assert (now.id, now.state, now.done_bytes, now.total_bytes, now.note) == (
        begun.id,
        "running",
        3,
        10,
        "a file",
    )
    with pytest.raises(Conflict, match="a verify is running"):
        tasks.start(VERIFY)
    work.may_end.set()
    for thread in threading.enumerate():
        if thread.name == "storage verify":
            thread.join(30)
    done = tasks.task()
    assert (done.state, done.lines, done.problems) == ("done", ("Done.",), ("A problem.",))
    assert tasks.start(VERIFY).id != begun.id
    ended(work, tasks)


@pytest.mark.parametrize(
    ("outcome", "state", "code"),
    [
        (DiskFull("It failed", "the disk is full", "free some"), "failed", "disk_full"),
        (TaskStopped("a", "b", "c"), "stopped", None),
        (RuntimeError("a secret in it"), "failed", "internal"),
    ],
)
def test_how_it_can_end(outcome: Exception, state: str, code: str | None) -> None:
    work = Work(outcome)
    tasks = StorageTasks(work)  # type: ignore[arg-type]
    tasks.start(VERIFY)
    work.may_end.set()
    for thread in threading.enumerate():
        if thread.name == "storage verify":
            thread.join(30)
    task = tasks.task()
    assert (task.state, task.error.code if task.error else None) == (state, code)
    assert task.error is None or "secret" not in task.error.text


def test_to_stop_it_is_asked_to_at_its_next_step() -> None:
    work = Work()
    tasks = StorageTasks(work)  # type: ignore[arg-type]
    tasks.start(VERIFY)
    work.begun.wait(30)
    tasks.stop()
    assert ended(work, tasks).state == "stopped"
