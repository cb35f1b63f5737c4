"""Which libraries of llama.cpp are used: those of llama-cpp-python, or another build's that reaches a GPU.

Owns: where builds are looked for, how one is judged before it is used, and which one this process and those that it
starts use. Does not know what is done with llama.cpp. A build is loaded in a process of its own first: one that
crashes takes only that with it, and one of another version is refused, because llama-cpp-python passes structs whose
layout it knows by heart.

`settle` has to be called before `llama_cpp` is imported; a process cannot change its libraries afterwards.
"""

import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.backends.ggml_library import FOLDER_VARIABLE, LLAMA_NAMES, packaged_folder
from engine.errors import LlamaBuildError
from engine.gpu_advice import left_out
from engine.model_table import size_text
from engine.paths import DataFolder
from engine.placement import hardware
from engine.placement.hardware import LlamaCpp
from engine.protocol import ErrorBody
from engine.protocol_library import LlamaBuildEntry, LlamaBuildList
from engine.settings import load_settings

_logger = logging.getLogger(__name__)
Source = Literal["package", "environment", "command", "settings"]

# Where the libraries may lie in a build's folder: `pip install --target`, `cmake --install`, a build tree.
_PLACES = (".", "llama_cpp/lib", "lib", "lib64", "bin", "build/bin")
_PACKAGED = "llama-cpp-python's own"
_WHY_AT_ALL = "the libraries that come with llama-cpp-python are used instead"


@dataclass(frozen=True)
class Settled:
    """Which libraries this process uses. `folder` None: those of llama-cpp-python. `source`: who named them.
    `refused`: why those that were named are not the ones."""

    folder: Path | None = None
    source: Source = "package"
    refused: LlamaBuildError | None = None


class LlamaBuilds:
    """The builds of one data folder. Any thread may call it; what was asked of a build is kept until it changes."""

    def __init__(self, data: DataFolder) -> None:
        self._data = data
        self._lock = threading.Lock()
        self._known: dict[Path, tuple[object, LlamaCpp | str]] = {}
        self.settled = Settled()

    def settle(self, settings_folder: str | None, command_folder: str | None = None) -> Settled:
        """Decide which libraries this process and its children use from now on. Raises nothing.

        The environment variable LLAMA_CPP_LIB_PATH counts before `command_folder`, that before the settings'.
        Takes as long as starting llama.cpp where any is named, no time otherwise.
        """
        named: tuple[tuple[Source, str | None], ...] = (
            ("environment", os.environ.get(FOLDER_VARIABLE)),
            ("command", command_folder),
            ("settings", settings_folder),
        )
        source: Source = "package"
        folder: str | None = None
        for who, where in reversed(named):
            if where:
                source, folder = who, where
        # Until it is judged, nobody uses it; and a variable that is empty would name the working folder.
        os.environ.pop(FOLDER_VARIABLE, None)
        if folder is None:
            return self.settled
        try:
            libraries, _ = self.judge(Path(folder))
        except LlamaBuildError as error:
            _logger.warning("%s", error.text)
            self.settled = Settled(refused=error)
        else:
            os.environ[FOLDER_VARIABLE] = str(libraries)
            self.settled = Settled(libraries, source)
        return self.settled

    def judge(self, folder: Path) -> tuple[Path, LlamaCpp]:
        """Where in `folder` the libraries lie, and what they are. Raises LlamaBuildError where they cannot be used."""
        what = f"The llama.cpp in {folder} is not used"
        try:
            libraries = libraries_in(folder.expanduser())
        except (OSError, RuntimeError, ValueError) as error:
            raise LlamaBuildError(what, f"the folder cannot be read ({error})", _WHY_AT_ALL) from error
        if libraries is None:
            raise LlamaBuildError(
                what,
                f"there is no {' or '.join(LLAMA_NAMES)} in it",
                "`seamount doctor` says how to make one",
            )
        with ThreadPoolExecutor(max_workers=2) as pool:
            packaged, found = pool.map(self._ask, (None, libraries))
        if isinstance(found, str):
            raise LlamaBuildError(
                what, f"it cannot be loaded: {found}", "build it anew; `seamount doctor` says how"
            )
        if isinstance(packaged, str):
            why = f"llama-cpp-python's own libraries, to compare it with, cannot be loaded: {packaged}"
            raise LlamaBuildError(what, why, "install llama-cpp-python again")
        if difference := unlike(packaged, found):
            raise LlamaBuildError(
                what, difference, f"build it from the sources of llama-cpp-python {packaged.version}"
            )
        return libraries, found

    def listed(self, settings_folder: str | None) -> LlamaBuildList:
        """Every build that can be chosen, the package's own first, and which is in use. Raises nothing."""
        with ThreadPoolExecutor(max_workers=2) as pool:
            entries = list(pool.map(self._entry, [None, *self._folders(settings_folder)]))
        settled = self.settled
        return LlamaBuildList(
            builds=entries,
            in_use=None if settled.folder is None else str(settled.folder),
            source=settled.source,
            chosen=settings_folder,
            refused=None if settled.refused is None else body_of(settled.refused),
        )

    def folders(self) -> list[Path]:
        """The folders in the data folder's `llama.cpp` that hold libraries, by name."""
        try:
            inside = sorted(each for each in self._data.llama_builds.iterdir() if each.is_dir())
        except OSError:
            return []
        return [each for each in inside if _quietly(libraries_in, each) is not None]

    def _folders(self, also: str | None) -> list[Path]:
        found = self.folders()
        if also and Path(also) not in found:
            found.append(Path(also))
        return found

    def _entry(self, folder: Path | None) -> LlamaBuildEntry:
        if folder is None:
            found = self._ask(None)
            if isinstance(found, LlamaCpp):
                return LlamaBuildEntry(
                    folder=None, name=_PACKAGED, devices=devices(found), failed=failures(found)
                )
            error = LlamaBuildError(
                "llama.cpp cannot be loaded", found, "install it with `pip install llama-cpp-python`"
            )
            return LlamaBuildEntry(folder=None, name=_PACKAGED, devices=[], problem=body_of(error))
        try:
            _, found = self.judge(folder)
        except LlamaBuildError as error:
            return LlamaBuildEntry(folder=str(folder), name=folder.name, devices=[], problem=body_of(error))
        return LlamaBuildEntry(
            folder=str(folder), name=folder.name, devices=devices(found), failed=failures(found)
        )

    def _ask(self, libraries: Path | None) -> LlamaCpp | str:
        """What the libraries there are (None: the package's own), asked once as long as no file of theirs changes."""
        try:
            libraries = packaged_folder() if libraries is None else libraries
            state: object = sorted(
                (each.name, each.stat().st_size, each.stat().st_mtime_ns) for each in libraries.iterdir()
            )
        except ImportError as error:
            return str(error)
        except OSError as error:
            return f"its folder cannot be read ({error.strerror or error})"
        with self._lock:
            known = self._known.get(libraries)
        if known is not None and known[0] == state:
            return known[1]
        found = hardware.llama_cpp(libraries=libraries)
        with self._lock:
            self._known[libraries] = (state, found)
        return found


