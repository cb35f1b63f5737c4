"""Where things lie on disk.

Owns: the names inside the data folder. Does not know what is in the files. The folder is the platform's
own place for a user's data, or what `--data` or the environment variable `SEAMOUNT_DATA` names.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from engine.atomic_file import is_disk_full
from engine.errors import DataFolderError, DiskFull

DATA_VARIABLE = "SEAMOUNT_DATA"


@dataclass(frozen=True)
class DataFolder:
    """The data folder and the places in it (DESIGN: models, sessions.db, settings.toml, logs)."""

    root: Path

    @property
    def models(self) -> Path:
        """GGUF files and checkpoints."""
        return self.root / "models"

    @property
    def llama_builds(self) -> Path:
        """A folder for each build of llama.cpp that may be used in place of llama-cpp-python's own."""
        return self.root / "llama.cpp"

    @property
    def parts(self) -> Path:
        """Optional parts of the program, a folder for each set of packages; can be installed anew."""
        return self.root / "parts"

    @property
    def sessions_db(self) -> Path:
        """The session store, SQLite in WAL mode."""
        return self.root / "sessions.db"

    @property
    def journals(self) -> Path:
        """A folder for each session that answers were cut off in, with the journal of its turns."""
        return self.root / "sessions"

    @property
    def snapshots(self) -> Path:
        """States of contexts, a file each; can be deleted, and is then read again."""
        return self.root / "snapshots"

    @property
    def encryption(self) -> Path:
        """That conversations are to be encrypted, or not any more, from the next start on; JSON."""
        return self.root / "encryption.json"

    @property
    def version_note(self) -> Path:
        """Which Seamount used this folder last, and the backups made before newer ones did; JSON."""
        return self.root / "version.json"

    @property
    def backups(self) -> Path:
        """What was backed up before a newer Seamount used this folder for the first time."""
        return self.root / "backups"

    @property
    def updates(self) -> Path:
        """What was found when a newer version was looked for last, JSON."""
        return self.root / "updates.json"

    @property
    def settings(self) -> Path:
        """What the person chose, TOML."""
        return self.root / "settings.toml"

    @property
    def remotes(self) -> Path:
        """The models on other machines, JSON; their keys are elsewhere."""
        return self.root / "remotes.json"

    @property
    def window_state(self) -> Path:
        """Geometry and theme of the window, INI; the engine never reads it."""
        return self.root / "window.ini"

    @property
    def jobs(self) -> Path:
        """A folder for each conversion: what was asked, its events, its course."""
        return self.root / "jobs"

    @property
    def logs(self) -> Path:
        """Log files of the engine and the window."""
        return self.root / "logs"

    @property
    def engine_log(self) -> Path:
        """What the engine prints: llama.cpp's log and ours."""
        return self.logs / "engine.log"

    @property
    def engine_lock(self) -> Path:
        """Locked by the one engine that serves this folder; a crash releases it."""
        return self.root / "engine.lock"

    @property
    def long_work(self) -> Path:
        """What takes whoever has the lock so long, JSON; there only meanwhile."""
        return self.root / "engine-work.json"

    @property
    def client_keys(self) -> Path:
        """Digests of the keys of other programs, JSON; a secret is in none of its lines."""
        return self.root / "client-keys.json"

    @property
    def access(self) -> Path:
        """The port of last time, and whether the network's socket is wanted and how, JSON."""
        return self.root / "access.json"

    @property
    def network_certificate(self) -> Path:
        """The certificate that was generated for the network's socket, PEM."""
        return self.root / "network-certificate.pem"

    @property
    def network_key(self) -> Path:
        """Its private key, PEM, readable by its owner alone."""
        return self.root / "network-key.pem"

    @property
    def engine_address(self) -> Path:
        """Address and key of the running engine, JSON, readable by its owner alone."""
        return self.root / "engine.json"

    def create(self) -> None:
        """Make the folders. Raises DataFolderError when the folder cannot be written."""
        try:
            # Conversations are for their owner's eyes: a new data folder is closed to other users.
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            for folder in (self.models, self.logs):
                folder.mkdir(exist_ok=True)
            probe = self.root / f".write-test-{os.getpid()}"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            if is_disk_full(error):
                raise DiskFull(
                    f"Seamount cannot write to its data folder {self.root}",
                    "the disk that holds it is full",
                    "free some space there and try again",
                ) from error
            raise DataFolderError(
                f"Seamount cannot write to its data folder {self.root}",
                error.strerror or str(error),
                f"give yourself permission to write there, or name another folder in {DATA_VARIABLE}",
            ) from error


def data_folder(named: str | os.PathLike[str] | None = None) -> DataFolder:
    """The data folder: `named`, else `SEAMOUNT_DATA`, else the platform's place. Creates nothing.

    Raises DataFolderError for a `~` that stands for nobody's home.
    """
    chosen = named or os.environ.get(DATA_VARIABLE) or platformdirs.user_data_dir("seamount", appauthor=False)
    try:
        return DataFolder(Path(chosen).expanduser().absolute())
    except RuntimeError as error:
        raise DataFolderError(
            f"{chosen} cannot be the data folder", "there is no such home folder", "write the whole path"
        ) from error
