"""The keys of other programs: `client-keys.json` in the data folder.

Owns: the file's shape, what a secret looks like, and finding the key that a secret opens. The file holds SHA-256
digests of secrets of 256 random bits: who reads it can open nothing, and no keyring has to be unlocked for an engine to
start. (A slow hash is for secrets that can be guessed; these cannot.) A file that is damaged, of a newer Seamount, or
that others may write opens nothing, is left as it is, and does not hold the engine up. Does not know HTTP, nor the
keyring that may keep a secret for its owner (`key_copies`). Any thread.
"""

import contextlib
import hashlib
import hmac
import json
import logging
import os
import secrets
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import Field, ValidationError

from engine.atomic_file import is_disk_full, write_atomically
from engine.conversation import clean_text
from engine.errors import BadRequest, Conflict, DataFolderError, DiskFull, NewerData, NotFound, SeamountError
from engine.protocol_access import ChangeKey, ClientKey, KeyLimits, NewKey, SteadyRules
from engine.protocol_base import Wire

FORMAT = 1
PREFIX = "sm-"
"""What every secret begins with, so that programs which look for leaked secrets can know one."""
LONGEST_SECRET = 200
MOST_KEYS = 100
MAX_BYTES = 1 << 20
WRITE_EVERY_S = 60.0
"""The file is behind with when a key was used last by at most so long, or until the engine ends."""
_WHAT = "Keys of other programs cannot be used"
_AT_ONCE = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)

_log = logging.getLogger(__name__)


class _Kept(Wire):
    """A key as the file has it."""

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    name: Annotated[str, Field(min_length=1, max_length=80)]
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    created_at: float
    last_used_at: float | None = None
    last_used_by: Annotated[str, Field(max_length=200)] = ""
    is_network: bool = False
    is_kept: bool = False
    limits: KeyLimits = KeyLimits()
    steady: SteadyRules = SteadyRules()

    def shown(self) -> ClientKey:
        return ClientKey.model_validate(self.model_dump(exclude={"digest"}))


class _File(Wire):
    format: Literal[1]
    keys: Annotated[list[_Kept], Field(max_length=MOST_KEYS)]


