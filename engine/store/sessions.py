"""What was said, kept: sessions, each a tree of messages, in one SQLite file.

Owns: the rules of the tree (nothing is overwritten; an edit or a retry is a sibling), how an answer grows
(append-only chunks, folded into its message when it ends), what becomes of an answer whose engine died, and
deletion that can be undone until the store is opened again. Does not know SQLite's files and errors
(`database`), the tables' history (`migrations`), models, or how a prompt is made.
"""

import time
from collections.abc import Sequence
from pathlib import Path

from engine.conversation import clean_text
from engine.errors import BadRequest, Conflict, DiskFull
from engine.protocol import (
    ErrorBody,
    FinishReason,
    Message,
    MessageStatus,
    Sampling,
    Session,
    SessionSummary,
    Usage,
)
from engine.store.database import Database
from engine.store.rows import (
    OF_SESSION,
    ONE,
    SUMMARIES_SHOWN,
    SUMMARY_BY_ID,
    UP_TO_ROOT,
    packed,
    read_messages,
    summary_of,
    unpacked,
)
from engine.store.search import fold
from engine.store.titles import tidy_title, title_of_question
from engine.store.tree import (
    add_node,
    fold_chunks,
    new_id,
    no_message,
    no_session,
    node,
    not_running,
    session_number,
)


