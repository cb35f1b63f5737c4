"""The backends of ggml that are files of their own: which of them this process uses.

Owns: choosing the processor's among those for many kinds of processor, and asking in a process of its own, before one
for GPUs is loaded, whether its driver survives that. Does not load llama.cpp (`llama_library`), nor know its models.
A build whose backends are linked to llama.cpp's library has none to be loaded.

Which variant of a backend runs here, and how well, that file says itself (`ggml_backend_score`); so does ggml when it
loads by itself, but it would load GPUs' drivers into this process unasked.
"""

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import own_program
from engine.backends.ggml_library import backend_files, ggml_function, library_folder, links
from engine.launch import CREATION_FLAGS

WITHOUT_VARIABLE = "SEAMOUNT_GGML_WITHOUT"
"""Kinds of backends that are not loaded, such as `vulkan`, separated by commas. A person may set it."""
_TRIED_VARIABLE = "SEAMOUNT_GGML_TRIED"
"""What this process has found out, for those that it starts: files and why each is not used, "" where it is."""
TIMEOUT_S = 30.0
"""Drivers take seconds to begin with on some machines."""
_OWN_PROCESS_KINDS = (
    "cann",
    "cuda",
    "hip",
    "metal",
    "sycl",
    "vulkan",
    "virtgpu",
    "opencl",
    "hexagon",
    "musa",
)
_ROOT = Path(__file__).resolve().parents[2]
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); from engine.backends.ggml_backends import main; "
    "main(sys.argv[2])"
)
_ANSWER = "loaded backend "


_NOTHING = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_line: None)


@dataclass(frozen=True)
class Backends:
    """What was loaded. `variant`: which of several backends for the processor; "" where there is one alone.
    `left_out`: kinds of backends that lie there and are not used, each with a clause that says why."""

    variant: str = ""
    left_out: tuple[tuple[str, str], ...] = ()


def load() -> Backends:
    """Load what lies beside llama.cpp's library, if anything; once, before llama.cpp is used.

    Raises ImportError where nothing computes on this processor.
    """
    if _are_linked():
        return Backends()
    try:
        files = backend_files(library_folder())
    except OSError as error:
        raise ImportError(f"the folder of llama.cpp's libraries cannot be read ({error})") from error
    variant = ""
    left_out: list[tuple[str, str]] = []
    for kind, variants in files.items():
        if kind in os.environ.get(WITHOUT_VARIABLE, "").split(","):
            left_out.append((kind, f"the variable {WITHOUT_VARIABLE} says so"))
            continue
        best, why = _best(variants)
        if best is not None:
            why = _trouble(kind, variants[best]) or _loaded(variants[best])
        if best is None or why:
            left_out.append((kind, why))
        elif kind == "cpu":
            variant = best
    if "cpu" not in files or any(kind == "cpu" for kind, _ in left_out):
        why = dict(left_out).get("cpu", "there is no file of it")
        raise ImportError(f"llama.cpp has no code that runs on this processor: {why}")
    return Backends(variant, tuple(left_out))


def main(file: str) -> None:
    """The process that asks: load one backend and print what its driver shows."""
    if why := _loaded(Path(file)):
        print(_ANSWER + json.dumps({"trouble": why}), flush=True)
        return
    count = ggml_function("ggml_backend_dev_count", ctypes.c_size_t)
    get = ggml_function("ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t)
    name = ggml_function("ggml_backend_dev_description", ctypes.c_char_p, ctypes.c_void_p)
    memory = ggml_function(
        "ggml_backend_dev_memory",
        None,
        ctypes.c_void_p,
        ctypes.POINTER(ctypes.c_size_t),
        ctypes.POINTER(ctypes.c_size_t),
    )
    # What this process is asked when a plan is made; a driver that cannot tell crashes here.
    for number in range(count()):
        name(get(number))
        memory(get(number), ctypes.c_size_t(), ctypes.c_size_t())
    print(_ANSWER + json.dumps({"trouble": ""}), flush=True)


def _are_linked() -> bool:
    if sys.platform == "win32":
        return bool(ggml_function("ggml_backend_reg_count", ctypes.c_size_t)())
    # Counting them would begin with the drivers of those that are linked.
    return links("ggml_backend_cpu_reg")


def _best(variants: dict[str, Path]) -> tuple[str | None, str]:
    """The variant that suits this processor best; or None, and why there is none."""
    best: tuple[int, str] | None = None
    whys: list[str] = []
    for variant, path in variants.items():
        try:
            library = ctypes.CDLL(str(path))
        except OSError as error:
            # A bundle's ctypes says of each of them that the file is missing; its cause says which library is.
            whys.append(str(error.__cause__ or error))
            continue
        # What has no score of its own runs everywhere, and is used where nothing better does.
        score = getattr(library, "ggml_backend_score", None)
        points = 1 if score is None else int(score())
        if points > 0 and (best is None or points > best[0]):
            best = points, variant
    if best is None:
        return None, whys[0] if whys else "none of its files is for this processor"
    return best[1], ""


def _trouble(kind: str, path: Path) -> str:
    """Why a backend is not loaded into this process, as a clause; "" where it may be."""
    if kind not in _OWN_PROCESS_KINDS:
        return ""
    tried = _tried()
    if str(path) not in tried:
        tried[str(path)] = _asked(path)
        os.environ[_TRIED_VARIABLE] = json.dumps(tried)
    return tried[str(path)]


def _tried() -> dict[str, str]:
    try:
        found: Any = json.loads(os.environ.get(_TRIED_VARIABLE, "{}"))
        return {str(path): str(why) for path, why in found.items()}
    except (ValueError, AttributeError):  # not of our making
        return {}


def _asked(path: Path) -> str:
    """What goes wrong when a process of its own loads that file, as a clause; "" for nothing."""
    try:
        done = subprocess.run(
            own_program.code_command(_PROGRAM, str(_ROOT), str(path)),
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=TIMEOUT_S,
            creationflags=CREATION_FLAGS,
        )
    except subprocess.TimeoutExpired:
        return f"its driver did not answer within {TIMEOUT_S:.0f} s"
    except OSError as error:
        return f"it could not be tried ({error})"
    told = next((line for line in done.stdout.splitlines() if line.startswith(_ANSWER)), None)
    if done.returncode or told is None:
        return own_program.ending(done.returncode, done.stderr).replace("it crashed", "its driver crashed")
    answer: dict[str, Any] = json.loads(told.removeprefix(_ANSWER))
    return str(answer["trouble"])


def _loaded(path: Path) -> str:
    """Load that file into ggml; why that did not work, as a clause, "" where it did."""
    load_backend = ggml_function("ggml_backend_load", ctypes.c_void_p, ctypes.c_char_p)
    try:
        with _silence():
            if load_backend(os.fsencode(path)):
                return ""
    except OSError as error:  # Windows tells a crash so
        return f"it crashed ({error})"
    return "no driver that it can use is installed here"


@contextmanager
def _silence() -> Generator[None]:
    """ggml says nothing meanwhile: what it tells of each file is told here, where it matters."""
    get = ggml_function(
        "ggml_log_get", None, ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_void_p)
    )
    put = ggml_function("ggml_log_set", None, ctypes.c_void_p, ctypes.c_void_p)
    before, its_data = ctypes.c_void_p(), ctypes.c_void_p()
    get(before, its_data)
    put(ctypes.cast(_NOTHING, ctypes.c_void_p), None)
    try:
        yield
    finally:
        put(before, its_data)
