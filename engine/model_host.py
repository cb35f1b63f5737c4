"""Which model the engine holds, and how it came to hold it.

Owns: the loaded backend, the progress of a load, and why the last one failed. A model is checked by its
headers before the one that is loaded is given up, and when the new one then fails to load the old one is
opened again. That the new one fits is reckoned before the old one is given up, with what that gives back. Does not know
what a backend is used for, or in which order loads happen (`generation_thread`), or when memory is short
(`memory_watch`).

`load`, `keeper` and `close` are for the generation thread alone; the rest may be read and called by any thread.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

from engine.backends.backend_choice import computes
from engine.errors import ModelFileError, ModelLoadError, NotFound, RemoteChanged, Retold, SeamountError
from engine.placement.load_needs import needed_mapped_bytes, reads_its_file_again
from engine.placement.planner import Wishes
from engine.protocol import BackendChoice, LoadedModel, ModelEntry, Sampling, Settings
from engine.protocol_placement import Choices

if TYPE_CHECKING:
    from engine.backends.base import Backend
    from engine.backends.remote import RemoteModel
    from engine.contexts.keeper import ContextKeeper
    from engine.contexts.owners import Note
    from engine.placement.load_plan import LoadPlan
    from engine.store.snapshots import SnapshotStore

_logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")
_LEAST_PROGRESS = 0.01
_LEAST_PROGRESS_S = 0.05


class OpenBackend(Protocol):
    """`engine.backends.opening.open_backend`, or a test's stand-in."""

    def __call__(
        self,
        entry: ModelEntry,
        *,
        wishes: Wishes,
        on_progress: Callable[[float], bool],
    ) -> "Backend":
        """Open `entry`; `on_progress(fraction)` returns False to give the load up."""
        ...


class CheckFits(Protocol):
    """`engine.backends.opening.check_fits`, or a test's stand-in."""

    def __call__(self, entry: ModelEntry, *, wishes: Wishes, loaded: "LoadPlan") -> None:
        """Raises DoesNotFit when `entry` will not fit in the place of what is loaded by the plan `loaded`."""
        ...


class HeaderError(Retold, ModelFileError):
    """A model file whose headers show that it cannot be loaded, with the library's own sentence."""


class RemoteSetAside(Retold, RemoteChanged):
    """A model on another machine that is not used until a person agrees to what has changed."""


