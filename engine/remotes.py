"""The models on other machines that a person has set up: `remotes.json`, and their keys.

Owns: that list, what was found out and agreed to of each, and that a remote which is no longer what was agreed to
is not used until a person agrees anew. A key is in the keyring, or in this process alone; never in the file, a log, an
error or a reply. Does not know how a remote is spoken to (`backends/remote*`), or HTTP.
"""

import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.backends.remote_address import read_address, read_fingerprint
from engine.conversation import clean_text
from engine.errors import (
    BadRequest,
    NotFound,
    RemoteBrokeOff,
    RemoteChanged,
    RemoteError,
    RemoteKeyRefused,
    RemoteUnreachable,
    SeamountError,
)
from engine.kept_secrets import Kept, KeptSecrets, is_secret
from engine.protocol import ErrorBody, ModelEntry, RemotePlace
from engine.protocol_remote import (
    REMOTE_PREFIX,
    AgreeRemote,
    CheckedRemote,
    CheckRemote,
    Remote,
    RemoteAddress,
    RemoteFeatures,
    SetRemote,
)
from engine.remote_discovery import Discovery, seen_of
from engine.remote_file import KeptRemote, RemoteFile, SeenModel

if TYPE_CHECKING:
    from engine.backends.remote import RemoteModel
    from engine.backends.remote_faults import Target

MOST = 100
RECHECK_S = 300.0
"""A server is asked again whether it still has the model when that was last seen so long ago."""


def is_remote(model_id: str) -> bool:
    """Whether an id is that of a model on another machine."""
    return model_id.startswith(REMOTE_PREFIX)


