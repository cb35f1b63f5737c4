"""Inside one transaction: how an answer begins, grows, ends and goes on.

Owns: the rules of the tree (nothing is overwritten; an edit, a retry and results given again are siblings),
how an answer grows (append-only chunks, folded into its message when it ends), and what becomes of an answer
whose engine died. Does not open or close transactions (`sessions`), and does not know models or how a prompt
is made.
"""

import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from engine.conversation import clean_text
from engine.errors import BadRequest, Conflict
from engine.protocol import (
    ErrorBody,
    FinishReason,
    Message,
    MessageStatus,
    ReasoningMode,
    Sampling,
    Thought,
    ToolCall,
    ToolResult,
    Usage,
)
from engine.store import state_uses
from engine.store.calls import forget_calls, remember
from engine.store.rows import (
    ONE,
    AnswerPart,
    calls_of,
    listed,
    packed,
    read_messages,
    sampling_of,
    unpacked,
)
from engine.store.titles import title_of_question
from engine.store.tree import add_node, fold_chunks, node, not_running, session_number

_OWN_END = ("stop", "tool_calls")
_IDS_SHOWN = 5


@dataclass(frozen=True)
class Writer:
    """What writes an answer: the model, how its tokens are drawn, and the reasoning mode if it has any."""

    model_id: str
    sampling: Sampling
    mode: ReasoningMode | None


@dataclass(frozen=True)
class End:
    """How an answer ended. What is None or empty was not."""

    status: MessageStatus
    finish_reason: FinishReason
    usage: Usage | None
    error: ErrorBody | None
    thought: Thought | None
    tool_calls: Sequence[ToolCall]
    notices: Sequence[str]


def begin_turn(
    connection: sqlite3.Connection,
    session_id: str,
    parent_id: str | None,
    question: str | None,
    writer: Writer,
) -> tuple[Message | None, Message]:
    """`SessionStore.begin_turn`."""
    now = time.time()
    session = session_number(connection, session_id, for_change=True)
    above = None if parent_id is None else node(connection, session, parent_id)
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
        parent, _ = add_node(connection, session, parent, role="user", text=text, now=now)
        asked = read_messages(connection, ONE, parent)[0]
        connection.execute(
            "UPDATE session SET title = seal(?, 'session.title', id) WHERE number = ? AND title = ''",
            (title_of_question(text), session),
        )
    elif above is None or above.role not in ("user", "tool"):
        raise BadRequest(
            "An answer cannot be begun",
            "the message it is to stand beneath is neither a question nor the result of a tool",
            "choose a message that a person or a tool wrote",
        )
    return asked, _begun(connection, session, parent, writer, now)


def begin_results(
    connection: sqlite3.Connection,
    session_id: str,
    answer_id: str,
    results: Sequence[ToolResult],
    writer: Writer,
) -> tuple[list[Message], Message]:
    """`SessionStore.begin_results`."""
    what, now = "The results cannot be given", time.time()
    session = session_number(connection, session_id, for_change=True)
    answer = node(connection, session, answer_id)
    if answer.role != "assistant":
        raise BadRequest(what, "the message is not an answer", "choose the answer that made the calls")
    if answer.status == "running":
        raise Conflict(what, "the answer is still being written", "wait until it ends, or stop it")
    calls = calls_of(
        connection.execute(
            "SELECT unseal(tool_calls, 'message.tool_calls', id) FROM message WHERE number = ?",
            (answer.number,),
        ).fetchone()[0]
    )
    if not calls:
        raise BadRequest(what, "the answer makes no call", "choose the answer that made the calls")
    texts = _text_by_call([call.id for call in calls], results)
    parent, rows = answer.number, list[int]()
    for call in calls:
        parent, _ = add_node(
            connection, session, parent, role="user", text=texts[call.id], now=now, tool_call_id=call.id
        )
        rows.append(parent)
    given = [read_messages(connection, ONE, row)[0] for row in rows]
    return given, _begun(connection, session, parent, writer, now)


