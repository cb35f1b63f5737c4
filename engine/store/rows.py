"""Rows of the store and the values of the wire, one into the other.

Owns: which columns make a message or a session summary, the blob of token ids, lists as JSON, and reading
messages with the text that still lies in chunks. Does not know the rules of the tree (`answers`, `tree`).

A column that cannot be read (another program's hand, a bad disk) is absent and logged: the rest of the
conversation stays readable.
"""

import json
import logging
import sqlite3
import struct
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from engine.conversation import clean_text
from engine.protocol import (
    ErrorBody,
    Message,
    ReasoningMode,
    Sampling,
    SessionSummary,
    Thought,
    Tool,
    ToolCall,
    Usage,
)

_logger = logging.getLogger(__name__)
_Value = TypeVar("_Value")
Row: TypeAlias = tuple[Any, ...]
AnswerPart: TypeAlias = Literal["text", "reasoning", "call"]
"""What a piece of an answer belongs to: its text, the reasoning before it, or the raw text of its calls."""

_MODE = TypeAdapter(ReasoningMode)
_CALLS = TypeAdapter(list[ToolCall])
_NOTICES = TypeAdapter(list[str])
_TOOLS = TypeAdapter(list[Tool])
_USAGE = TypeAdapter(Usage)
_SAMPLING = TypeAdapter(Sampling)

_SUMMARIES = """
    SELECT s.id, coalesce(unseal_or_null(s.title, 'session.title', s.id), ''), s.created_at, s.updated_at, s.deleted_at,
           (SELECT count(*) FROM message m WHERE m.session = s.number)
    FROM session s """
SUMMARY_BY_ID = _SUMMARIES + "WHERE s.id = ?"
SUMMARIES_SHOWN = _SUMMARIES + "WHERE s.deleted_at IS NULL ORDER BY s.updated_at DESC, s.number DESC"

ROLE = "iif(m.tool_call_id IS NULL, m.role, 'tool')"
"""The role of the message `m` on the wire: a tool result is stored as a 'user'."""
_MESSAGES = f"""
    SELECT m.number, m.id, p.id, {ROLE}, unseal(m.text, 'message.text', m.id), m.status, m.created_at,
           m.model_id, m.finish_reason, m.error_code, unseal(m.error_text, 'message.error_text', m.id), m.usage,
           m.mode, unseal(m.reasoning, 'message.reasoning', m.id), m.thinking_tokens, m.thinking_s,
           unseal(m.tool_calls, 'message.tool_calls', m.id), unseal(m.call_text, 'message.call_text', m.id),
           m.tool_call_id, unseal(m.notices, 'message.notices', m.id), m.continued
    FROM message m LEFT JOIN message p ON p.number = m.parent
    WHERE m.number IN ({{chosen}}) ORDER BY m.number"""  # noqa: S608
_CHUNKS = """
    SELECT c.message, c.part, unseal(c.text, 'chunk.text', m.id || '/' || c.number)
    FROM chunk c JOIN message m ON m.number = c.message
    WHERE c.message IN ({chosen}) ORDER BY c.number"""
CHUNK_IDS = "unseal(c.token_ids, 'chunk.token_ids', m.id || '/' || c.number)"
"""The token ids of the chunk `c` of the message `m`."""

_IDS = """
    SELECT id, unseal(token_ids, 'message.token_ids', id) FROM message
    WHERE id IN (SELECT value FROM json_each(?))"""
_IDS_IN_CHUNKS = f"""
    SELECT m.id, {CHUNK_IDS} FROM chunk c JOIN message m ON m.number = c.message
    WHERE m.id IN (SELECT value FROM json_each(?)) ORDER BY c.number"""  # noqa: S608

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
    waiting: dict[tuple[int, str], list[str]] = {}
    for number, part, text in connection.execute(_CHUNKS.format(chosen=chosen), (parameter,)):
        waiting.setdefault((number, part), []).append(text)
    return [_message(row, waiting) for row in rows]


