"""Finding the engine of a data folder, or starting one.

Owns: what `engine.json` and `engine.lock` mean, how an engine process is started so that it outlives its
window, and what its end means in a sentence. Does not know HTTP, and loads nothing heavy: the window uses it
before its first paint. `serve` is the other side.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from engine import own_program
from engine.errors import DataFolderError, EngineUnreachable
from engine.folder_lock import noted_work
from engine.paths import DataFolder

LARGEST_LOG_BYTES = 5_000_000
EXIT_OTHER, EXIT_RUNNING, EXIT_DATA_FOLDER, EXIT_PORT, EXIT_NOT_BACKED_UP, EXIT_CAN_GO_BACK = 1, 3, 4, 5, 6, 7
"""Exit statuses of `seamount serve`, besides 0."""

# An engine is meant to outlive who started it. A Popen that is forgotten while its child runs complains.
_started: list["subprocess.Popen[bytes]"] = []

_LAST_WORDS = re.compile(r"^seamount: (.+)$", re.MULTILINE)
_TAIL_BYTES = 65_536
# Names that only Windows has: a process group and no console of its own.
CREATION_FLAGS: int = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0) | getattr(
    subprocess, "CREATE_NO_WINDOW", 0
)


@dataclass(frozen=True)
class EngineAddress:
    """Where an engine listens, and the key to it."""

    url: str
    key: str
    pid: int


def read_address(folder: DataFolder) -> EngineAddress | None:
    """What `engine.json` says, true or not any more; None when there is none that can be read."""
    try:
        found: Any = json.loads(folder.engine_address.read_bytes())
        return EngineAddress(url=str(found["url"]), key=str(found["key"]), pid=int(found["pid"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def running_engine(folder: DataFolder) -> EngineAddress | None:
    """The engine that serves `folder` now. A file left by a crash is recognised by the free lock."""
    address = read_address(folder)
    if address is None or not psutil.pid_exists(address.pid) or not _is_locked(folder):
        return None
    return address


def long_work(folder: DataFolder) -> str | None:
    """What takes the engine or the command that holds `folder` so long, half a sentence; None when it says nothing."""
    work = noted_work(folder)
    # A file left by a crash is recognised by the process that is gone, or by the free lock.
    if work is None or not psutil.pid_exists(work.pid) or not _is_locked(folder):
        return None
    return work.words


class EngineProcess:
    """An engine started from here. It goes on when this process ends; `linger_s` says for how long."""

    def __init__(self, process: "subprocess.Popen[bytes]", folder: DataFolder, log_start: int) -> None:
        self._process = process
        self._folder = folder
        self._log_start = log_start

    @classmethod
    def start(
        cls, folder: DataFolder, *, linger_s: float | None, arguments: Sequence[str] = ()
    ) -> "EngineProcess":
        """Start `seamount serve` detached, its output going to the engine's log.

        `linger_s`: it ends that long after its last listener has gone; None: it stays. `arguments` are for
        `serve`. Raises DataFolderError, EngineUnreachable.
        """
        folder.create()
        command = own_program.command("--data", str(folder.root), "serve")
        if linger_s is not None:
            command += ["--linger", f"{linger_s:g}"]
        log_start = _rotate(folder.engine_log)
        try:
            log = folder.engine_log.open("ab")
        except OSError as error:
            raise _log_refused(folder.engine_log, error) from error
        try:
            with log:
                process = subprocess.Popen(
                    [*command, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=child_environment(),
                    cwd=folder.root,
                    # Neither the terminal's Ctrl-C nor the window's end reaches it.
                    creationflags=CREATION_FLAGS,
                    start_new_session=sys.platform != "win32",
                )
        except OSError as error:
            raise EngineUnreachable(
                "The engine could not be started",
                error.strerror or str(error),
                "close other programs and try again",
            ) from error
        _started[:] = [earlier for earlier in _started if earlier.poll() is None]
        _started.append(process)
        return cls(process, folder, log_start)

    @property
    def pid(self) -> int:
        """The process that was started; on Windows the engine may be a child of it."""
        return self._process.pid

    def poll(self) -> int | None:
        """Its exit status (negative: the signal that ended it), or None while it runs."""
        return self._process.poll()

    def wait(self, timeout_s: float) -> int | None:
        """Its exit status once it has ended, or None when it still runs after `timeout_s`."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def address(self) -> EngineAddress | None:
        """Where it listens, once it does."""
        address = read_address(self._folder)
        if address is None or self.poll() is not None or not self._is_ours(address.pid):
            return None
        return address

    def failure(self) -> str:
        """The sentence for an engine that has ended: its own last words, or what its exit status means."""
        status = self.poll()
        said = _LAST_WORDS.findall(self._log_tail())
        if said and (status is None or status > 0):
            return str(said[-1])
        return _ended(status, self._folder).text

    def terminate(self) -> None:
        """Ask it to end; where the platform knows asking, it stores and tells what is to be told first."""
        if self.poll() is None:
            self._process.terminate()

    def kill(self) -> None:
        """End it at once."""
        if self.poll() is None:
            self._process.kill()

    def _is_ours(self, pid: int) -> bool:
        if pid == self.pid:
            return True
        # A virtual environment's python.exe on Windows starts the real one as its child.
        try:
            return any(parent.pid == self.pid for parent in psutil.Process(pid).parents())
        except psutil.Error:
            return False

    def _log_tail(self) -> str:
        try:
            with self._folder.engine_log.open("rb") as log:
                end = log.seek(0, os.SEEK_END)
                log.seek(max(min(self._log_start, end), end - _TAIL_BYTES))
                return log.read().decode("utf-8", "replace").replace("\r\n", "\n")
        except OSError:
            return ""


