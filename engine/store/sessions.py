"""What was said, kept: sessions, each a tree of messages, in one SQLite file.

Owns: the store as the engine sees it: sessions and their titles, tools and shown branches, the transactions
that answers are written in (`answers` has their rules), and deletion that can be undone until the store is
opened again. Does not know SQLite's files and errors (`database`), the tables' history (`migrations`),
models, or how a prompt is made.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from engine import fault_points
from engine.conversation import clean_text
from engine.errors import BadRequest, Conflict, DiskFull, SeamountError
from engine.protocol import (
    ErrorBody,
    FinishReason,
    Message,
    MessageStatus,
    ReasoningMode,
    Sampling,
    Session,
    SessionSummary,
    Thought,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
)
from engine.store import answers, calls
from engine.store.answers import End, Writer
from engine.store.database import Database, LockedDatabase
from engine.store.journal_turns import Turn
from engine.store.recovery import CutOff, Restored, restore
from engine.store.rows import (
    CHUNK_IDS,
    OF_SESSION,
    ONE,
    SUMMARIES_SHOWN,
    SUMMARY_BY_ID,
    UP_TO_ROOT,
    AnswerPart,
    costs_of,
    listed,
    read_messages,
    summary_of,
    tools_of,
    unpacked,
    written_ids,
)
from engine.store.sealing import Cipher
from engine.store.search import fold
from engine.store.titles import tidy_title
from engine.store.tree import new_id, no_message, no_session, node, session_number


class SessionStore:
    """The sessions of one data folder. Any thread may call it; the engine's lock keeps other engines out.

    Every method raises DiskFull when the disk is full and DataFolderError when the file cannot be read or
    written, and then has stored nothing; NotFound for an id that is not here.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.cut_off: list[CutOff] = []
        """What was being written when the last engine died."""

    @classmethod
    def open(cls, path: Path, cipher: Cipher | None = None, *, back_up: bool = True) -> "SessionStore":
        """Open or create the store at `path`, in a folder that exists. `cipher`: that of an encrypted one.
        `back_up`: False where an older one has been backed up already, or a person goes on without that.

        Migrates an older one after a backup, keeps what a dead engine left of its answers as interrupted,
        and purges what was deleted in an earlier run. Raises StoreVersionError, KeyMissing, DataFolderError,
        DiskFull.
        """
        store = cls(Database.open(path, cipher=cipher, back_up=back_up))
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

    @classmethod
    def locked(cls, path: Path, why: SeamountError) -> "SessionStore":
        """In the place of a store that cannot be opened now: it lists nothing, and all else raises `why`."""
        return cls(LockedDatabase(path, why))

    @property
    def database(self) -> Database:
        """The store's file, for the other modules of this folder."""
        return self._database

    def close(self) -> None:
        """Close the file. A running answer stays as it is until the next `open`. Twice does nothing."""
        self._database.close()

    # --- sessions -----------------------------------------------------------------------------------

    def list_sessions(self, query: str | None = None) -> list[SessionSummary]:
        """Sessions that are not deleted, the most recently used first.

        With a `query`: those that hold it in the title or in a message of any branch (`search.fold` says what
        counts as the same). The results of tools are found, the reasoning of answers is not; the text of an
        answer that is still running is found once it has ended.
        """
        if isinstance(self._database, LockedDatabase):
            return []
        needle = fold(clean_text(query or "")[0].strip())
        with self._database.reading() as connection:
            rows = connection.execute(SUMMARIES_SHOWN).fetchall()
            found: set[str] = set()
            if needle:
                found = {
                    str(row[0])
                    for row in connection.execute(
                        "SELECT id FROM session WHERE number IN (SELECT m.session FROM search_text t"
                        " JOIN message m ON m.number = t.message"
                        " WHERE instr(unseal_or_null(t.folded, 'search_text.folded', m.id), ?) > 0)",
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
        session_id, tidy = new_id(), tidy_title(title)
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO session (id, title, title_by, created_at, updated_at)"
                " SELECT ?1, seal(?2, 'session.title', ?1), ?3, ?4, ?5",
                (session_id, tidy, _titled_by(tidy), now, now),
            )
        return self._summary(session_id)

    def session(self, session_id: str) -> Session:
        """The whole tree, parents before children; a deleted session can still be read until it is purged."""
        with self._database.reading() as connection:
            number = session_number(connection, session_id)
            summary = self._summary(session_id)
            leaf, tools = connection.execute(
                "SELECT leaf_id, unseal(tools, 'session.tools', id) FROM session WHERE number = ?", (number,)
            ).fetchone()
            messages = read_messages(connection, OF_SESSION, number)
        return Session(
            summary=summary, leaf_id=leaf, messages=messages, tools=tools_of(tools), costs=costs_of(messages)
        )

    def has_session(self, session_id: str) -> bool:
        """Whether there is such a session, deleted or not."""
        with self._database.reading() as connection:
            row = connection.execute("SELECT 1 FROM session WHERE id = ?", (session_id,)).fetchone()
        return row is not None

    def tools(self, session_id: str) -> list[Tool]:
        """The tools of the session's turns, in the order they were given in."""
        with self._database.reading() as connection:
            number = session_number(connection, session_id)
            row = connection.execute(
                "SELECT unseal(tools, 'session.tools', id) FROM session WHERE number = ?", (number,)
            ).fetchone()
        return tools_of(row[0])

    def change_session(
        self,
        session_id: str,
        *,
        title: str | None = None,
        leaf_id: str | None = None,
        tools: Sequence[Tool] | None = None,
    ) -> SessionSummary:
        """Set a person's title, the message that the shown branch ends in, the tools; what is None stays.

        An empty title is made anew from the next question, an empty list takes the tools away. Does not count
        as use: the order of the list stays. Raises Conflict for a deleted session, BadRequest for tools that
        cannot be kept.
        """
        try:
            listed_tools = listed(tools or ())
        except ValueError as error:
            raise BadRequest("The tools cannot be kept", str(error), "describe them more simply") from error
        with self._database.transaction() as connection:
            number = session_number(connection, session_id, for_change=True)
            if title is not None:
                tidy = tidy_title(title)
                connection.execute(
                    "UPDATE session SET title = seal(?, 'session.title', id), title_by = ? WHERE number = ?",
                    (tidy, _titled_by(tidy), number),
                )
            if tools is not None:
                connection.execute(
                    "UPDATE session SET tools = seal(?, 'session.tools', id) WHERE number = ?",
                    (listed_tools, number),
                )
            if leaf_id is not None:
                node(connection, number, leaf_id)
                connection.execute("UPDATE session SET leaf_id = ? WHERE number = ?", (leaf_id, number))
        return self._summary(session_id)

    def wants_title(self, session_id: str) -> bool:
        """Whether `set_model_title` would change the title."""
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT 1 FROM session WHERE id = ? AND title_by = 'question' AND deleted_at IS NULL",
                (session_id,),
            ).fetchone()
        return row is not None

    def set_model_title(self, session_id: str, title: str) -> bool:
        """Give the session a title that a model made. Does not count as use.

        False, and nothing changes, where a person or a model has chosen one already, where nothing of `title`
        is left when it is tidied, and for a deleted session.
        """
        tidy = tidy_title(title)
        with self._database.transaction() as connection:
            number = session_number(connection, session_id)
            changed = connection.execute(
                "UPDATE session SET title = seal(?, 'session.title', id), title_by = 'model'"
                " WHERE number = ? AND title_by = 'question' AND deleted_at IS NULL AND ? <> ''",
                (tidy, number, tidy),
            ).rowcount
        return changed > 0

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
        """Remove the session for good, from the file and its log, with what `recall` knows of its calls.

        Raises Conflict while an answer runs.
        """
        with self._database.transaction() as connection:
            number = session_number(connection, session_id)
            running = connection.execute(
                "SELECT 1 FROM message WHERE session = ? AND status = 'running'", (number,)
            ).fetchone()
            if running:
                raise Conflict(
                    "The conversation cannot be removed", "an answer is being written in it", "stop it first"
                )
            answers.purge(connection, [number])
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
                "SELECT number, unseal(token_ids, 'message.token_ids', id) FROM message WHERE id = ?",
                (message_id,),
            ).fetchone()
            if row is None:
                raise no_message()
            chunks = connection.execute(
                f"SELECT {CHUNK_IDS} FROM chunk c JOIN message m ON m.number = c.message"  # noqa: S608
                " WHERE c.message = ? ORDER BY c.number",
                (row[0],),
            ).fetchall()
        return unpacked(bytes(row[1]) + b"".join(chunk[0] for chunk in chunks))

    def branch_tokens(self, branch: Sequence[Message]) -> dict[str, list[int]]:
        """The ids that were generated for each of the answers in `branch` that have any."""
        written = [message.id for message in branch if message.role == "assistant"]
        with self._database.reading() as connection:
            return written_ids(connection, written)

    # --- turns --------------------------------------------------------------------------------------

    def begin_turn(
        self,
        session_id: str,
        *,
        parent_id: str | None,
        question: str | None,
        model_id: str,
        sampling: Sampling,
        mode: ReasoningMode | None = None,
    ) -> tuple[Message | None, Message]:
        """Record a turn before the model is asked, in one transaction: (question, running answer).

        `question` goes beneath `parent_id` (None: a root) and the answer beneath it; without one, the answer
        goes beneath `parent_id`, which must be a user message or the result of a tool. The shown branch then
        ends in the answer. Give `sampling` with its seed, or an answer that is cut off cannot go on with the
        same draws. Raises BadRequest for a parent that takes no answer, Conflict for a deleted session and
        while the parent is itself being written.
        """
        writer = Writer(model_id, sampling, mode)
        with self._database.transaction() as connection:
            begun = answers.begin_turn(connection, session_id, parent_id, question, writer)
            fault_points.at("branch-storing")
        self._database.keep_reserve()
        return begun

    def begin_results(
        self,
        session_id: str,
        answer_id: str,
        results: Sequence[ToolResult],
        *,
        model_id: str,
        sampling: Sampling,
        mode: ReasoningMode | None = None,
    ) -> tuple[list[Message], Message]:
        """Record the results of an answer's calls, in one transaction: (tool messages, running answer).

        There is one tool message for each call, in the order of the calls: the first beneath the answer, each
        next beneath the one before, and the running answer beneath the last. The shown branch then ends in
        it. Results given again stand beside the earlier ones. Raises BadRequest for a message that is no
        answer or makes no calls, and for results that are missing, double, or of no call of this answer;
        Conflict for a deleted session and while the answer is still being written.
        """
        writer = Writer(model_id, sampling, mode)
        with self._database.transaction() as connection:
            begun = answers.begin_results(connection, session_id, answer_id, results, writer)
        self._database.keep_reserve()
        return begun

    def reopen_answer(
        self, session_id: str, message_id: str, model_id: str | None = None
    ) -> tuple[Message, list[int], Sampling]:
        """Let an unfinished answer run on: (it, the token ids it has so far, its sampling with the seed).

        What is appended from now on follows its text and its reasoning. Its calls, finished or not, and its
        notices are taken away: its token ids still hold the calls, and what is to be kept of them is appended
        or given to `end_turn` again. `model_id`: who writes it from now on; None: who did. The shown branch
        ends in the answer. Raises BadRequest for a message that is no answer, Conflict for one that is running,
        finished by itself, or has messages beneath it (they were said to the text as it stands), and for a
        deleted session.
        """
        with self._database.transaction() as connection:
            reopened = answers.reopen(connection, session_id, message_id, model_id)
        self._database.keep_reserve()
        return reopened

    def append(self, answer_id: str, text: str, token_ids: Sequence[int], part: AnswerPart = "text") -> None:
        """Add to a running answer. When this returns it is stored; the cost does not grow with the answer.

        Raises NotFound, Conflict when the answer is not running.
        """
        # One statement outside BEGIN is its own transaction: half the work per token.
        with self._database.reading() as connection:
            answers.append(connection, answer_id, text, token_ids, part)

    def set_thought(self, answer_id: str, thought: Thought) -> None:
        """Store what the reasoning of a running answer took, when it has ended. Raises NotFound, Conflict."""
        with self._database.reading() as connection:
            answers.set_thought(connection, answer_id, thought)

    def end_turn(
        self,
        answer_id: str,
        *,
        status: MessageStatus,
        finish_reason: FinishReason,
        usage: Usage | None = None,
        error: ErrorBody | None = None,
        thought: Thought | None = None,
        tool_calls: Sequence[ToolCall] = (),
        notices: Sequence[str] = (),
    ) -> Message:
        """End a running answer: its chunks become its text, in one transaction. Returns it as stored.

        `thought` None: the one that was set stays. `tool_calls` stand for the raw text of the calls, and
        `recall` knows them from now on.

        On a full disk a small reserve is given back and, if that does not suffice for the text, only the end
        is marked, with thought, calls and notices if they fit: the text stays in its chunks until there is
        room, and `recall` does not know the calls. Raises DiskFull when not even that can be written, or when
        the answer ends in its calls and these cannot (it is then still running, and this may be called
        again), NotFound, Conflict.
        """
        if status == "running":
            raise ValueError("an answer cannot end as running")
        end = End(status, finish_reason, usage, error, thought, tool_calls, notices)
        try:
            return self._end(answer_id, end, folding=True, details=True)
        except DiskFull:
            self._database.release_reserve()
        try:
            return self._end(answer_id, end, folding=False, details=True)
        except DiskFull:
            if finish_reason == "tool_calls":
                # An answer that waits for results of calls that nobody knows could never go on.
                raise
            return self._end(answer_id, end, folding=False, details=False)

    # --- what a dead engine left ----------------------------------------------------------------------

    def restore(self, session_id: str, answer_id: str, turns: Sequence[Turn]) -> Restored | None:
        """Give an answer that nobody writes what its journal, `turns`, has of it and the store has not, and its end.

        An answer without an end is interrupted. None where there is no such answer.
        """
        with self._database.transaction() as connection:
            return restore(connection, session_id, answer_id, turns)

    def make_durable(self) -> None:
        """Return when all that was stored so far survives a power cut."""
        self._database.make_durable()

    def set_continued(self, answer_id: str, continued: Literal["identical", "different"]) -> None:
        """Say of an answer that it goes on after it was cut off; once it is "different" it stays that."""
        with self._database.reading() as connection:
            connection.execute(
                "UPDATE message SET continued = ? WHERE id = ? AND continued IS NOT 'different'",
                (continued, answer_id),
            )

    # --- calls --------------------------------------------------------------------------------------

    def remember_calls(self, call_ids: Sequence[str], reasoning: str, token_ids: Sequence[int]) -> None:
        """Keep the reasoning before these calls and the ids of their whole answer, which no session keeps.

        Those older than `calls.KEPT_S`, and the oldest that are too many or too large, are forgotten.
        """
        if call_ids:
            with self._database.transaction() as connection:
                calls.remember(connection, call_ids, reasoning, token_ids)

    def recall(self, call_ids: Sequence[str]) -> dict[str, tuple[str, list[int]]]:
        """(reasoning, token ids of the whole answer) of each of these calls that is still known."""
        with self._database.reading() as connection:
            return calls.recall(connection, call_ids)

    # --- inside -------------------------------------------------------------------------------------

    def _end(self, answer_id: str, end: End, *, folding: bool, details: bool) -> Message:
        with self._database.transaction() as connection:
            return answers.end_turn(connection, answer_id, end, folding=folding, details=details)

    def _settle(self, *, folding: bool) -> None:
        """Leave nothing half done by an earlier run, and purge the deleted."""
        with self._database.transaction() as connection:
            self.cut_off = [CutOff(*each) for each in answers.settle(connection, folding=folding)]
            rows = connection.execute("SELECT number FROM session WHERE deleted_at IS NOT NULL").fetchall()
            answers.purge(connection, [row[0] for row in rows])
        if rows:
            self._database.forget()

    def _summary(self, session_id: str) -> SessionSummary:
        with self._database.reading() as connection:
            row = connection.execute(SUMMARY_BY_ID, (session_id,)).fetchone()
        if row is None:
            raise no_session()
        return summary_of(row)


def _titled_by(person_title: str) -> str:
    """Who chose a title that came from a person: an empty one leaves the choice to the next question."""
    return "person" if person_title else "question"
