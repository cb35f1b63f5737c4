"""The routes of turns: begin one, follow its events, stop it.

Owns: `/api/turns` and `/api/reuse`. Does not know how an answer comes about (`engine.turns`).
"""

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response

from engine.protocol import ReuseRequest, TurnRequest
from engine.server.replies import KEEP_ALIVE, KEEP_ALIVE_S, EventStream, body_of, reply
from engine.server.room import EngineOf
from engine.turn_log import Record, TurnLog

router = APIRouter(prefix="/api/turns")
costs = APIRouter(prefix="/api/reuse")
_CANCEL_WAIT_S = 3.0
_EVENT_ID = re.compile("[0-9]{1,19}", re.ASCII)


@router.post("")
def begin(request: Annotated[TurnRequest, Depends(body_of(TurnRequest))], engine: EngineOf) -> Response:
    """Record a turn and queue it: 201 with the Turn."""
    return reply(engine.turns.start(request), 201)


@costs.post("")
def reuse(asked: Annotated[ReuseRequest, Depends(body_of(ReuseRequest))], engine: EngineOf) -> Response:
    """What the session's next question would cost in a mode: a Reuse."""
    return reply(engine.turns.reuse(asked))


@router.get("/{turn_id}/events")
async def events(
    turn_id: str,
    engine: EngineOf,
    last_event_id: Annotated[str | None, Header()] = None,
    after: Annotated[int, Query(ge=0)] = 0,
) -> Response:
    """The turn's events: all, or those after number `Last-Event-ID` (which counts more) or `after`."""
    log = engine.turns.log(turn_id)
    # No turn has events beyond the digits of a count; thousands of them Python would not even read.
    if last_event_id is not None and _EVENT_ID.fullmatch(last_event_id):
        after = int(last_event_id)
    return EventStream(_frames(log, after))


@router.delete("/{turn_id}")
async def stop(turn_id: str, engine: EngineOf) -> Response:
    """Stop the turn. Answers 204 when it has ended, which takes a token; after some seconds at the latest."""
    log = await run_in_threadpool(engine.turns.cancel, turn_id)
    await log.wait_end(_CANCEL_WAIT_S)
    return Response(status_code=204)


async def _frames(log: TurnLog, after: int) -> AsyncGenerator[bytes, None]:
    async with aclosing(log.follow(after, idle_s=KEEP_ALIVE_S)) as news:
        async for records in news:
            # One write for all that is there: a listener that is late catches up in one go.
            yield b"".join(map(_frame, records)) or KEEP_ALIVE


def _frame(record: Record) -> bytes:
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (record.id, record.kind.encode(), record.json)
