"""Where the key of a data folder lies: in the system's keyring, or in a file that the environment names.

Owns: under which name it lies in the keyring, and what is said when it is not there or cannot be kept. A key lies in
the form of `recovery_key`, under its own id, so that a new one never takes an older one's place: what is still
sealed with that can always be opened. Does not know what keys are for. Nothing here shows one when it is printed.

The file is for machines without a keyring, such as servers: `SEAMOUNT_RECOVERY_KEY_FILE` names it, and who sets that
answers for where it lies. It must not lie in the data folder, which it is to protect.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from engine.atomic_file import sync_folder
from engine.errors import BadRequest, KeyMissing, KeyNotKept
from engine.store import recovery_key
from engine.store.sealed_columns import key_missing
from engine.store.sealing import MasterKey
from engine.system_keyring import SERVICE, KeyringUnusableError, told, usable_keyring, waited

KEY_FILE_VARIABLE = "SEAMOUNT_RECOVERY_KEY_FILE"
LOOK_TIMEOUT_S = 60.0
"""How long a person may take to unlock the keyring when the engine starts or a key is to be kept."""

KeyPlace = Literal["keyring", "file"]


class Keys:
    """The keys that this user has. Any thread may call it; a keyring may take its time."""

    def __init__(
        self,
        data_folder: Path,
        environment: Mapping[str, str] = os.environ,
        timeout_s: float = LOOK_TIMEOUT_S,
    ) -> None:
        self._data_folder = data_folder
        self._file = environment.get(KEY_FILE_VARIABLE, "").strip()
        self._timeout_s = timeout_s

    @property
    def place(self) -> KeyPlace:
        """Where keys are looked for and kept."""
        return "file" if self._file else "keyring"

    def new(self) -> MasterKey:
        """A key to begin with: that of the file, where one is named and there, else a random one, not yet kept.

        Raises KeyNotKept for a file that holds no key.
        """
        if self._file and (path := self._checked_file()).exists():
            return self._read(path)
        return MasterKey.new()

    def find(self, key_id: str) -> MasterKey:
        """The key of that id. Raises KeyMissing, which says why it is not here."""
        try:
            found = self._read(self._checked_file()) if self._file else self._in_keyring(key_id)
        except KeyNotKept as error:
            raise key_missing(key_id, error.why) from error
        except KeyringUnusableError as error:
            raise key_missing(key_id, f"their key cannot be fetched, because {error}") from error
        if found is None:
            raise key_missing(key_id, "their key is not in the keyring")
        if found.id != key_id:
            raise key_missing(key_id, "the key that was found is not theirs")
        return found

    def keep(self, key: MasterKey) -> KeyPlace:
        """Keep `key`, and look that it is there. Raises KeyNotKept."""
        if self._file:
            self._write(self._checked_file(), key)
        else:
            try:
                waited(lambda: _keep(key), self._timeout_s)
            except KeyringUnusableError as error:
                raise _not_kept(
                    str(error),
                    "set up the system's keyring, or name a file for the key outside the data folder in "
                    f"{KEY_FILE_VARIABLE}",
                ) from error
        try:
            self.find(key.id)
        except KeyMissing as error:
            raise _not_kept("it was not there when it was looked for", "try again") from error
        return self.place

    def is_in_keyring(self, key_id: str) -> bool:
        """Whether the keyring has it. Raises KeyringUnusableError."""
        return waited(lambda: _find(key_id), self._timeout_s) is not None

    def forget(self, key_id: str) -> None:
        """Take it out of the keyring; what is sealed with it opens with its recovery key alone from then on. A file
        that holds a key is a person's, and stays. Raises KeyringUnusableError."""
        waited(lambda: _forget(key_id), self._timeout_s)

    # --- inside -------------------------------------------------------------------------------------

    def _in_keyring(self, key_id: str) -> MasterKey | None:
        text = waited(lambda: _find(key_id), self._timeout_s)
        try:
            return None if text is None else recovery_key.read(text)
        except BadRequest as error:
            raise KeyringUnusableError(f"what the keyring holds for it is no key ({error.why})") from None

    def _checked_file(self) -> Path:
        path = Path(self._file).expanduser()
        if not path.is_absolute():
            raise _not_kept(f"{KEY_FILE_VARIABLE} does not name a whole path", "write the whole path")
        if path.resolve().is_relative_to(self._data_folder.resolve()):
            raise _not_kept(
                f"the file {path} lies in the data folder, which it is to protect", "name a file elsewhere"
            )
        return path

    def _read(self, path: Path) -> MasterKey:
        remedy = f"look whether {KEY_FILE_VARIABLE} names the right file"
        try:
            with path.open("rb") as file:
                content = file.read(recovery_key.LONGEST_TYPED + 1)
            return recovery_key.read(content.decode("ascii"))
        except OSError as error:
            raise _not_kept(f"{path} cannot be read ({error.strerror})", remedy) from error
        except (UnicodeDecodeError, BadRequest):
            raise _not_kept(f"{path} holds no recovery key", remedy) from None

    def _write(self, path: Path, key: MasterKey) -> None:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            if self._read(path).id != key.id:
                raise _not_kept(f"{path} holds another key", "name another file") from None
            return
        except OSError as error:
            raise _not_kept(f"{path} cannot be written ({error.strerror})", "name another file") from error
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(recovery_key.written(key).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            path.unlink(missing_ok=True)
            raise _not_kept(f"{path} cannot be written ({error.strerror})", "name another file") from error
        sync_folder(path.parent)


# --- the keyring, in a thread of its own -----------------------------------------------------------------


def _name(key_id: str) -> str:
    return f"conversations {key_id}"


def _find(key_id: str) -> str | None:
    backend, _ = usable_keyring()
    return told(lambda: backend.get_password(SERVICE, _name(key_id)))


def _keep(key: MasterKey) -> None:
    backend, _ = usable_keyring()
    told(lambda: backend.set_password(SERVICE, _name(key.id), recovery_key.written(key)))


def _forget(key_id: str) -> None:
    backend, _ = usable_keyring()
    if told(lambda: backend.get_password(SERVICE, _name(key_id))) is not None:
        told(lambda: backend.delete_password(SERVICE, _name(key_id)))


def _not_kept(why: str, remedy: str) -> KeyNotKept:
    return KeyNotKept("The key of the conversations cannot be kept or read", why, remedy)
