"""Secrets of other programs' keys in the system's keyring, so that their owner can look at one again.

Owns: under which name a secret lies there, and how long a keyring is waited for. Nothing depends on it: a key counts
whether or not the keyring has its secret, and a keyring that is locked, silent or not there holds nothing up. Does not
know which keys there are (`keys`). Not for the event loop's thread. Nothing here shows a secret when it is printed.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as StillRunning

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
"""How long a person may take to unlock the keyring when a secret is to be shown."""

_log = logging.getLogger(__name__)


class KeptSecrets:
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


def is_secret_kept(key_id: str) -> bool:
    """Whether the keyring has it. Raises KeyringUnusableError."""
    return waited(lambda: _find(key_id), LOOK_TIMEOUT_S) is not None


def forget_secret(key_id: str) -> None:
    """Take it out of the keyring. Raises KeyringUnusableError."""
    waited(lambda: _forget(key_id), LOOK_TIMEOUT_S)


def _find(key_id: str) -> str | None:
    backend, _ = usable_keyring()
    return told(lambda: backend.get_password(SERVICE, _name(key_id)))


def _forget(key_id: str) -> None:
    backend, _ = usable_keyring()
    if told(lambda: backend.get_password(SERVICE, _name(key_id))) is not None:
        told(lambda: backend.delete_password(SERVICE, _name(key_id)))


def _keep(key_id: str, secret: str) -> None:
    backend, _ = usable_keyring()
    told(lambda: backend.set_password(SERVICE, _name(key_id), secret))


def _forget_quietly(key_id: str) -> None:
    try:
        _forget(key_id)
    except KeyringUnusableError as error:
        _log.info("the secret of a revoked key may still lie in the keyring: %s", error)


def _call_if_kept(done: "Future[None]", kept_late: Callable[[], None]) -> None:
    if done.exception() is None:
        kept_late()


def _name(key_id: str) -> str:
    return f"program {key_id}"


def _not_kept(error: KeyringUnusableError) -> str:
    return f"The key is shown this once, because {error}."
