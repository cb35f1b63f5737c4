"""The engine of one data folder: its store, library, jobs, settings, model and turns, put together.

Owns: their lifetimes, the settings in force, and the status. Does not know HTTP (`server/`) or the process
around it (`serve`).
"""

import asyncio
import logging
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from engine.access.client_watch import ClientWatch
from engine.access.desk import AccessDesk
from engine.backends.backend_choice import computes
from engine.data_version import backup_words, settle
from engine.discreet_log import say_less
from engine.engine_events import EngineEvents
from engine.errors import BadRequest, Conflict, SeamountError
from engine.generation_thread import GenerationThread
from engine.housekeeping import Housekeeping
from engine.job_requests import JobRequests
from engine.library.credentials import Credentials
from engine.library.jobs.job_plan import JobPlan
from engine.library.jobs.jobs import Jobs
from engine.library.models import ModelLibrary
from engine.library.overview import Overview
from engine.llama_builds import LlamaBuilds, body_of
from engine.measuring import Measuring
from engine.memory_watch import MemoryWatch
from engine.model_host import ModelHost, OpenBackend, wishes_of
from engine.part_desk import PartDesk
from engine.paths import DataFolder
from engine.placement.choices import KeptChoices
from engine.placement.experience import Experience
from engine.placement.forecast import Turn
from engine.placement.load_plan import LoadPlan
from engine.placement.nvidia import refreshed
from engine.placement_desk import PlacementDesk
from engine.prefix_watch import PrefixWatch
from engine.protocol import BackendChoice, EngineStatus, ErrorBody, Settings, Usage
from engine.protocol_jobs import FetchRequest, Job, JobRequest
from engine.protocol_placement import Choices, Placement
from engine.remotes import Remotes, is_remote
from engine.resuming import Resuming
from engine.settings import load_settings, save_settings
from engine.storage_tasks import StorageTasks
from engine.store import restore
from engine.store.encryption import Encryption, Opened
from engine.store.journals import Journals, Unfinished
from engine.store.sessions import SessionStore
from engine.store.state_uses import StateUses
from engine.turns import Turns
from engine.updates import Updates
from engine.version import version

if TYPE_CHECKING:
    from engine.completions import Completion
    from engine.store.snapshots import SnapshotStore

_logger = logging.getLogger(__name__)
CLOSE_TIMEOUT_S = 10.0


