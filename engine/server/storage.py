"""The routes of what is kept: conversations as files, what everything takes, and work on all of it.

Owns: `/api/storage`, `/api/sessions/import` and `/api/sessions/{id}/export`. Does not know how any of it is done.
Handlers read files, so they run in the thread pool.
"""

from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from engine.protocol_storage import ImportRequest, RestorePrepared, RestoreRequest, StartStorageTask
from engine.server.replies import body_of, reply
from engine.server.room import EngineOf
from engine.store import restore
from engine.store.backup import Progress
from engine.store.export_json import document_of, json_of
from engine.store.export_markdown import markdown_of
from engine.store.import_json import add_document, parsed, read_document_file

router = APIRouter(prefix="/api")


@router.get("/sessions/{session_id}/export")
def export(session_id: str, engine: EngineOf, kind: Literal["markdown", "json"] = "markdown") -> Response:
    """The conversation as a file: the shown branch as Markdown, or the whole tree as JSON."""
    if kind == "markdown":
        text = markdown_of(engine.store.session(session_id))
        return Response(text.encode(), media_type="text/markdown; charset=utf-8")
    content = json_of(document_of(engine.store.database, session_id))
    return Response(content, media_type="application/json")


@router.post("/sessions/import")
def take_in(asked: Annotated[ImportRequest, Depends(body_of(ImportRequest))], engine: EngineOf) -> Response:
    """A conversation from a file: 201 with its SessionSummary."""
    document = parsed(read_document_file(Path(asked.path)))
    session_id = add_document(engine.store.database, document)
    engine.events.post_session(session_id, "created")
    return reply(engine.store.session(session_id).summary, 201)


@router.get("/storage")
def usage(engine: EngineOf) -> Response:
    """The StorageUsage."""
    return reply(engine.housekeeping.usage())


@router.post("/storage/forget")
def forget(engine: EngineOf) -> Response:
    """Remove what models have read: the StorageUsage."""
    engine.housekeeping.forget_states()
    return reply(engine.housekeeping.usage())


@router.post("/storage/tasks")
def start(
    asked: Annotated[StartStorageTask, Depends(body_of(StartStorageTask))], engine: EngineOf
) -> Response:
    """Verify, compact or back up, in the background: 202 with the StorageTask."""
    return reply(engine.storage_tasks.start(asked), 202)


@router.get("/storage/task")
def task(engine: EngineOf) -> Response:
    """The last StorageTask."""
    return reply(engine.storage_tasks.task())


@router.delete("/storage/task")
def stop(engine: EngineOf) -> Response:
    """Have it end: 202 with the StorageTask."""
    return reply(engine.storage_tasks.stop(), 202)


@router.post("/storage/restore")
def prepare_restore(
    asked: Annotated[RestoreRequest, Depends(body_of(RestoreRequest))], engine: EngineOf
) -> Response:
    """Check a backup and have it take effect at the next start: 202 with a RestorePrepared."""
    prepared = restore.prepare(engine.folder.root, Path(asked.path), Progress())
    return reply(
        RestorePrepared(
            created_at=prepared.created_at, sessions_bytes=prepared.sessions_bytes, aside=str(prepared.aside)
        ),
        202,
    )


@router.delete("/storage/restore")
def give_up_restore(engine: EngineOf) -> Response:
    """Have the prepared restore not take effect: 204, also when there is none."""
    restore.give_up(engine.folder.root)
    return Response(status_code=204)
