"""Everything of Seamount's on this machine but the program itself: what there is, and removing it for good.

Owns: the one list of names of a data folder, what beside it is Seamount's (entries of the keyring), and the order of
removal. A name that is not in the list is somebody else's and stays; a link is removed and what it leads to stays; a
disk that is mounted inside stays. Does not ask anybody (`forget_command`), nor remove programs.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from engine import kept_secrets
from engine.access.key_copies import name_of
from engine.access.keys import ClientKeys
from engine.data_version import read_note
from engine.errors import BadRequest, DataFolderError
from engine.library.added_files import AddedFiles
from engine.library.credentials import forget_kept, is_kept
from engine.library.hub_place import HUB, endpoint_of, host_of
from engine.paths import DataFolder
from engine.protocol import Settings
from engine.remote_file import remote_names
from engine.settings import settings_now
from engine.store.encryption import Encryption
from engine.store.keys import KEY_FILE_VARIABLE, Keys
from engine.system_keyring import NONE_HERE, KeyringUnusableError

_BROKEN = r"(\.broken-\d{8}-\d{6}(-\d+)?)?"
_SQLITE = r"(-journal|-wal|-shm)?"
_KINDS: tuple[tuple[str, str], ...] = (
    ("models and checkpoints", r"models"),
    ("builds of llama.cpp", r"llama\.cpp"),
    ("optional parts of the program", r"parts"),
    ("what models have read", r"snapshots"),
    ("downloads and conversions, their course", r"jobs"),
    ("what the engine told of its work", r"logs"),
    ("backups before newer versions", r"backups"),
    ("what restores have put aside", r"before-restore-\d{8}-\d{6}(-\d{1,4})?|\.restoring|restore\.json"),
    ("answers that were being written", r"sessions"),
    ("copies of conversations", rf"sessions\.db(\.backup-v\d+-\d{{8}}(\.part)?|\.resealing){_SQLITE}"),
    ("conversations", rf"sessions\.db(\.reserve|{_SQLITE})"),
    (
        "keys of other programs, and their way in",
        r"(client-keys|access)\.json|network-(certificate|key)\.pem",
    ),
    (
        "settings and choices",
        rf"(settings|catalogue)\.toml{_BROKEN}|placement\.json{_BROKEN}|encryption\.json",
    ),
    ("models on other machines", r"remotes\.json"),
    ("what was measured and found", r"(hardware|threads|updates)\.json"),
    ("the window's places and sizes", r"window\.ini(\.lock)?"),
    ("files half written", r"\.[a-z.-]+\.[0-9a-f]{12}\.part|\.write-test-\d+|window\.ini\.[A-Za-z0-9]{6}"),
    ("the engine's address and notes", r"engine(-work)?\.json"),
    ("which version was here", r"version\.json"),
    ("the folder's lock", r"engine\.lock"),
)
"""What each is for people, and its names. In this order they go: what tells that the folder is Seamount's goes last, so
that a removal that was cut off can be gone on with."""
_PATTERNS = tuple((words, re.compile(pattern, re.ASCII)) for words, pattern in _KINDS)
_WITHOUT_KEY = "backups that are kept elsewhere then open with its recovery key alone"
LOOK_TIMEOUT_S = 20.0
"""How long a person may take to unlock the keyring."""
_SQLITE_MAGIC = b"SQLite format 3\x00"


@dataclass(frozen=True)
class Removable:
    """One entry of the data folder. `kind`: what it is, for people."""

    path: Path
    kind: str
    size_bytes: int
    files: int
    leads_to: str | None = None
    """Of a link: where; that stays."""


@dataclass(frozen=True)
class KeyringEntry:
    """One of Seamount's in the system's keyring. `kind` for people; `forget` removes it, and raises
    KeyringUnusableError."""

    kind: str
    forget: Callable[[], None]


@dataclass(frozen=True)
class Inventory:
    """What would go, and what stays, each a sentence."""

    root: Path
    removable: tuple[Removable, ...]
    keyring: tuple[KeyringEntry, ...]
    stays: tuple[str, ...]

    @property
    def size_bytes(self) -> int:
        """Of all files that would go."""
        return sum(each.size_bytes for each in self.removable)

    @property
    def is_empty(self) -> bool:
        """Nothing of Seamount's is there."""
        return not self.removable and not self.keyring


def inventory(folder: DataFolder) -> Inventory:
    """What there is. Changes nothing. Raises BadRequest for a folder that cannot be Seamount's, DataFolderError."""
    root = folder.root
    try:
        names = sorted(path.name for path in root.iterdir())
    except FileNotFoundError:
        names = []
    except OSError as error:
        raise DataFolderError(
            f"The data folder {root} cannot be read",
            error.strerror or str(error),
            "check your permission there",
        ) from error
    _refuse_others(folder, names)
    removable: list[Removable] = []
    stays: list[str] = []
    unknown: list[str] = []
    for name in names:
        kind = _kind_of(name)
        if kind is None:
            unknown.append(name)
            continue
        try:
            removable.append(_measured(root / name, kind))
        except _MountedError as error:
            stays.append(f"{root / name} stays, because {error} is a disk of its own.")
    if unknown:
        stays.append(f"Not Seamount's, so it stays in {root}: {_listed(unknown)}.")
    order = [words for words, _ in _KINDS]
    removable.sort(key=lambda each: order.index(each.kind))
    entries, silent = _keyring_entries(folder)
    stays += [*_elsewhere(folder), *([silent] if silent else [])]
    return Inventory(root, tuple(removable), tuple(entries), tuple(stays))


