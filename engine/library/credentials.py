"""Access tokens for hubs: kept in the operating system's keyring, or else in this process for as long as it runs.

Owns: under which name a token lies in the keyring, and what is said when it is not there. A token is
never written anywhere else: not to a file, a log, an address or an error; nothing here shows one when it is
printed. A keyring may ask a person for its password and answer only then, so each call has a thread of its own and
a limit on how long it is waited for.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as StillRunning
from dataclasses import dataclass, field
from typing import Literal

from engine.errors import BadRequest
from engine.library.hub_place import ENDPOINT_VARIABLE, host_of, is_hub_itself, may_carry_secrets
from engine.system_keyring import (
    SERVICE,
    KeyringUnusableError,
    begun,
    told,
    unanswered,
    usable_keyring,
    waited,
)

LONGEST_TOKEN = 500
CHANGE_TIMEOUT_S = 60.0
"""How long a person may take to unlock the keyring when a token is to be kept."""
LOOK_TIMEOUT_S = 5.0
SHOW_TIMEOUT_S = 1.0
"""The same, where a window waits for what it shows."""

TokenState = Literal["none", "keyring", "this_run", "environment"]


@dataclass(frozen=True)
class TokenFacts:
    """Where the token for a hub is, and why it could not be kept in the keyring, as a sentence."""

    state: TokenState
    problem: str | None = None


@dataclass
class _Known:
    """What is known of one hub's token. `looked`: the keyring has answered, or cannot be used."""

    token: str | None = field(default=None, repr=False)
    place: TokenState = "none"
    looked: bool = False
    problem: str | None = None
    pending: "Future[str | None] | None" = field(default=None, repr=False)
    awaited: bool = False
    """Somebody was told that the keyring has not answered yet."""


class Credentials:
    """The tokens of one engine. Any thread may call it; not the event loop's, since a keyring may take its time.

    `answered` is called, from any thread, when a keyring that kept somebody waiting has answered.
    """

    def __init__(
        self,
        environment: Mapping[str, str] = os.environ,
        look_timeout_s: float = LOOK_TIMEOUT_S,
        change_timeout_s: float = CHANGE_TIMEOUT_S,
    ) -> None:
        self.answered: Callable[[], None] = lambda: None
        self._environment = environment
        self._look_timeout_s = look_timeout_s
        self._change_timeout_s = change_timeout_s
        self._lock = threading.Lock()
        self._hosts: dict[str, _Known] = {}

    def __repr__(self) -> str:
        return f"Credentials({len(self._hosts)} hosts)"

    def __reduce__(self) -> str:
        raise TypeError("credentials stay in their process")

    def keep(self, endpoint: str, token: str) -> TokenFacts:
        """Keep a token: in the keyring where there is one, else for this run. Raises BadRequest for what is none."""
        token = _checked(token)
        if not may_carry_secrets(endpoint):
            raise BadRequest(
                "The access token was not taken",
                "it would be sent to the hub's address without encryption",
                "write that address with https",
            )
        host = host_of(endpoint)
        known = _Known(token, "keyring", looked=True)
        keeping = begun(lambda: _keep(host, token))
        try:
            keeping.result(self._change_timeout_s)
        except StillRunning:
            known.place, known.problem = "this_run", _not_kept(unanswered(self._change_timeout_s))
        except KeyringUnusableError as error:
            known.place, known.problem = "this_run", _not_kept(error)
        with self._lock:
            self._hosts[host] = known
        facts = TokenFacts(known.place, known.problem)
        if facts.state == "this_run":
            keeping.add_done_callback(lambda done: self._kept_late(host, known, done))
        return facts

    def token(self, endpoint: str) -> str | None:
        """The token to show to this hub; None where there is none, or it would be sent in the open."""
        if not may_carry_secrets(endpoint):
            return None
        known = self._look(host_of(endpoint), self._look_timeout_s)
        return known.token or self._environment_token(endpoint)

    def forget(self, endpoint: str) -> TokenFacts:
        """Forget the token for this hub; what Hugging Face's own tools keep stays theirs."""
        host = host_of(endpoint)
        problem = None
        try:
            waited(lambda: _forget(host), self._change_timeout_s)
        except KeyringUnusableError as error:
            before = self._hosts.get(host)
            problem = _not_kept(error)
            if before is not None and before.place == "keyring":
                problem = f"The token could not be taken out of the keyring: {error}."
        with self._lock:
            self._hosts[host] = _Known(looked=True, problem=problem)
        return self.facts(endpoint)

    def facts(self, endpoint: str) -> TokenFacts:
        """Where the token for this hub is."""
        if not may_carry_secrets(endpoint):
            return TokenFacts(
                "none", "No token is sent to an address without https, since it could be read on the way."
            )
        known = self._look(host_of(endpoint), min(SHOW_TIMEOUT_S, self._look_timeout_s))
        if known.token is not None:
            return TokenFacts(known.place, known.problem)
        return TokenFacts("environment" if self._environment_token(endpoint) else "none", known.problem)

    # --- inside -------------------------------------------------------------------------------------

    def _kept_late(self, host: str, known: _Known, kept: "Future[None]") -> None:
        """A keyring took a token after its caller had gone on: say so, or make good what was changed meanwhile."""
        if kept.exception() is not None:
            return
        with self._lock:
            now = self._hosts[host]
            if now is known:
                known.place, known.problem = "keyring", None
        if now is not known:
            with contextlib.suppress(KeyringUnusableError):
                if now.token is None:
                    _forget(host)
                else:
                    _keep(host, now.token)
        self.answered()

    def _look(self, host: str, timeout_s: float) -> _Known:
        """What is known of a host; the keyring is asked once, and waited for a little each time until it answers."""
        with self._lock:
            known = self._hosts.setdefault(host, _Known())
            if known.looked:
                return known
            if known.pending is None:
                known.pending = begun(lambda: _find(host))
            pending = known.pending
        try:
            token, problem = pending.result(timeout_s), None
        except StillRunning:
            with self._lock:
                first, known.awaited = not known.awaited, True
            if first:
                pending.add_done_callback(lambda _: self.answered())
            return _Known(problem="The keyring has not answered yet; it may be asking for its password.")
        except KeyringUnusableError as error:
            token, problem = None, _not_kept(error)
        with self._lock:
            # A token that was given meanwhile is newer than what was found.
            if not known.looked:
                known.token, known.place = token, "keyring" if token else "none"
                known.problem, known.looked, known.pending = problem, True, None
            return self._hosts[host]

    def _environment_token(self, endpoint: str) -> str | None:
        """What Hugging Face's own tools were given, if it was meant for this hub and no other."""
        named = self._environment.get(ENDPOINT_VARIABLE, "").strip()
        meant = is_hub_itself(endpoint) or (bool(named) and host_of(named) == host_of(endpoint))
        if not meant:
            return None
        from engine.library.fetching.hub import default_token

        found = default_token()
        return found if found and _is_token(found) else None