class Remotes:
    """The remotes of one data folder. Any thread may call it; it reads files, may ask a keyring and the network, so not
    the event loop's. `changed(id)` is called when what is told of one has changed; None: of several."""

    def __init__(self, path: Path, keys: KeptSecrets | None = None) -> None:
        from engine.backends.remote_tunnel import Tunnels

        self.changed: Callable[[str | None], None] = lambda _id: None
        self._file = RemoteFile(path)
        self._keys = keys or KeptSecrets("key")
        self._lock = threading.RLock()
        self._problems: dict[str, ErrorBody] = {}
        self._seen_s: dict[tuple[str, str], float] = {}
        self._tunnels = Tunnels()
        self._discovery = Discovery(self._tunnels)

    def close(self) -> None:
        """End what is open to other machines."""
        self._tunnels.close()

    # --- telling --------------------------------------------------------------------------------------

    def listed(self) -> list[Remote]:
        """All of them."""
        return [self._told(each) for each in self._all()]

    def told(self, remote_id: str) -> Remote:
        """One of them. Raises NotFound."""
        return self._told(self._one(remote_id))

    def entries(self) -> list[ModelEntry]:
        """All of them as models."""
        return [self._entry(each) for each in self._all()]

    def entry(self, remote_id: str) -> ModelEntry:
        """One of them as a model. Raises NotFound."""
        return self._entry(self._one(remote_id))

    def continues(self, remote_id: str) -> bool:
        """Whether an answer's beginning can be given to it. Raises nothing."""
        from engine.backends.remote_request import can_continue

        return any(each.id == remote_id and can_continue(each.features) for each in self._all())

    def model(self, remote_id: str) -> "RemoteModel":
        """What asks it. Raises NotFound, RemoteChanged."""
        from engine.backends.remote import RemoteModel, RemotePoint

        kept = self._one(remote_id)
        if kept.change is not None:
            raise RemoteChanged(
                f"{kept.name} is not used",
                kept.change.rstrip("."),
                "look at it in the settings, and agree to it there",
            )
        points = [
            RemotePoint(place, each.fingerprint)
            for place, each in zip(kept.places, kept.addresses, strict=True)
        ]

        async def check(target: "Target", point: int) -> None:
            await self._still(remote_id, target, kept.addresses[point].url)

        return RemoteModel(
            id=kept.id,
            name=kept.name,
            kind=kept.kind,
            model=kept.model,
            points=points,
            key=self._key(kept),
            features=kept.features,
            price=kept.price,
            tunnels=self._tunnels,
            first_point=min(kept.used_address or 0, len(points) - 1),
            check=check,
            settled=lambda point, error: self._settled(remote_id, point, error),
        )

    # --- doing ----------------------------------------------------------------------------------------

    def add(self, asked: SetRemote) -> Remote:
        """A new one. It is kept also where it cannot be reached now, if its model is named. Raises BadRequest,
        RemoteError, DataFolderError."""
        remote_id = f"{REMOTE_PREFIX}{secrets.token_hex(6)}"
        with self._lock:
            if len(self._all()) >= MOST:
                raise BadRequest("It was not added", f"there are {MOST} already", "remove one first")
        kept = self._looked_at(self._read(remote_id, asked), asked, asked.key)
        with self._lock:
            self._file.write([*self._all(), kept])
        self._keep_key(remote_id, asked.key)
        self.changed(remote_id)
        return self.told(remote_id)

    def change(self, remote_id: str, asked: SetRemote) -> Remote:
        """Other facts for one. Raises NotFound and what `add` raises."""
        before = self._one(remote_id)
        fresh = self._read(remote_id, asked)
        same = (before.kind, before.addresses) == (fresh.kind, fresh.addresses)
        if same and asked.key is None and before.features and fresh.model in ("", before.model):
            fresh = before.model_copy(update={"name": fresh.name, "price": fresh.price})
        else:
            key = self._key_for(before, fresh) if asked.key is None else asked.key
            fresh = self._looked_at(fresh, asked, key)
        # Until the new key is kept the old one is not the new address's, also if this engine ends meanwhile.
        fresh = fresh.model_copy(update={"with_key": before.with_key and asked.key is None})
        with self._lock:
            self._one(remote_id)
            self._file.replace(fresh)
            self._seen_s = {key: at for key, at in self._seen_s.items() if key[0] != remote_id}
        self._keep_key(remote_id, asked.key)
        self.changed(remote_id)
        return self.told(remote_id)

    def remove(self, remote_id: str) -> None:
        """Forget one, and its key. Raises NotFound, DataFolderError."""
        with self._lock:
            self._one(remote_id)
            self._file.write([each for each in self._all() if each.id != remote_id])
            self._problems.pop(remote_id, None)
        self._keys.forget(remote_id)
        self.changed(remote_id)

    def check(self, asked: CheckRemote) -> CheckedRemote:
        """What the server at the first address is and can do. Raises BadRequest, NotFound."""
        from engine.backends.remote_faults import CertificateChanged, CertificateUnknown, Target
        from engine.backends.remote_tls import shown_certificate

        kept, key = self._read(asked.id or REMOTE_PREFIX, asked.remote), asked.remote.key
        if key is None and asked.id is not None:
            key = self._key_for(self._one(asked.id), kept)
        place = kept.places[0]
        try:
            features, _ = self._discovery.of(kept, key)
        except (CertificateUnknown, CertificateChanged) as error:
            return CheckedRemote(
                whereabouts=kept.whereabouts,
                fingerprint=shown_certificate(Target(place)),
                problem=_body(error),
            )
        except RemoteError as error:
            return CheckedRemote(whereabouts=kept.whereabouts, problem=_body(error))
        return CheckedRemote(whereabouts=kept.whereabouts, features=features)

    def agree(self, remote_id: str, asked: AgreeRemote) -> Remote:
        """The person accepts what has changed. Raises NotFound, BadRequest, DataFolderError."""
        with self._lock:
            kept = self._one(remote_id)
            if kept.change is None:
                return self._told(kept)
            addresses = kept.addresses
            if kept.offered_fingerprint is not None:
                given = read_fingerprint(asked.fingerprint or "")
                if given != kept.offered_fingerprint:
                    raise BadRequest(
                        "Nothing was agreed to",
                        "that is not the fingerprint of the certificate that was shown",
                        "compare it with the one on the other machine",
                    )
                addresses = [
                    each.model_copy(update={"fingerprint": given})
                    if each.url == kept.offered_address
                    else each
                    for each in addresses
                ]
            fresh = kept.model_copy(
                update={
                    "addresses": addresses,
                    "agreed": kept.agreed | kept.offered,
                    "features": _with_context(kept.features, kept.offered),
                    "change": None,
                    "offered": {},
                    "offered_fingerprint": None,
                    "offered_address": None,
                }
            )
            self._file.replace(fresh)
            self._problems.pop(remote_id, None)
        self.changed(remote_id)
        return self.told(remote_id)

    # --- inside ---------------------------------------------------------------------------------------

    def _looked_at(self, kept: KeptRemote, asked: SetRemote, key: str | None) -> KeptRemote:
        """With what can be found out now."""
        try:
            features, seen = self._discovery.of(kept, key)
        except RemoteError as error:
            if not asked.model.strip():
                raise
            with self._lock:
                self._problems[kept.id] = _body(error)
            return kept
        with self._lock:
            self._problems.pop(kept.id, None)
        only = features.models[0] if len(features.models) == 1 else ""
        return kept.model_copy(update={"features": features, "agreed": seen, "model": kept.model or only})

    async def _still(self, remote_id: str, target: "Target", url: str) -> None:
        """See that the server still has the model that was agreed to. Raises RemoteChanged, RemoteError."""
        from engine.backends.remote_probe import ServedModel, served_models

        with self._lock:
            seen_s = self._seen_s.get((remote_id, url))
        if seen_s is not None and time.monotonic() - seen_s < RECHECK_S:
            return
        kept = self._one(remote_id)
        try:
            models = await served_models(target)
        except RemoteBrokeOff as error:
            # Nothing of a conversation was sent yet, so another address may be asked.
            raise RemoteUnreachable(
                f"{target.place} was not asked",
                "it broke off while it was asked for its models",
                "try again later",
            ) from error
        agreed = kept.agreed.get(url)
        if models is None and agreed is None:
            return  # it never had a list
        served = next((each for each in models or [] if each.id == kept.model), None)
        if served is None:
            raise RemoteError(
                f"{target.place} does not have {kept.model} any more",
                "its list of models no longer names it",
                "see what it has now, and choose that in the settings",
            )
        if agreed is None:
            self._note(remote_id, agreed=kept.agreed | {url: seen_of(served)})
        else:
            before = ServedModel(kept.model, agreed.root, agreed.context_tokens)
            if differences := before.differs(served):
                change = f"{kept.model} at {target.place} has changed: {', and '.join(differences)}."
                self._note(remote_id, change=change, offered={url: seen_of(served)})
                raise RemoteChanged(
                    f"{kept.name} was not asked",
                    change.rstrip("."),
                    "look at it in the settings, and agree to it there",
                )
        with self._lock:
            self._seen_s[remote_id, url] = time.monotonic()

    def _settled(self, remote_id: str, point: int | None, error: RemoteError | None) -> None:
        """An answer came, or why none did."""
        from engine.backends.remote_faults import CertificateChanged

        before = self._problems.get(remote_id)
        with self._lock:
            if error is None:
                self._problems.pop(remote_id, None)
            else:
                self._problems[remote_id] = _body(error)
                self._seen_s = {key: at for key, at in self._seen_s.items() if key[0] != remote_id}
            now = self._problems.get(remote_id)
        try:
            used = self._one(remote_id).used_address
            if point is not None and point != used:
                self._note(remote_id, used_address=point)
            if isinstance(error, CertificateChanged):
                self._note_certificate(remote_id, error.place, error.fingerprint)
        except SeamountError:
            return  # removed meanwhile, or the disk is full: it is only a hint
        if before != now:
            self.changed(remote_id)

    def _key(self, kept: KeptRemote) -> str | None:
        """The key that it was given. Raises RemoteKeyRefused where that is not to be had."""
        if not kept.with_key:
            return None
        found = self._keys.find(kept.id)
        if found.secret is not None:
            return found.secret
        why = "its key was kept only while the engine ran that it was given to"
        remedy = "give it its key again"
        if not found.looked:
            why, remedy = "the keyring has not answered yet", "unlock it, and ask again"
        raise RemoteKeyRefused(f"{kept.name} was not asked", why, remedy)

    def _key_for(self, before: KeptRemote, fresh: KeptRemote) -> str | None:
        """The key that one has, for the addresses that it is to have: one that was given for a machine is not sent to
        another. Raises BadRequest."""
        known = {each.origin for each in before.places}
        other = next((each for each in fresh.places if each.origin not in known), None)
        if other is not None and before.with_key:
            raise BadRequest(
                "Nothing was done",
                f"the key that is kept was given for {before.places[0].place}, and is not sent to "
                f"{other.place} unasked",
                "give the key that the new address is to have; for one without a key set it up as another model",
            )
        return self._keys.find(before.id).secret if before.with_key else None

    def _note_certificate(self, remote_id: str, place: str, fingerprint: str) -> None:
        kept = self._one(remote_id)
        for each, known in zip(kept.addresses, kept.places, strict=True):
            if known.place == place:
                self._note(
                    remote_id,
                    change=f"The certificate of {place} is another one than was agreed to: {fingerprint}.",
                    offered_fingerprint=fingerprint,
                    offered_address=each.url,
                )

    def _note(self, remote_id: str, **update: Any) -> None:
        with self._lock:
            self._file.update(remote_id, **update)
        self.changed(remote_id)

    def _all(self) -> list[KeptRemote]:
        with self._lock:
            return self._file.all()

    def _one(self, remote_id: str) -> KeptRemote:
        with self._lock:
            return self._file.one(remote_id)

    # --- what a person asks for -----------------------------------------------------------------------

    def _read(self, remote_id: str, asked: SetRemote) -> KeptRemote:
        """What a person asks for. Raises BadRequest."""
        addresses: list[RemoteAddress] = []
        for each in asked.addresses:
            place = read_address(each.url)
            if asked.kind != "seamount" and place.scheme == "ssh":
                raise BadRequest(
                    "The address was not taken",
                    "by ssh only another Seamount is reached",
                    "choose that kind, or open a tunnel by hand and write http://127.0.0.1:PORT/v1",
                )
            fingerprint = None if not each.fingerprint else read_fingerprint(each.fingerprint)
            if fingerprint is not None and place.scheme != "https":
                raise BadRequest(
                    "The address was not taken",
                    "only https shows a certificate, and a fingerprint was given",
                    "write it with https, or leave the fingerprint out",
                )
            addresses.append(RemoteAddress(url=each.url.strip(), fingerprint=fingerprint))
        if asked.key and not is_secret(asked.key.strip()):
            raise BadRequest(
                "The key was not taken",
                "it is too long, or holds something else than letters, digits and signs",
                "copy it again",
            )
        return KeptRemote(
            id=remote_id,
            name=clean_text(asked.name)[0].strip() or addresses[0].url,
            kind=asked.kind,
            addresses=addresses,
            model=clean_text(asked.model)[0].strip(),
            price=asked.price,
        )

    def _keep_key(self, remote_id: str, key: str | None) -> None:
        if key is None:
            return
        if key.strip():
            self._keys.keep(remote_id, key.strip())
            try:
                with self._lock:
                    self._file.update(remote_id, with_key=True)
            except NotFound:  # removed meanwhile
                self._keys.forget(remote_id)
                raise
        else:
            self._keys.forget(remote_id)

    def _told(self, kept: KeptRemote) -> Remote:
        key = self._keys.find(kept.id, shown=True) if kept.with_key else Kept()
        return Remote(
            id=kept.id,
            name=kept.name,
            kind=kept.kind,
            addresses=kept.addresses,
            model=kept.model,
            whereabouts=kept.whereabouts,
            has_key=key.secret is not None,
            key_problem=key.problem if key.secret is not None else None,
            price=kept.price,
            features=kept.features,
            problem=self._problems.get(kept.id),
            used_address=kept.used_address,
            change=kept.change,
            offered_fingerprint=kept.offered_fingerprint,
        )

    def _entry(self, kept: KeptRemote) -> ModelEntry:
        change = None
        if kept.change is not None:
            change = ErrorBody(
                code=RemoteChanged.code, text=f"{kept.change} Agree to it in the settings first."
            )
        return ModelEntry(
            id=kept.id,
            name=kept.name,
            path=kept.addresses[0].url,
            size_bytes=0,
            source="remote",
            context_train_tokens=kept.features.context_tokens if kept.features else None,
            remote=RemotePlace(host=kept.host, whereabouts=kept.whereabouts, price=kept.price),
            problem=change,
        )


def _with_context(features: RemoteFeatures | None, offered: dict[str, SeenModel]) -> RemoteFeatures | None:
    found = next((each.context_tokens for each in offered.values() if each.context_tokens), None)
    if features is None or found is None:
        return features
    return features.model_copy(update={"context_tokens": found})


def _body(error: SeamountError) -> ErrorBody:
    return ErrorBody(code=error.code, text=error.text)
