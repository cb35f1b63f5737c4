"""One turn's journal: what it does, written down before it is stored and told.

Owns: which records a turn writes, and how many tokens and characters its answer has as far as they are written.
Does not know files (`journal_file`), when they are synced (`journals`), or the store.
"""

import json
from collections.abc import Callable, Sequence
from hashlib import blake2b

from engine.conversation import clean_text
from engine.protocol import ErrorBody, FinishReason, Message, MessageStatus, Thought, ToolCall, Usage, Wire
from engine.store.journal_file import JournalFile
from engine.store.journal_records import Kind, Piece
from engine.store.journal_turns import (
    Base,
    Begun,
    Ended,
    Event,
    Prompt,
    Relay,
    Snapshot,
    Turn,
    packed,
)
from engine.store.rows import AnswerPart, listed
from engine.store.rows import packed as packed_ids


class TurnJournal:
    """What one turn writes. Every method may raise DiskFull and DataFolderError; nothing is then written.

    `before`: what the journal knew of the same answer when this turn began; None: nothing. `sync(store_too)` is called
    after each record: it is to become durable, and so is what the store has. `ended_with(first, settled)` is called by
    `close`.
    """

    def __init__(
        self,
        file: JournalFile,
        answer: Message,
        begun: Begun,
        before: Turn | None,
        sync: Callable[[bool], None],
        ended_with: Callable[[bool, bool], None],
    ) -> None:
        self.answer_id = answer.id
        self.before = before
        self._file = file
        self._sync = sync
        self._ended_with = ended_with
        self._tokens = begun.already
        self._lengths: dict[AnswerPart, int] = {
            "text": len(answer.text),
            "reasoning": len(answer.reasoning),
            # An answer that goes on tells its calls from the beginning.
            "call": 0,
        }
        self._is_open = True
        self._turn = file.append(Kind.BEGUN, None, packed(begun))
        self._sync(True)

    def profile(self, name: str) -> None:
        """Prompts are made by the release profile with that name."""
        self._write(Kind.EVENT, Event(kind="profile", body=name))

    def prompt(self, tokens: int, digest: str, state_key: str, exact_key: str) -> None:
        """So many tokens with that digest (`ids_digest`) are read as a prompt, by what the keys stand for."""
        self._write(
            Kind.PROMPT, Prompt(tokens=tokens, digest=digest, state_key=state_key, exact_key=exact_key)
        )

    def base(self, digest: str | None, tokens: int, schedule: int, read: int) -> None:
        """The context was begun from the first `tokens` of a kept state, or (None, 0) from nothing, and up to `read`
        tokens are read as a prompt; `schedule`: by which rules it is saved and loaded on the way. Once more, with 0 as
        the schedule: that was not kept to."""
        self._write(Kind.BASE, Base(digest=digest, tokens=tokens, schedule=schedule, read=read))

    def tokens(self, ids: Sequence[int], text: str, part: AnswerPart) -> None:
        """A piece of the answer, which is stored and told next."""
        text = clean_text(text)[0]
        piece = Piece(self._tokens, self._lengths[part], part, tuple(ids), text)
        self._file.append(Kind.TOKENS, self._turn, piece.packed())
        self._tokens += len(ids)
        self._lengths[part] += len(text)
        self._sync(False)

    def thought(self, thought: Thought) -> None:
        """The reasoning has ended."""
        self._write(Kind.EVENT, Event(kind="thought", body=thought.model_dump()))

    def notice(self, text: str) -> None:
        """Something was done to the answer: a sentence."""
        self._write(Kind.EVENT, Event(kind="notice", body=clean_text(text)[0]))

    def calls(self, calls: Sequence[ToolCall]) -> None:
        """The calls that the whole answer makes."""
        self._write(Kind.EVENT, Event(kind="calls", body=json.loads(listed(calls) or "[]")))

    def snapshot(self, position: int, digest: str) -> None:
        """The context's state at `position` tokens is on the disk, and the context was loaded from it."""
        self._write(Kind.SNAPSHOT, Snapshot(position=position, digest=digest))

    def relay(self, position: int) -> None:
        """The context was loaded from its own state at `position` tokens, and that is not on the disk."""
        self._write(Kind.RELAY, Relay(position=position))

    def ended(
        self, status: MessageStatus, reason: FinishReason, usage: Usage | None, error: ErrorBody | None
    ) -> None:
        """The turn is over; the store is told next."""
        ended = Ended(status=status, reason=reason, tokens=self._tokens, usage=usage, error=error)
        self._write(Kind.ENDED, ended)

    def close(self, *, settled: bool) -> None:
        """Nothing more is written. `settled`: the store has the answer's end; where it got that later, this is called
        again. Raises nothing."""
        first, self._is_open = self._is_open, False
        self._ended_with(first, settled)

    def _write(self, kind: Kind, shape: Wire) -> None:
        self._file.append(kind, self._turn, packed(shape))
        self._sync(False)


def ids_digest(ids: Sequence[int]) -> str:
    """By which tokens are known again: BLAKE2b, 32 bytes, of its ids as u32 little-endian, in hexadecimal."""
    return blake2b(packed_ids(ids), digest_size=32).hexdigest()