def _text_by_call(call_ids: Sequence[str], results: Sequence[ToolResult]) -> dict[str, str]:
    what, given = "The results cannot be given", Counter(result.tool_call_id for result in results)
    problems = (
        ("there is more than one result for", [each for each, count in given.items() if count > 1]),
        ("the answer did not make", [each for each in given if each not in call_ids]),
        ("there is no result for", [each for each in call_ids if each not in given]),
    )
    for problem, ids in problems:
        if ids:
            raise BadRequest(what, f"{problem} {_shown(ids)}", "give one result for each call of the answer")
    return {result.tool_call_id: clean_text(result.text)[0] for result in results}


def _shown(call_ids: Sequence[str]) -> str:
    shown = ", ".join(call_id[:64] for call_id in call_ids[:_IDS_SHOWN])
    more = f" and {len(call_ids) - _IDS_SHOWN} more" if len(call_ids) > _IDS_SHOWN else ""
    return f"the call{'s' if len(call_ids) > 1 else ''} {shown}{more}"


def _begun(
    connection: sqlite3.Connection, session: int, parent: int | None, writer: Writer, now: float
) -> Message:
    """A running answer beneath `parent`, in which the shown branch ends."""
    row, answer_id = add_node(
        connection,
        session,
        parent,
        role="assistant",
        text="",
        now=now,
        model_id=writer.model_id,
        sampling=writer.sampling,
        mode=writer.mode,
    )
    _show(connection, session, answer_id, now)
    return read_messages(connection, ONE, row)[0]


def reopen(
    connection: sqlite3.Connection, session_id: str, message_id: str, model_id: str | None = None
) -> tuple[Message, list[int], Sampling]:
    """`SessionStore.reopen_answer`."""
    what = "The answer cannot be continued"
    session = session_number(connection, session_id, for_change=True)
    found = node(connection, session, message_id)
    if found.role != "assistant":
        raise BadRequest(what, "the message is not an answer", "choose an answer")
    if found.status == "running":
        raise Conflict(what, "it is still being written", "wait until it ends, or stop it")
    if found.status == "complete" and found.finish_reason in _OWN_END:
        raise Conflict(what, "it came to its own end", "ask for another answer instead")
    if connection.execute(
        "SELECT 1 FROM message WHERE session = ? AND parent = ?", (session, found.number)
    ).fetchone():
        raise Conflict(what, "other messages follow it already", "ask for another answer instead")
    fold_chunks(connection, found.number)
    calls, blob, sampling = connection.execute(
        "SELECT unseal(tool_calls, 'message.tool_calls', id), unseal(token_ids, 'message.token_ids', id),"
        " sampling FROM message WHERE number = ?",
        (found.number,),
    ).fetchone()
    forget_calls(connection, [calls])
    connection.execute(
        "UPDATE message SET status = 'running', finish_reason = NULL, error_code = NULL, error_text = NULL,"
        " usage = NULL, tool_calls = NULL, notices = NULL, call_text = '', model_id = coalesce(?, model_id)"
        " WHERE number = ?",
        (model_id, found.number),
    )
    _show(connection, session, message_id, time.time())
    answer = read_messages(connection, ONE, found.number)[0]
    return answer, unpacked(blob), sampling_of(sampling) or Sampling()


def append(
    connection: sqlite3.Connection, answer_id: str, text: str, token_ids: Sequence[int], part: AnswerPart
) -> None:
    """`SessionStore.append`, in one statement."""
    added = connection.execute(
        # Sealed, a piece is bound to its answer and number, so the number is chosen here, as SQLite would.
        "INSERT INTO chunk (number, message, part, text, token_ids)"
        " SELECT n.next, m.number, ?, seal(?, 'chunk.text', m.id || '/' || n.next),"
        " seal(?, 'chunk.token_ids', m.id || '/' || n.next)"
        " FROM message m, (SELECT coalesce(max(number), 0) + 1 AS next FROM chunk) n"
        " WHERE m.id = ? AND m.status = 'running'",
        (part, clean_text(text)[0], packed(token_ids), answer_id),
    ).rowcount
    if not added:
        raise not_running(connection, answer_id)


def set_thought(connection: sqlite3.Connection, answer_id: str, thought: Thought) -> None:
    """`SessionStore.set_thought`, in one statement."""
    changed = connection.execute(
        "UPDATE message SET thinking_tokens = ?, thinking_s = ? WHERE id = ? AND status = 'running'",
        (thought.tokens, thought.elapsed_s, answer_id),
    ).rowcount
    if not changed:
        raise not_running(connection, answer_id)