def settle(data: DataFolder) -> tuple[LlamaBuilds, Settled]:
    """The builds of a data folder, those that its settings name settled for this process. Raises nothing."""
    builds = LlamaBuilds(data)
    return builds, builds.settle(load_settings(data.settings)[0].llama_cpp_folder)


def libraries_in(folder: Path) -> Path | None:
    """Where in a build's folder llama.cpp's library lies; None where there is none. Raises OSError, ValueError."""
    for place in _PLACES:
        inside = folder / place
        if any((inside / name).is_file() for name in LLAMA_NAMES):
            return inside.resolve()
    return None


def unlike(packaged: LlamaCpp, other: LlamaCpp) -> str:
    """In what `other` differs from the libraries that llama-cpp-python was made for, as a clause; "" for nothing.

    That every function is there has been seen by then: llama-cpp-python looks each up when it is imported.
    """
    for library, expected, found in (
        ("llama.cpp", packaged.llama, other.llama),
        ("ggml", packaged.ggml, other.ggml),
    ):
        if expected != found:
            return f"it is {library} {found}, and llama-cpp-python {packaged.version} needs {expected}"
    if packaged.defaults != other.defaults:
        return f"its parameters are laid out otherwise than llama-cpp-python {packaged.version} knows them"
    return "" if other.backends else "it has no code for any device"


def devices(found: LlamaCpp) -> list[str]:
    """The devices that a build reaches, for people; the processor is not one."""
    return [f"{gpu.name} ({gpu.backend}, {size_text(gpu.total_bytes)})" for gpu in found.gpus]


def failures(found: LlamaCpp) -> list[str]:
    """What of a build was tried and is left out since it crashed or hung, a sentence each."""
    told = [left_out(kind, why, ()) for kind, why in found.left_out]
    return [each.what for each in told if not each.well]


def body_of(error: LlamaBuildError) -> ErrorBody:
    """As it crosses the wire."""
    return ErrorBody(code=error.code, text=error.text)


def _quietly(question: Callable[[Path], Path | None], folder: Path) -> Path | None:
    try:
        return question(folder)
    except (OSError, ValueError):
        return None
