"""The llama.cpp for any processor that the bundle carries, where `packaging/llama_portable.py` has built it."""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

SCRIPT = Path(__file__).resolve().parents[2] / "packaging" / "llama_portable.py"
FOLDER_VARIABLE = "SEAMOUNT_PORTABLE_LLAMA"
"""Names the folder of one that was built elsewhere."""
HOW = "python packaging/llama_portable.py"


def script() -> ModuleType:
    """The script as a module of its own."""
    beside = str(SCRIPT.parent)
    sys.path.insert(0, beside)
    try:
        spec = importlib.util.spec_from_file_location("seamount_llama_portable", SCRIPT)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(beside)


def portable_folder() -> Path | None:
    """Where its libraries lie; None where it is not built, or cannot be on this machine."""
    if named := os.environ.get(FOLDER_VARIABLE):
        return Path(named)
    if not sys.platform.startswith("linux"):
        return None
    module = script()
    try:
        folder: Path = module.folder()
    except module.SetupError:
        return None
    return folder if folder.is_dir() else None
