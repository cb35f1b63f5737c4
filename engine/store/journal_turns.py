"""What the records of a journal say of its turns.

Owns: the shape of each record's payload, the turns that a sequence of records makes, and which of them are still
needed once the store has all of them. Does not know files (`journal`), or how the store is put right (`recovery`).

A payload that cannot be read is left out and logged: the others keep their worth.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from engine.protocol import (
    ErrorBody,
    FinishReason,
    MessageStatus,
    ReasoningMode,
    Sampling,
    Thought,
    ToolCall,
    Usage,
    Wire,
)
from engine.protocol_remote import REMOTE_PREFIX
from engine.store.journal_records import Kind, Piece, Record
from engine.store.rows import AnswerPart

_logger = logging.getLogger(__name__)
UNFINISHED_KEPT = 32
"""Of so many answers of a session that could be gone on with, the newest, a journal keeps how they came about."""

EventKind = Literal["profile", "thought", "notice", "calls"]


class Begun(Wire):
    """A turn was asked for. `already`: tokens that its answer had before; `resumes`: how often it was gone on with
    since it last got anywhere. `most_tokens`: how many the answer may come to, with those that it had, and
    `thinking_tokens` how many in its reasoning; None: as many as fit."""

    answer_id: str
    model_id: str
    sampling: Sampling
    parent_id: str | None = None
    mode: ReasoningMode | None = None
    already: int = 0
    resumes: int = 0
    most_tokens: int | None = None
    thinking_tokens: int | None = None
    characters: dict[AnswerPart, int] | None = None
    """How long each part of the answer was before: where pieces without tokens begin, as another machine gives them."""


class Prompt(Wire):
    """What is read as a prompt: the number and the digest (BLAKE2b, 32 bytes, of the ids as u32 little-endian) of its
    tokens; and the fingerprints of the model and of what computes it (`ModelFacts`)."""

    tokens: int
    digest: str
    state_key: str
    exact_key: str


class Base(Wire):
    """From which kept state the context was begun: its digest and how many of its tokens; None: from nothing. Up to
    `read` tokens were read as a prompt; more than the prompt has where what was written before was read too, which
    is not as it came. `schedule` 0: on the way a relay failed, and what followed cannot be repeated."""

    tokens: int
    schedule: int
    digest: str | None = None
    read: int = 0


class Event(Wire):
    """Something that is no piece of the text. `body` depends on `kind`: the name of the release profile that prompts
    are made by, a Thought, a notice's sentence, a list of calls."""

    kind: EventKind
    body: Any


class Snapshot(Wire):
    """The context's state at `position` (tokens in the context) is on the disk."""

    position: int
    digest: str


class Relay(Wire):
    """The context was loaded anew from its own state at `position`, which was not written."""

    position: int


class Ended(Wire):
    """The turn has ended; `tokens` are those that its answer has now."""

    status: MessageStatus
    reason: FinishReason
    tokens: int
    usage: Usage | None = None
    error: ErrorBody | None = None


_SHAPES: Mapping[Kind, type[Wire]] = {
    Kind.BEGUN: Begun,
    Kind.PROMPT: Prompt,
    Kind.BASE: Base,
    Kind.EVENT: Event,
    Kind.SNAPSHOT: Snapshot,
    Kind.RELAY: Relay,
    Kind.ENDED: Ended,
}
_THOUGHT = TypeAdapter(Thought)
_CALLS = TypeAdapter(list[ToolCall])


@dataclass
class Turn:
    """One turn as its journal has it."""

    begun: Begun
    prompt: Prompt | None = None
    base: Base | None = None
    pieces: list[Piece] = field(default_factory=lambda: list[Piece]())
    events: list[Event] = field(default_factory=lambda: list[Event]())
    snapshots: list[Snapshot] = field(default_factory=lambda: list[Snapshot]())
    relays: list[Relay] = field(default_factory=lambda: list[Relay]())
    ended: Ended | None = None
    got_further: bool = False
    """It wrote a token, or a state that the next one can begin from."""

    @property
    def resumes(self) -> int:
        """How often the answer was gone on with in vain, this time counted."""
        return 0 if self.got_further else self.begun.resumes

    @property
    def tokens(self) -> int:
        """How many tokens its answer has."""
        last = max((piece.first + len(piece.ids) for piece in self.pieces), default=self.begun.already)
        return self.ended.tokens if self.ended else max(last, self.begun.already)

    @property
    def may_go_on(self) -> bool:
        """Whether the answer has not come to an end of its own."""
        return self.ended is None or self.ended.status != "complete" or self.ended.reason not in _OWN_ENDS

    @property
    def was_cut_off(self) -> bool:
        """Whether an engine's end was the end of it, and no person's wish and no failure."""
        return self.ended is None or self.ended.status == "interrupted"

    @property
    def thought(self) -> Thought | None:
        """What the reasoning took, if it has ended."""
        bodies = [event.body for event in self.events if event.kind == "thought"]
        return _read(_THOUGHT, bodies[-1]) if bodies else None

    @property
    def calls(self) -> list[ToolCall]:
        """The calls that the answer made."""
        bodies = [event.body for event in self.events if event.kind == "calls"]
        return (_read(_CALLS, bodies[-1]) or []) if bodies else []

    @property
    def notices(self) -> list[str]:
        """What was done to the answer."""
        return [event.body for event in self.events if event.kind == "notice" and isinstance(event.body, str)]


