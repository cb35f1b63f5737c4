"""The routes of conversations.

Owns: `/api/sessions`, and telling every window what changed. Does not know how they are kept (`store/`).
The routes are plain functions: the framework runs them in its threads, because the store may wait for the
disk.
"""

from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from engine.protocol import ChangeSession, CreateSession, SessionList
from engine.server.replies import body_of, reply
from engine.server.room import EngineOf

router = APIRouter(prefix="/api/sessions")
_STOP_WAIT_S = 10.0


@router.get("")
def listing(engine: EngineOf, query: str | None = None) -> Response:
    """The SessionList, newest first; `query` searches titles and texts."""
    return reply(SessionList(sessions=engine.store.list_sessions(query or None)))


@router.post("")
def create(asked: Annotated[CreateSession, Depends(body_of(CreateSession))], engine: EngineOf) -> Response:
    """A new session: 201 with its SessionSummary."""
    summary = engine.store.create_session(asked.title)
    engine.events.post_session(summary.id, "created")
    return reply(summary, 201)


@router.get("/{session_id}")
def whole(session_id: str, engine: EngineOf) -> Response:
    """The Session with its whole tree."""
    return reply(engine.store.session(session_id))


@router.patch("/{session_id}")
def change(
    session_id: str, asked: Annotated[ChangeSession, Depends(body_of(ChangeSession))], engine: EngineOf
) -> Response:
    """Rename it, show another branch, or give it other tools: its SessionSummary."""
    summary = engine.store.change_session(
        session_id, title=asked.title, leaf_id=asked.leaf_id, tools=asked.tools
    )
    engine.events.post_session(session_id, "updated")
    return reply(summary)


@router.delete("/{session_id}")
def delete(session_id: str, engine: EngineOf) -> Response:
    """Take it out of the list; what is being written in it is stopped. 204; `restore` undoes it."""
    engine.store.delete_session(session_id)
    engine.turns.end_session(session_id, 0)
    engine.events.post_session(session_id, "deleted")
    return Response(status_code=204)


@router.post("/{session_id}/restore")
def restore(session_id: str, engine: EngineOf) -> Response:
    """Undo its deletion: 204."""
    engine.store.restore_session(session_id)
    engine.events.post_session(session_id, "restored")
    return Response(status_code=204)


@router.post("/{session_id}/purge")
def purge(session_id: str, engine: EngineOf) -> Response:
    """Remove it for good: 204."""
    engine.turns.end_session(session_id, _STOP_WAIT_S)
    engine.store.purge_session(session_id)
    engine.journals.purge(session_id)
    engine.forget_states()
    engine.events.post_session(session_id, "purged")
    return Response(status_code=204)