def keyring_name() -> str:
    """Which keyring is used, for people. Raises KeyringUnusableError."""
    return waited(lambda: usable_keyring()[1], LOOK_TIMEOUT_S)


def is_kept(endpoint: str) -> bool:
    """Whether the keyring has a token of ours for this hub. Raises KeyringUnusableError."""
    return waited(lambda: _find(host_of(endpoint)), LOOK_TIMEOUT_S) is not None


def forget_kept(endpoint: str) -> None:
    """Take it out of the keyring. Raises KeyringUnusableError."""
    waited(lambda: _forget(host_of(endpoint)), CHANGE_TIMEOUT_S)


# --- the keyring, in a thread of its own -----------------------------------------------------------------


def _keep(host: str, token: str) -> None:
    backend, _ = usable_keyring()
    told(lambda: backend.set_password(SERVICE, host, token))


def _find(host: str) -> str | None:
    backend, _ = usable_keyring()
    found = told(lambda: backend.get_password(SERVICE, host))
    return found if found and _is_token(found) else None


def _forget(host: str) -> None:
    backend, _ = usable_keyring()
    if told(lambda: backend.get_password(SERVICE, host)) is not None:
        told(lambda: backend.delete_password(SERVICE, host))


def _is_token(text: str) -> bool:
    return 0 < len(text) <= LONGEST_TOKEN and all("!" <= each <= "~" for each in text)


def _checked(token: str) -> str:
    bare = token.strip()
    if not _is_token(bare):
        raise BadRequest(
            "The access token was not taken",
            "it is empty, too long, or holds something else than letters, digits and signs",
            "copy it again from the hub's page of access tokens",
        )
    return bare


def _not_kept(error: KeyringUnusableError) -> str:
    return f"A token is kept only until the engine ends, because {error}."
