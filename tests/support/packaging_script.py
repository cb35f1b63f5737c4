"""Scripts under packaging/ as modules: they lie in no package, and find each other by the path of the one that runs.

Owns: loading one. Does not know what it does.
"""

import importlib
import sys
from pathlib import Path
from typing import Any

PACKAGING = Path(__file__).resolve().parents[2] / "packaging"


def script(place: str) -> Any:
    """`bundle/licences` → that module; the scripts beside it can be imported by it, under their own names."""
    folder, _, name = place.rpartition("/")
    for path in (PACKAGING / "bundle", PACKAGING / "linux", PACKAGING / folder):
        if str(path) not in sys.path:
            sys.path.append(str(path))
    return importlib.import_module(name)