def remove(found: Inventory, told: Callable[[Removable], None] = lambda _each: None) -> list[str]:
    """Remove all of it; sentences for what could not be. `told` is called before each entry goes.

    The keyring first: what tells which entries are Seamount's lies in the folder.
    """
    problems: list[str] = []
    for entry in found.keyring:
        try:
            entry.forget()
        except KeyringUnusableError as error:
            problems.append(f"{entry.kind[:1].upper()}{entry.kind[1:]} stays in the keyring: {error}.")
    for each in found.removable:
        told(each)
        try:
            _remove(each.path)
        except FileNotFoundError:
            continue
        except OSError as error:
            problems.append(f"{error.filename or each.path} could not be removed: {error.strerror or error}.")
    with contextlib.suppress(OSError):  # what stays is told already; a link to the folder stays, too
        found.root.rmdir()
    return problems


# --- the folder ------------------------------------------------------------------------------------------


class _MountedError(Exception):
    """A disk is mounted inside; the message is where."""


def _kind_of(name: str) -> str | None:
    return next((words for words, pattern in _PATTERNS if pattern.fullmatch(name)), None)


def _refuse_others(folder: DataFolder, names: list[str]) -> None:
    """Names such as `models` and `logs` are anybody's: only a folder that is known by more is touched."""
    root, what = folder.root, "Nothing was removed"
    home = Path.home().resolve()
    if home.is_relative_to(root.resolve()):
        raise BadRequest(
            what, f"{root} is the home folder, or holds it", "remove what is Seamount's there by hand"
        )
    if not names:
        return
    known = read_note(folder) is not None or "engine.lock" in names or _is_store(folder.sessions_db)
    if not known:
        raise BadRequest(
            what, f"{root} does not look like a data folder of Seamount", "name the right one with --data"
        )


def _is_store(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_SQLITE_MAGIC)) == _SQLITE_MAGIC
    except OSError:
        return False


def _measured(path: Path, kind: str) -> Removable:
    """Raises _MountedError."""
    if path.is_symlink():
        return Removable(path, kind, 0, 0, leads_to=str(path.readlink()))
    if not path.is_dir():
        try:
            return Removable(path, kind, path.stat().st_size, 1)
        except OSError:
            return Removable(path, kind, 0, 1)
    size_bytes = files = 0
    for above, folders, names in os.walk(path, followlinks=False):
        if os.path.ismount(above):
            raise _MountedError(above)
        for name in [*names, *folders]:
            each = Path(above, name)
            if each.is_symlink() or name in names:
                files += 1
                try:
                    size_bytes += each.lstat().st_size
                except OSError:
                    continue
    return Removable(path, kind, size_bytes, files)


def _remove(path: Path) -> None:
    """A folder whole, never through a link. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _listed(names: list[str], most: int = 5) -> str:
    shown = [each if each.isprintable() else ascii(each) for each in names[:most]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


# --- elsewhere -------------------------------------------------------------------------------------------


def _elsewhere(folder: DataFolder) -> Iterator[str]:
    """What Seamount knows of outside the folder; that is a person's."""
    added = AddedFiles(folder.models / "added.json").read()
    paths = [*added.models, *added.checkpoints]
    if paths:
        yield f"Models that were added where they lie stay there: {_listed(paths)}."
    if key_file := os.environ.get(KEY_FILE_VARIABLE, "").strip():
        yield f"The file {key_file}, which {KEY_FILE_VARIABLE} names for the key of conversations, stays."
    fetched = settings_now(folder.settings, Settings()).checkpoints_folder
    if fetched and Path(fetched).is_dir():
        yield f"What was downloaded to {fetched} stays there."


# --- the keyring -----------------------------------------------------------------------------------------


def _keyring_entries(folder: DataFolder) -> tuple[list[KeyringEntry], str | None]:
    """Those that belong to this folder, and why the keyring could not be asked, if so. A keyring has no list of one
    program's entries that all systems give, so each name that this folder can have led to is looked for."""
    found: list[KeyringEntry] = []
    keys = Keys(folder.root, environment={}, timeout_s=LOOK_TIMEOUT_S)
    try:
        found += [
            KeyringEntry(f"the access token for {host_of(endpoint)}", partial(forget_kept, endpoint))
            for endpoint in _endpoints(folder)
            if is_kept(endpoint)
        ]
        found += [
            KeyringEntry(f"the key for the model {name}", partial(kept_secrets.forget_kept, remote_id))
            for remote_id, name in remote_names(folder.remotes)
            if kept_secrets.is_kept(remote_id)
        ]
        found += [
            KeyringEntry(
                f"the key of the program {key.name!r}", partial(kept_secrets.forget_kept, name_of(key.id))
            )
            for key in ClientKeys(folder.client_keys).listed()
            if key.is_kept and kept_secrets.is_kept(name_of(key.id))
        ]
        found += [
            KeyringEntry(
                f"the key {key_id} of encrypted conversations: {_WITHOUT_KEY}", partial(keys.forget, key_id)
            )
            for key_id in sorted(Encryption(folder).key_ids())
            if keys.is_in_keyring(key_id)
        ]
    except KeyringUnusableError as error:
        if str(error) == NONE_HERE:
            return found, None  # so nothing was ever kept in one
        return (
            found,
            f"The keyring could not be asked, because {error}; what it may hold of Seamount's stays.",
        )
    return found, None


def _endpoints(folder: DataFolder) -> list[str]:
    named = [HUB]
    with contextlib.suppress(BadRequest):
        named.append(endpoint_of(settings_now(folder.settings, Settings())))
    return list({host_of(each): each for each in named}.values())
