"""What a model on another machine is and can do, found out once for each way it is set up.

Owns: which model is meant where a person names none, and what was found out a moment ago, so that a check and the
setting up after it ask once. Does not know the questions (`backends/remote_probe`), or what is kept (`remote_file`).
"""

import asyncio
import json
import threading
import time
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from engine.errors import RemoteError
from engine.protocol_remote import RemoteFeatures
from engine.remote_file import KeptRemote, SeenModel

if TYPE_CHECKING:
    from engine.backends.remote_probe import ServedModel
    from engine.backends.remote_tunnel import Tunnels

FOUND_KEPT_S = 900.0
MOST = 100
PROBE_S = 300.0
FIRST_BYTE_S = 60.0
"""How long a server may be silent before it answers a few words."""


class Discovery:
    """What was found out. Any thread; it waits for the network. Through `tunnels` machines are reached by ssh."""

    def __init__(self, tunnels: "Tunnels") -> None:
        self._tunnels = tunnels
        self._lock = threading.Lock()
        self._found: dict[str, tuple[float, RemoteFeatures, dict[str, SeenModel]]] = {}

    def of(self, kept: KeptRemote, key: str | None) -> tuple[RemoteFeatures, dict[str, SeenModel]]:
        """What the model at the first address can do, and what its list says of it. Raises RemoteError, BadRequest."""
        remembered = json.dumps(
            [kept.kind, kept.addresses[0].model_dump(), kept.model, hash(key)], ensure_ascii=True
        )
        with self._lock:
            found = self._found.get(remembered)
        if found is not None and time.monotonic() - found[0] < FOUND_KEPT_S:
            return found[1], found[2]
        features, seen = _in_time(self._looked(kept, key))
        with self._lock:
            self._found[remembered] = (time.monotonic(), features, seen)
            while len(self._found) > MOST:
                del self._found[next(iter(self._found))]
        return features, seen

    async def _looked(self, kept: KeptRemote, key: str | None) -> tuple[RemoteFeatures, dict[str, SeenModel]]:
        from engine.backends.remote import RemoteModel, RemotePoint
        from engine.backends.remote_faults import Limits
        from engine.backends.remote_probe import features_of, served_models

        first = kept.addresses[0]
        point = RemotePoint(kept.places[0], first.fingerprint)
        model = RemoteModel(
            kept.id,
            kept.name,
            kept.kind,
            kept.model,
            [point],
            key,
            tunnels=self._tunnels,
            limits=Limits(first_byte_s=FIRST_BYTE_S),
        )
        target = await model.target(0)
        models = await served_models(target) or []
        name = _named_model(kept, target.place, models)
        features = await features_of(target, kept.kind, name, models)
        served = next((each for each in models if each.id == name), None)
        return features, {} if served is None else {first.url: seen_of(served)}


def seen_of(served: "ServedModel") -> SeenModel:
    """What is kept of an entry of a server's list."""
    return SeenModel(root=served.root, context_tokens=served.context_tokens)


def _named_model(kept: KeptRemote, place: str, models: "Sequence[ServedModel]") -> str:
    """The model that is meant. Raises BadRequest where that is not clear."""
    names = [each.id for each in models]
    if kept.model:
        if names and kept.model not in names:
            raise RemoteError(
                f"{place} has no model {kept.model}",
                f"it has {', '.join(names[:8])}{' and others' if len(names) > 8 else ''}",
                "choose one of them",
            )
        return kept.model
    if len(names) == 1:
        return names[0]
    if not names:
        raise RemoteError(
            f"{place} names no models", "its list is empty or missing", "write the model's name"
        )
    raise RemoteError(
        f"{place} has more than one model",
        f"it has {', '.join(names[:8])}{' and others' if len(names) > 8 else ''}",
        "choose one of them",
    )


def _in_time(work: Coroutine[Any, Any, Any]) -> Any:
    """What comes of it within `PROBE_S`. Raises RemoteError."""
    from engine.backends.remote_wire import run

    async def bounded() -> Any:
        try:
            async with asyncio.timeout(PROBE_S):
                return await work
        except TimeoutError as error:
            raise RemoteError(
                "The server was not found out about",
                f"it took longer than {PROBE_S:.0f} s",
                "try again later",
            ) from error

    return run(bounded())
