"""Functions of ggml, the tensor library beneath llama.cpp, which llama-cpp-python does not wrap.

Owns: where its libraries lie, which of them are backends that are loaded by themselves, and finding a function in the
others with its types declared. Does not load llama.cpp by itself: who needs a device or a model loads it first
(`llama_library`); the same file is the same library.
"""

import ctypes
import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

FOLDER_VARIABLE = "LLAMA_CPP_LIB_PATH"
"""llama-cpp-python's own variable: another build's libraries lie in that folder."""
LLAMA_NAMES = {"win32": ("llama.dll", "libllama.dll"), "darwin": ("libllama.dylib", "libllama.so")}.get(
    sys.platform, ("libllama.so",)
)
"""What the library of llama.cpp may be called here."""
KINDS = (
    *(
        "blas",
        "zendnn",
        "cann",
        "cuda",
        "hip",
        "metal",
        "rpc",
        "sycl",
        "vulkan",
        "virtgpu",
        "opencl",
        "hexagon",
    ),
    *("musa", "openvino", "cpu"),
)
"""The backends that may be files of their own, in the order in which ggml loads them (ggml-backend-reg.cpp): what
comes first is preferred, and the processor is last."""
_BACKEND_FILE = re.compile(r"(?:lib)?ggml-([a-z0-9]+)(?:-(.+))?\.(?:so|dll)")


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


def backend_files(folder: Path) -> dict[str, dict[str, Path]]:
    """The files there that may be backends to load: by kind, as in `KINDS`, and by variant, "" for the only one.

    In a build that is not made of such files they are ordinary libraries (`links` tells). Raises OSError.
    """
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir()):
        name = _BACKEND_FILE.fullmatch(path.name)
        if name is not None and name[1] in KINDS and path.is_file():
            found.setdefault(name[1], {})[name[2] or ""] = path
    return {kind: found[kind] for kind in KINDS if kind in found}


def links(name: str) -> bool:
    """Whether llama.cpp's library, or one that it is linked to, has the function `name`. Never on Windows, where that
    cannot be asked of a library. Raises ImportError."""
    library = _llama(library_folder())
    return library is not None and hasattr(library, name)


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


def _libraries(folder: Path) -> Iterator[ctypes.CDLL]:
    """First llama.cpp's own library: of several copies of ggml it finds the one that llama.cpp is linked to. Then each
    that is ggml's by name, because Windows does not look further, but none of which there is one for each kind of
    processor: those are for one that has what they use."""
    llama = _llama(folder)
    if llama is not None:
        yield llama
    for path in sorted(folder.glob("*ggml*")):
        if "ggml-cpu-" not in path.name and (library := _loaded(os.path.realpath(path))) is not None:
            yield library


@cache
def _llama(folder: Path) -> ctypes.CDLL | None:
    if sys.platform == "win32":
        return None
    return next((_loaded(str(folder / name)) for name in LLAMA_NAMES if (folder / name).is_file()), None)


@cache
def _loaded(path: str) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(path)
    except OSError:
        return None