def end_turn(
    connection: sqlite3.Connection, answer_id: str, end: End, *, folding: bool, details: bool
) -> Message:
    """`SessionStore.end_turn`. Without `folding` the chunks stay and the calls are not remembered by their
    ids; without `details` what is not needed to mark the end is left out: thought, calls, notices."""
    row = connection.execute(
        "SELECT number, session, sampling FROM message WHERE id = ? AND status = 'running'", (answer_id,)
    ).fetchone()
    if row is None:
        raise not_running(connection, answer_id)
    number, session, sampling = row
    if folding:
        fold_chunks(connection, number)
    kept, seed = sampling_of(sampling), end.usage.seed if end.usage else None
    if kept is not None and kept.seed is None and seed is not None:
        sampling = kept.model_copy(update={"seed": seed}).model_dump_json()
    connection.execute(
        "UPDATE message SET status = ?, finish_reason = ?, usage = ?, error_code = ?,"
        " error_text = seal(?, 'message.error_text', id), sampling = ? WHERE number = ?",
        (
            end.status,
            end.finish_reason,
            end.usage.model_dump_json() if end.usage else None,
            end.error.code if end.error else None,
            clean_text(end.error.text)[0] if end.error else None,
            sampling,
            number,
        ),
    )
    if details:
        _add_details(connection, number, end)
    if folding and end.tool_calls:
        reasoning, blob = connection.execute(
            "SELECT unseal(reasoning, 'message.reasoning', id), unseal(token_ids, 'message.token_ids', id)"
            " FROM message WHERE number = ?",
            (number,),
        ).fetchone()
        remember(connection, [call.id for call in end.tool_calls], reasoning, unpacked(blob))
    connection.execute("UPDATE session SET updated_at = ? WHERE number = ?", (time.time(), session))
    return read_messages(connection, ONE, number)[0]


def _add_details(connection: sqlite3.Connection, number: int, end: End) -> None:
    if end.thought is not None:
        connection.execute(
            "UPDATE message SET thinking_tokens = ?, thinking_s = ? WHERE number = ?",
            (end.thought.tokens, end.thought.elapsed_s, number),
        )
    if end.notices:
        connection.execute(
            "UPDATE message SET notices = seal(?, 'message.notices', id) WHERE number = ?",
            (listed(end.notices), number),
        )
    if end.tool_calls:
        connection.execute(
            "UPDATE message SET tool_calls = seal(?, 'message.tool_calls', id), call_text = ''"
            " WHERE number = ?",
            (listed(end.tool_calls), number),
        )


def settle(connection: sqlite3.Connection, *, folding: bool) -> list[tuple[str, str, str | None]]:
    """Leave nothing half done by an earlier run: fold chunks, end what was running.

    Of that: (session, answer, model) each, those of deleted sessions left out.
    """
    if folding:
        for (number,) in connection.execute("SELECT DISTINCT message FROM chunk").fetchall():
            fold_chunks(connection, number)
    running = connection.execute(
        "SELECT s.id, m.id, m.model_id FROM message m JOIN session s ON s.number = m.session"
        " WHERE m.status = 'running' AND s.deleted_at IS NULL"
    ).fetchall()
    connection.execute(
        "UPDATE message SET status = 'interrupted', finish_reason = 'interrupted' WHERE status = 'running'"
    )
    return running


def purge(connection: sqlite3.Connection, sessions: Iterable[int]) -> None:
    """Remove sessions with all that is remembered of their answers' calls."""
    for session in sessions:
        rows = connection.execute(
            "SELECT unseal_or_null(tool_calls, 'message.tool_calls', id) FROM message"
            " WHERE session = ? AND tool_calls IS NOT NULL",
            (session,),
        ).fetchall()
        forget_calls(connection, (row[0] for row in rows))
        state_uses.leave(connection, session)
        connection.execute("DELETE FROM session WHERE number = ?", (session,))


def _show(connection: sqlite3.Connection, session: int, message_id: str, now: float) -> None:
    """The shown branch ends in that message, and the session has been used."""
    connection.execute(
        "UPDATE session SET leaf_id = ?, updated_at = ? WHERE number = ?", (message_id, now, session)
    )
