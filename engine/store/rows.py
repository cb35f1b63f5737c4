"""Rows of the store and the values of the wire, one into the other.

Owns: which columns make a message or a session summary, the blob of token ids, and reading messages with
the text that still lies in chunks. Does not know the rules of the tree (`sessions`, `tree`).
"""

import sqlite3
import struct
from collections.abc import Sequence
from typing import Any, TypeAlias

from engine.protocol import ErrorBody, Message, SessionSummary, Usage

Row: TypeAlias = tuple[Any, ...]

_SUMMARIES = """
    SELECT s.id, s.title, s.created_at, s.updated_at, s.deleted_at,
           (SELECT count(*) FROM message m WHERE m.session = s.number)
    FROM session s """
SUMMARY_BY_ID = _SUMMARIES + "WHERE s.id = ?"
SUMMARIES_SHOWN = _SUMMARIES + "WHERE s.deleted_at IS NULL ORDER BY s.updated_at DESC, s.number DESC"

_MESSAGES = """
    SELECT m.number, m.id, p.id, m.role, m.text, m.status, m.created_at, m.model_id, m.finish_reason,
           m.error_code, m.error_text, m.usage
    FROM message m LEFT JOIN message p ON p.number = m.parent
    WHERE m.number IN ({chosen}) ORDER BY m.number"""
_CHUNKS = "SELECT message, text FROM chunk WHERE message IN ({chosen}) ORDER BY number"

# Each chooses message numbers, given one parameter.
OF_SESSION = "SELECT number FROM message WHERE session = ?"
ONE = "SELECT ?"
UP_TO_ROOT = """
    WITH RECURSIVE up (number, parent) AS (
        SELECT number, parent FROM message WHERE number = ?
        UNION ALL SELECT a.number, a.parent FROM message a JOIN up ON a.number = up.parent
    ) SELECT number FROM up"""


def read_messages(connection: sqlite3.Connection, chosen: str, parameter: int) -> list[Message]:
    """The messages that `chosen` (one of the constants above) chooses, parents before children."""
    rows = connection.execute(_MESSAGES.format(chosen=chosen), (parameter,)).fetchall()
    waiting: dict[int, list[str]] = {}
    for number, text in connection.execute(_CHUNKS.format(chosen=chosen), (parameter,)):
        waiting.setdefault(number, []).append(text)
    return [_message(row, waiting.get(row[0])) for row in rows]


def _message(row: Row, chunks: list[str] | None) -> Message:
    (_, message_id, parent_id, role, text, status, created_at, model_id, finish_reason, code, why, usage) = (
        row
    )
    return Message(
        id=message_id,
        parent_id=parent_id,
        role=role,
        text=text + "".join(chunks) if chunks else text,
        status=status,
        created_at=created_at,
        model_id=model_id,
        finish_reason=finish_reason,
        error=None if code is None else ErrorBody(code=code, text=why or ""),
        usage=None if usage is None else Usage.model_validate_json(usage),
    )


def summary_of(row: Row) -> SessionSummary:
    """The sidebar's row from one of the SUMMARY queries."""
    session_id, title, created_at, updated_at, deleted_at, message_count = row
    return SessionSummary(
        id=session_id,
        title=title,
        created_at=created_at,
        updated_at=updated_at,
        deleted_at=deleted_at,
        message_count=message_count,
    )


def packed(token_ids: Sequence[int]) -> bytes:
    """Token ids as they are stored: uint32, little-endian, one after the other."""
    return struct.pack(f"<{len(token_ids)}I", *token_ids)


def unpacked(blob: bytes) -> list[int]:
    """Token ids from their stored form."""
    return list(struct.unpack(f"<{len(blob) // 4}I", blob))