def _message(row: Row, waiting: dict[tuple[int, str], list[str]]) -> Message:
    number, message_id, parent_id, role, text, status, created_at, model_id, finish_reason, *rest = row
    code, why, usage, mode, reasoning, thinking_tokens, thinking_s, calls, call_text, call_id, *rest = rest
    notices, continued = rest

    def whole(part: AnswerPart, folded: str) -> str:
        chunks = waiting.get((number, part))
        return folded + "".join(chunks) if chunks else folded

    tool_calls = calls_of(calls)
    return Message(
        id=message_id,
        parent_id=parent_id,
        role=role,
        text=whole("text", text),
        status=status,
        created_at=created_at,
        model_id=model_id,
        finish_reason=finish_reason,
        error=None if code is None else ErrorBody(code=code, text=why or ""),
        usage=_read(_USAGE, usage, "usage"),
        mode=_read(_MODE, None if mode is None else json.dumps(mode), "mode"),
        reasoning=whole("reasoning", reasoning),
        thought=None
        if thinking_tokens is None or thinking_s is None
        else Thought(tokens=thinking_tokens, elapsed_s=thinking_s),
        tool_calls=tool_calls,
        # Calls that could be stored on a full disk, while the pieces they came in could not be folded.
        unfinished_call="" if tool_calls else whole("call", call_text),
        tool_call_id=call_id,
        notices=_read(_NOTICES, notices, "notices") or [],
        continued=continued,
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


def calls_of(stored: str | None) -> list[ToolCall]:
    """The calls from their column."""
    return _read(_CALLS, stored, "tool_calls") or []


def costs_of(messages: Sequence[Message]) -> dict[str, float]:
    """What answers cost together, by currency, where that is known of any."""
    costs: dict[str, float] = {}
    for usage in (message.usage for message in messages):
        if usage is not None and usage.cost is not None and usage.currency is not None:
            costs[usage.currency] = costs.get(usage.currency, 0.0) + usage.cost
    return costs


def tools_of(stored: str | None) -> list[Tool]:
    """The tools from their column."""
    return _read(_TOOLS, stored, "tools") or []


def sampling_of(stored: str | None) -> Sampling | None:
    """The sampling from its column."""
    return _read(_SAMPLING, stored, "sampling")


def listed(values: Sequence[ToolCall] | Sequence[Tool] | Sequence[str]) -> str | None:
    """A list as it is stored: JSON with clean texts and the order of its keys; None for an empty one.

    Raises ValueError for what could not be read back as it is: what is nested too deeply.
    """
    if not values:
        return None
    plain = [each if isinstance(each, str) else each.model_dump() for each in values]
    try:
        stored = json.dumps(_cleaned(plain), ensure_ascii=False, allow_nan=False)
        _ANY.validate_json(stored)
    except (ValidationError, RecursionError) as error:
        raise ValueError("it is nested too deeply") from error
    return stored


def packed(token_ids: Sequence[int]) -> bytes:
    """Token ids as they are stored: uint32, little-endian, one after the other."""
    return struct.pack(f"<{len(token_ids)}I", *token_ids)


def unpacked(blob: bytes) -> list[int]:
    """Token ids from their stored form."""
    return list(struct.unpack(f"<{len(blob) // 4}I", blob))


_ANY: TypeAdapter[Any] = TypeAdapter(Any)


def _read(shape: TypeAdapter[_Value], stored: str | None, column: str) -> _Value | None:
    if stored is None:
        return None
    try:
        return shape.validate_json(stored)
    except ValidationError as error:
        # Without the content, which is somebody's conversation.
        _logger.error("the column %s of a row in the session store cannot be read: %s", column, _kinds(error))
        return None


def _kinds(error: ValidationError) -> str:
    return ", ".join(sorted({each["type"] for each in error.errors(include_input=False)}))


def _cleaned(value: object) -> object:
    if isinstance(value, str):
        return clean_text(value)[0]
    if isinstance(value, dict):
        items = cast("dict[object, object]", value).items()
        return {_cleaned(key): _cleaned(each) for key, each in items}
    if isinstance(value, list):
        return [_cleaned(each) for each in cast("list[object]", value)]
    return value


def written_ids(connection: sqlite3.Connection, message_ids: Sequence[str]) -> dict[str, list[int]]:
    """The generated ids of those of the messages that have any, with those that still lie in chunks."""
    parameters = (json.dumps(list(message_ids)),)
    blobs: dict[str, bytes] = {}
    for message_id, blob in connection.execute(_IDS, parameters):
        blobs[str(message_id)] = bytes(blob)
    for message_id, blob in connection.execute(_IDS_IN_CHUNKS, parameters):
        blobs[str(message_id)] += bytes(blob)
    return {message_id: unpacked(blob) for message_id, blob in blobs.items() if blob}
