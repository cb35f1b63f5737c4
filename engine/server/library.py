"""The routes of the library: what is installed and can be had, looking a repository up, and what is done to items.

Owns: `/api/library`. Does not know how any of it is found (`library/overview`). Handlers read files, ask a keyring or
the network, so they run in the thread pool; each of those has a limit on how long it may take.
"""

from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from engine.protocol_library import AddRequest, LookupRequest, RemoveRequest, TokenRequest
from engine.server.replies import body_of, reply
from engine.server.room import EngineOf

router = APIRouter(prefix="/api/library")


@router.get("")
def library(engine: EngineOf) -> Response:
    """The Library."""
    return reply(engine.overview.library())


@router.post("/lookup")
def look_up(asked: Annotated[LookupRequest, Depends(body_of(LookupRequest))], engine: EngineOf) -> Response:
    """Ask the hub: the Lookup."""
    return reply(engine.overview.look_up(asked))


@router.put("/token")
def keep_token(asked: Annotated[TokenRequest, Depends(body_of(TokenRequest))], engine: EngineOf) -> Response:
    """Keep the access token: the HubState."""
    state = engine.overview.keep_token(asked.token)
    engine.events.post_library()
    return reply(state)


@router.delete("/token")
def forget_token(engine: EngineOf) -> Response:
    """Forget the access token: the HubState."""
    state = engine.overview.forget_token()
    engine.events.post_library()
    return reply(state)


@router.post("/remove")
def remove(asked: Annotated[RemoveRequest, Depends(body_of(RemoveRequest))], engine: EngineOf) -> Response:
    """Remove an item: Removed."""
    try:
        return reply(engine.overview.remove(asked))
    finally:
        # A part may be gone even where not all of it could be removed.
        engine.events.post_library()


@router.post("/add")
def add(asked: Annotated[AddRequest, Depends(body_of(AddRequest))], engine: EngineOf) -> Response:
    """Take in what lies elsewhere: 201 with its LibraryItem."""
    item = engine.overview.add(asked.path)
    engine.events.post_library()
    return reply(item, 201)
