"""Getting one wheel by pip: from the index, mirror, proxy or folder that the person has told pip of.

Owns: the process that pip runs in, how far it is, stopping it, and what its failures mean in a sentence. No index is
named here: pip's own configuration counts (its files and the PIP_ variables), without any it is pip's default. Asked is
for one version, wheels only and by its sum, so nothing that comes is built or run. Does not know what becomes of the
file (`installation`).

pip has no interface to be called by, so it is a process; it ends by itself when this one is gone.
"""

import hashlib
import importlib.util
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from engine import fault_points, own_program
from engine.errors import DiskFull, PartBrokeOff, PartError, PartUnreachable, TaskStopped
from engine.launch import CREATION_FLAGS, child_environment
from engine.parts.part_lock import Wheel

_logger = logging.getLogger(__name__)
LOOK_S = 0.2
END_S = 5.0
_LOG_TAIL_BYTES = 4 << 20
_MOST_LOGGED = 2_000
# Its standard input is a pipe that ends with the process that started it. Read by its number: a thread that waits in
# `sys.stdin` makes an interpreter that ends abort.
_PIP_PROGRAM = """
import os, sys, threading
def watch():
    os.read(0, 1)
    os._exit(130)
threading.Thread(target=watch, daemon=True).start()
from pip._internal.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
_NETWORK = re.compile(
    r"connection broken|Failed to establish a new connection|NewConnectionError|NameResolutionError|Max retries "
    r"exceeded|timed out|ProxyError|SSLError|ConnectionResetError|IncompleteRead|"
    r"Network is unreachable|Connection refused|HTTP error|ProtocolError|RemoteDisconnected|IncompleteDownload",
    re.IGNORECASE,
)
_BROKE_OFF = re.compile(
    r"IncompleteDownload|IncompleteRead|ProtocolError|ConnectionResetError|ReadTimeoutError|Read timed out",
    re.I,
)
_FULL = re.compile(r"No space left on device|Errno 28\b|Errno 122\b|Disk quota exceeded", re.IGNORECASE)
_SUM = re.compile(r"DO NOT MATCH THE HASHES|HashMismatch|Got +[0-9a-f]{64}")
_ABSENT = re.compile(r"No matching distribution found|Could not find a version that satisfies")
_SECRET = re.compile(r"(?<=//)[^/@\s]+@")
_NOT = "The part was not installed"


def fetch(
    wheel: Wheel,
    into: Path,
    *,
    find_links: Path | None,
    tell: Callable[[int], None],
    stopped: Callable[[], bool],
) -> Path:
    """Get `wheel` into the private folder `into`; its path there, once its size and sum are right.

    `find_links`: a folder of wheels that is looked into as well. `tell` hears how many bytes of it have come.
    Raises PartError, DiskFull, TaskStopped, OSError.
    """
    if importlib.util.find_spec("pip") is None:
        raise PartError(_NOT, "this Python has no pip", "get it with `python -m ensurepip`, and try again")
    got, temporary, wanted = into / "got", into / "tmp", into / "wanted.txt"
    for folder in (got, temporary):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    # A local version (+cpu) that is there as well must not be taken for the plain one.
    wanted.write_text(f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n", "utf-8")
    arguments = [
        # Only so does it say that an index could not be reached, where it does not try it again.
        *("download", "-vv", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"),
        # What pip keeps for the next time would lie there after the part was removed.
        *("--no-cache-dir", "--no-deps", "--require-hashes", "--only-binary", ":all:"),
        *("--requirement", str(wanted), "--dest", str(got)),
        *(() if find_links is None else ("--find-links", str(find_links))),
    ]
    log = into / "pip.log"
    came_bytes = 0

    def look() -> None:
        nonlocal came_bytes
        came_bytes = max(came_bytes, _largest(got, temporary))
        tell(min(came_bytes, wheel.size_bytes))

    status = _run(arguments, log, temporary, look, stopped)
    if status != 0:
        said = _tail(log)
        _logger.warning("pip did not get %s: %s", wheel.title, said[-_MOST_LOGGED:])
        raise trouble(wheel, status, said, into, came_bytes)
    path = _only_file(got)
    if path is None or path.stat().st_size != wheel.size_bytes or _sum(path) != wheel.sha256:
        raise _other_sum(wheel)
    tell(wheel.size_bytes)
    fault_points.at("part-fetched")
    return path


def _run(
    arguments: list[str],
    log: Path,
    temporary: Path,
    look: Callable[[], None],
    stopped: Callable[[], bool],
) -> int:
    """pip's exit status. Raises TaskStopped, OSError; pip has ended by then in any case."""
    environment = child_environment() | {name: str(temporary) for name in ("TMPDIR", "TEMP", "TMP")}
    # Nothing is put into any environment, so it need not be a virtual one.
    environment["PIP_REQUIRE_VIRTUALENV"] = "0"
    with log.open("wb") as output:
        process = subprocess.Popen(
            own_program.code_command(_PIP_PROGRAM, *arguments),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=temporary,
            creationflags=CREATION_FLAGS,
            start_new_session=sys.platform != "win32",
        )
        try:
            while True:
                try:
                    return process.wait(LOOK_S)
                except subprocess.TimeoutExpired:
                    look()
                if stopped():
                    raise TaskStopped(_NOT, "it was stopped", "begin again when it suits")
        finally:
            _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdin is not None:
        process.stdin.close()