class PuttingBack:
    """`seamount restore --previous`, begun from here: what was there before a newer version's first start."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self._said = b""

    @classmethod
    def start(cls, folder: DataFolder) -> "PuttingBack":
        """Begin. Raises EngineUnreachable."""
        try:
            process = subprocess.Popen(
                own_program.command("--data", str(folder.root), "restore", "--previous"),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=child_environment(),
                cwd=folder.root,
                creationflags=CREATION_FLAGS,
                start_new_session=sys.platform != "win32",
            )
        except OSError as error:
            raise EngineUnreachable(
                "The backup was not restored",
                error.strerror or str(error),
                "close other programs and try again",
            ) from error
        return cls(process)

    def poll(self) -> int | None:
        """Its exit status, or None while it runs."""
        status, errors = self._process.poll(), self._process.stderr
        if status is not None and errors is not None and not errors.closed:
            self._said = errors.read()[-_TAIL_BYTES:]
            errors.close()
        return status

    def failure(self) -> str:
        """Once it has ended: its own last words, or what its exit status means."""
        status = self.poll()
        words = _LAST_WORDS.findall(self._said.decode("utf-8", "replace"))
        if words:
            return str(words[-1])
        return f"The backup was not restored: the command ended with status {status}; try again."


def _is_locked(folder: DataFolder) -> bool:
    lock = FileLock(folder.engine_lock, timeout=0)
    try:
        with lock:
            return False
    except Timeout:
        return True
    except OSError:
        return False


def _ended(status: int | None, folder: DataFolder) -> EngineUnreachable:
    what = "The engine has stopped"
    if status is not None and status < 0:
        remedy = "restart it and continue the answer; the conversation is kept"
        why = f"it was ended from outside ({_signal_name(-status)})"
        if -status == 9:
            why = f"it was ended from outside ({_signal_name(9)}), as the system does when memory runs out"
            remedy += ", and a smaller model or context may help"
        return EngineUnreachable(what, why, remedy)
    if status == 0:
        return EngineUnreachable(what, "it came to its end", "restart it")
    why = f"it ended with status {status}" if status is not None else "it does not answer"
    return EngineUnreachable(what, why, f"restart it; {folder.engine_log} says more")


def _signal_name(number: int) -> str:
    try:
        return f"signal {number}, {signal.Signals(number).name}"
    except ValueError:
        return f"signal {number}"


def _rotate(log: Path) -> int:
    """Keep the log bounded: one old one is kept. Returns where the next line will begin. DataFolderError."""
    try:
        size_bytes = log.stat().st_size
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise _log_refused(log, error) from error
    if size_bytes <= LARGEST_LOG_BYTES:
        return size_bytes
    try:
        log.replace(log.with_suffix(".old.log"))
    except OSError:
        return size_bytes  # another engine still writes it (Windows): it is rotated next time
    return 0


def _log_refused(log: Path, error: OSError) -> DataFolderError:
    return DataFolderError(
        f"The engine's log {log} cannot be written",
        error.strerror or str(error),
        "check your permission to write in the data folder",
    )


def child_environment() -> dict[str, str]:
    """Ours, with the folder that holds the `seamount` package in front: a checkout's or a wheel's. A bundle's program
    brings its packages itself and reads no `PYTHON…` variable; so it gets ours as they are."""
    if own_program.frozen():
        return dict(os.environ)
    rooms = Path(__file__).resolve().parents[1]
    in_wheel = rooms.name == "seamount" and (rooms / "__main__.py").is_file()
    packages = rooms.parent if in_wheel else rooms / "packaging"
    before = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(packages), *([before] if before else [])])
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}
