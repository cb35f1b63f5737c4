"""Functions of ggml, the tensor library beneath llama.cpp, which llama-cpp-python does not wrap.

Owns: where its libraries lie, and finding a function in them with its types declared. Does not load llama.cpp by
itself: who needs a device or a model loads `llama_cpp` first; the same file is the same library.
"""

import ctypes
import importlib.util
import os
from functools import cache
from pathlib import Path
from typing import Any

FOLDER_VARIABLE = "LLAMA_CPP_LIB_PATH"
"""llama-cpp-python's own variable: another build's libraries lie in that folder."""


def library_folder() -> Path:
    """Where llama.cpp's libraries lie. Raises ImportError where the package is not installed."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    return Path(chosen) if chosen else packaged_folder()


def packaged_folder() -> Path:
    """Where those lie that llama-cpp-python brings. Raises ImportError where the package is not installed."""
    found = importlib.util.find_spec("llama_cpp")
    if found is None or found.origin is None:
        raise ImportError("llama-cpp-python is not installed")
    return Path(found.origin).parent / "lib"


def ggml_function(name: str, result: Any, *arguments: Any) -> Any:
    """The function `name` of ggml. Raises ImportError for one that this build does not have."""
    for library in _libraries(library_folder()):
        try:
            function = library[name]
        except AttributeError:
            continue
        function.restype, function.argtypes = result, list(arguments)
        return function
    raise ImportError(f"ggml has no {name}")


@cache
def _libraries(folder: Path) -> tuple[ctypes.CDLL, ...]:
    """Every library of ggml there: a symbol is looked for in each, because Windows does not look further."""
    found: dict[str, ctypes.CDLL] = {}
    for path in sorted(folder.glob("*ggml*")):
        real = os.path.realpath(path)
        if real not in found:
            try:
                found[real] = ctypes.CDLL(str(path))
            except OSError:
                continue
    return tuple(found.values())
