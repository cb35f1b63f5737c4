"""How this program starts itself anew: its commands, and small programs of its own that may crash alone.

Owns: the command lines, from a checkout, an installed package, and a bundle that has no Python beside it. Does not
start anything, and does not know what the programs do. What their end means is said here too.
"""

import signal
import sys
from pathlib import Path

CONSOLE_PROGRAM = "seamount-cli.exe"
"""Beside `seamount.exe` in a bundle for Windows, the same program: one opens no console, the other can be heard."""


def frozen() -> bool:
    """Whether this is a bundle: one executable that is the interpreter too."""
    return bool(getattr(sys, "frozen", False))


def command(*arguments: str) -> list[str]:
    """`seamount` with these arguments, in a process of its own."""
    if frozen():
        return [_bundled_program(), *arguments]
    return [sys.executable, "-P", "-m", "seamount", *arguments]


def code_command(code: str, *arguments: str) -> list[str]:
    """A program of one string, whose `sys.argv[1:]` are the arguments. A bundle's entry knows `-c` too."""
    if frozen():
        return [_bundled_program(), "-c", code, *arguments]
    return [sys.executable, "-P", "-c", code, *arguments]


def _bundled_program() -> str:
    # On Windows a program for windows has no standard output, and what we start is read from: it is the other one.
    beside = Path(sys.executable).with_name(CONSOLE_PROGRAM)
    return str(beside) if sys.platform == "win32" and beside.is_file() else sys.executable


def ending(status: int, errors: str) -> str:
    """What became of a program that did not do its work, as a clause; `errors`: what it wrote to standard error."""
    if status < 0:
        return f"it crashed ({_signal_name(-status)})"
    lines = errors.strip().splitlines()
    return lines[-1] if lines else f"it ended with status {status}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