def trouble(wheel: Wheel, status: int, said: str, folder: Path, came_bytes: int = 0) -> PartError | DiskFull:
    """What pip's end means. `said`: its last words; `folder`: where it wrote; `came_bytes`: how much was seen there."""
    if _FULL.search(said):
        return DiskFull(
            _NOT, f"the disk that holds {folder.parent} is full", "free some space there and try again"
        )
    if _SUM.search(said):
        # Of a connection that is closed too early some releases of pip notice only that the sum is wrong.
        return _other_sum(wheel) if came_bytes >= wheel.size_bytes else _cut_or_other(wheel)
    if _NETWORK.search(said):
        kind = PartBrokeOff if _BROKE_OFF.search(said) else PartUnreachable
        return kind(
            _NOT,
            f"{wheel.title} could not be fetched over the network (pip says: {_last_words(said)})",
            "check the network, and the index and proxy that pip is told of, then try again",
        )
    if _ABSENT.search(said):
        return _absent(wheel)
    why = f"pip could not get {wheel.title} (status {status}: {_last_words(said)})"
    return PartError(_NOT, why, "the engine's log says more")


def _absent(wheel: Wheel) -> PartError:
    why = f"pip finds no {wheel.title} for this machine where it looks"
    if "+" in wheel.version:
        return PartError(
            _NOT,
            f"{why}: this build for the processor is not on Python's usual index but on PyTorch's own",
            "name that index to pip (PIP_EXTRA_INDEX_URL, or extra-index-url in its pip.conf), or get the wheel "
            f"{wheel.file} into a folder and run `seamount parts install native --find-links FOLDER`, or take the "
            "larger set with `seamount parts install native --variant cuda`, which computes on the processor too",
        )
    return PartError(
        _NOT,
        why,
        "check which index pip is told of (`pip config list`), or name a folder that has it with --find-links",
    )


def _other_sum(wheel: Wheel) -> PartError:
    return PartError(
        _NOT,
        f"what pip found as {wheel.title} is not the file that Seamount knows (its sum differs)",
        "name another index to pip, or try again later; nothing of it was kept",
    )


def _cut_or_other(wheel: Wheel) -> PartBrokeOff:
    return PartBrokeOff(
        _NOT,
        f"what came as {wheel.title} is not the file that Seamount knows (its sum differs): it was cut off on the "
        "way, or it is another file",
        "try again later, or name another index to pip; nothing of it was kept",
    )


def _largest(*folders: Path) -> int:
    """Bytes of the largest file there: the wheel, under whatever name pip has it at the moment."""
    found = 0
    for folder in folders:
        for parent, _, files in os.walk(folder):
            for name in files:
                try:
                    found = max(found, (Path(parent) / name).stat().st_size)
                except OSError:  # pip has moved it
                    continue
    return found


def _only_file(folder: Path) -> Path | None:
    found = list(folder.iterdir())
    return found[0] if len(found) == 1 and found[0].is_file() and not found[0].is_symlink() else None


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _tail(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
        return _SECRET.sub("", file.read().decode("utf-8", "replace"))


def _last_words(said: str) -> str:
    """The last line that tells something, without pip's level in front and without what an index's address hides."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith("ERROR")] or lines or ["nothing"]
    network = [line for line in lines if _NETWORK.search(line)]
    words = re.sub(r"^(ERROR|WARNING): ", "", (network or telling)[-1])
    return "".join(each for each in _SECRET.sub("", words) if each.isprintable())[:300]