class ModelHost:
    """Holds at most one model.

    `entry(model_id)` finds a model (NotFound), `settings()` gives the settings of this moment, `changed()` is
    called after every change of what is public here, `loaded(model_id)` when a load that is to be remembered
    has succeeded. `root` is the data folder, for what a load learns of this machine. `choices(model_id)`: what was
    chosen for a model in the settings' place. `snapshots()`: where states of contexts are kept; None: nowhere.
    `note_state`: told whose they are (`contexts.owners`).
    """

    def __init__(
        self,
        entry: Callable[[str], ModelEntry],
        settings: Callable[[], Settings],
        changed: Callable[[], None],
        remember: Callable[[str], None],
        open_backend: OpenBackend | None = None,
        root: Path | None = None,
        choices: Callable[[str], Choices] = lambda _model_id: Choices(),
        check_fits: CheckFits | None = None,
        snapshots: "Callable[[], SnapshotStore] | None" = None,
        note_state: "Note | None" = None,
    ) -> None:
        self.loaded: LoadedModel | None = None
        self.loading_id: str | None = None
        self.loading_fraction: float | None = None
        self.error: SeamountError | None = None
        """Why the last load failed, until another one is begun."""
        self.suited_sampling: Callable[[str], Sampling] = lambda _model_id: Sampling()
        """How a model's answers are drawn where nobody has chosen."""
        self._entry = entry
        self._settings = settings
        self._changed = changed
        self._remember = remember
        self._open_backend = open_backend
        self._root = root
        self._choices = choices
        self._check_fits = check_fits
        self._snapshots = snapshots
        self._note_state = note_state
        self.remote_model: Callable[[str], RemoteModel] = no_remote
        """What asks a model on another machine, by its id. Raises NotFound, RemoteChanged."""
        self._remote: RemoteModel | None = None
        self.goes_on: Callable[[str], bool] = lambda _model_id: False
        """Whether a model has an answer that was cut off and is to go on as it would have."""
        self.waits: Callable[[], bool] = lambda: False
        """Whether somebody waits for the next answer."""
        self.asked_backend: BackendChoice | None = None
        """What is to compute models, whatever the settings say; None: nobody asked."""
        self._stop = threading.Event()
        self._backend: Backend | None = None
        self._keeper: ContextKeeper | None = None
        self._backend_lock = threading.Lock()  # held while another thread asks the backend for memory
        self._opened: tuple[ModelEntry, Wishes] | None = None
        self._file_state: tuple[int, ...] | None = None  # of the loaded model's file, as it was opened
        self._progress_s = 0.0

    @property
    def loaded_id(self) -> str | None:
        """The id of the model that is loaded."""
        loaded = self.loaded
        return loaded.id if loaded else None

    def keeper(self) -> "ContextKeeper":
        """The loaded backend's context. Only to be called when `loaded_id` is not None."""
        if self._keeper is None:
            raise ValueError("no model is loaded")
        return self._keeper

    def remote(self) -> "RemoteModel | None":
        """What asks the loaded model where another machine computes it, as it is set up now; None: it is computed here.

        Raises NotFound, RemoteChanged.
        """
        return None if self._remote is None else self.remote_model(self._remote.id)

    def set_up_anew(self, model_id: str) -> None:
        """What is told of the loaded model on another machine may be other now; it is asked that way from the next
        answer on. Any thread; raises nothing."""
        loaded = self.loaded
        if loaded is None or loaded.id != model_id or loaded.remote is None:
            return
        with contextlib.suppress(SeamountError):
            entry, remote = self._entry(model_id), self.remote_model(model_id)
            self.loaded = _loaded_remote(entry, remote)
        self._changed()

    @property
    def opened(self) -> "tuple[str, Wishes, Backend] | None":
        """The id of the loaded model, the wishes that it was loaded by, and its backend; None while there is none.

        Any thread; of the backend only what its contract says any thread may ask, and what never changes.
        """
        opened, backend = self._opened, self._backend
        return None if opened is None or backend is None else (opened[0].id, opened[1], backend)

    def wishes(self, model_id: str, asked: Choices | None = None) -> Wishes:
        """How a model would be loaded now: by what was chosen for it (by `asked`, where that is given), else by the
        settings. Any thread."""
        wishes = wishes_of(self._choices(model_id) if asked is None else asked, self._settings())
        backend = self.asked_backend
        return wishes if backend is None else replace(wishes, backend=backend)

    def relieve(self, wanted_bytes: int) -> int:
        """Make the loaded model give back memory; see `Backend.relieve`. 0 when none is loaded."""
        with self._backend_lock:
            if self._keeper is not None:
                # They share memory with what the backend gives back.
                self._keeper.relieve()
            return 0 if self._backend is None else self._backend.relieve(wanted_bytes)

    def allow(self, more_bytes: int) -> int:
        """Let the loaded model have memory again; see `Backend.allow`. 0 when none is loaded."""
        with self._backend_lock:
            return 0 if self._backend is None else self._backend.allow(more_bytes)

    def ask(self, question: "Callable[[Backend], Answer]") -> "Answer | None":
        """`question` put to the loaded model, which stays loaded meanwhile; None when none is.

        It may use of the backend what belongs to no context, such as its vocabulary, and must be short: who asks
        for memory waits for it.
        """
        with self._backend_lock:
            return None if self._backend is None else question(self._backend)

    @property
    def needed_mapped_bytes(self) -> int:
        """What every token reads of the loaded model's mapped file; see `load_needs.needed_mapped_bytes`."""
        plan = self._plan
        return 0 if plan is None else needed_mapped_bytes(plan)

    @property
    def reads_its_file_again(self) -> bool:
        """Whether the loaded model is larger than the memory; see `load_needs.reads_its_file_again`."""
        plan = self._plan
        return plan is not None and reads_its_file_again(plan)

    @property
    def _plan(self) -> "LoadPlan | None":
        with self._backend_lock:
            return None if self._backend is None else self._backend.plan

    def check(self, model_id: str) -> ModelEntry:
        """The entry of a model whose headers are in order. Raises NotFound, ModelFileError."""
        entry = self._entry(model_id)
        if entry.problem is not None:
            raise (RemoteSetAside if entry.source == "remote" else HeaderError)(entry.problem.text)
        return entry

    def load(self, model_id: str, *, remember: bool = False, again: bool = False) -> None:
        """Make `model_id` the loaded model; what fails is in `error`, and the model before it is back."""
        self.error = None
        try:
            entry = self.check(model_id)
            if self.loaded_id != model_id or again or self._is_elsewhere(model_id) or self._is_changed(entry):
                self._replace(entry)
            if remember:
                self._remember(model_id)
        except SeamountError as error:
            if not self._stop.is_set():
                _logger.warning("%s", error.text)
            self.error = error
        except Exception as error:
            _logger.exception("loading %s failed in an unforeseen way", model_id)
            self.error = _unforeseen(model_id, error)
        finally:
            self.loading_id = self.loading_fraction = None
            self._changed()

    def stop_loading(self) -> None:
        """Give up a load that runs, and every later one. Any thread."""
        self._stop.set()

    def close(self) -> None:
        """Free the model. Calling it again does nothing."""
        if self._keeper is not None:
            self._keeper.release()
        with self._backend_lock:
            backend, self._backend, self._keeper, self.loaded = self._backend, None, None, None
        self._remote = None
        if backend is not None:
            backend.close()

    def _is_elsewhere(self, model_id: str) -> bool:
        """Whether something else than what is asked for computes the loaded model."""
        opened = self._opened
        if opened is None:
            return False
        return computes(opened[1].backend) != computes(self.wishes(model_id).backend)

    def _is_changed(self, entry: ModelEntry) -> bool:
        """Whether the loaded model's file is another one by now, or was written to: what is loaded may refuse to go on
        with it. One that is gone changes nothing."""
        found = _file_state(entry.path)
        return found is not None and found != self._file_state

    def _replace(self, entry: ModelEntry) -> None:
        if entry.source == "remote":
            self._reach(entry)
            return
        was_remote = self.loaded_id if self._remote is not None else None
        try:
            self._replace_local(entry)
        except SeamountError:
            if was_remote is not None and self.loaded is None and not self._stop.is_set():
                with contextlib.suppress(SeamountError):
                    self._reach(self._entry(was_remote))
            raise

    def _reach(self, entry: ModelEntry) -> None:
        """Have a model on another machine asked from now on; while it cannot be reached the one before it stays."""
        self.loading_id, self.loading_fraction = entry.id, 0.0
        self._changed()
        remote = self.remote_model(entry.id)
        remote.reach(self._stop.is_set)
        self.close()
        self._opened = None
        self._remote = remote
        self.loaded = _loaded_remote(entry, remote)
        _logger.info("%s is asked from now on", entry.id)

    def _replace_local(self, entry: ModelEntry) -> None:
        wishes, before = self.wishes(entry.id), self._opened
        self._check_room(entry, wishes)
        # Both at once may not fit the memory: the old one goes first.
        self.close()
        try:
            self._open(entry, wishes)
        except SeamountError:
            if before is not None and not self._stop.is_set():
                try:
                    self._open(*before)
                    # What was asked for cannot be had, so what is loaded next is not to fail by it again.
                    if self.asked_backend is not None:
                        self.asked_backend = before[1].backend
                except SeamountError as error:
                    _logger.warning("the model before it cannot be loaded again either: %s", error.text)
            raise

    def _check_room(self, entry: ModelEntry, wishes: Wishes) -> None:
        """What does not fit in the place of the loaded model leaves it loaded. Raises DoesNotFit."""
        plan = self._plan
        check = self._check_fits
        if check is None and self._open_backend is None:
            from engine.backends.opening import check_fits as check
        # What llama.cpp placed by its own rules gives back nobody knows how much: then it is tried.
        if plan is not None and check is not None:
            check(entry, wishes=wishes, loaded=plan)

    def _open(self, entry: ModelEntry, wishes: Wishes) -> None:
        opener = self._open_backend
        if opener is None:
            from engine.backends.opening import open_backend

            opener = partial(open_backend, root=self._root, as_before=self.goes_on(entry.id))

        # Imported here: they bring numpy, which an engine that is starting does not wait for.
        from engine.encoding.reasoning import mode_choices
        from engine.encoding.v4_chat import v4_chat

        self.loading_id, self.loading_fraction = entry.id, 0.0
        self._changed()
        self._opened = None
        started_s = time.monotonic()
        self._file_state = _file_state(entry.path)
        try:
            backend = opener(entry, wishes=wishes, on_progress=self._on_progress)
        except SeamountError:
            raise
        except Exception as error:
            _logger.exception("opening %s failed in an unforeseen way", entry.path)
            raise _unforeseen(entry.name, error) from error
        facts = backend.facts
        try:
            # A model that no conversation can be held with gives way to the one before it.
            chat = v4_chat(backend, self._settings().release)
        except SeamountError:
            backend.close()
            raise
        except Exception as error:
            _logger.exception("%s cannot be talked to", entry.path)
            backend.close()
            raise _unforeseen(entry.name, error) from error
        self._keeper = self._keeper_of(entry, backend)
        self._backend = backend
        self._opened = (entry, wishes)
        self.loaded = LoadedModel(
            id=entry.id,
            name=entry.name,
            context_tokens=facts.context_tokens,
            threads=facts.threads,
            backend=facts.backend,
            suited_sampling=self.suited_sampling(entry.id),
            release=chat.release.id if chat else None,
            modes=mode_choices(facts.context_tokens) if chat else [],
            cache_type=wishes.cache_type,
            own_choices=self._own_choices(entry.id),
        )
        _logger.info("loaded %s in %.1f s", entry.id, time.monotonic() - started_s)

    def _keeper_of(self, entry: ModelEntry, backend: "Backend") -> "ContextKeeper":
        # Imported here: they bring numpy, which an engine that is starting does not wait for.
        from engine.contexts.costs import foretold_pace
        from engine.contexts.keeper import ContextKeeper

        return ContextKeeper(
            backend,
            None if self._snapshots is None else self._snapshots(),
            pace=foretold_pace(Path(entry.path), backend.plan, self._root),
            wanted=lambda: self._settings().snapshots_gb > 0,
            waits=lambda: self.waits(),
            note=self._note_state,
        )

    def _own_choices(self, model_id: str) -> list[Literal["context_tokens", "cache_type", "threads"]]:
        choices = self._choices(model_id)
        names: tuple[Literal["context_tokens", "cache_type", "threads"], ...] = (
            "context_tokens",
            "cache_type",
            "threads",
        )
        return [name for name in names if getattr(choices, name) is not None]

    def _on_progress(self, fraction: float) -> bool:
        now_s = time.monotonic()
        behind = fraction - (self.loading_fraction or 0.0)
        if behind >= _LEAST_PROGRESS and (now_s - self._progress_s >= _LEAST_PROGRESS_S or fraction >= 1):
            self.loading_fraction, self._progress_s = fraction, now_s
            self._changed()
        return not self._stop.is_set()


