"""Puts Seamount's own packages first on this process's path and calls the command line."""

import sys
from pathlib import Path

_here = Path(__file__).resolve().parent
# In a wheel the packages lie beside this file; in a checkout they lie at its root.
_root = _here if (_here / "engine").is_dir() else _here.parents[1]


def main() -> int:
    """Run the `seamount` command; returns the process's exit status."""
    sys.path.insert(0, str(_root))
    from engine.cli import main as run

    return run(open_window=_open_window)


def _open_window(data: str | None, request: str | None) -> int:
    # Only here do the two meet: the engine's rooms may not import the window's.
    from app.main import run

    return run(data, request)
