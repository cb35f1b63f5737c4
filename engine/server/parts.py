"""The routes of optional parts.

Owns: `/api/parts`. Does not know how a part is installed (`part_desk`). Handlers read files and wait for NVIDIA's
library, so they run in the thread pool.
"""

from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from engine.protocol_parts import InstallPart
from engine.server.replies import body_of, reply
from engine.server.room import EngineOf

router = APIRouter(prefix="/api/parts")


@router.get("")
def parts(engine: EngineOf) -> Response:
    """The PartList."""
    return reply(engine.parts.listed())


@router.post("/{name}/install")
def install(
    name: str, asked: Annotated[InstallPart, Depends(body_of(InstallPart))], engine: EngineOf
) -> Response:
    """Begin in the background: 202 with the PartTask."""
    return reply(engine.parts.install(name, asked), 202)


@router.delete("/{name}/task")
def stop(name: str, engine: EngineOf) -> Response:
    """Have it end: 202 with the PartTask."""
    return reply(engine.parts.stop(name), 202)


@router.post("/{name}/remove")
def remove(name: str, engine: EngineOf) -> Response:
    """Delete what is installed: the PartEntry."""
    return reply(engine.parts.remove(name))
