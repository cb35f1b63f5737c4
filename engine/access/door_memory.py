"""Where the engine was found last time, and whether the network's socket is wanted: `access.json` in the data folder.

Owns: the file's shape, and reading it so that nothing in it can stop the engine from starting. A network socket is open
only where the file says so in so many words: a file that is broken or of a newer Seamount opens nothing. Does not know
sockets. Any thread.
"""

import json
import logging
import threading
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from engine.atomic_file import is_disk_full, write_atomically
from engine.errors import DataFolderError, DiskFull
from engine.protocol_access import OpenNetwork
from engine.protocol_base import Wire

MAX_BYTES = 1 << 16

_log = logging.getLogger(__name__)


class Remembered(Wire):
    """What the file says. `port` 0: none yet."""

    format: Literal[1] = 1
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    network: OpenNetwork = OpenNetwork(wanted=False)
    fingerprint: Annotated[str, Field(max_length=100)] | None = None
    """Of the certificate that the network's socket showed last."""


class DoorMemory:
    """The file of one data folder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._known = self._read()

    @property
    def port(self) -> int:
        """Where the engine listened last; 0: nobody knows."""
        return self._known.port

    @property
    def network(self) -> OpenNetwork:
        """What was asked for the network's socket last."""
        return self._known.network

    def keep_port(self, port: int) -> None:
        """The engine listens there. Raises nothing: without it the next one listens elsewhere."""
        if port == self._known.port:
            return
        try:
            self._keep(self._known.model_copy(update={"port": port}))
        except DataFolderError as error:
            _log.warning("%s", error.text)

    @property
    def fingerprint(self) -> str | None:
        """Of the certificate that the network's socket showed last."""
        return self._known.fingerprint

    def keep_network(self, network: OpenNetwork, fingerprint: str | None = None) -> None:
        """What is asked for the network's socket, and what it shows, where that is known.

        Raises DiskFull, DataFolderError; that it is to be closed is so all the same while this engine runs.
        """
        update = {"network": network, "fingerprint": fingerprint or self._known.fingerprint}
        known = self._known.model_copy(update=update)
        try:
            self._keep(known)
        except DataFolderError as error:
            if network.wanted:
                raise
            self._known = known
            raise type(error)(
                "The network's socket is closed while this engine runs, but would be open after a restart",
                error.why,
                "free some space or give yourself permission to write there, and close it again",
            ) from error

    def _keep(self, known: Remembered) -> None:
        with self._lock:
            try:
                write_atomically(self._path, known.model_dump_json(indent=1).encode() + b"\n")
            except OSError as error:
                what = "What was chosen for other programs cannot be kept"
                if is_disk_full(error):
                    raise DiskFull(
                        what, f"the disk that holds {self._path.parent} is full", "free some space there"
                    ) from error
                raise DataFolderError(
                    what,
                    f"{self._path} cannot be written ({error.strerror or error})",
                    "give yourself permission to write there",
                ) from error
            self._known = known

    def _read(self) -> Remembered:
        try:
            with self._path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
            if len(content) > MAX_BYTES:
                raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
            return Remembered.model_validate(json.loads(content))
        except FileNotFoundError:
            pass
        except ValidationError:
            _log.warning("%s is not what this Seamount writes, and nothing of it counts", self._path)
        except (OSError, ValueError, RecursionError) as error:
            _log.warning("%s cannot be used, and nothing of it counts: %s", self._path, error)
        return Remembered()
