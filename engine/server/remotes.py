"""The routes of models on other machines.

Owns: `/api/remotes`. Does not know how they are kept (`engine.remotes`) or spoken to. Handlers read files, ask a
keyring and the network, so they run in the thread pool.
"""

from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from engine.protocol_remote import AgreeRemote, CheckRemote, RemoteList, SetRemote
from engine.server.replies import body_of, reply
from engine.server.room import EngineOf

router = APIRouter(prefix="/api/remotes")


@router.get("")
def listed(engine: EngineOf) -> Response:
    """The RemoteList."""
    return reply(RemoteList(remotes=engine.remotes.listed()))


@router.post("")
def add(asked: Annotated[SetRemote, Depends(body_of(SetRemote))], engine: EngineOf) -> Response:
    """Set one up: 201 with its Remote."""
    return reply(engine.remotes.add(asked), 201)


@router.post("/check")
def check(asked: Annotated[CheckRemote, Depends(body_of(CheckRemote))], engine: EngineOf) -> Response:
    """What is there and what it can do: the CheckedRemote."""
    return reply(engine.remotes.check(asked))


@router.get("/{remote_id}")
def told(remote_id: str, engine: EngineOf) -> Response:
    """One Remote."""
    return reply(engine.remotes.told(remote_id))


@router.put("/{remote_id}")
def change(
    remote_id: str, asked: Annotated[SetRemote, Depends(body_of(SetRemote))], engine: EngineOf
) -> Response:
    """Set it up otherwise: its Remote."""
    return reply(engine.remotes.change(remote_id, asked))


@router.delete("/{remote_id}")
def remove(remote_id: str, engine: EngineOf) -> Response:
    """Forget it and its key: 204. While it is the loaded model it stays."""
    engine.remove_remote(remote_id)
    return Response(status_code=204)


@router.post("/{remote_id}/agree")
def agree(
    remote_id: str, asked: Annotated[AgreeRemote, Depends(body_of(AgreeRemote))], engine: EngineOf
) -> Response:
    """Accept what has changed: its Remote."""
    return reply(engine.remotes.agree(remote_id, asked))
