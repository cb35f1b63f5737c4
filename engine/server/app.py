"""The HTTP application: the routers.

Owns: which routes there are. Does not know what they do, who may come in (`auth`: no socket serves the application
without a guard around it), nor the sockets and the process (`serve`).
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from fastapi import FastAPI

from engine.engine import Engine
from engine.server import (
    about,
    access,
    anthropic_messages,
    encryption,
    jobs,
    library,
    models,
    openai_chat,
    openai_completions,
    openai_models,
    openai_responses,
    openapi,
    parts,
    placement,
    remotes,
    sessions,
    storage,
    turns,
)
from engine.server.replies import add_error_handlers


def create_app(engine: Engine) -> FastAPI:
    """The application that serves `engine` to whoever is let in.

    Its lifespan begins the engine's work. There are no pages that describe the interface (`openapi` is a document).
    """

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None, None]:
        engine.start(asyncio.get_running_loop())
        yield

    app = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.engine = engine
    app.state.counting = asyncio.Semaphore(anthropic_messages.COUNTED_AT_ONCE)
    for router in (
        models.router,
        placement.router,
        remotes.router,
        library.router,
        jobs.router,
        parts.router,
        # Before the sessions' own: "import" is no session's id.
        storage.router,
        sessions.router,
        encryption.router,
        turns.router,
        turns.costs,
        about.router,
        access.router,
        anthropic_messages.router,
        openai_models.router,
        openai_chat.router,
        openai_completions.router,
        openai_responses.router,
        openapi.router,
    ):
        app.include_router(router)
    add_error_handlers(app)
    return app
