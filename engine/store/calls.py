"""Calls that models wrote, found again by their ids alone.

Owns: the table `written_call`: the reasoning before a call and the token ids of its whole answer, for clients
that send a conversation back without its reasoning. Does not know whether a session keeps the answer too.

Each function works on a connection; those that write, inside a transaction.
"""

import json
import sqlite3
import time
from collections.abc import Iterable, Sequence

from engine.conversation import clean_text
from engine.store.rows import calls_of, packed, unpacked

WRITTEN_CALLS_KEPT = 10_000
"""The oldest go: a client that comes back with an older one puts its conversation without that reasoning."""
KEPT_S = 30 * 24 * 3600.0
"""So long after it was made a call is forgotten, however few there are."""
IDS_BYTES_KEPT = 128 * 2**20
"""Of token ids, and of the reasoning where there are none; elsewhere it takes about as much again. The oldest go when
it is more, which is looked at now and then."""
SIZES_EVERY = 64
"""So many calls lie between two looks at the size, and are looked at for their age at once."""

_CHOSEN = "(SELECT value FROM json_each(?))"


def remember(
    connection: sqlite3.Connection, call_ids: Iterable[str], reasoning: str, token_ids: Sequence[int]
) -> None:
    """Keep `reasoning` and `token_ids` for each of the calls of one answer."""
    names = list(call_ids)
    row = (clean_text(reasoning)[0], packed(token_ids), time.time())
    for call_id in names:
        # REPLACE gives a new rowid, so that rowids are the order of remembering.
        connection.execute(
            "INSERT OR REPLACE INTO written_call SELECT ?1, seal(?2, 'written_call.reasoning', ?1),"
            " seal(?3, 'written_call.token_ids', ?1), ?4",
            (clean_text(call_id)[0], *row),
        )
    # The time stands behind what may be long, so it is read of the oldest alone; some of them go each time.
    connection.execute(
        "DELETE FROM written_call WHERE created_at < ? AND rowid IN"
        " (SELECT rowid FROM written_call ORDER BY rowid LIMIT ?)",
        (time.time() - KEPT_S, SIZES_EVERY),
    )
    [count, last] = connection.execute("SELECT count(*), max(rowid) FROM written_call").fetchone()
    if count > WRITTEN_CALLS_KEPT:
        connection.execute(
            "DELETE FROM written_call WHERE rowid IN (SELECT rowid FROM written_call ORDER BY rowid LIMIT ?)",
            (count - WRITTEN_CALLS_KEPT,),
        )
    if last is not None and last % SIZES_EVERY < len(names):
        _keep_to_size(connection)


def _keep_to_size(connection: sqlite3.Connection) -> None:
    connection.execute(
        # A blob's length is had without reading it, a text's is not.
        "DELETE FROM written_call WHERE rowid IN (SELECT rowid FROM (SELECT rowid, sum("
        "CASE length(token_ids) WHEN 0 THEN length(reasoning) ELSE length(token_ids) END"
        ") OVER (ORDER BY rowid DESC) AS size FROM written_call) WHERE size > ?)",
        (IDS_BYTES_KEPT,),
    )


def recall(connection: sqlite3.Connection, call_ids: Sequence[str]) -> dict[str, tuple[str, list[int]]]:
    """(reasoning, token ids of the whole answer) of those calls that are still known."""
    rows = connection.execute(
        "SELECT id, unseal(reasoning, 'written_call.reasoning', id),"  # noqa: S608
        f" unseal(token_ids, 'written_call.token_ids', id) FROM written_call WHERE id IN {_CHOSEN}",
        (json.dumps(list(call_ids)),),
    )
    return {call_id: (reasoning, unpacked(blob)) for call_id, reasoning, blob in rows}


def forget_all_calls(connection: sqlite3.Connection) -> None:
    """Forget all of them."""
    connection.execute("DELETE FROM written_call")


def forget_calls(connection: sqlite3.Connection, stored: Iterable[str | None]) -> None:
    """Forget the calls that stand in these columns `message.tool_calls`."""
    call_ids = [call.id for each in stored for call in calls_of(each)]
    if call_ids:
        connection.execute(
            f"DELETE FROM written_call WHERE id IN {_CHOSEN}",  # noqa: S608
            (json.dumps(call_ids),),
        )
