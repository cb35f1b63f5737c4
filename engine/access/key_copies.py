"""Copies of other programs' keys in the system's keyring, so that their owner can look at one again.

Owns: under which name a copy lies there, and how long a keyring is waited for. Nothing depends on it: a key counts
whether or not the keyring has its copy, and a keyring that is locked, silent or not there holds nothing up. Nothing is
kept in this process either, unlike the secrets that it has to show to others (`engine.kept_secrets`). Does not know
which keys there are (`keys`). Not for the event loop's thread.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as StillRunning

from engine.kept_secrets import forget_kept
from engine.system_keyring import (
    SERVICE,
    KeyringUnusableError,
    begun,
    told,
    unanswered,
    usable_keyring,
    waited,
)

KEEP_TIMEOUT_S = 10.0
LOOK_TIMEOUT_S = 30.0
"""How long a person may take to unlock the keyring when a key is to be shown."""

_log = logging.getLogger(__name__)


class KeyCopies:
    """The keyring's side of one engine's keys."""

    def __init__(
        self, keep_timeout_s: float = KEEP_TIMEOUT_S, look_timeout_s: float = LOOK_TIMEOUT_S
    ) -> None:
        self._keep_timeout_s = keep_timeout_s
        self._look_timeout_s = look_timeout_s

    def keep(self, key_id: str, secret: str, kept_late: Callable[[], None]) -> str | None:
        """Put a secret into the keyring: None, or why that could not be done, as a sentence.

        `kept_late` is called, on any thread, when a keyring took it after it was not waited for any more.
        """
        keeping = begun(lambda: _keep(key_id, secret))
        try:
            keeping.result(self._keep_timeout_s)
            return None
        except StillRunning:
            keeping.add_done_callback(lambda done: _call_if_kept(done, kept_late))
            return _not_kept(unanswered(self._keep_timeout_s))
        except KeyringUnusableError as error:
            return _not_kept(error)

    def find(self, key_id: str) -> str | None:
        """The secret; None where the keyring has none. Raises KeyringUnusableError."""
        return waited(lambda: _find(key_id), self._look_timeout_s)

    def forget(self, key_id: str) -> None:
        """Take it out of the keyring, beside what the caller does. Raises nothing: it opens nothing any more."""
        threading.Thread(target=_forget_quietly, args=(key_id,), name="keyring", daemon=True).start()


def name_of(key_id: str) -> str:
    """Under which name a key's copy lies in the keyring."""
    return f"program {key_id}"


def _keep(key_id: str, secret: str) -> None:
    backend, _ = usable_keyring()
    told(lambda: backend.set_password(SERVICE, name_of(key_id), secret))


def _find(key_id: str) -> str | None:
    backend, _ = usable_keyring()
    return told(lambda: backend.get_password(SERVICE, name_of(key_id)))


def _forget_quietly(key_id: str) -> None:
    try:
        forget_kept(name_of(key_id))
    except KeyringUnusableError as error:
        _log.info("the copy of a revoked key may still lie in the keyring: %s", error)


def _call_if_kept(done: "Future[None]", kept_late: Callable[[], None]) -> None:
    if done.exception() is None:
        kept_late()


def _not_kept(error: KeyringUnusableError) -> str:
    return f"The key is shown this once, because {error}."
