"""What is kept in a data folder, for a command: through the engine that serves it, or, where none runs, by hand.

Owns: which of the two it is, and the same few calls for both. Nobody starts an engine, or loads a model, to list
conversations. Does not know terminals (`sessions_command`), nor how anything is kept (`store/`, `housekeeping`).

Without an engine the folder is locked meanwhile, and nothing is put right that an engine would put right at its start:
an answer that was cut off stays one.
"""

import contextlib
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Literal, Protocol
from urllib.parse import quote, urlencode

from engine.data_version import refuse_newer, settle
from engine.engine_client import EngineClient, EngineSaidNo
from engine.errors import EngineRunning, EngineUnreachable
from engine.folder_lock import locked, noted
from engine.housekeeping import Housekeeping, KeptStates
from engine.launch import running_engine
from engine.paths import DataFolder
from engine.protocol import Session, SessionList, SessionSummary
from engine.protocol_storage import StartStorageTask, StorageTask
from engine.settings import load_settings
from engine.store import restore
from engine.store.backup import Progress
from engine.store.database import Database
from engine.store.encryption import stored_key_id
from engine.store.export_json import document_of, json_of
from engine.store.export_markdown import markdown_of
from engine.store.import_json import add_document, parsed, read_document_file
from engine.store.journals import Journals
from engine.store.keys import Keys
from engine.store.sealing import Ciphers
from engine.store.sessions import SessionStore

Kind = Literal["markdown", "json"]
Told = Callable[[int, int, str], None]
TRIES = 10
RETRY_S = 0.5
"""An engine that begins or ends has the lock, and cannot be reached yet or any more."""
_LOOK_S = 0.2
_DONE_TO_THEM = {"verify": "checked", "compact": "made smaller", "backup": "backed up"}


class Kept(Protocol):
    """Both ways. Each call raises SeamountError and its kinds."""

    def sessions(self, query: str | None) -> list[SessionSummary]:
        """Those that are not deleted, the most recently used first; with a `query`, those that hold it."""
        ...

    def session(self, session_id: str) -> Session:
        """The whole tree."""
        ...

    def exported(self, session_id: str, kind: Kind) -> bytes:
        """As a file."""
        ...

    def imported(self, file: Path) -> SessionSummary:
        """From a file."""
        ...

    def work(self, asked: StartStorageTask, told: Told) -> StorageTask:
        """Verify, compact or back up; what has become of it. Raises what it failed with."""
        ...


@contextlib.contextmanager
def kept_in(folder: DataFolder) -> Generator[Kept, None, None]:
    """What is kept in `folder`. Raises EngineUnreachable, EngineRunning, DataFolderError."""
    folder.create()
    tries = 0
    while True:
        tries += 1
        with contextlib.ExitStack() as stack:
            try:
                kept = _through_engine(folder, stack) or _by_hand(folder, stack)
            except (EngineRunning, EngineUnreachable):
                if tries == TRIES:
                    raise
                time.sleep(RETRY_S)
                continue
            yield kept
            return


def _through_engine(folder: DataFolder, stack: contextlib.ExitStack) -> Kept | None:
    address = running_engine(folder)
    if address is None:
        return None
    client = stack.enter_context(contextlib.closing(EngineClient(address)))
    client.open()
    return _ThroughEngine(client)


def _by_hand(folder: DataFolder, stack: contextlib.ExitStack) -> Kept:
    stack.enter_context(
        locked(folder, "The data folder cannot be used", "it begins or ends just now; try again in a moment")
    )
    restore.finish(folder.root)
    refuse_newer(folder)
    return _ByHand(folder, stack)


