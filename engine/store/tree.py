"""Inside one transaction: finding, adding and folding nodes of the message tree.

Owns: the SQL of single nodes, and what is said when an id is not here. Does not open or close transactions
and does not know which changes are allowed (`sessions`).
"""

import secrets
import sqlite3
import time
from dataclasses import dataclass

from engine.errors import Conflict, NotFound
from engine.protocol import Sampling
from engine.store.search import fold


@dataclass(frozen=True)
class Node:
    """What the rules need to know of a stored message."""

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
        "SELECT number, role, status, finish_reason FROM message WHERE id = ? AND session = ?",
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
) -> tuple[int, str]:
    """Add a message beneath `parent`: (its row, its id). An assistant's is running, others are complete."""
    message_id = new_id()
    # Siblings are told apart by time, also when the clock was set back between them.
    latest: float | None = connection.execute(
        "SELECT max(created_at) FROM message WHERE session = ? AND parent IS ?", (session, parent)
    ).fetchone()[0]
    created_at = now if latest is None else max(now, latest + 1e-6)
    number = connection.execute(
        "INSERT INTO message"
        " (id, session, parent, role, status, created_at, model_id, sampling, text, token_ids)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, x'')",
        (
            message_id,
            session,
            parent,
            role,
            "running" if role == "assistant" else "complete",
            created_at,
            model_id,
            None if sampling is None else sampling.model_dump_json(),
            text,
        ),
    ).lastrowid
    assert number is not None, "an INSERT always has a row"  # noqa: S101
    if text:
        connection.execute("INSERT INTO search_text VALUES (?, ?)", (number, fold(text)))
    return number, message_id


def fold_chunks(connection: sqlite3.Connection, number: int) -> None:
    """Move the chunks of a message into its row, and make its text findable."""
    chunks = connection.execute(
        "SELECT text, token_ids FROM chunk WHERE message = ? ORDER BY number", (number,)
    ).fetchall()
    if not chunks:
        return
    text, token_ids = connection.execute(
        "SELECT text, token_ids FROM message WHERE number = ?", (number,)
    ).fetchone()
    text += "".join(chunk[0] for chunk in chunks)
    token_ids += b"".join(chunk[1] for chunk in chunks)
    connection.execute(
        "UPDATE message SET text = ?, token_ids = ? WHERE number = ?", (text, token_ids, number)
    )
    connection.execute("INSERT OR REPLACE INTO search_text VALUES (?, ?)", (number, fold(text)))
    connection.execute("DELETE FROM chunk WHERE message = ?", (number,))


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
