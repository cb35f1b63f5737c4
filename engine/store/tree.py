"""Inside one transaction: finding, adding and folding nodes of the message tree.

Owns: the SQL of single nodes, and what is said when an id is not here. Does not open or close transactions
and does not know which changes are allowed (`answers`, `sessions`).
"""

import secrets
import sqlite3
import time
from dataclasses import dataclass

from engine.errors import Conflict, NotFound
from engine.protocol import ReasoningMode, Sampling
from engine.store.rows import CHUNK_IDS, ROLE
from engine.store.search import fold


@dataclass(frozen=True)
class Node:
    """What the rules need to know of a stored message; `role` is the wire's."""

    number: int
    role: str
    status: str
    finish_reason: str | None


def new_id() -> str:
    """An opaque id, unlike any other; ids made later sort later, which keeps the index on them compact."""
    return f"{int(time.time() * 1000):012x}{secrets.token_hex(8)}"


def session_number(connection: sqlite3.Connection, session_id: str, *, for_change: bool = False) -> int:
    """The row of a session. Raises NotFound; Conflict when it is to be changed but is deleted."""
    row = connection.execute("SELECT number, deleted_at FROM session WHERE id = ?", (session_id,)).fetchone()
    if row is None:
        raise no_session()
    if for_change and row[1] is not None:
        raise Conflict("The conversation cannot be changed", "it is deleted", "undo the deletion first")
    return int(row[0])


def node(connection: sqlite3.Connection, session: int, message_id: str) -> Node:
    """The message of that session. Raises NotFound."""
    row = connection.execute(
        f"SELECT m.number, {ROLE}, m.status, m.finish_reason FROM message m"  # noqa: S608
        " WHERE m.id = ? AND m.session = ?",
        (message_id, session),
    ).fetchone()
    if row is None:
        raise no_message()
    return Node(*row)


def add_node(
    connection: sqlite3.Connection,
    session: int,
    parent: int | None,
    *,
    role: str,
    text: str,
    now: float,
    model_id: str | None = None,
    sampling: Sampling | None = None,
    mode: ReasoningMode | None = None,
    tool_call_id: str | None = None,
) -> tuple[int, str]:
    """Add a message beneath `parent`: (its row, its id). An assistant's is running, others are complete.

    The result of a tool is a "user" with a `tool_call_id`.
    """
    message_id = new_id()
    # Siblings are told apart by time, also when the clock was set back between them.
    latest: float | None = connection.execute(
        "SELECT max(created_at) FROM message WHERE session = ? AND parent IS ?", (session, parent)
    ).fetchone()[0]
    created_at = now if latest is None else max(now, latest + 1e-6)
    number = connection.execute(
        "INSERT INTO message"
        " (id, session, parent, role, status, created_at, model_id, sampling, mode, tool_call_id, text,"
        " token_ids)"
        " SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, seal(?11, 'message.text', ?1), x''",
        (
            message_id,
            session,
            parent,
            role,
            "running" if role == "assistant" else "complete",
            created_at,
            model_id,
            None if sampling is None else sampling.model_dump_json(),
            mode,
            tool_call_id,
            text,
        ),
    ).lastrowid
    assert number is not None, "an INSERT always has a row"  # noqa: S101
    if text:
        make_findable(connection, number, message_id, text)
    return number, message_id


def fold_chunks(connection: sqlite3.Connection, number: int) -> None:
    """Move the chunks of a message into its row, each part into its column, and make its text findable.

    The raw text of calls goes where the calls themselves are stored already.
    """
    chunks = connection.execute(
        f"SELECT c.part, unseal(c.text, 'chunk.text', m.id || '/' || c.number), {CHUNK_IDS}"  # noqa: S608
        " FROM chunk c JOIN message m ON m.number = c.message WHERE c.message = ? ORDER BY c.number",
        (number,),
    ).fetchall()
    if not chunks:
        return
    message_id, text, reasoning, call_text, token_ids, called = connection.execute(
        "SELECT id, unseal(text, 'message.text', id), unseal(reasoning, 'message.reasoning', id),"
        " unseal(call_text, 'message.call_text', id), unseal(token_ids, 'message.token_ids', id),"
        " tool_calls IS NOT NULL FROM message WHERE number = ?",
        (number,),
    ).fetchone()
    come: dict[str, list[str]] = {"text": [text], "reasoning": [reasoning], "call": [call_text]}
    for part, piece, _ in chunks:
        come[part].append(piece)
    text, reasoning, call_text = ("".join(come[part]) for part in ("text", "reasoning", "call"))
    token_ids += b"".join(chunk[2] for chunk in chunks)
    connection.execute(
        "UPDATE message SET text = seal(?, 'message.text', id), reasoning = seal(?, 'message.reasoning', id),"
        " call_text = seal(?, 'message.call_text', id), token_ids = seal(?, 'message.token_ids', id)"
        " WHERE number = ?",
        (text, reasoning, "" if called else call_text, token_ids, number),
    )
    if text:
        make_findable(connection, number, message_id, text)
    connection.execute("DELETE FROM chunk WHERE message = ?", (number,))


def make_findable(connection: sqlite3.Connection, number: int, message_id: str, text: str) -> None:
    """Have a search find the message in the row `number` by its text."""
    connection.execute(
        "INSERT OR REPLACE INTO search_text SELECT ?, seal(?, 'search_text.folded', ?)",
        (number, fold(text), message_id),
    )


def not_running(connection: sqlite3.Connection, answer_id: str) -> NotFound | Conflict:
    """Why nothing can be written to that answer."""
    if connection.execute("SELECT 1 FROM message WHERE id = ?", (answer_id,)).fetchone() is None:
        return no_message()
    return Conflict("The answer cannot be written", "it has already ended", "ask for another answer")


def no_session() -> NotFound:
    """There is no such session."""
    return NotFound(
        "The conversation cannot be found",
        "it is not in the store",
        "it may have been removed; reload the list",
    )


def no_message() -> NotFound:
    """There is no such message, or it is another session's."""
    return NotFound(
        "The message cannot be found",
        "it is not in this conversation",
        "its conversation may have been removed; reload the list",
    )
