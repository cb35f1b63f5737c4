"""The models the engine has, and which one it holds.

Owns: the list of models, loading one, adding a file, and the settings as they travel. Does not know how
they are shown.
"""

from collections.abc import Callable

from PySide6.QtCore import QObject, Signal

from app.api import EngineApi
from engine.protocol import (
    AddModelRequest,
    EngineStatus,
    ErrorBody,
    LoadRequest,
    ModelEntry,
    ModelList,
    RemotePlace,
    Settings,
)
from engine.protocol_library import LlamaBuildList

MODEL_FILE_TIMEOUT_S = 60.0
LLAMA_BUILDS_TIMEOUT_S = 120.0
"""The engine gives each build a minute."""


class ModelShelf(QObject):
    """Models and status as the engine last told them."""

    changed = Signal()
    refused = Signal(object)
    """ErrorBody."""
    load_failed = Signal(object)
    """ErrorBody: the engine tried to load a model and could not. Told once for each failure."""

    def __init__(self, api: EngineApi, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._api = api
        self.entries: list[ModelEntry] = []
        self.status: EngineStatus | None = None
        self._stored: Settings | None = None  # as they were last told
        self.known = False
        """The list has been fetched at least once."""

    @property
    def loaded_id(self) -> str | None:
        """The model that would answer now."""
        return self.status.model.id if self.status and self.status.model else None

    @property
    def loading_id(self) -> str | None:
        """The model being loaded."""
        return self.status.loading_model_id if self.status else None

    @property
    def is_remote(self) -> bool:
        """The model that would answer now is computed by another machine."""
        return bool(self.status and self.status.model and self.status.model.remote)

    @property
    def place(self) -> RemotePlace | None:
        """Where a question that is asked now goes: what is being loaded answers it. None: it stays here."""
        status = self.status
        loading = next((each for each in self.entries if each.id == self.loading_id), None)
        if loading is not None:
            return loading.remote
        return status.model.remote if status and status.model else None

    @property
    def context_tokens(self) -> int | None:
        """Size of the loaded context."""
        return self.status.model.context_tokens or None if self.status and self.status.model else None

    def name(self, model_id: str | None) -> str:
        """A model's name as it is shown; "" if unknown."""
        if self.status and self.status.model and self.status.model.id == model_id:
            return self.status.model.name
        return next((entry.name for entry in self.entries if entry.id == model_id), "")

    def set_status(self, status: EngineStatus | None) -> None:
        """The engine's news; None when there is no engine."""
        before, self.status = self.status, status
        self.changed.emit()
        if status and status.error and (before is None or before.error != status.error):
            self.load_failed.emit(status.error)

    def refresh(self) -> None:
        """Fetch the list."""

        def ok(answer: ModelList) -> None:
            self.entries = answer.models
            self.known = True
            self.changed.emit()

        self._api.get("/api/models", ModelList, ok, self.refused.emit)

    def load(self, model_id: str) -> None:
        """Load a model; progress comes as status."""
        request = LoadRequest(model_id=model_id)
        self._api.send("POST", "/api/models/load", request, EngineStatus, self.set_status, self.refused.emit)

    def add(self, path: str) -> None:
        """Register a GGUF file where it lies, and load it when it is in order."""

        def ok(entry: ModelEntry) -> None:
            self.refresh()
            if entry.problem is None:
                self.load(entry.id)
            else:
                self.refused.emit(entry.problem)

        request = AddModelRequest(path=path)
        self._api.send(
            "POST", "/api/models/add", request, ModelEntry, ok, self.refused.emit, MODEL_FILE_TIMEOUT_S
        )

    def fetch_settings(self, ok: Callable[[Settings], None]) -> None:
        """The settings of the data folder."""
        self._api.get("/api/settings", Settings, self._seen(ok), self.refused.emit)

    def fetch_llama_builds(
        self, ok: Callable[[LlamaBuildList], None], failed: Callable[[ErrorBody], None]
    ) -> None:
        """The builds of llama.cpp that the engine could use; takes seconds where they are new to it."""
        self._api.send("GET", "/api/llama-builds", None, LlamaBuildList, ok, failed, LLAMA_BUILDS_TIMEOUT_S)

    def save_settings(
        self, settings: Settings, ok: Callable[[Settings], None], failed: Callable[[ErrorBody], None]
    ) -> None:
        """Store settings; answers with what was stored."""
        self._api.send("PUT", "/api/settings", settings, Settings, self._seen(ok), failed)

    def _seen(self, ok: Callable[[Settings], None]) -> Callable[[Settings], None]:
        def told(settings: Settings) -> None:
            self._stored = settings
            ok(settings)

        return told

    def needs_reload(self, settings: Settings) -> bool:
        """The loaded model was loaded with another context size, number of threads or kind of cache than `settings`
        say, and has no choice of its own for that; or they name something else to compute it than what is stored.

        What computes it now is not asked: a command may have named another one, which stays until the settings change.
        """
        model = self.status.model if self.status else None
        if model is None or model.remote is not None:
            return False  # what another machine computes has none of these
        own = model.own_choices
        other_threads = "threads" not in own and settings.threads not in (0, model.threads)
        other_cache = "cache_type" not in own and model.cache_type not in (None, settings.cache_type)
        other_context = "context_tokens" not in own and model.context_tokens != settings.context_tokens
        other_backend = self._stored is not None and settings.backend != self._stored.backend
        return other_threads or other_cache or other_context or other_backend