class _ThroughEngine:
    """`Kept`, over HTTP."""

    def __init__(self, client: EngineClient) -> None:
        self._client = client

    def sessions(self, query: str | None) -> list[SessionSummary]:
        path = "/api/sessions" + (f"?{urlencode({'query': query})}" if query else "")
        return SessionList.model_validate(self._client.send("GET", path)).sessions

    def session(self, session_id: str) -> Session:
        return Session.model_validate(self._client.send("GET", f"/api/sessions/{quote(session_id, safe='')}"))

    def exported(self, session_id: str, kind: Kind) -> bytes:
        return self._client.content("GET", f"/api/sessions/{quote(session_id, safe='')}/export?kind={kind}")

    def imported(self, file: Path) -> SessionSummary:
        body = {"path": str(file.absolute())}
        return SessionSummary.model_validate(self._client.send("POST", "/api/sessions/import", body))

    def work(self, asked: StartStorageTask, told: Told) -> StorageTask:
        begun = StorageTask.model_validate(
            self._client.send("POST", "/api/storage/tasks", asked.model_dump(exclude_none=True))
        )
        try:
            while (task := self._task()).id == begun.id and task.state == "running":
                told(task.done_bytes, task.total_bytes, task.note)
                time.sleep(_LOOK_S)
        except KeyboardInterrupt:
            self._client.send("DELETE", "/api/storage/task")
            raise
        if task.error is not None:
            raise EngineSaidNo(task.error.text)
        return task

    def _task(self) -> StorageTask:
        return StorageTask.model_validate(self._client.send("GET", "/api/storage/task"))


class _ByHand:
    """`Kept`, on a folder that is locked."""

    def __init__(self, folder: DataFolder, stack: contextlib.ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._opened: SessionStore | None = None

    def sessions(self, query: str | None) -> list[SessionSummary]:
        return self._store().list_sessions(query)

    def session(self, session_id: str) -> Session:
        return self._store().session(session_id)

    def exported(self, session_id: str, kind: Kind) -> bytes:
        if kind == "markdown":
            return markdown_of(self.session(session_id)).encode()
        return json_of(document_of(self._store().database, session_id))

    def imported(self, file: Path) -> SessionSummary:
        document = parsed(read_document_file(file))
        store = self._store()
        return store.session(add_document(store.database, document)).summary

    def work(self, asked: StartStorageTask, told: Told) -> StorageTask:
        settings, _ = load_settings(self._folder.settings)

        def budget_bytes() -> int:
            return round(settings.snapshots_gb * 1e9)

        states: KeptStates | None = None
        journals: Journals | None = None
        if asked.kind != "backup":  # which needs no key
            from engine.store.snapshots import SnapshotStore

            ciphers = self._ciphers()
            kept = SnapshotStore(self._folder.snapshots, budget_bytes, ciphers and ciphers.snapshots)
            self._stack.callback(kept.close)
            states = kept
            # Made shorter they are by an engine, which knows what the store has of them.
            journals = Journals(
                self._folder.journals, lambda: settings.journal_sync_ms, ciphers and ciphers.journals
            )
            self._stack.callback(journals.close)
        housekeeping = Housekeeping(
            self._folder,
            self._database,
            states=None if states is None else lambda: states,
            journals=journals,
            budget_bytes=budget_bytes,
        )
        with noted(self._folder, f"the conversations are being {_DONE_TO_THEM[asked.kind]}"):
            result = housekeeping.carry_out(asked, Progress(told))
        return StorageTask(id="", kind=asked.kind, state="done", lines=result.lines, problems=result.problems)

    def _ciphers(self) -> Ciphers | None:
        key_id = stored_key_id(self._folder.sessions_db)
        return None if key_id is None else Ciphers.of(Keys(self._folder.root).find(key_id))

    def _database(self) -> Database:
        # Opening it may bring it to this version's form.
        made = settle(self._folder)
        ciphers = self._ciphers()
        return Database.open(self._folder.sessions_db, cipher=ciphers and ciphers.rows, back_up=made is None)

    def _store(self) -> SessionStore:
        if self._opened is None:
            # Not `SessionStore.open`: what that puts right is left to an engine.
            self._opened = SessionStore(self._database())
            self._stack.callback(self._opened.close)
        return self._opened
