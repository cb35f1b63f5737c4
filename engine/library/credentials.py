"""Access tokens for hubs: kept in the operating system's keyring, or else in this process for as long as it runs.

Owns: under which name a token lies in the keyring, to whom it may be shown, and what Hugging Face's own tools were
given in its place. Does not know how a secret comes into the keyring and back (`kept_secrets`).
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from engine import kept_secrets
from engine.errors import BadRequest
from engine.kept_secrets import CHANGE_TIMEOUT_S, LOOK_TIMEOUT_S, KeptSecrets, is_secret
from engine.kept_secrets import keyring_name as keyring_name
from engine.library.hub_place import ENDPOINT_VARIABLE, host_of, is_hub_itself, may_carry_secrets
from engine.system_keyring import SERVICE as SERVICE
from engine.system_keyring import KeyringUnusableError as KeyringUnusableError

TokenState = Literal["none", "keyring", "this_run", "environment"]


@dataclass(frozen=True)
class TokenFacts:
    """Where the token for a hub is, and why it could not be kept in the keyring, as a sentence."""

    state: TokenState
    problem: str | None = None


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
        self._environment = environment
        self._secrets = KeptSecrets("token", look_timeout_s, change_timeout_s)

    def __repr__(self) -> str:
        return f"Credentials({self._secrets!r})"

    def __reduce__(self) -> str:
        raise TypeError("credentials stay in their process")

    @property
    def answered(self) -> Callable[[], None]:
        """What is called when a slow keyring has answered."""
        return self._secrets.answered

    @answered.setter
    def answered(self, call: Callable[[], None]) -> None:
        self._secrets.answered = call

    def keep(self, endpoint: str, token: str) -> TokenFacts:
        """Keep a token: in the keyring where there is one, else for this run. Raises BadRequest for what is none."""
        token = _checked(token)
        if not may_carry_secrets(endpoint):
            raise BadRequest(
                "The access token was not taken",
                "it would be sent to the hub's address without encryption",
                "write that address with https",
            )
        kept = self._secrets.keep(host_of(endpoint), token)
        return TokenFacts(kept.place, kept.problem)

    def token(self, endpoint: str) -> str | None:
        """The token to show to this hub; None where there is none, or it would be sent in the open."""
        if not may_carry_secrets(endpoint):
            return None
        return self._secrets.find(host_of(endpoint)).secret or self._environment_token(endpoint)

    def forget(self, endpoint: str) -> TokenFacts:
        """Forget the token for this hub; what Hugging Face's own tools keep stays theirs."""
        self._secrets.forget(host_of(endpoint))
        return self.facts(endpoint)

    def facts(self, endpoint: str) -> TokenFacts:
        """Where the token for this hub is."""
        if not may_carry_secrets(endpoint):
            return TokenFacts(
                "none", "No token is sent to an address without https, since it could be read on the way."
            )
        known = self._secrets.find(host_of(endpoint), shown=True)
        if known.secret is not None:
            return TokenFacts(known.place, known.problem)
        return TokenFacts("environment" if self._environment_token(endpoint) else "none", known.problem)

    def _environment_token(self, endpoint: str) -> str | None:
        """What Hugging Face's own tools were given, if it was meant for this hub and no other."""
        named = self._environment.get(ENDPOINT_VARIABLE, "").strip()
        meant = is_hub_itself(endpoint) or (bool(named) and host_of(named) == host_of(endpoint))
        if not meant:
            return None
        from engine.library.fetching.hub import default_token

        found = default_token()
        return found if found and is_secret(found) else None


def is_kept(endpoint: str) -> bool:
    """Whether the keyring has a token of ours for this hub. Raises KeyringUnusableError."""
    return kept_secrets.is_kept(host_of(endpoint))


def forget_kept(endpoint: str) -> None:
    """Take it out of the keyring. Raises KeyringUnusableError."""
    kept_secrets.forget_kept(host_of(endpoint))


def _checked(token: str) -> str:
    bare = token.strip()
    if not is_secret(bare):
        raise BadRequest(
            "The access token was not taken",
            "it is empty, too long, or holds something else than letters, digits and signs",
            "copy it again from the hub's page of access tokens",
        )
    return bare