class Engine:
    """Made by `open` before the event loop runs, begun by `start` on the loop, ended by `close`."""

    def __init__(
        self,
        folder: DataFolder,
        store: SessionStore,
        library: ModelLibrary,
        settings: Settings,
        opened: Opened,
        remotes: Remotes,
    ) -> None:
        self.folder = folder
        self.store = store
        self.library = library
        self.remotes = remotes
        self.jobs = Jobs(folder.jobs)
        self.credentials = Credentials()
        self.access = AccessDesk(folder, self.settings)
        self.overview = Overview(
            folder, library, self.credentials, self.settings, self.jobs.entries, self._models_in_use
        )
        self.job_requests = JobRequests(folder, library, self.overview)
        self.journals = Journals(folder.journals, lambda: self._settings.journal_sync_ms, opened.journals)
        self.resuming: Resuming
        self.choices = KeptChoices(folder.root)
        self.housekeeping = Housekeeping(
            folder,
            store.database.another,
            database=store.database,
            states=lambda: self.snapshots,
            journals=self.journals,
            budget_bytes=lambda: round(self.settings().snapshots_gb * 1e9),
            is_writing=lambda: bool(self.thread.active or self.thread.waiting),
        )
        self.storage_tasks = StorageTasks(self.housekeeping)
        self.parts = PartDesk(folder, library.entries)
        self.prefix_watch = PrefixWatch()
        self.measuring: Measuring
        self.placements: PlacementDesk
        self.events: EngineEvents
        self.turns: Turns
        self.thread: GenerationThread
        self.host: ModelHost
        self.memory_watch: MemoryWatch
        self._experience = Experience(folder.root, folder.models)
        self._settings = settings
        self._settings_lock = threading.Lock()
        self._started_at = time.time()
        self._version = version()
        self.llama_builds = LlamaBuilds(folder)
        self.updates = Updates(folder.updates, self.settings)
        self.encryption: Encryption
        self._locked: str | None = None
        self._ciphers = opened.ciphers
        self._snapshots: SnapshotStore | None = None
        self._snapshots_lock = threading.Lock()
        self._state_uses = StateUses(store.database)
        self._first_model: str | None = None
        self._last_asked: str | None = None
        self._asked_backend: BackendChoice | None = None
        self._unfinished: list[Unfinished] = []
        self._settings_problem: ErrorBody | None = None

    @classmethod
    def open(
        cls,
        folder: DataFolder,
        *,
        model: str | None = None,
        llama_cpp: str | None = None,
        backend: BackendChoice | None = None,
        without_backup: bool = False,
    ) -> "Engine":
        """Open what is in the data folder. `model`: an id or a path to load first instead of the default.
        `llama_cpp`: the folder of the libraries that are used instead of the settings'; they hold for this process.
        `backend`: what computes models instead of what the settings name, until they name another. `without_backup`:
        a person goes on without the backup before this version's first start.

        Raises DataFolderError and its kinds; NotFound and ModelFileError for `model`.
        """
        restored = restore.finish(folder.root)
        if restored is not None:
            _logger.warning("%s", restored)
        made = settle(folder, without_backup=without_backup)
        if made is not None:
            restored = restored or backup_words(made)
            _logger.info("%s", backup_words(made))
        settings, problem = load_settings(folder.settings)
        if problem is not None:
            _logger.warning("%s", problem.text)
        library, remotes = ModelLibrary(folder), Remotes(folder.remotes)
        library.remotes = remotes.entries
        first = find_model(library, model) if model else None
        encryption = Encryption(folder)
        opened = encryption.settle()
        if opened.locked is None:
            backs_up = made is None and not without_backup
            store = SessionStore.open(folder.sessions_db, opened.rows, back_up=backs_up)
        else:
            store = SessionStore.locked(folder.sessions_db, opened.locked)
        engine = cls(folder, store, library, settings, opened, remotes)
        engine.encryption = encryption
        if opened.ciphers or opened.locked:
            say_less()
        if opened.locked is None:
            engine._unfinished = engine.journals.recover(store)
        else:
            engine._locked = opened.locked.text
        engine._first_model = first
        engine._asked_backend = backend
        engine.housekeeping.notice = restored
        engine._settings_problem = problem
        refused = engine.llama_builds.settle(settings.llama_cpp_folder, llama_cpp).refused
        if refused is not None and problem is None:
            engine._settings_problem = body_of(refused)
        return engine

    def start(self, loop: asyncio.AbstractEventLoop, open_backend: OpenBackend | None = None) -> None:
        """Begin: the generation thread runs and loads its model in the background."""
        self.events = EngineEvents(loop, self.status)
        changed = self._changed
        self.host = ModelHost(
            self.library.entry,
            self.settings,
            changed,
            self._remember_model,
            open_backend=open_backend,
            root=self.folder.root,
            choices=self.choices.of,
            snapshots=None if self._locked else lambda: self.snapshots,
            note_state=self._state_uses.note,
        )
        self.host.asked_backend = self._asked_backend
        self.host.suited_sampling = self.library.sampling
        self.host.remote_model = self.remotes.model
        self.remotes.changed = self._remote_changed
        self.host.goes_on = lambda model_id: any(each.model_id == model_id for each in self._unfinished)
        self.thread = GenerationThread(self.host, changed)
        self.access.start(loop, cancel=self.thread.cancel, tell=self.events.post_access)
        self.access.watch_beginnings(self.prefix_watch)
        self.memory_watch = MemoryWatch(self.host, self.events.post_status)
        self.turns = Turns(
            store=self.store,
            journals=self.journals,
            thread=self.thread,
            settings=self.settings,
            suited_sampling=self.library.sampling,
            default_model=self.default_model,
            loaded=lambda: self.host.loaded,
            session_changed=self.events.post_session,
            loop=loop,
            gave=self._note,
            place=lambda model_id: self.remotes.entry(model_id).remote if is_remote(model_id) else None,
        )
        self.resuming = Resuming(
            self._unfinished,
            store=self.store,
            turns=self.turns,
            settings=self.settings,
            loaded_id=lambda: self.host.loaded_id,
            may_ask=lambda model_id: not is_remote(model_id) or self.remotes.continues(model_id),
        )
        self.measuring = Measuring(folder=self.folder, changed=self._measured, busy=self._busy)
        self.placements = PlacementDesk(
            self.folder,
            self.host,
            self.choices,
            self.settings,
            self.library.entry,
            lambda: refreshed(self.overview.machine.seen()),
        )
        if not self._locked:
            # Those of conversations that were purged when the store was opened; nobody waits for it.
            threading.Thread(target=self.forget_states, name="forgetting", daemon=True).start()
        self.parts.settle()
        self.parts.installed = self._part_installed
        self.thread.start()
        self.memory_watch.start()
        self.updates.changed = self.events.post_status
        self.updates.start()
        self.overview.machine.found = self.events.post_library
        self.credentials.answered = self.events.post_library
        self.jobs.changed = self.events.post_job
        self.jobs.ended = self._after_job
        self.jobs.access_for = self.overview.access
        self.jobs.start_watching()
        self._last_asked = model_id = self._first_model or self.default_model()
        if model_id is not None:
            self.thread.load(model_id)

    @property
    def clients(self) -> "ClientWatch[Completion]":
        """Which programs use the engine, and what runs for them."""
        return self.access.clients

    @property
    def snapshots(self) -> "SnapshotStore":
        """States of contexts that are kept in files; the folder is looked through when it is first asked for."""
        # Imported here: it brings numpy, which an engine that is starting does not wait for.
        from engine.store.snapshots import SnapshotStore

        with self._snapshots_lock:
            if self._snapshots is None:
                cipher = self._ciphers.snapshots if self._ciphers else None
                self._snapshots = SnapshotStore(
                    self.folder.snapshots, lambda: int(self._settings.snapshots_gb * 10**9), cipher
                )
                try:
                    self._state_uses.keep_only(self._snapshots.names)
                except SeamountError as error:
                    _logger.warning("%s", error.text)
            return self._snapshots

    def forget_states(self) -> None:
        """Delete the kept states of purged conversations. Raises nothing; what fails is done at the next start."""
        try:
            if states := self._state_uses.to_delete():
                self._state_uses.deleted(self.snapshots.forget(states))
        except SeamountError as error:
            _logger.warning("states of a removed conversation are still there: %s", error.text)

    def settings(self) -> Settings:
        """The settings in force."""
        return self._settings

    def change_settings(self, settings: Settings) -> Settings:
        """Keep new settings; a model that they change or name is loaded again. Raises DataFolderError."""
        with self._settings_lock:
            before = self._settings
            save_settings(self.folder.settings, settings)
            self._settings = settings
            self._settings_problem = None
        if settings.snapshots_gb < before.snapshots_gb and self._snapshots is not None:
            self._snapshots.keep_to_budget()
        if settings.backend != before.backend:
            self.host.asked_backend = None
        self.updates.wake()
        named = settings.model_id != before.model_id
        model_id = self.default_model() if named else self.thread.model_id
        choices = self.choices.of(model_id or "")
        reopened = wishes_of(choices, before) != wishes_of(choices, settings)
        if model_id is not None and (reopened or named):
            self.thread.load(model_id, again=reopened)
        return settings

    def default_model(self) -> str | None:
        """The model of the settings, else the library's; None when there is none."""
        return self._settings.model_id or self.library.default_id()

    def load_model(self, model_id: str, backend: BackendChoice | None = None) -> None:
        """Load a model after what is asked for already, and keep the choice once it is loaded. `backend`: what computes
        it and those after it; None: as before.

        Raises NotFound, and ModelFileError for what its headers show; the loaded model then stays.
        """
        self.host.check(model_id)
        if backend is not None:
            self.host.asked_backend = backend
        self._last_asked = model_id
        self.thread.load(model_id, remember=True)

    def remove_remote(self, remote_id: str) -> None:
        """Forget a model on another machine. Raises NotFound, Conflict while it is the one that answers."""
        if self.thread.model_id == remote_id:
            raise Conflict("It was not removed", "it is the model that answers now", "load another one first")
        self.remotes.remove(remote_id)

    def choose(self, model_id: str, choices: Choices) -> Placement:
        """Keep what is chosen for a model, which is loaded again if it is the loaded one and that changes its load.

        Raises NotFound, ModelFileError; DoesNotFit, and then nothing is kept; DiskFull, DataFolderError.
        """
        before = self.host.wishes(model_id)
        placement = self.placements.choose(model_id, choices)
        if self.thread.model_id == model_id and self.host.wishes(model_id) != before:
            self.thread.load(model_id, again=True)
        return placement

    def start_job(self, asked: JobRequest) -> Job:
        """Note a job down, once it is clear what is meant. Raises what `JobRequests.plan` and `Jobs.start` do."""
        if isinstance(asked, FetchRequest) and (same := self.jobs.asked_again(asked)) is not None:
            return same
        return self.jobs.start(self.job_requests.plan(asked))

    def status(self) -> EngineStatus:
        """What is so at this moment."""
        host, thread = self.host, self.thread
        active, error = thread.active, host.error
        loading_id = host.loading_id or thread.load_waiting
        return EngineStatus(
            version=self._version,
            pid=os.getpid(),
            started_at=self._started_at,
            data_folder=str(self.folder.root),
            model=host.loaded,
            loading_model_id=loading_id,
            loading_fraction=host.loading_fraction if host.loading_id else None,
            # Settings that were set aside are said here too, until they are saved anew.
            error=ErrorBody(code=error.code, text=error.text) if error else self._settings_problem,
            active_turn_id=(active.id or None) if active else None,
            active_answer_id=active.answer_id if active else None,
            queue_length=thread.waiting,
            # Without its conversations an engine is of little use, however short the memory is.
            notice=self._locked or self.memory_watch.notice,
            update=self.updates.found(),
        )

    def close(self) -> bool:
        """Cancel, store and free everything; False when the backend did not stop in time.

        The listeners of turns hear their ends, those of the engine's events are let go afterwards.
        """
        self.access.close()
        self.jobs.close()
        self.storage_tasks.close()
        self.parts.close()
        self.updates.close()
        self.measuring.close()
        self.memory_watch.close()
        stopped = self.thread.close(CLOSE_TIMEOUT_S)
        if not stopped:
            _logger.error("the model did not stop within %.0f s", CLOSE_TIMEOUT_S)
        # What a slow disk does not take in time is read again.
        if self._snapshots is not None and self._snapshots.settle(CLOSE_TIMEOUT_S):
            self._snapshots.close()
        self.remotes.close()
        self.turns.settle()
        self.journals.close()
        self._experience.close()
        return stopped

    def _changed(self) -> None:
        """The status has changed: so it is when a model is loaded, and when an answer begins or ends."""
        self.memory_watch.wake()
        self.resuming.wake()
        model_id = self.host.loaded_id
        if model_id is not None and not is_remote(model_id) and self.overview.last_used.is_due(model_id):
            # Neither the event loop nor an answer waits for the disk.
            threading.Thread(target=self._mark_used, args=(model_id,), name="last used", daemon=True).start()
        self.events.post_status()

    def _remote_changed(self, remote_id: str | None) -> None:
        """Another machine's model was set up otherwise, or is not what it was."""
        self.events.post_library()
        if remote_id is not None and self.host.loaded_id == remote_id:
            self.host.set_up_anew(remote_id)

    def _part_installed(self) -> None:
        """The model that was asked for last and could not be computed for want of it can be now."""
        model_id = self._last_asked or self.default_model()
        wanted = model_id is not None and computes(self.host.wishes(model_id).backend) == "native"
        if model_id is not None and wanted and self.host.loaded is None:
            self.thread.load(model_id, again=True)

    def _busy(self) -> bool:
        """A measurement would be of what is left beside an answer or a load."""
        thread = self.thread
        return bool(thread.active or thread.waiting or thread.load_waiting or self.host.loading_id)

    def _measured(self) -> None:
        self.events.post_hardware()
        if not self.measuring.state().measuring:
            self.events.post_library()  # what is foretold there may be other now

    def _note(self, model_id: str, plan: LoadPlan | None, usage: Usage) -> None:
        """An answer has ended: what it gave makes the next forecast better. Called in the generation thread."""
        if plan is None:
            return
        try:
            path = Path(self.library.entry(model_id).path)
        except SeamountError:  # removed meanwhile
            return
        # Without an answer the prompt may have been read in part only.
        read_tokens = usage.prompt_tokens - usage.reused_tokens if usage.generated_tokens else 0
        turn = Turn(
            depth_tokens=usage.reused_tokens,
            read_tokens=read_tokens,
            read_per_s=usage.prefill_rate,
            written_tokens=usage.generated_tokens,
            written_per_s=usage.generation_rate,
        )
        self._experience.note(path, plan, turn)

    def _mark_used(self, model_id: str) -> None:
        if self.overview.last_used.mark(model_id):
            self.events.post_library()

    def _models_in_use(self) -> list[str]:
        host = self.host
        return [each for each in (host.loaded_id, host.loading_id, self.thread.load_waiting) if each]

    def _after_job(self, job: Job, plan: JobPlan) -> None:
        """What the library and the settings have to know of a job that has come to its end. Raises nothing."""
        try:
            moved = self.job_requests.settle(job, plan)
            if moved is not None and self._settings.model_id == moved[0]:
                self._remember_model(moved[1])
        except SeamountError as error:
            _logger.warning("what %s made is not in the library: %s", job.title, error.text)
        self.events.post_library()

    def _remember_model(self, model_id: str) -> None:
        with self._settings_lock:
            if self._settings.model_id == model_id:
                return
            settings = self._settings.model_copy(update={"model_id": model_id})
            try:
                save_settings(self.folder.settings, settings)
            except SeamountError as error:
                _logger.warning("the choice of model was not kept: %s", error.text)
                return
            self._settings = settings


def find_model(library: ModelLibrary, named: str) -> str:
    """The id of a model named by its id or by the path of its file, which is then added to the library.

    Raises NotFound, ModelFileError; BadRequest for an empty name.
    """
    if not named.strip():
        raise BadRequest("No model was loaded", "the name given is empty", "see `seamount models` for names")
    if any(entry.id == named for entry in library.entries()):
        return named
    if os.sep in named or named.endswith((".gguf", ".script.json")):
        return library.add(named).id
    return library.entry(named).id
