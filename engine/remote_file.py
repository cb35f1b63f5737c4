"""The file of models on other machines: `remotes.json`.

Owns: what is kept of each, and that the file is written whole or not at all; one that cannot be read stays as it is.
Does not know keys (`remotes` has them kept elsewhere), or how a remote is spoken to.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from engine.atomic_file import is_disk_full, write_atomically
from engine.backends.remote_address import Address, read_address
from engine.conversation import clean_text
from engine.errors import BadRequest, DataFolderError, DiskFull, NotFound
from engine.protocol import Wire
from engine.protocol_remote import (
    REMOTE_PREFIX,
    RemoteAddress,
    RemoteFeatures,
    RemoteKind,
    RemotePrice,
    Whereabouts,
)

FORMAT = 1
MAX_BYTES = 8 << 20
_FARTHEST: tuple[Whereabouts, ...] = ("elsewhere", "local network", "this machine")
_log = logging.getLogger(__name__)


class SeenModel(Wire):
    """What a server's list said of the model when it was agreed to."""

    root: str | None = None
    context_tokens: int | None = None


class KeptRemote(Wire):
    """One remote as it stands in the file."""

    id: str
    name: str
    kind: RemoteKind
    addresses: list[RemoteAddress]
    model: str
    price: RemotePrice | None = None
    features: RemoteFeatures | None = None
    agreed: dict[str, SeenModel] = Field(default_factory=dict[str, SeenModel])
    """By address."""
    change: str | None = None
    offered: dict[str, SeenModel] = Field(default_factory=dict[str, SeenModel])
    """What is agreed to when the change is: by address."""
    offered_fingerprint: str | None = None
    offered_address: str | None = None
    used_address: int | None = None
    with_key: bool = False
    """It was given a key, wherever that is."""

    @property
    def places(self) -> list[Address]:
        """Its addresses, read."""
        return [read_address(each.url) for each in self.addresses]

    @property
    def whereabouts(self) -> Whereabouts:
        """The farthest that what is said may go."""
        found = {each.whereabouts for each in self.places}
        return next(each for each in _FARTHEST if each in found)

    @property
    def host(self) -> str:
        """As it is told at the point of use: every machine that may answer."""
        return ", ".join(dict.fromkeys(each.host for each in self.places))


class _File(Wire):
    format: int
    remotes: list[KeptRemote]


class RemoteFile:
    """The remotes in the file at `path`. Not safe for several threads by itself."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: list[KeptRemote] | None = None
        self._unreadable: str | None = None

    def all(self) -> list[KeptRemote]:
        """All of them; none where the file cannot be read."""
        if self._kept is None:
            self._kept, self._unreadable = _read_file(self._path)
        return list(self._kept)

    def one(self, remote_id: str) -> KeptRemote:
        """One of them. Raises NotFound."""
        for each in self.all():
            if each.id == remote_id:
                return each
        raise NotFound(
            "The model cannot be found",
            f"there is none with the id {clean_text(remote_id)[0][:200]!r} any more",
            "choose another one",
        )

    def replace(self, fresh: KeptRemote) -> None:
        """Keep other facts of one. Raises DiskFull, DataFolderError."""
        self.write([fresh if each.id == fresh.id else each for each in self.all()])

    def update(self, remote_id: str, **update: Any) -> None:
        """Keep some other facts of one. Raises NotFound, DiskFull, DataFolderError."""
        self.replace(self.one(remote_id).model_copy(update=update))

    def write(self, kept: Sequence[KeptRemote]) -> None:
        """Keep these and no others. Raises DiskFull, DataFolderError."""
        what = "The models on other machines cannot be kept"
        if self._unreadable is not None:
            raise DataFolderError(what, self._unreadable, f"correct or remove {self._path}")
        content = _File(format=FORMAT, remotes=list(kept)).model_dump_json(indent=1) + "\n"
        try:
            write_atomically(self._path, content.encode("utf-8"))
        except OSError as error:
            if is_disk_full(error):
                raise DiskFull(
                    what, f"the disk that holds {self._path.parent} is full", "free some space"
                ) from error
            raise DataFolderError(
                what,
                f"{self._path} cannot be written ({error.strerror or error})",
                "give yourself permission",
            ) from error
        self._kept = list(kept)


def remote_names(path: Path) -> list[tuple[str, str]]:
    """(id, name) of the remotes in the file at `path`; the keyring may hold a key under each id. Raises nothing."""
    return [(each.id, each.name) for each in _read_file(path)[0]]


def _read_file(path: Path) -> tuple[list[KeptRemote], str | None]:
    """(what stands there, why it cannot be read, a clause). It may have been written by hand."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return [], f"{path.name} is larger than {MAX_BYTES:,} bytes"
        found = _File.model_validate(json.loads(path.read_bytes()))
        if found.format != FORMAT:
            return [], f"another Seamount wrote {path.name} (format {found.format})"
        for each in found.remotes:
            if not each.addresses or not each.id.startswith(REMOTE_PREFIX):
                raise ValueError("an entry is not whole")
            each.places  # noqa: B018 - raises for what is no address
    except FileNotFoundError:
        return [], None
    except (OSError, ValueError, RecursionError, ValidationError, BadRequest) as error:
        _log.warning("%s cannot be read (%s)", path, type(error).__name__)
        return [], f"{path.name} cannot be read ({type(error).__name__})"
    return found.remotes, None
