"""The library as a whole: what is installed, what can be had, where it goes, who may fetch it; and what is done to it.

Owns: putting the parts together for one engine (holdings, catalogue, credentials, disks, this machine). Does not know
HTTP, or how jobs run; what needs the network is only `look_up`.
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from engine.conversation import clean_text
from engine.errors import BadRequest, LibraryError, ModelFileError
from engine.library.catalogue import checkpoints_folder, resolve, wanted, whole_path
from engine.library.catalogue_entries import load_catalogue
from engine.library.credentials import Credentials
from engine.library.foretelling import Foretelling
from engine.library.holdings import Holding, Holdings
from engine.library.hub_place import HUB, endpoint_of, is_offline
from engine.library.in_use import InUse
from engine.library.last_used import LastUsed
from engine.library.lookup import look_up
from engine.library.machine import Machine
from engine.library.models import ModelLibrary
from engine.library.offers import Circumstances, offers
from engine.library.removal import remove
from engine.paths import DataFolder
from engine.protocol import ErrorBody, Settings
from engine.protocol_jobs import FetchRequest, Job
from engine.protocol_library import (
    DiskRoom,
    HubState,
    Library,
    LibraryItem,
    Lookup,
    LookupRequest,
    Removed,
    RemoveRequest,
)


class Overview:
    """The library of one engine. Any thread may call it; it reads files, so not the event loop's.

    `settings`, `jobs` and `loaded` give what is so at the moment: the settings, all jobs, and the ids of models that
    are loaded or about to be.
    """

    def __init__(
        self,
        folder: DataFolder,
        models: ModelLibrary,
        credentials: Credentials,
        settings: Callable[[], Settings],
        jobs: Callable[[], Sequence[Job]],
        loaded: Callable[[], Sequence[str]],
    ) -> None:
        self.credentials = credentials
        self.last_used = LastUsed(folder.models / "last_used.json")
        self.machine = Machine()
        self._foretelling = Foretelling(
            folder.root, folder.models, lambda: settings().context_tokens, lambda: self.machine.gpus
        )
        self._folder = folder
        self._models = models
        self._settings = settings
        self._jobs = jobs
        self._loaded = loaded
        self._holdings = Holdings(models, self.last_used)

    # --- telling -------------------------------------------------------------------------------------

    def library(self) -> Library:
        """All of it."""
        holdings = self.holdings()
        catalogue = load_catalogue(self._folder)
        problem = catalogue.problem
        return Library(
            items=[each.item for each in holdings],
            offers=offers(catalogue, self._circumstances(holdings)),
            rooms=self._rooms(),
            hub=self.hub_state(),
            machine=self.machine.summary(),
            catalogue_problem=ErrorBody(code=problem.code, text=problem.text) if problem else None,
        )

    def hub_state(self) -> HubState:
        """How the hub is reached. A keyring may be asked, for a few seconds at most."""
        settings = self._settings()
        try:
            endpoint = endpoint_of(settings)
        except BadRequest as error:
            return HubState(
                endpoint=settings.hub_endpoint or HUB,
                offline=is_offline(settings),
                keyring_problem=error.text,
            )
        facts = self.credentials.facts(endpoint)
        return HubState(
            endpoint=endpoint,
            offline=is_offline(settings),
            token=facts.state,
            keyring_problem=facts.problem,
        )

    def holdings(self) -> list[Holding]:
        """Every item with the files that it is made of."""
        return self._holdings.found(self._checkpoint_roots(), self._in_use())

    def holding(self, item_id: str) -> Holding:
        """One item with its files, as for moving it. Raises NotFound."""
        return self._holdings.find(item_id, self._checkpoint_roots(), self._in_use())

    def look_up(self, asked: LookupRequest) -> Lookup:
        """What a repository holds now, by the hub. Raises BadRequest, and what `lookup.look_up` raises."""
        from engine.library.fetching.hub import Hub

        settings = self._settings()
        endpoint = endpoint_of(settings)
        catalogue = load_catalogue(self._folder)
        meant = wanted(asked.what, asked.revision, settings, self._folder)
        hub = Hub(endpoint, self.credentials.token(endpoint), is_offline(settings))
        own = meant.entry is not None and meant.entry.name in catalogue.own
        return look_up(meant, hub, self._circumstances(self.holdings()), own=own)

    def resolved(self, asked: FetchRequest) -> FetchRequest:
        """`asked` with nothing left open (`catalogue.resolve`). Raises BadRequest, Conflict."""
        return resolve(asked, self._settings(), self._folder)

    def access(self) -> tuple[str, str] | None:
        """The address of the hub of the settings and the access token for it; None where there is none.

        Raises BadRequest.
        """
        endpoint = endpoint_of(self._settings())
        token = self.credentials.token(endpoint)
        return None if token is None else (endpoint, token)

    # --- doing ---------------------------------------------------------------------------------------

    def keep_token(self, token: str) -> HubState:
        """Keep the access token for the hub of the settings. Raises BadRequest."""
        self.credentials.keep(endpoint_of(self._settings()), token)
        return self.hub_state()

    def forget_token(self) -> HubState:
        """Forget it. Raises BadRequest."""
        self.credentials.forget(endpoint_of(self._settings()))
        return self.hub_state()

    def remove(self, asked: RemoveRequest) -> Removed:
        """Remove an item (`removal.remove`). Raises NotFound, Conflict, LibraryError, DataFolderError."""
        in_use = self._in_use()
        roots = self._checkpoint_roots()
        holding = self._holdings.find(asked.item_id, roots, in_use)
        return remove(holding, for_good=asked.for_good, roots=roots, added=self._models.added, in_use=in_use)

    def add(self, path_text: str) -> LibraryItem:
        """Take in a GGUF file or a checkpoint's folder where it lies; one that is here already is returned.

        Raises BadRequest, ModelFileError, LibraryError, DataFolderError.
        """
        path = whole_path(path_text, "Nothing was added")
        if not path.is_dir():
            return self.holding_of_model(self._models.add(str(path)).id).item
        before = self._holding_at(path)
        if before is None:
            self._holdings.add_checkpoint(path)
            before = self._holding_at(path)
        if before is None:
            raise LibraryError(
                f"{clean_text(path.name)[0]} was not added",
                "the list of what was added cannot be read",
                f"look at {self._folder.models / 'added.json'}",
            )
        return before.item

    def holding_of_model(self, model_id: str) -> Holding:
        """The item that a model of `/api/models` belongs to: a drafter's is its model's. Raises ModelFileError."""
        holdings = self.holdings()
        entry = self._models.entry(model_id)
        for holding in holdings:
            if holding.item.id == model_id or entry.path in map(str, holding.takes):
                return holding
        raise ModelFileError(
            f"{entry.name} cannot be shown", "it is not there any more", "look at the library again"
        )

    # --- inside --------------------------------------------------------------------------------------

    def _holding_at(self, folder: Path) -> Holding | None:
        for holding in self.holdings():
            if holding.item.kind == "checkpoint" and _same(holding.takes[0], folder):
                return holding
        return None

    def _checkpoint_roots(self) -> list[Path]:
        """The folders that fetched things lie in; one that the settings name wrongly is left out."""
        try:
            return list(
                dict.fromkeys([self._folder.models, checkpoints_folder(self._settings(), self._folder)])
            )
        except BadRequest:
            return [self._folder.models]

    def _in_use(self) -> InUse:
        return InUse(self._loaded(), self._jobs())

    def _rooms(self) -> list[DiskRoom]:
        rooms = [_room("models", self._folder.models)]
        try:
            checkpoints = checkpoints_folder(self._settings(), self._folder)
        except BadRequest:
            return [room for room in rooms if room is not None]
        rooms.append(_room("checkpoints", checkpoints))
        return [room for room in rooms if room is not None]

    def _circumstances(self, holdings: Sequence[Holding]) -> Circumstances:
        rooms = self._rooms()
        return Circumstances(
            memory_bytes=self.machine.summary().memory_bytes,
            gpu_bytes=self.machine.gpu_bytes,
            free_bytes=rooms[0].free_bytes if rooms else 0,
            streams=self._settings().download_streams,
            holdings=holdings,
            foretell=self._foretelling.of,
        )


def _room(role: Literal["models", "checkpoints"], folder: Path) -> DiskRoom | None:
    """The disk of a folder, or of the next one above it that is there; None when none can be asked."""
    for each in (folder, *folder.parents):
        try:
            usage = shutil.disk_usage(each)
        except OSError:
            continue
        return DiskRoom(
            role=role,
            path=clean_text(str(folder))[0],
            free_bytes=usage.free,
            total_bytes=usage.total,
        )
    return None


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return one == other
