"""Other programs' access as the engine last told it, and what is asked of it.

Owns: the Access, and the requests about keys, running answers and the network's door. Does not know how anything is
shown (`access_words`, `views/`). News only says that something has changed: it is fetched anew, never twice at the same
time. A key's secret passes through and is not kept.
"""

import re
from collections.abc import Callable
from urllib.parse import quote

from PySide6.QtCore import QObject, Signal

from app.api import EngineApi, Failed
from engine.protocol import ErrorBody
from engine.protocol_access import (
    Access,
    ChangeKey,
    ClientKey,
    KeyLimits,
    MadeKey,
    NetworkDoor,
    NewKey,
    OpenNetwork,
    SteadyOffer,
    SteadyRules,
)

NETWORK_TIMEOUT_S = 60.0
"""A certificate may have to be made."""


class AccessShelf(QObject):
    """Keys, connected programs, offers, the network."""

    changed = Signal()
    refused = Signal(object)
    """ErrorBody: something was not done."""

    def __init__(self, api: EngineApi, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._api = api
        self.access: Access | None = None
        self.error: ErrorBody | None = None
        """Why it could not be told, when it was asked for last."""
        self._asked = False
        self._stale = False
        self._declined: set[tuple[str, str]] = set()
        """Offers that were answered with no, by key and the line's shape, as long as this window is open."""

    def refresh(self) -> None:
        """Fetch it; once more afterwards if that is under way."""
        if self._asked:
            self._stale = True
            return
        self._asked = True

        def ok(answer: Access) -> None:
            self.access, self.error = answer, None
            again()

        def failed(error: ErrorBody) -> None:
            self.access, self.error = None, error
            again()

        def again() -> None:
            self._asked = False
            self.changed.emit()
            stale, self._stale = self._stale, False
            if stale:
                self.refresh()

        self._api.get("/api/access", Access, ok, failed)

    def forget(self) -> None:
        """There is no engine now, so nothing runs for anybody."""
        self.access = None
        self.changed.emit()

    def key(self, key_id: str) -> ClientKey | None:
        """The key of that id, as it was told last."""
        keys = self.access.keys if self.access else []
        return next((key for key in keys if key.id == key_id), None)

    @property
    def offers(self) -> list[SteadyOffer]:
        """Those that wait for an answer."""
        offers = self.access.offers if self.access else []
        return [offer for offer in offers if (offer.key_id, _shape(offer.line)) not in self._declined]

    # --- keys -----------------------------------------------------------------------------------------

    def make_key(
        self, name: str, *, is_network: bool, keep: bool, ok: Callable[[MadeKey], None], failed: Failed
    ) -> None:
        """A new key; `ok` gets its secret. `keep`: that lies in the keyring as well, where there is one."""
        asked = NewKey(name=name, is_network=is_network, keep=keep)
        self._api.send("POST", "/api/access/keys", asked, MadeKey, self._then_refresh(ok), failed)

    def change_key(
        self,
        key_id: str,
        *,
        name: str | None = None,
        limits: KeyLimits | None = None,
        steady: SteadyRules | None = None,
        ok: Callable[[ClientKey], None] = lambda _: None,
        failed: Failed | None = None,
    ) -> None:
        """What is None stays."""
        change = ChangeKey(name=name, limits=limits, steady=steady)
        path = f"/api/access/keys/{quote(key_id, safe='')}"
        self._api.send("PATCH", path, change, ClientKey, self._then_refresh(ok), failed or self.refused.emit)

    def fetch_secret(self, key_id: str, ok: Callable[[MadeKey], None]) -> None:
        """A key's secret, where the keyring has it."""
        path = f"/api/access/keys/{quote(key_id, safe='')}/secret"
        self._api.get(path, MadeKey, ok, self.refused.emit)

    def revoke(self, key_id: str) -> None:
        """Take a key back; what runs for it is ended."""
        path = f"/api/access/keys/{quote(key_id, safe='')}"
        self._api.command("DELETE", path, self.refresh, self.refused.emit)

    # --- what runs ------------------------------------------------------------------------------------

    def end(self, request_id: str) -> None:
        """End one answer."""
        path = f"/api/access/requests/{quote(request_id, safe='')}"
        self._api.command("DELETE", path, self.refresh, self._not_ended)

    def _not_ended(self, error: ErrorBody) -> None:
        # It may just have come to its end by itself, which is what was wanted.
        if error.code != "not_found":
            self.refused.emit(error)
        self.refresh()

    def agree(self, offer: SteadyOffer) -> None:
        """The rule that an offer names holds for its key from now on, beside what holds already."""
        key = self.key(offer.key_id)
        rules = key.steady if key is not None else SteadyRules()
        self.change_key(offer.key_id, steady=rules.model_copy(update={offer.suggestion: True}))

    def decline(self, offer: SteadyOffer) -> None:
        """It is not offered again in this window; nothing changes in what the model is told."""
        self._declined.add((offer.key_id, _shape(offer.line)))
        self.changed.emit()

    # --- the network ----------------------------------------------------------------------------------

    def set_network(self, asked: OpenNetwork, ok: Callable[[NetworkDoor], None], failed: Failed) -> None:
        """Open the door to the local network, or close it."""
        self._api.send(
            "PUT",
            "/api/access/network",
            asked,
            NetworkDoor,
            self._then_refresh(ok),
            failed,
            NETWORK_TIMEOUT_S,
        )

    def _then_refresh(self, ok: Callable[..., None]) -> Callable[..., None]:
        def told(answer: object) -> None:
            self.refresh()
            ok(answer)

        return told


def _shape(line: str) -> str:
    """A line without the words that have digits in them: what stays the same while its date or number changes."""
    return re.sub(r"\S*\d\S*", "#", line)
