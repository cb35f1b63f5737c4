"""All that other programs need of an engine, put together: keys, who is connected, the ports.

Owns: what is done with a key in its several places (the file, the keyring, what runs for it), and the `Access` that a
window is shown. Does not know HTTP. Routes call it in the thread pool, since a keyring takes its time; what is for the
event loop says so.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from engine.access.client_watch import ClientWatch
from engine.access.door_memory import DoorMemory
from engine.access.key_copies import KeyCopies
from engine.access.keys import ClientKeys
from engine.access.network_door import NetworkSocket
from engine.callers import WINDOW_KEY
from engine.errors import NotFound, SeamountError
from engine.paths import DataFolder
from engine.protocol import ErrorBody, Settings
from engine.protocol_access import Access, ChangeKey, ClientKey, MadeKey, NewKey, SteadyOffer, SteadyRules
from engine.system_keyring import KeyringUnusableError

if TYPE_CHECKING:
    from engine.completions import Completion
    from engine.prefix_watch import PrefixWatch

_log = logging.getLogger(__name__)


class AccessDesk:
    """Of one engine. Made before the event loop runs, begun by `start` on it."""

    def __init__(self, folder: DataFolder, settings: Callable[[], Settings]) -> None:
        self.keys = ClientKeys(folder.client_keys)
        self.copies = KeyCopies()
        self.memory = DoorMemory(folder.access)
        self.clients: ClientWatch[Completion]
        self.network = NetworkSocket(folder, self.memory, self._changed)
        self.offers: Callable[[], list[SteadyOffer]] = list
        """What could be done for clients whose beginnings change."""
        self.revoked: Callable[[str], None] = lambda _key_id: None
        """Called with the id of a key that counts no more."""
        self.agreed: Callable[[str, SteadyRules], None] = lambda _key_id, _rules: None
        """Called with the rules that hold for a key from now on."""
        self._settings = settings
        self._tell: Callable[[], None] = lambda: None
        self._base_url = ""
        self._port_problem: SeamountError | None = None
        if self.keys.problem is not None:
            _log.warning("%s", self.keys.problem.text)

    def start(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        cancel: "Callable[[Completion], None]",
        tell: Callable[[], None],
    ) -> None:
        """Begin to watch. `cancel` ends an answer; `tell` says that the Access has changed, from any thread."""
        self._tell = tell
        self.clients = ClientWatch(loop, cancel=cancel, tell=tell, counts=self._counts)

    def watch_beginnings(self, watch: "PrefixWatch") -> None:
        """What it finds is shown, and it hears what becomes of keys."""
        self.offers, self.revoked, self.agreed = watch.offers, watch.forget, watch.agreed
        watch.changed = self._changed

    def listens(self, url: str, problem: SeamountError | None) -> None:
        """Where programs of this machine find the engine; `problem`: why not where it was to be."""
        self._base_url = f"{url}/v1"
        self._port_problem = problem

    def state(self) -> Access:
        """The Access. On the event loop, since the network's socket belongs to it."""
        problem = self.keys.problem or self._port_problem
        return Access(
            base_url=self._base_url,
            keys=self.keys.listed(),
            clients=self.clients.connected(),
            offers=self.offers(),
            network=self.network.state(),
            origins=self._settings().allowed_origins,
            problem=ErrorBody(code=problem.code, text=problem.text) if problem else None,
        )

    def make(self, asked: NewKey) -> MadeKey:
        """A new key. Raises what `ClientKeys.make` does; a keyring that does not keep it is said in the reply."""
        key, secret = self.keys.make(asked)
        problem = None
        if asked.keep:
            problem = self.copies.keep(key.id, secret, lambda: self._note_kept(key.id))
            if problem is None:
                key = self.keys.note_kept(key.id, is_kept=True)
        self._changed()
        return MadeKey(key=key, secret=secret, problem=problem)

    def secret(self, key_id: str) -> MadeKey:
        """A key's secret once more. Raises NotFound where the keyring does not have it, saying why."""
        key = self.keys.get(key_id)
        what, remedy = "The key cannot be shown again", "make another key, and revoke this one"
        try:
            secret = self.copies.find(key_id) if key.is_kept else None
        except KeyringUnusableError as error:
            raise NotFound(
                what, str(error), "unlock the keyring and try again, or make another key"
            ) from None
        if secret is None:
            why = "it is not in the keyring any more" if key.is_kept else "it was shown once and not kept"
            raise NotFound(what, why, remedy)
        if self.keys.find(secret.encode()) is None:
            raise NotFound(what, "what the keyring holds for it is another one", remedy)
        return MadeKey(key=key, secret=secret)

    def change(self, key_id: str, asked: ChangeKey) -> ClientKey:
        """Change a key. Raises what `ClientKeys.change` does."""
        key = self.keys.change(key_id, asked)
        self.agreed(key_id, key.steady)
        self._changed()
        return key

    def revoke(self, key_id: str) -> None:
        """A key opens nothing any more, and what runs for it is ended, also where that cannot be kept.

        Raises what `ClientKeys.revoke` does.
        """
        key = self.keys.get(key_id)
        try:
            self.keys.revoke(key_id)
        finally:
            if key.is_kept:
                self.copies.forget(key_id)
            self.clients.end_all(key_id)
            self.revoked(key_id)
            self._changed()

    def close(self) -> None:
        """The engine ends."""
        self.keys.settle()

    def _counts(self, key_id: str) -> bool:
        if key_id == WINDOW_KEY:
            return True
        with contextlib.suppress(NotFound):
            return bool(self.keys.get(key_id))
        return False

    def _note_kept(self, key_id: str) -> None:
        """A slow keyring took a secret; if its key was revoked meanwhile it is taken out again."""
        try:
            self.keys.note_kept(key_id, is_kept=True)
        except NotFound:
            self.copies.forget(key_id)
        except SeamountError as error:
            _log.warning("%s", error.text)
        self._changed()

    def _changed(self) -> None:
        self._tell()
