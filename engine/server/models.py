"""The routes of the engine itself: its status and events, its models, its settings.

Owns: `/api/status`, `/api/events`, `/api/models`, `/api/llama-builds` and `/api/settings`. Does not know how a model
is loaded (`model_host`) or found (`library/`).
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from engine.engine import Engine
from engine.protocol import AddModelRequest, LoadRequest, ModelList, Settings
from engine.server.replies import KEEP_ALIVE, KEEP_ALIVE_S, EventStream, body_of, reply
from engine.server.room import EngineOf

router = APIRouter(prefix="/api")


@router.get("/status")
async def status(engine: EngineOf) -> Response:
    """The EngineStatus."""
    return reply(engine.status())


@router.get("/llama-builds")
def llama_builds(engine: EngineOf) -> Response:
    """The LlamaBuildList; in the thread pool, because builds that are new are loaded to be judged."""
    return reply(engine.llama_builds.listed(engine.settings().llama_cpp_folder))


@router.get("/events")
async def events(engine: EngineOf) -> Response:
    """EngineEvents as they come, the status first. Whoever listens keeps a lingering engine alive."""
    return EventStream(_frames(engine))


@router.get("/models")
def models(engine: EngineOf) -> Response:
    """The ModelList. Reads the headers of files that changed."""
    return reply(ModelList(models=engine.library.entries()))


@router.post("/models/load")
def load(asked: Annotated[LoadRequest, Depends(body_of(LoadRequest))], engine: EngineOf) -> Response:
    """Load a model after the running turn: 202 with the EngineStatus."""
    engine.load_model(asked.model_id, asked.backend)
    return reply(engine.status(), 202)


@router.post("/models/add")
def add(asked: Annotated[AddModelRequest, Depends(body_of(AddModelRequest))], engine: EngineOf) -> Response:
    """Register a file where it lies: 201 with its ModelEntry."""
    entry = engine.library.add(asked.path)
    engine.events.post_library()
    return reply(entry, 201)


@router.get("/settings")
async def settings(engine: EngineOf) -> Response:
    """The Settings in force."""
    return reply(engine.settings())


@router.put("/settings")
def change_settings(asked: Annotated[Settings, Depends(body_of(Settings))], engine: EngineOf) -> Response:
    """Keep new Settings; a change of model, context or threads loads the model again."""
    settings = engine.change_settings(asked)
    # Where things go and which hub is asked may be others now.
    engine.events.post_library()
    return reply(settings)


async def _frames(engine: Engine) -> AsyncGenerator[bytes, None]:
    number = 0
    async with aclosing(engine.events.follow(idle_s=KEEP_ALIVE_S)) as events:
        async for news in events:
            frames: list[bytes] = []
            for kind, json in news:
                number += 1
                frames.append(b"id: %d\nevent: %b\ndata: %b\n\n" % (number, kind.encode(), json))
            yield b"".join(frames) or KEEP_ALIVE