class ClientKeys:
    """The keys of one data folder, read once. `clock` gives Unix seconds."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: dict[str, _Kept] = {}
        self._problem: SeamountError | None = None
        self._written_at = clock()
        self._unwritten = False
        self._read()

    @property
    def problem(self) -> SeamountError | None:
        """Why no key counts; None where the file is in order."""
        return self._problem

    def listed(self) -> list[ClientKey]:
        """All keys, the oldest first."""
        with self._lock:
            return [each.shown() for each in self._keys.values()]

    def find(self, secret: bytes) -> ClientKey | None:
        """The key that `secret` opens. Takes as long whichever it is, or none."""
        if len(secret) > LONGEST_SECRET:
            return None
        digest = hashlib.sha256(secret).hexdigest()
        found: _Kept | None = None
        with self._lock:
            for each in self._keys.values():
                if hmac.compare_digest(each.digest, digest):
                    found = each
        return found.shown() if found else None

    def get(self, key_id: str) -> ClientKey:
        """The key of that id. Raises NotFound."""
        with self._lock:
            return self._get(key_id).shown()

    def make(self, asked: NewKey) -> tuple[ClientKey, str]:
        """(a new key, its secret, which is nowhere else). Raises BadRequest, Conflict for a name that there is
        already and for too many, DataFolderError and its kinds."""
        name = _checked_name(asked.name)
        secret = PREFIX + secrets.token_urlsafe(32)
        with self._lock:
            self._refuse_where_damaged()
            self._refuse_taken(name, None)
            if len(self._keys) >= MOST_KEYS:
                raise Conflict(
                    "No key was made", f"there are {MOST_KEYS} already", "revoke those that are not used"
                )
            key = _Kept(
                id=secrets.token_hex(8),
                name=name,
                digest=hashlib.sha256(secret.encode()).hexdigest(),
                created_at=self._clock(),
                is_network=asked.is_network,
            )
            self._write({**self._keys, key.id: key})
            return key.shown(), secret

    def change(self, key_id: str, asked: ChangeKey) -> ClientKey:
        """Change what is named. Raises NotFound, BadRequest, Conflict, DataFolderError and its kinds."""
        given: dict[str, Any] = {}
        if asked.name is not None:
            given["name"] = _checked_name(asked.name)
        if asked.limits is not None:
            given["limits"] = asked.limits
        if asked.steady is not None:
            given["steady"] = asked.steady
        with self._lock:
            key = self._get(key_id).model_copy(update=given)
            self._refuse_taken(key.name, key_id)
            self._write({**self._keys, key_id: key})
            return key.shown()

    def note_kept(self, key_id: str, *, is_kept: bool) -> ClientKey:
        """The keyring has its secret now, or not any more. Raises NotFound, DataFolderError and its kinds."""
        with self._lock:
            key = self._get(key_id).model_copy(update={"is_kept": is_kept})
            self._write({**self._keys, key_id: key})
            return key.shown()

    def revoke(self, key_id: str) -> ClientKey:
        """It opens nothing from now on. Raises NotFound; DataFolderError and its kinds where the file still has it: it
        opens nothing all the same while this engine runs, which tries again to write that."""
        with self._lock:
            key = self._get(key_id)
            left = {name: each for name, each in self._keys.items() if name != key_id}
            try:
                self._write(left)
            except DataFolderError as error:
                # Who revokes a key may know that another has it: that cannot wait for a disk.
                self._keys, self._unwritten = left, True
                raise type(error)(
                    f"The key {key.name!r} opens nothing while this engine runs, but would after a restart",
                    error.why,
                    "free some space or give yourself permission to write there before the engine ends",
                ) from error
            return key.shown()

    def used(self, key_id: str, program: str) -> None:
        """It was used just now. The file follows by and by. Raises nothing; a key that is gone is not brought back."""
        now = self._clock()
        with self._lock:
            key = self._keys.get(key_id)
            if key is None:
                return
            update = {"last_used_at": now, "last_used_by": program[:200]}
            self._keys[key_id] = key.model_copy(update=update)
            self._unwritten = True
            due = now - self._written_at >= WRITE_EVERY_S
            if due:
                self._written_at = now
        if due:
            # The event loop does not wait for the disk.
            threading.Thread(target=self.settle, name="keys", daemon=True).start()

    def settle(self) -> None:
        """Write what is not yet written: when keys were used, which were revoked. Raises nothing."""
        with self._lock:
            if self._unwritten and self._problem is None:
                try:
                    self._write(self._keys)
                except SeamountError as error:
                    _log.warning("what is so of keys now is not kept: %s", error.text)

    # --- inside, with the lock held -------------------------------------------------------------------

    def _get(self, key_id: str) -> _Kept:
        key = self._keys.get(key_id)
        if key is None:
            raise NotFound(
                "There is no such key", "it was revoked, or never made", "look at the list of keys"
            )
        return key

    def _refuse_taken(self, name: str, own_id: str | None) -> None:
        if any(each.name == name and each.id != own_id for each in self._keys.values()):
            raise Conflict("The key was not named so", f"another is called {name!r}", "choose another name")

    def _refuse_where_damaged(self) -> None:
        if self._problem is not None:
            raise self._problem

    def _read(self) -> None:
        try:
            # A pipe that somebody put there would never be opened if it were waited for.
            with os.fdopen(os.open(self._path, os.O_RDONLY | _AT_ONCE), "rb") as file:
                _refuse_others_files(os.fstat(file.fileno()))
                content = file.read(MAX_BYTES + 1)
            if len(content) > MAX_BYTES:
                raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
            table: Any = json.loads(content)
            written = cast("dict[str, Any]", table).get("format") if isinstance(table, dict) else None
            if isinstance(written, int) and not isinstance(written, bool) and written > FORMAT:
                self._problem = NewerData(
                    _WHAT,
                    f"a newer Seamount wrote {self._path} (format {written}; this Seamount knows {FORMAT})",
                    "use that Seamount, or move the file away and make new keys",
                )
                return
            keys = _File.model_validate(table).keys
            self._keys = {each.id: each for each in keys}
            if len(self._keys) != len(keys) or len({each.digest for each in keys}) != len(keys):
                self._keys = {}
                raise ValueError("a key is in it twice")
        except FileNotFoundError:
            return
        except OSError as error:
            self._problem = DataFolderError(
                _WHAT,
                f"{self._path} cannot be read ({error.strerror or error})",
                "give yourself permission to read it, and restart the engine",
            )
        except ValidationError as error:
            place = ".".join(str(step) for step in error.errors(include_url=False)[0]["loc"])
            self._problem = _damaged(self._path, f"its {place or 'content'} is not what it should be")
        except (ValueError, RecursionError) as error:
            words = "it is not JSON" if isinstance(error, json.JSONDecodeError) else str(error)
            self._problem = _damaged(self._path, words)

    def _write(self, keys: dict[str, _Kept]) -> None:
        """The file and what counts become `keys`, or neither. Raises DataFolderError and its kinds."""
        self._refuse_where_damaged()
        body = {"format": FORMAT, "keys": [each.model_dump() for each in keys.values()]}
        try:
            write_atomically(self._path, json.dumps(body, indent=1).encode() + b"\n")
        except OSError as error:
            what = "The keys of other programs cannot be kept"
            if is_disk_full(error):
                raise DiskFull(
                    what,
                    f"the disk that holds {self._path.parent} is full",
                    "free some space there and try again",
                ) from error
            raise DataFolderError(
                what,
                f"{self._path} cannot be written ({error.strerror or error})",
                "give yourself permission to write there",
            ) from error
        self._keys = dict(keys)
        self._written_at = self._clock()
        self._unwritten = False


def _checked_name(name: str) -> str:
    """One line of text, without what cannot be seen. Raises BadRequest."""
    cleaned = " ".join("".join(each for each in clean_text(name)[0] if each.isprintable()).split())
    if not cleaned:
        raise BadRequest("The key was not named so", "the name is empty", "say which program it is for")
    return cleaned


def _refuse_others_files(found: os.stat_result) -> None:
    """Who could write the file could let himself in. Of the open file, since its name may be another's by now. Raises
    ValueError."""
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("it is no file")
    if not hasattr(os, "geteuid"):
        return  # Windows: who may write in a user's folder is the folder's affair
    if found.st_uid != os.geteuid():
        raise ValueError("it belongs to another user")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ValueError("other users may write it")


def _damaged(path: Path, why: str) -> DataFolderError:
    with contextlib.suppress(OSError):
        _log.warning("%s opens nothing: %s", path, why)
    return DataFolderError(
        _WHAT, f"{path} is not in order: {why}", "move the file away, restart the engine and make new keys"
    )
