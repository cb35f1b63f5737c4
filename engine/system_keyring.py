"""The operating system's keyring: which ones count, and calls that are not waited for without end.

Owns: which keyring is the system's own, what is said when none can be used, and the thread that each call has. Does
not know what is kept there (`kept_secrets`, `store/keys`). Nothing here shows what a keyring holds.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as StillRunning
from typing import Any, Protocol, TypeVar, cast

SERVICE = "seamount"
NONE_HERE = "this system has no keyring"
SAFE_BACKENDS = (
    "keyring.backends.SecretService",
    "keyring.backends.libsecret",
    "keyring.backends.kwallet",
    "keyring.backends.macOS",
    "keyring.backends.Windows",
)
"""Those of the operating systems; others may write plain text."""

_Answer = TypeVar("_Answer")
_log = logging.getLogger(__name__)


class KeyringBackend(Protocol):
    """The part of a keyring's backend that is used here."""

    def get_password(self, service: str, username: str) -> str | None: ...
    def set_password(self, service: str, username: str, password: str) -> None: ...
    def delete_password(self, service: str, username: str) -> None: ...


class KeyringUnusableError(Exception):
    """There is none that can be used; the message is a clause that says why, and holds no secret."""


def usable_keyring() -> tuple[KeyringBackend, str]:
    """(backend, its name for people). Raises KeyringUnusableError."""
    try:
        import keyring
    except ImportError as error:
        raise KeyringUnusableError("the package keyring is not installed") from error
    backend: Any = told(keyring.get_keyring)
    # Several at once: the first that counts, never a plain one that stands before it.
    for each in getattr(backend, "backends", None) or [backend]:
        module = type(each).__module__
        if module.startswith(SAFE_BACKENDS):
            return cast(KeyringBackend, each), str(getattr(each, "name", module)).rpartition(" ")[0] or module
    module = type(backend).__module__
    if module.startswith(("keyring.backends.fail", "keyring.backends.null", "keyring.backends.chainer")):
        raise KeyringUnusableError(NONE_HERE)
    raise KeyringUnusableError(
        f"the keyring that is set up here ({module.partition('.')[0]}) is not the system's own"
    )


def told(call: "Callable[[], _Answer]") -> _Answer:
    """What a keyring answers. Raises KeyringUnusableError; what an error of its own says may be secret."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - each backend has errors of its own
        name = type(error).__name__
        reasons = {
            "NoKeyringError": NONE_HERE,
            "InitError": "the keyring cannot be opened",
            "KeyringLocked": "the keyring stayed locked",
        }
        _log.info("the keyring failed with %s", name)
        raise KeyringUnusableError(reasons.get(name, f"the keyring failed ({name})")) from None


def begun(call: "Callable[[], _Answer]") -> "Future[_Answer]":
    """The call to come, made in a thread of its own."""
    future: Future[_Answer] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - told by the future
            future.set_exception(error)

    # A daemon: a keyring that never answers must not hold the engine at its end.
    threading.Thread(target=run, name="keyring", daemon=True).start()
    return future


def waited(call: "Callable[[], _Answer]", timeout_s: float) -> _Answer:
    """What the call answers within `timeout_s`. Raises KeyringUnusableError, and what the call raises."""
    try:
        return begun(call).result(timeout_s)
    except StillRunning:
        raise unanswered(timeout_s) from None


def unanswered(timeout_s: float) -> KeyringUnusableError:
    """The error for a keyring that keeps silent, as one does that asks a person for its password."""
    return KeyringUnusableError(f"the keyring did not answer within {timeout_s:.0f} s")
