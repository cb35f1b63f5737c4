"""Secrets of a person's accounts elsewhere: kept in the operating system's keyring, or else in this process for as long
as it runs.

Owns: the way of a secret into the keyring and back, under a name, and what is said when it is not there. A secret is
never written anywhere else: not to a file, a log, an address or an error; nothing here shows one when it is printed. A
keyring may ask a person for its password and answer only then, so each call has a thread of its own and a limit on how
long it is waited for. Does not know what a secret opens (`library/credentials`: access tokens for hubs; `remotes`: keys
for models on other machines).
"""

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as StillRunning
from dataclasses import dataclass, field
from typing import Literal

from engine.system_keyring import (
    SERVICE,
    KeyringUnusableError,
    begun,
    told,
    unanswered,
    usable_keyring,
    waited,
)

LONGEST = 500
CHANGE_TIMEOUT_S = 60.0
"""How long a person may take to unlock the keyring when a secret is to be kept."""
LOOK_TIMEOUT_S = 5.0
SHOW_TIMEOUT_S = 1.0
"""The same, where a window waits for what it shows."""

SecretPlace = Literal["none", "keyring", "this_run"]


@dataclass
class Kept:
    """What is known of one secret. `looked`: the keyring has answered, or cannot be used. `problem`: why it is not in
    the keyring, a sentence."""

    secret: str | None = field(default=None, repr=False)
    place: SecretPlace = "none"
    looked: bool = False
    problem: str | None = None
    pending: "Future[str | None] | None" = field(default=None, repr=False)
    awaited: bool = False
    """Somebody was told that the keyring has not answered yet."""


class KeptSecrets:
    """The secrets of one engine, by name. Any thread may call it; not the event loop's, since a keyring may take its
    time. `kind`: what a person calls one ("token", "key").

    `answered` is called, from any thread, when a keyring that kept somebody waiting has answered.
    """

    def __init__(
        self,
        kind: str,
        look_timeout_s: float = LOOK_TIMEOUT_S,
        change_timeout_s: float = CHANGE_TIMEOUT_S,
    ) -> None:
        self.answered: Callable[[], None] = lambda: None
        self._kind = kind
        self._look_timeout_s = look_timeout_s
        self._change_timeout_s = change_timeout_s
        self._lock = threading.Lock()
        self._known: dict[str, Kept] = {}

    def __repr__(self) -> str:
        return f"KeptSecrets({len(self._known)} {self._kind}s)"

    def __reduce__(self) -> str:
        raise TypeError("secrets stay in their process")

    def keep(self, name: str, secret: str) -> Kept:
        """Keep a secret: in the keyring where there is one, else for this run."""
        known = Kept(secret, "keyring", looked=True)
        keeping = begun(lambda: _keep(name, secret))
        try:
            keeping.result(self._change_timeout_s)
        except StillRunning:
            known.place, known.problem = "this_run", self._not_kept(unanswered(self._change_timeout_s))
        except KeyringUnusableError as error:
            known.place, known.problem = "this_run", self._not_kept(error)
        with self._lock:
            self._known[name] = known
        # A copy: it may change while a keyring answers late.
        now = Kept(known.secret, known.place, looked=True, problem=known.problem)
        if known.place == "this_run":
            keeping.add_done_callback(lambda done: self._kept_late(name, known, done))
        return now

    def find(self, name: str, *, shown: bool = False) -> Kept:
        """What is known of a secret; the keyring is asked once, and waited for a little each time until it answers.
        `shown`: a window waits for it."""
        timeout_s = min(SHOW_TIMEOUT_S, self._look_timeout_s) if shown else self._look_timeout_s
        with self._lock:
            known = self._known.setdefault(name, Kept())
            if known.looked:
                return known
            if known.pending is None:
                known.pending = begun(lambda: _find(name))
            pending = known.pending
        try:
            secret, problem = pending.result(timeout_s), None
        except StillRunning:
            with self._lock:
                first, known.awaited = not known.awaited, True
            if first:
                pending.add_done_callback(lambda _: self.answered())
            return Kept(problem="The keyring has not answered yet; it may be asking for its password.")
        except KeyringUnusableError as error:
            secret, problem = None, self._not_kept(error)
        with self._lock:
            # One that was given meanwhile is newer than what was found.
            if not known.looked:
                known.secret, known.place = secret, "keyring" if secret else "none"
                known.problem, known.looked, known.pending = problem, True, None
            return self._known[name]

    def forget(self, name: str) -> None:
        """Forget a secret; what is wrong with that is then its problem."""
        problem = None
        try:
            waited(lambda: _forget(name), self._change_timeout_s)
        except KeyringUnusableError as error:
            before = self._known.get(name)
            problem = self._not_kept(error)
            if before is not None and before.place == "keyring":
                problem = f"The {self._kind} could not be taken out of the keyring: {error}."
        with self._lock:
            self._known[name] = Kept(looked=True, problem=problem)

    def _kept_late(self, name: str, known: Kept, kept: "Future[None]") -> None:
        """A keyring took a secret after its caller had gone on: say so, or make good what was changed meanwhile."""
        if kept.exception() is not None:
            return
        with self._lock:
            now = self._known[name]
            if now is known:
                known.place, known.problem = "keyring", None
        if now is not known:
            with contextlib.suppress(KeyringUnusableError):
                if now.secret is None:
                    _forget(name)
                else:
                    _keep(name, now.secret)
        self.answered()

    def _not_kept(self, error: KeyringUnusableError) -> str:
        return f"A {self._kind} is kept only until the engine ends, because {error}."


def is_secret(text: str) -> bool:
    """Whether a text can be one: what travels in a header."""
    return 0 < len(text) <= LONGEST and all("!" <= each <= "~" for each in text)


def keyring_name() -> str:
    """Which keyring is used, for people. Raises KeyringUnusableError."""
    return waited(lambda: usable_keyring()[1], LOOK_TIMEOUT_S)


def is_kept(name: str) -> bool:
    """Whether the keyring has a secret of ours by that name. Raises KeyringUnusableError."""
    return waited(lambda: _find(name), LOOK_TIMEOUT_S) is not None


def forget_kept(name: str) -> None:
    """Take it out of the keyring. Raises KeyringUnusableError."""
    waited(lambda: _forget(name), CHANGE_TIMEOUT_S)


# --- the keyring, in a thread of its own -----------------------------------------------------------------


def _keep(name: str, secret: str) -> None:
    backend, _ = usable_keyring()
    told(lambda: backend.set_password(SERVICE, name, secret))


def _find(name: str) -> str | None:
    backend, _ = usable_keyring()
    found = told(lambda: backend.get_password(SERVICE, name))
    return found if found and is_secret(found) else None


def _forget(name: str) -> None:
    backend, _ = usable_keyring()
    if told(lambda: backend.get_password(SERVICE, name)) is not None:
        told(lambda: backend.delete_password(SERVICE, name))
