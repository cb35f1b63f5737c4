"""Whether the store is as it should be: every page, every row, every tree.

Owns: what is looked at, and the sentences about what is wrong. Changes nothing. Reads one message at a time, so that
the memory it takes does not grow with the store. The tree's rules are `tree_rules`.
"""

import sqlite3
import struct
from collections.abc import Callable, Iterator

from engine.errors import SealBroken, SeamountError
from engine.store.database import Database
from engine.store.rows import ONE, read_messages, sampling_of, tools_of, written_ids
from engine.store.tree_rules import TreeRules

MOST_PROBLEMS = 1000
"""Of a store that is broken throughout, so many are told."""
_SHAPED = ("usage", "mode", "tool_calls", "notices", "sampling")


class Inspection:
    """One look at a store. `told(done, total)` hears how many messages have been read, and may raise to end it."""

    def __init__(
        self, database: Database, told: Callable[[int, int], None] = lambda _done, _total: None
    ) -> None:
        self._database = database
        self._told = told
        self.sessions = 0
        self.messages = 0

    def problems(self) -> list[str]:
        """Sentences about what is wrong; none when all is well. Raises DataFolderError where it cannot be read."""
        found: list[str] = []
        for problem in self._all():
            found.append(problem)
            if len(found) == MOST_PROBLEMS:
                found.append("There is more.")
                break
        return found

    def _all(self) -> Iterator[str]:
        damage = self._pages()
        yield from damage
        if damage:
            return  # what is read from damaged pages says nothing
        with self._database.reading() as connection:
            total = connection.execute("SELECT count(*) FROM message").fetchone()[0]
            sessions = connection.execute("SELECT number, id FROM session ORDER BY number").fetchall()
        for number, session_id in sessions:
            yield from self._session(number, str(session_id), total)
        yield from self._strays()

    def _pages(self) -> list[str]:
        with self._database.reading() as connection:
            verdicts = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(20)")]
            dangling = connection.execute("PRAGMA foreign_key_check").fetchmany(20)
        problems = [f"The file is damaged: {' '.join(each.split())}." for each in verdicts if each != "ok"]
        return problems + [f"A row of the table {row[0]} belongs to nothing." for row in dangling]

    def _session(self, number: int, session_id: str, total: int) -> Iterator[str]:
        """Its rows one after the other; the lock is given back between them, for answers being written."""
        self.sessions += 1
        rules = TreeRules()
        try:
            with self._database.reading() as connection:
                leaf_id, tools, rows = self._light(connection, number)
        except SealBroken as error:
            yield f"The conversation {session_id} cannot be read: {error.why}."
            return
        if tools is not None and not tools_of(tools):
            yield f"The tools of the conversation {session_id} cannot be read."
        for row in rows:
            try:
                problem = self._message(row, rules)
            except SealBroken as error:
                problem = error.why
            self.messages += 1
            self._told(self.messages, max(total, self.messages))
            if problem is not None:
                yield f"A message of the conversation {session_id} is not as it should be: {problem}."
        if leaf_id is not None and leaf_id not in rules and self._is_there(session_id):
            yield f"The conversation {session_id} shows a branch that is not there."

    def _light(self, connection: sqlite3.Connection, number: int) -> tuple[str | None, str | None, list[int]]:
        found = connection.execute(
            "SELECT leaf_id, unseal(tools, 'session.tools', id) FROM session WHERE number = ?", (number,)
        ).fetchone()
        rows = connection.execute("SELECT number FROM message WHERE session = ? ORDER BY number", (number,))
        leaf_id, tools = found or (None, None)
        return leaf_id, tools, [row[0] for row in rows]

    def _message(self, row: int, rules: TreeRules) -> str | None:
        with self._database.reading() as connection:
            messages = read_messages(connection, ONE, row)
            if not messages:
                return None  # removed meanwhile
            [message] = messages
            stored = connection.execute(
                f"SELECT {', '.join(_SHAPED)} FROM message WHERE number = ?",  # noqa: S608
                (row,),
            ).fetchone()
            found = (
                message.usage,
                message.mode,
                message.tool_calls,
                message.notices,
                sampling_of(stored[4]),
            )
            for name, column, value in zip(_SHAPED, stored, found, strict=True):
                if column is not None and not value:
                    return f"its {name.replace('_', ' ')} cannot be read"
            try:
                written_ids(connection, [message.id])
            except struct.error:
                return "its token ids are cut off"
        return rules.add(message)

    def _is_there(self, session_id: str) -> bool:
        with self._database.reading() as connection:
            return bool(connection.execute("SELECT 1 FROM session WHERE id = ?", (session_id,)).fetchone())

    def _strays(self) -> Iterator[str]:
        with self._database.reading() as connection:
            unfound = connection.execute(
                "SELECT count(*) FROM message m WHERE text <> ''"
                " AND NOT EXISTS (SELECT 1 FROM search_text s WHERE s.message = m.number)"
            ).fetchone()[0]
            ended = connection.execute(
                "SELECT count(DISTINCT c.message) FROM chunk c JOIN message m ON m.number = c.message"
                " WHERE m.role <> 'assistant'"
            ).fetchone()[0]
        if unfound:
            yield f"The text of {unfound:,} messages is not found by a search."
        if ended:
            yield f"{ended:,} messages that are no answers have pieces of one."


def problems_of(database: Database, told: Callable[[int, int], None]) -> tuple[list[str], int, int]:
    """(problems, conversations, messages) of a store. A database that cannot be read at all is a problem too."""
    inspection = Inspection(database, told)
    try:
        return inspection.problems(), inspection.sessions, inspection.messages
    except SeamountError as error:
        if error.code != "data_folder":
            raise
        return [error.text], inspection.sessions, inspection.messages