_OWN_ENDS = ("stop", "tool_calls")


def turns_of(records: Iterable[Record]) -> dict[int, Turn]:
    """The turns, by the sequence number of the record that began each, in their order."""
    turns: dict[int, Turn] = {}
    for record in records:
        read = _payload(record)
        if isinstance(read, Begun):
            turns[record.sequence] = Turn(read)
        elif read is not None and (turn := turns.get(record.turn)) is not None:
            _add(turn, read)
    return turns


def last_turn(turns: Sequence[Turn], answer_id: str) -> Turn | None:
    """The answer's newest turn, with how the answer came about; None for an answer that the journal does not know.

    That is told by the turn that wrote the first token: its prompt and its base, with its states and those of others
    that went the same way. Once one went on otherwise and wrote something, there is no base: nothing can be
    gone on with as it came.
    """
    own = [turn for turn in turns if turn.begun.answer_id == answer_id]
    if not own:
        return None
    last = own[-1]
    told = [turn for turn in own if turn.prompt is not None]
    if not told:
        return last
    # Whoever began with no token began anew, whatever was read before.
    first = max((at for at, turn in enumerate(told) if turn.begun.already == 0), default=0)
    origin = told[first]
    same = [turn for turn in told if turn is origin or _goes_on_alike(turn, origin)]
    departed = any(turn not in same and turn.tokens > turn.begun.already for turn in told[first:])
    snapshots = {each.position: each for turn in same for each in turn.snapshots}
    relays = {each.position: each for turn in same for each in turn.relays}
    return Turn(
        begun=last.begun,
        prompt=origin.prompt,
        base=None if departed else origin.base,
        pieces=last.pieces,
        events=last.events,
        snapshots=[snapshots[position] for position in sorted(snapshots)],
        relays=[relays[position] for position in sorted(relays)],
        ended=last.ended,
        got_further=last.got_further,
    )


def _goes_on_alike(turn: Turn, origin: Turn) -> bool:
    return turn.base is not None and (turn.base, turn.prompt) == (origin.base, origin.prompt)


def needed(
    records: Sequence[Record], held: frozenset[str] = frozenset(), gone: frozenset[str] = frozenset()
) -> list[Record]:
    """Of these records, those that are needed when the store has what they say, but for the answers `held`, of which
    nothing is left out. Answers that are `gone` are not needed.

    Of an answer that can be gone on with: how each of its turns came about, without the
    text. Of one that has come to its own end: nothing.
    """
    turns = turns_of(records)
    newest: dict[str, Turn] = {turn.begun.answer_id: turn for turn in turns.values()}
    # A turn begun later makes its answer a later one.
    order = dict.fromkeys(turn.begun.answer_id for turn in reversed(turns.values()))
    open_ids = [answer_id for answer_id in order if newest[answer_id].may_go_on][:UNFINISHED_KEPT]
    kept: list[Record] = []
    for record in records:
        turn = turns.get(record.turn)
        if turn is None or turn.begun.answer_id in gone:
            continue
        answer_id = turn.begun.answer_id
        if answer_id in held:
            kept.append(record)
        elif answer_id in open_ids and record.kind is Kind.BEGUN:
            # Whether it got anywhere cannot be seen any more once its tokens are gone.
            begun = turn.begun.model_copy(update={"resumes": turn.resumes})
            kept.append(replace(record, payload=packed(begun)))
        elif answer_id in open_ids and record.kind not in (Kind.TOKENS, Kind.EVENT):
            kept.append(record)
    return kept


def packed(shape: Wire) -> bytes:
    """A payload: compact JSON, UTF-8."""
    return shape.model_dump_json(exclude_none=True).encode()


def _payload(record: Record) -> Wire | Piece | None:
    try:
        if record.kind is Kind.TOKENS:
            return Piece.unpacked(record.payload)
        return _SHAPES[record.kind].model_validate_json(record.payload)
    except (ValidationError, ValueError) as error:
        # Without the content, which is somebody's conversation.
        _logger.error("record %d of a journal cannot be read: %s", record.sequence, type(error).__name__)
        return None


def _add(turn: Turn, read: Wire | Piece) -> None:
    match read:
        case Prompt():
            turn.prompt = read
        case Base():
            turn.base = read
        case Piece():
            turn.pieces.append(read)
            turn.got_further |= bool(read.ids) or _is_of_another_machine(turn, read)
        case Event():
            turn.events.append(read)
        case Snapshot():
            turn.snapshots.append(read)
            turn.got_further = True
        case Relay():
            turn.relays.append(read)
        case Ended():
            turn.ended = read
        case _:
            pass


def _is_of_another_machine(turn: Turn, piece: Piece) -> bool:
    """Whether it is text that another machine gave, without its tokens. Calls are told anew each time."""
    return turn.begun.model_id.startswith(REMOTE_PREFIX) and bool(piece.text) and piece.part != "call"


def _read(shape: TypeAdapter[Any], body: Any) -> Any:
    try:
        return shape.validate_python(body)
    except ValidationError:
        return None
