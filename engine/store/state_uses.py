"""Which conversations a kept state of a context holds tokens of, so that it goes when they do.

Owns: the tables `kept_state` and `forgotten_state`. Does not know states or their files (`snapshots`): they are named
here as their files are.

A state is written for the conversation whose turn it comes from, and it is another's too when that one began with all
of it. When the last of them is purged its name moves, in the same transaction, to the states whose files are to be
deleted, and stays there until they are: so it is done at the next start where it could not be done at once. States
that no conversation has (those of clients of the public dialects) are not noted, and go by their age.
"""

import sqlite3
from collections.abc import Collection

from engine.store.database import Database


class StateUses:
    """The uses noted in a store. Any thread. Every method raises DiskFull and DataFolderError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, session_id: str, state: str) -> bool:
        """The state holds tokens of that session. False: the session is not there any more, and no other one has the
        state, so it is to be deleted."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO kept_state (session, state) SELECT number, ? FROM session WHERE id = ?",
                (state, session_id),
            )
            found = connection.execute("SELECT 1 FROM kept_state WHERE state = ?", (state,)).fetchone()
            if found is None:
                connection.execute("INSERT OR IGNORE INTO forgotten_state (state) VALUES (?)", (state,))
            else:
                connection.execute("DELETE FROM forgotten_state WHERE state = ?", (state,))
        return found is not None

    def to_delete(self) -> list[str]:
        """The states that no conversation has any more, and whose files are not known to be gone."""
        with self._database.reading() as connection:
            return [str(row[0]) for row in connection.execute("SELECT state FROM forgotten_state")]

    def deleted(self, states: Collection[str]) -> None:
        """The files of these are gone."""
        with self._database.transaction() as connection:
            connection.executemany(
                "DELETE FROM forgotten_state WHERE state = ?", [(each,) for each in states]
            )

    def keep_only(self, states: Collection[str]) -> None:
        """There are files of these alone: nothing is noted of others any more."""
        with self._database.transaction() as connection:
            noted = {str(row[0]) for row in connection.execute("SELECT DISTINCT state FROM kept_state")}
            connection.executemany(
                "DELETE FROM kept_state WHERE state = ?", [(each,) for each in noted.difference(states)]
            )


def leave(connection: sqlite3.Connection, session: int) -> None:
    """Inside a transaction: a session is about to be purged. What only it has is to be deleted."""
    connection.execute(
        "INSERT OR IGNORE INTO forgotten_state (state) SELECT state FROM kept_state WHERE session = ?1"
        " AND state NOT IN (SELECT state FROM kept_state WHERE session <> ?1)",
        (session,),
    )
    connection.execute("DELETE FROM kept_state WHERE session = ?", (session,))
