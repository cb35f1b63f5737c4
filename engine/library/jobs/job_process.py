"""The process of a job: started so that it outlives the engine, and found again by another one.

Owns: what a job's command line is, handing it the access token, and telling our process from a stranger that got its
number. Does not know why it is started or stopped (`jobs`), or what it does (`work`). No shell sees anything of it. The
token goes through the process's standard input alone: arguments and environment can be read by others.
"""

import contextlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from engine import own_program
from engine.launch import CREATION_FLAGS, child_environment

SAME_START_S = 2.0
"""The system's word on when a process began moves a little when its clock is set."""

# A job is meant to outlive who started it. A Popen that is forgotten while its child runs complains.
_started: dict[int, "subprocess.Popen[bytes]"] = {}


def arguments_of(folder: Path) -> list[str]:
    """The arguments of `seamount` for the job in this folder."""
    return ["work", str(folder)]


def start(
    arguments: Sequence[str], events: Path, errors: Path, access: tuple[str, str] | None
) -> tuple[int, float | None]:
    """Start `seamount` detached, what it prints going to the end of `events`; its pid and when it began.

    It finds one line on its standard input: `access`, which is a hub's address and the token for it, with a space
    between them; or nothing. Raises OSError.
    """
    with events.open("ab") as output, errors.open("wb") as complaints:
        process = subprocess.Popen(
            own_program.command(*arguments),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=complaints,
            env=child_environment(),
            cwd=events.parent,
            # Neither Ctrl-C in a terminal nor the end of window and engine reaches it.
            creationflags=CREATION_FLAGS,
            start_new_session=sys.platform != "win32",
        )
    _started[process.pid] = process
    # A process that has ended already says so itself.
    with contextlib.suppress(OSError):
        if process.stdin is not None:
            with process.stdin as pipe:
                pipe.write(" ".join(access or ()).encode() + b"\n")
    try:
        return process.pid, psutil.Process(process.pid).create_time()
    except psutil.Error:
        return process.pid, None


def is_running(pid: int, started_at: float | None, arguments: Sequence[str]) -> bool:
    """Whether the process with this number is still the one that was started with `arguments`."""
    return _found(pid, started_at, arguments) is not None


def find(arguments: Sequence[str]) -> tuple[int, float] | None:
    """(pid, start) of a process of ours that runs with exactly these arguments, whoever started it."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if _has(process, arguments) and process.status() != psutil.STATUS_ZOMBIE:
                return process.pid, process.create_time()
    return None


def stop(pid: int, started_at: float | None, arguments: Sequence[str], *, at_once: bool = False) -> None:
    """Ask it to stop, or end it at once; nothing if it is not there any more."""
    process = _found(pid, started_at, arguments)
    if process is None:
        return
    with contextlib.suppress(psutil.Error):
        # A virtual environment's python.exe on Windows has the real one as its child.
        for each in [*process.children(recursive=True), process]:
            with contextlib.suppress(psutil.Error):
                if at_once:
                    each.kill()
                else:
                    each.terminate()


def _found(pid: int, started_at: float | None, arguments: Sequence[str]) -> psutil.Process | None:
    ours = _started.get(pid)
    if ours is not None and ours.poll() is not None:
        del _started[pid]  # it is gathered in: its number may be anybody's now
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        began_then = started_at is not None and abs(process.create_time() - started_at) < SAME_START_S
        return process if began_then or _has(process, arguments) else None
    except psutil.Error:
        return None


def _has(process: psutil.Process, arguments: Sequence[str]) -> bool:
    command = process.cmdline()
    return command[-len(arguments) :] == list(arguments) and "seamount" in command[: -len(arguments)]
