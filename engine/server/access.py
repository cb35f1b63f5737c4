"""The routes of what other programs may do.

Owns: `/api/access`. Does not know how a key is kept (`access/keys`) or the network's socket opened
(`access/network_door`). A client's key does not open these (`auth`).
"""

from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from engine.protocol_access import ChangeKey, NewKey, OpenNetwork
from engine.server.replies import body_of, reply
from engine.server.room import EngineOf

router = APIRouter(prefix="/api/access")


@router.get("")
async def access(engine: EngineOf) -> Response:
    """The Access."""
    return reply(engine.access.state())


@router.post("/keys")
def make(asked: Annotated[NewKey, Depends(body_of(NewKey))], engine: EngineOf) -> Response:
    """A new key: 201 with the MadeKey. In the thread pool, as are the others: a keyring takes its time."""
    return _secret(reply(engine.access.make(asked), 201))


@router.get("/keys/{key_id}/secret")
def secret(key_id: str, engine: EngineOf) -> Response:
    """The MadeKey again, where the keyring has it."""
    return _secret(reply(engine.access.secret(key_id)))


@router.patch("/keys/{key_id}")
def change(
    key_id: str, asked: Annotated[ChangeKey, Depends(body_of(ChangeKey))], engine: EngineOf
) -> Response:
    """The ClientKey as it is then."""
    return reply(engine.access.change(key_id, asked))


@router.delete("/keys/{key_id}")
def revoke(key_id: str, engine: EngineOf) -> Response:
    """It opens nothing any more: 204."""
    engine.access.revoke(key_id)
    return Response(status_code=204)


@router.delete("/requests/{request_id}")
def end(request_id: str, engine: EngineOf) -> Response:
    """End an answer that a client waits for: 204."""
    engine.access.clients.end(request_id)
    return Response(status_code=204)


@router.get("/network")
async def network(engine: EngineOf) -> Response:
    """The NetworkDoor."""
    return reply(engine.access.network.state())


@router.put("/network")
async def open_network(
    asked: Annotated[OpenNetwork, Depends(body_of(OpenNetwork))], engine: EngineOf
) -> Response:
    """Open or close it: the NetworkDoor, which says what keeps it from being open."""
    return reply(await engine.access.network.change(asked))


def _secret(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    return response
