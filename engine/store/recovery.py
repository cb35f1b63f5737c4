"""Inside one transaction: an answer is given what its journal has of it and the store has not.

Owns: how pieces of a journal are compared with what is stored, and the end that an answer gets. A process that is
killed leaves both with the same pieces, but for the last; after a power cut the store may lack more, because SQLite
syncs its log seldom. Does not open or close transactions (`sessions`), and does not know files of journals.
"""

import logging
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from engine.protocol import FinishReason, MessageStatus
from engine.store.answers import End, append, end_turn, set_thought
from engine.store.journal_records import Piece
from engine.store.journal_turns import Turn
from engine.store.rows import ONE, read_messages, written_ids
from engine.store.tree import fold_chunks

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CutOff:
    """An answer that was being written when the engine died."""

    session_id: str
    answer_id: str
    model_id: str | None


@dataclass(frozen=True)
class Restored:
    """An answer as it is after its recovery; `pieces` were put back."""

    status: MessageStatus
    finish_reason: FinishReason | None
    pieces: int


def restore(
    connection: sqlite3.Connection, session_id: str, answer_id: str, turns: Sequence[Turn]
) -> Restored | None:
    """`SessionStore.restore`."""
    row = connection.execute(
        "SELECT m.number FROM message m JOIN session s ON s.number = m.session"
        " WHERE m.id = ? AND s.id = ? AND m.role = 'assistant'",
        (answer_id, session_id),
    ).fetchone()
    if row is None or not turns:
        return None
    number = int(row[0])
    fold_chunks(connection, number)
    stored = read_messages(connection, ONE, number)[0]
    ids = written_ids(connection, [answer_id]).get(answer_id, [])
    lacking = _lacking(turns, ids, {"text": len(stored.text), "reasoning": len(stored.reasoning)})
    last = turns[-1]
    was_settled = stored.status in ("running", "interrupted")
    end = last.ended if was_settled or lacking else None
    call_text = "".join(piece.text for piece in last.pieces if piece.part == "call")
    lacks_call = was_settled and not stored.tool_calls and len(call_text) > len(stored.unfinished_call)
    thought = last.thought if stored.thought is None else None
    if not (lacking or lacks_call or thought) and (end is None or end.status == stored.status):
        return Restored(stored.status, stored.finish_reason, 0)
    connection.execute("UPDATE message SET status = 'running' WHERE number = ?", (number,))
    for piece in lacking:
        # The text of calls is told anew by each turn: the last one's is the whole of it.
        append(connection, answer_id, "" if piece.part == "call" else piece.text, piece.ids, piece.part)
    fold_chunks(connection, number)
    if lacking or lacks_call:
        connection.execute(
            "UPDATE message SET call_text = seal(?, 'message.call_text', id) WHERE number = ?",
            (call_text, number),
        )
    if thought is not None:
        set_thought(connection, answer_id, thought)
    whole = end is not None and end.status == "complete"
    message = end_turn(
        connection,
        answer_id,
        End(
            status="interrupted" if end is None else end.status,
            finish_reason="interrupted" if end is None else end.reason,
            usage=None if end is None else end.usage,
            error=None if end is None else end.error,
            thought=None,
            tool_calls=last.calls if whole else (),
            notices=last.notices,
        ),
        folding=True,
        details=True,
    )
    return Restored(message.status, message.finish_reason, len(lacking))


def _lacking(turns: Sequence[Turn], ids: Sequence[int], lengths: dict[str, int]) -> list[Piece]:
    """The pieces that are not stored, in order, up to the first one that does not follow on what is there."""
    count, lacking = len(ids), list[Piece]()
    for piece in _told(turns):
        end = piece.first + len(piece.ids)
        is_call = piece.part == "call"
        if is_call and not piece.ids:
            continue
        if end <= count if piece.ids else piece.offset + len(piece.text) <= lengths[piece.part]:
            if not lacking and tuple(ids[piece.first : end]) != piece.ids:
                _logger.error("a journal tells of other tokens than are stored; the stored ones stay")
                return []
            continue
        follows = piece.first == count and (is_call or not piece.text or piece.offset == lengths[piece.part])
        if not follows:
            _logger.error("a piece of a journal does not follow on what is stored; it is left out")
            break
        lacking.append(piece)
        count = end
        if not is_call:
            lengths[piece.part] += len(piece.text)
    return lacking


def _told(turns: Sequence[Turn]) -> Iterator[Piece]:
    """The pieces of the turns, without what an earlier turn wrote and could not store when the next one began."""
    for turn, after in zip(turns, [*turns[1:], None], strict=True):
        for piece in turn.pieces:
            if after is None or _was_before(piece, after):
                yield piece


def _was_before(piece: Piece, after: Turn) -> bool:
    """Whether the answer had the piece when the turn `after` began: by its tokens, else by its place in the text."""
    if piece.first + len(piece.ids) > after.begun.already:
        return False
    if piece.ids or after.begun.characters is None or piece.part == "call":
        return True
    return piece.offset + len(piece.text) <= after.begun.characters.get(piece.part, 0)
