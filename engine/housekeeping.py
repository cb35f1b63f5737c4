"""What is done with all that is kept: looked at, made smaller, copied into a backup; and what it takes.

Owns: which stores of a data folder take part in each, and the result as lines for a person. Used by a running engine
(`storage_tasks` runs it in a thread) and by the commands on a folder that no engine serves. Does not know HTTP or
terminals, nor how each store does its part.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from engine.errors import BadRequest, Conflict, DataFolderError
from engine.model_table import size_text
from engine.paths import DataFolder
from engine.protocol_storage import StartStorageTask, StorageUsage
from engine.store.backup import Progress, write_backup
from engine.store.backup_format import JOURNALS
from engine.store.calls import forget_all_calls
from engine.store.compaction import compact
from engine.store.database import Database
from engine.store.inspection import problems_of


class StatesUsage(Protocol):
    """What the states of models take."""

    @property
    def bytes(self) -> int:
        """Of those that are used."""
        ...

    @property
    def count(self) -> int:
        """How many these are."""
        ...

    @property
    def damaged(self) -> int:
        """How many were set aside."""
        ...


class KeptStates(Protocol):
    """What models have read, kept (`store.snapshots`)."""

    def usage(self) -> StatesUsage:
        """What they take."""
        ...

    def verify(self) -> list[str]:
        """Each read whole; sentences about what is wrong."""
        ...

    def compact(self) -> int:
        """Delete what is damaged or beyond the budget; how many bytes went."""
        ...

    def forget_all(self) -> None:
        """Remove them."""
        ...


class KeptJournals(Protocol):
    """The journals of all conversations (`store.journals`)."""

    def verify(self) -> list[str]:
        """Each read whole; sentences about what is wrong."""
        ...

    def compact(self, session_id: str) -> None:
        """Leave out of one what is not needed any more."""
        ...


@dataclass(frozen=True)
class Result:
    """`lines` for a person; `problems`, each a sentence."""

    lines: tuple[str, ...]
    problems: tuple[str, ...] = ()


class Housekeeping:
    """For one data folder. Any thread; one piece of work at a time (`storage_tasks`)."""

    def __init__(
        self,
        folder: DataFolder,
        open_database: Callable[[], Database],
        *,
        database: Database | None = None,
        states: Callable[[], KeptStates] | None = None,
        journals: KeptJournals | None = None,
        budget_bytes: Callable[[], int],
        is_writing: Callable[[], bool] = lambda: False,
    ) -> None:
        """`open_database` opens the store once more, so that answers being written need not wait for its lock;
        `database` is the one that is open already, where there is one. `is_writing`: an answer is being written, or is
        about to be."""
        self._folder = folder
        self._open_database = open_database
        self._database = database
        self._states = states
        self._journals = journals
        self._budget_bytes = budget_bytes
        self._is_writing = is_writing
        self.notice: str | None = None

    def usage(self) -> StorageUsage:
        """What everything takes now. Raises DataFolderError."""
        states = self._states().usage() if self._states else None
        database = self._folder.sessions_db
        log = database.with_name(f"{database.name}-wal")
        try:
            return StorageUsage(
                sessions_bytes=_size(database) + _size(log),
                journals_bytes=sum(_size(path) for path in (self._folder.root / JOURNALS).glob("*/*")),
                states_bytes=states.bytes if states else 0,
                states_count=states.count if states else 0,
                states_damaged=states.damaged if states else 0,
                states_budget_bytes=self._budget_bytes(),
                free_bytes=shutil.disk_usage(self._folder.root).free,
                notice=self.notice,
            )
        except OSError as error:
            raise DataFolderError(
                f"What is kept in {self._folder.root} cannot be counted",
                error.strerror or str(error),
                "check the disk and your permission there",
            ) from error

    def forget_states(self) -> None:
        """Remove what models have read, which they read anew when it is needed, and the reasoning before calls that is
        kept for other programs. Raises DataFolderError."""
        if self._states is not None:
            self._states().forget_all()
        if not self._folder.sessions_db.exists():
            return
        database = self._database or self._open_database()
        try:
            with database.transaction() as connection:
                forget_all_calls(connection)
            database.forget()
        finally:
            if database is not self._database:
                database.close()

    def carry_out(self, asked: StartStorageTask, progress: Progress) -> Result:
        """Verify, compact or back up. Raises SeamountError and its kinds, TaskStopped."""
        if asked.kind == "verify":
            return self._verify(progress)
        if asked.kind == "compact":
            return self._compact()
        if not asked.path:
            raise BadRequest("The backup was not written", "no file is named", "name one")
        made = write_backup(
            self._folder.root, Path(asked.path), with_states=asked.with_states, progress=progress
        )
        files, size = counted_text(made.files, "file"), bytes_text(made.content_bytes)
        what = f"{files} of the data folder, {size}, {'is' if made.files == 1 else 'are'} in {asked.path}"
        return Result((f"{what} ({bytes_text(made.size_bytes)}).",))

    def _verify(self, progress: Progress) -> Result:
        problems: list[str] = []
        sessions = messages = 0
        if self._folder.sessions_db.exists():
            total_bytes = _size(self._folder.sessions_db)
            progress.expect(total_bytes)
            told_bytes = 0

            def tell(done: int, total: int) -> None:
                nonlocal told_bytes
                now_bytes = total_bytes * done // total
                progress.add(now_bytes - told_bytes, f"message {done:,} of {total:,}")
                told_bytes = now_bytes

            try:
                database = self._open_database()
            except DataFolderError as error:
                problems.append(error.text)
            else:
                try:
                    found, sessions, messages = problems_of(database, tell)
                finally:
                    database.close()
                problems += found
        if self._journals is not None:
            progress.add(0, "journals")
            problems += self._journals.verify()
        if self._states is not None:
            progress.add(0, "what models have read")
            problems += self._states().verify()
        counted = f"{counted_text(sessions, 'conversation')} with {counted_text(messages, 'message')}"
        if problems:
            wrong = "one thing is not as it should be"
            if len(problems) > 1:
                wrong = f"{len(problems):,} things are not as they should be"
            return Result((f"{counted}: {wrong}.",), tuple(problems))
        return Result((f"{counted}: all is as it should be.",))

    def _compact(self) -> Result:
        if self._is_writing():
            raise Conflict(
                "The conversations were not compacted",
                "an answer is being written, and would have to wait",
                "try again when it has ended",
            )
        before = self.usage()
        if self._folder.sessions_db.exists():
            # A write from now on waits for the lock of the one that writes, without a limit.
            database = self._database or self._open_database()
            try:
                sessions = self._session_ids(database)
                compact(database)
            finally:
                if database is not self._database:
                    database.close()
            if self._journals is not None:
                for session_id in sessions:
                    self._journals.compact(session_id)
        won_of_states = 0 if self._states is None else self._states().compact()
        after = self.usage()
        named = (
            ("conversations", before.sessions_bytes, after.sessions_bytes),
            ("journals", before.journals_bytes, after.journals_bytes),
            ("what models have read", after.states_bytes + won_of_states, after.states_bytes),
        )
        won = sum(max(0, old - new) for _, old, new in named)
        parts = [f"{name} {bytes_text(old)} → {bytes_text(new)}" for name, old, new in named]
        return Result((f"{bytes_text(won)} won: {', '.join(parts)}.",))

    @staticmethod
    def _session_ids(database: Database) -> list[str]:
        with database.reading() as connection:
            return [str(row[0]) for row in connection.execute("SELECT id FROM session ORDER BY number")]


def counted_text(count: int, noun: str) -> str:
    """`count` of them: "1 message", "2,000 messages"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def bytes_text(size_bytes: int) -> str:
    """As `size_text`, and small sizes to the byte."""
    return size_text(size_bytes) if size_bytes >= 10_000 else counted_text(size_bytes, "byte")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
