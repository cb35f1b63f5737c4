"""The routes of what the program is: its parts and their licences, and whether there is a newer version.

Owns: `/api/about` and `/api/updates`. Does not know how any of it is found out (`licences`, `updates`). Handlers read
files, so they run in the thread pool.
"""

import platform
from importlib import metadata
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import Response

from engine import own_program
from engine.engine import Engine
from engine.licences import Licences
from engine.protocol_about import About
from engine.server.replies import reply
from engine.server.room import EngineOf
from engine.version import version

router = APIRouter(prefix="/api")
_licences = Licences()


@router.get("/about")
def about(engine: EngineOf) -> Response:
    """The About."""
    return reply(
        About(
            version=version(),
            data_folder=str(engine.folder.root),
            python=platform.python_version(),
            llama_cpp=_llama_cpp(engine),
            program_folder=str(_program_folder()),
            licences=_licences.entries(),
        )
    )


@router.get("/about/licences/{place}")
def licence(place: int) -> Response:
    """The LicenceText of the part at that place of the list."""
    return reply(_licences.text(place))


@router.get("/updates")
def updates(engine: EngineOf) -> Response:
    """The UpdateState."""
    return reply(engine.updates.state())


def _llama_cpp(engine: Engine) -> str:
    try:
        built = f"llama-cpp-python {metadata.version('llama-cpp-python')}"
    except metadata.PackageNotFoundError:
        built = "not installed"
    folder = engine.llama_builds.settled.folder
    return built if folder is None else f"{built}, with the libraries in {folder}"


def _program_folder() -> Path:
    """A bundle's folder, or the one with the packages."""
    above = Path(__file__).resolve().parents[2]
    return above.parent if own_program.frozen() else above