def _loaded_remote(entry: ModelEntry, remote: "RemoteModel") -> LoadedModel:
    return LoadedModel(
        id=entry.id,
        name=entry.name,
        context_tokens=entry.context_train_tokens or 0,
        threads=0,
        backend="remote",
        modes=remote.modes,
        remote=entry.remote,
    )


def no_remote(model_id: str) -> "RemoteModel":
    """There is none. Raises NotFound."""
    raise NotFound(
        "The model cannot be found", f"nothing is known of {model_id[:200]!r}", "choose another one"
    )


def _file_state(path: str) -> tuple[int, ...] | None:
    """By what another file, or other contents, are noticed; None where there is none."""
    if not path:
        return None
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _unforeseen(name: str, error: Exception) -> ModelLoadError:
    return ModelLoadError(
        f"{name} could not be loaded",
        f"the engine met an error of its own ({type(error).__name__}: {error})",
        "choose another model; the engine's log says more",
    )


def wishes_of(choices: Choices, settings: Settings) -> Wishes:
    """What was chosen for a model, and the settings for the rest."""
    chosen, general = choices, settings
    return Wishes(
        context_tokens=general.context_tokens if chosen.context_tokens is None else chosen.context_tokens,
        cache_type=chosen.cache_type or general.cache_type,
        threads=general.threads if chosen.threads is None else chosen.threads,
        gpu_budget_bytes=chosen.gpu_budget_bytes,
        favour=chosen.favour,
        backend=general.backend,
    )
