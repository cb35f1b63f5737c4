"""A conversation as a file that holds all of it: what is read from the store, and the bytes.

Owns: which rows make a SessionDocument (`protocol_storage`; docs/sessions.md documents the file), and its largest
size. Does not know how such a file is read back (`import_json`), nor how one reads for people (`export_markdown`).
"""

from typing import Any

from engine.errors import BadRequest
from engine.protocol_storage import (
    DOCUMENT_FORMAT,
    DOCUMENT_VERSION,
    KeptMessage,
    KeptSession,
    SessionDocument,
)
from engine.store.database import Database
from engine.store.rows import OF_SESSION, read_messages, sampling_of, tools_of, written_ids
from engine.store.tree import session_number
from engine.version import version

MOST_DOCUMENT_BYTES = 256 << 20
"""What a reader takes into memory; a conversation of a million tokens with its ids has about 15 MB."""


def document_of(database: Database, session_id: str) -> SessionDocument:
    """The whole conversation. An answer that is being written is in it as it stands, interrupted.

    Raises NotFound, DataFolderError.
    """
    with database.reading() as connection:
        number = session_number(connection, session_id)
        row = connection.execute(
            "SELECT unseal(title, 'session.title', id), title_by, created_at, updated_at, leaf_id,"
            " unseal(tools, 'session.tools', id) FROM session WHERE number = ?",
            (number,),
        ).fetchone()
        messages = read_messages(connection, OF_SESSION, number)
        ids = written_ids(connection, [message.id for message in messages])
        drawn = {
            str(message_id): sampling_of(stored)
            for message_id, stored in connection.execute(
                "SELECT id, sampling FROM message WHERE session = ? AND sampling IS NOT NULL", (number,)
            )
        }
    title, title_by, created_at, updated_at, leaf_id, tools = row
    kept: list[KeptMessage] = []
    for message in messages:
        values: dict[str, Any] = dict(message)
        if message.status == "running":
            values |= {"status": "interrupted", "finish_reason": "interrupted"}
        values |= {"sampling": drawn.get(message.id), "token_ids": tuple(ids.get(message.id, ()))}
        # What comes out of the store has been checked on its way in.
        kept.append(KeptMessage.model_construct(None, **values))
    session = KeptSession(
        id=session_id,
        title=title,
        title_by=title_by,
        created_at=created_at,
        updated_at=updated_at,
        leaf_id=leaf_id,
        tools=tuple(tools_of(tools)),
    )
    return SessionDocument.model_construct(
        format=DOCUMENT_FORMAT,
        version=DOCUMENT_VERSION,
        seamount=version(),
        session=session,
        messages=tuple(kept),
    )


def json_of(document: SessionDocument) -> bytes:
    """The file's bytes: JSON in UTF-8. Raises BadRequest for one beyond the bound."""
    content = document.model_dump_json().encode("utf-8") + b"\n"
    if len(content) > MOST_DOCUMENT_BYTES:
        raise BadRequest(
            "The conversation cannot be exported as JSON",
            f"the file would have {len(content):,} bytes, and no Seamount reads more than {MOST_DOCUMENT_BYTES:,}",
            "export it as Markdown, or back everything up",
        )
    return content