class SessionStore:
    """The sessions of one data folder. Any thread may call it; the engine's lock keeps other engines out.

    Every method raises DiskFull when the disk is full and DataFolderError when the file cannot be read or
    written, and then has stored nothing; NotFound for an id that is not here.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, path: Path) -> "SessionStore":
        """Open or create the store at `path`, in a folder that exists.

        Migrates an older one after a backup, keeps what a dead engine left of its answers as interrupted,
        and purges what was deleted in an earlier run. Raises StoreVersionError, DataFolderError, DiskFull.
        """
        store = cls(Database.open(path))
        try:
            try:
                store._settle(folding=True)
            except DiskFull:
                # Reading must still be possible; the chunks wait where they are until there is room.
                store._database.release_reserve()
                store._settle(folding=False)
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Close the file. A running answer stays as it is until the next `open`. Twice does nothing."""
        self._database.close()

    # --- sessions -----------------------------------------------------------------------------------

    def list_sessions(self, query: str | None = None) -> list[SessionSummary]:
        """Sessions that are not deleted, the most recently used first.

        With a `query`: those that hold it in the title or in a message of any branch (`search.fold` says what
        counts as the same). The text of an answer that is still running is found once it has ended.
        """
        needle = fold(clean_text(query or "")[0].strip())
        with self._database.reading() as connection:
            rows = connection.execute(SUMMARIES_SHOWN).fetchall()
            found: set[str] = set()
            if needle:
                found = {
                    str(row[0])
                    for row in connection.execute(
                        "SELECT id FROM session WHERE number IN (SELECT m.session FROM search_text t"
                        " JOIN message m ON m.number = t.message WHERE instr(t.folded, ?) > 0)",
                        (needle,),
                    )
                }
        summaries = [summary_of(row) for row in rows]
        if not needle:
            return summaries
        return [each for each in summaries if each.id in found or needle in fold(each.title)]

    def create_session(self, title: str = "") -> SessionSummary:
        """A new session without messages. An untitled one gets its title from its first question."""
        now = time.time()
        session_id = new_id()
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO session (id, title, created_at, updated_at) VALUES (?, ?, ?, ?)",
                (session_id, tidy_title(title), now, now),
            )
        return self._summary(session_id)

    def session(self, session_id: str) -> Session:
        """The whole tree, parents before children; a deleted session can still be read until it is purged."""
        with self._database.reading() as connection:
            number = session_number(connection, session_id)
            summary = self._summary(session_id)
            leaf: str | None = connection.execute(
                "SELECT leaf_id FROM session WHERE number = ?", (number,)
            ).fetchone()[0]
            messages = read_messages(connection, OF_SESSION, number)
        return Session(summary=summary, leaf_id=leaf, messages=messages)

    def change_session(
        self, session_id: str, *, title: str | None = None, leaf_id: str | None = None
    ) -> SessionSummary:
        """Set the title, the message that the shown branch ends in, or both; what is None stays.

        Does not count as use: the order of the list stays. Raises Conflict for a deleted session.
        """
        with self._database.transaction() as connection:
            number = session_number(connection, session_id, for_change=True)
            if title is not None:
                connection.execute(
                    "UPDATE session SET title = ? WHERE number = ?", (tidy_title(title), number)
                )
            if leaf_id is not None:
                node(connection, number, leaf_id)
                connection.execute("UPDATE session SET leaf_id = ? WHERE number = ?", (leaf_id, number))
        return self._summary(session_id)

    def delete_session(self, session_id: str) -> None:
        """Take the session out of the list; `restore_session` brings it back, all of it. Twice is once."""
        with self._database.transaction() as connection:
            number = session_number(connection, session_id)
            connection.execute(
                "UPDATE session SET deleted_at = coalesce(deleted_at, ?) WHERE number = ?",
                (time.time(), number),
            )

    def restore_session(self, session_id: str) -> None:
        """Undo `delete_session`."""
        with self._database.transaction() as connection:
            number = session_number(connection, session_id)
            connection.execute("UPDATE session SET deleted_at = NULL WHERE number = ?", (number,))

    def purge_session(self, session_id: str) -> None:
        """Remove the session for good, from the file and its log. Raises Conflict while an answer runs."""
        with self._database.transaction() as connection:
            number = session_number(connection, session_id)
            running = connection.execute(
                "SELECT 1 FROM message WHERE session = ? AND status = 'running'", (number,)
            ).fetchone()
            if running:
                raise Conflict(
                    "The conversation cannot be removed", "an answer is being written in it", "stop it first"
                )
            connection.execute("DELETE FROM session WHERE number = ?", (number,))
        self._database.forget()

    # --- messages -----------------------------------------------------------------------------------

    def message(self, session_id: str, message_id: str) -> Message:
        """One message, with the text it has so far."""
        with self._database.reading() as connection:
            number = session_number(connection, session_id)
            found = node(connection, number, message_id)
            return read_messages(connection, ONE, found.number)[0]

    def branch(self, session_id: str, message_id: str) -> list[Message]:
        """The messages from the root to `message_id`, that one included."""
        with self._database.reading() as connection:
            number = session_number(connection, session_id)
            found = node(connection, number, message_id)
            return read_messages(connection, UP_TO_ROOT, found.number)

    def token_ids(self, message_id: str) -> list[int]:
        """The ids that were generated for the message, in order; empty for what a person wrote."""
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT number, token_ids FROM message WHERE id = ?", (message_id,)
            ).fetchone()
            if row is None:
                raise no_message()
            chunks = connection.execute(
                "SELECT token_ids FROM chunk WHERE message = ? ORDER BY number", (row[0],)
            ).fetchall()
        return unpacked(bytes(row[1]) + b"".join(chunk[0] for chunk in chunks))

    # --- turns --------------------------------------------------------------------------------------

    def begin_turn(
        self,
        session_id: str,
        *,
        parent_id: str | None,
        question: str | None,
        model_id: str,
        sampling: Sampling,
    ) -> tuple[Message | None, Message]:
        """Record a turn before the model is asked, in one transaction: (question, running answer).

        `question` goes beneath `parent_id` (None: a root) and the answer beneath it; without one, the answer
        goes beneath `parent_id`, which must be a user message. The shown branch then ends in the answer. Give
        `sampling` with its seed, or an answer that is cut off cannot go on with the same draws. Raises
        BadRequest for a parent that takes no answer, Conflict for a deleted session and while the parent is
        itself being written.
        """
        now = time.time()
        with self._database.transaction() as connection:
            number = session_number(connection, session_id, for_change=True)
            above = None if parent_id is None else node(connection, number, parent_id)
            if above and above.status == "running":
                raise Conflict(
                    "The message cannot be added",
                    "the answer above it is still being written",
                    "wait until it ends, or stop it",
                )
            parent = above.number if above else None
            asked: Message | None = None
            if question is not None:
                text = clean_text(question)[0]
                parent, _ = add_node(connection, number, parent, role="user", text=text, now=now)
                asked = read_messages(connection, ONE, parent)[0]
                connection.execute(
                    "UPDATE session SET title = ? WHERE number = ? AND title = ''",
                    (title_of_question(text), number),
                )
            elif above is None or above.role != "user":
                raise BadRequest(
                    "An answer cannot be begun",
                    "the message it is to stand beneath is not a question",
                    "choose a message that a person wrote",
                )
            row, answer_id = add_node(
                connection,
                number,
                parent,
                role="assistant",
                text="",
                now=now,
                model_id=model_id,
                sampling=sampling,
            )
            connection.execute(
                "UPDATE session SET leaf_id = ?, updated_at = ? WHERE number = ?", (answer_id, now, number)
            )
            answer = read_messages(connection, ONE, row)[0]
        self._database.keep_reserve()
        return asked, answer

    def reopen_answer(self, session_id: str, message_id: str) -> tuple[Message, list[int], Sampling]:
        """Let an unfinished answer run on: (it, the token ids it has so far, its sampling with the seed).

        What is appended from now on follows its text. The shown branch ends in it. Raises BadRequest for a
        message that is no answer, Conflict for one that is running, finished by itself, or has messages
        beneath it (they were said to the text as it stands), and for a deleted session.
        """
        what = "The answer cannot be continued"
        now = time.time()
        with self._database.transaction() as connection:
            number = session_number(connection, session_id, for_change=True)
            found = node(connection, number, message_id)
            if found.role != "assistant":
                raise BadRequest(what, "the message is not an answer", "choose an answer")
            if found.status == "running":
                raise Conflict(what, "it is still being written", "wait until it ends, or stop it")
            if found.status == "complete" and found.finish_reason == "stop":
                raise Conflict(what, "it came to its own end", "ask for another answer instead")
            if connection.execute(
                "SELECT 1 FROM message WHERE session = ? AND parent = ?", (number, found.number)
            ).fetchone():
                raise Conflict(what, "other messages follow it already", "ask for another answer instead")
            fold_chunks(connection, found.number)
            connection.execute(
                "UPDATE message SET status = 'running', finish_reason = NULL, error_code = NULL,"
                " error_text = NULL, usage = NULL WHERE number = ?",
                (found.number,),
            )
            connection.execute(
                "UPDATE session SET leaf_id = ?, updated_at = ? WHERE number = ?", (message_id, now, number)
            )
            answer = read_messages(connection, ONE, found.number)[0]
            blob, sampling = connection.execute(
                "SELECT token_ids, sampling FROM message WHERE number = ?", (found.number,)
            ).fetchone()
        self._database.keep_reserve()
        kept = Sampling.model_validate_json(sampling) if sampling else Sampling()
        return answer, unpacked(blob), kept

    def append(self, answer_id: str, text: str, token_ids: Sequence[int]) -> None:
        """Add to a running answer. When this returns it is stored; the cost does not grow with the answer.

        Raises NotFound, Conflict when the answer is not running.
        """
        with self._database.reading() as connection:
            # One statement outside BEGIN is its own transaction: half the work per token.
            added = connection.execute(
                "INSERT INTO chunk (message, text, token_ids)"
                " SELECT number, ?, ? FROM message WHERE id = ? AND status = 'running'",
                (clean_text(text)[0], packed(token_ids), answer_id),
            ).rowcount
            if not added:
                raise not_running(connection, answer_id)

    def end_turn(
        self,
        answer_id: str,
        *,
        status: MessageStatus,
        finish_reason: FinishReason,
        usage: Usage | None = None,
        error: ErrorBody | None = None,
    ) -> Message:
        """End a running answer: its chunks become its text, in one transaction. Returns it as stored.

        On a full disk a small reserve is given back and, if that does not suffice for the text, only the end
        is marked: the text stays in its chunks until there is room. Raises DiskFull when not even that can be
        written (the answer is then still running, and this may be called again), NotFound, Conflict.
        """
        if status == "running":
            raise ValueError("an answer cannot end as running")
        end = (
            status,
            finish_reason,
            usage.model_dump_json() if usage else None,
            error.code if error else None,
            clean_text(error.text)[0] if error else None,
        )
        seed = usage.seed if usage else None
        try:
            return self._end(answer_id, end, seed, folding=True)
        except DiskFull:
            self._database.release_reserve()
            return self._end(answer_id, end, seed, folding=False)

    def _end(
        self, answer_id: str, end: tuple[str | None, ...], seed: int | None, *, folding: bool
    ) -> Message:
        with self._database.transaction() as connection:
            row = connection.execute(
                "SELECT number, session, sampling FROM message WHERE id = ? AND status = 'running'",
                (answer_id,),
            ).fetchone()
            if row is None:
                raise not_running(connection, answer_id)
            number, session, sampling = row
            if folding:
                fold_chunks(connection, number)
            if (
                seed is not None
                and sampling
                and (kept := Sampling.model_validate_json(sampling)).seed is None
            ):
                sampling = kept.model_copy(update={"seed": seed}).model_dump_json()
            connection.execute(
                "UPDATE message SET status = ?, finish_reason = ?, usage = ?, error_code = ?, error_text = ?,"
                " sampling = ? WHERE number = ?",
                (*end, sampling, number),
            )
            connection.execute("UPDATE session SET updated_at = ? WHERE number = ?", (time.time(), session))
            return read_messages(connection, ONE, number)[0]

    # --- inside -------------------------------------------------------------------------------------

    def _settle(self, *, folding: bool) -> None:
        """Leave nothing half done by an earlier run: fold chunks, end what was running, purge the deleted."""
        with self._database.transaction() as connection:
            if folding:
                for (number,) in connection.execute("SELECT DISTINCT message FROM chunk").fetchall():
                    fold_chunks(connection, number)
            connection.execute(
                "UPDATE message SET status = 'interrupted', finish_reason = 'interrupted'"
                " WHERE status = 'running'"
            )
            purged = connection.execute("DELETE FROM session WHERE deleted_at IS NOT NULL").rowcount
        if purged:
            self._database.forget()

    def _summary(self, session_id: str) -> SessionSummary:
        with self._database.reading() as connection:
            row = connection.execute(SUMMARY_BY_ID, (session_id,)).fetchone()
        if row is None:
            raise no_session()
        return summary_of(row)
