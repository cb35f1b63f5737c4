"""Beginnings of clients' conversations that change with each request, and what may be done about it.

Owns: what each key's conversations were last told, the rules that a person agreed to for the key (`SteadyRules`), and
the offers of those that would spare something. Does not know how lines are compared (`steady_lines`), keys and their
secrets (`access/`), how a prompt is made, or HTTP.

A model reads on from what its context holds, so a date in the first line of a system message makes everything behind it
be read again. Without a rule nothing of what the model is told is changed; what such a line cost is counted, and an
offer made. With `pin` a line that differs in figures alone is put as it stood when the conversation began. With `move`
the system message stays as it was first given, and what has changed of it is told at the end of the newest message; in
later requests it stays told there, so that it costs nothing there either. Only system messages before the first other
message are looked at: no result of a tool and nothing that a person wrote is compared or changed.

What is kept is in memory alone and bounded for each key; it ends with the process.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from engine.callers import WINDOW_KEY, Caller
from engine.conversation import Message
from engine.protocol import Usage
from engine.protocol_access import SteadyOffer, SteadyRules
from engine.steady_lines import MOST_TEXT, Change, applied, changes_of, told

KEYS_KEPT = 64
CONVERSATIONS_KEPT = 32
"""Of each key; those not used for longest are forgotten, and their next request is a first one."""
KEPT_SIZE = 4_000_000
"""Characters of one key's conversations, and what their messages' sums take."""
MOST_MESSAGES = 20_000
"""A longer conversation is put as it comes."""
MOST_TOLD_TEXT = 200_000
"""Characters of what was told in one conversation, and of the changes that it was told of; the same then."""
SUM_SIZE = 48
"""What the sum of a message takes in memory, in bytes."""
MOST_TOLD = 512
"""So often a conversation's system message is told anew at the end of a message before it is put anew as a whole."""
ALIKE_TRIED = 4
"""So many texts are compared to find the one that a request goes on from."""
LEAST_REREAD = 256
"""Tokens that have to be read again for a line's sake before anybody is asked about it."""
LEAST_TIMES = 2
"""The same for how often, whichever line it was: once may be midnight."""
SHOWN_CHARACTERS = 200
SHOWN_LINES = 16
_SEAM = "\0\0"
"""A line between the texts of several system messages; no text has a NUL."""
_BETWEEN = f"\n{_SEAM}\n"


@dataclass(frozen=True)
class Steadied:
    """A request's messages as they are put to the model. `pinned`: lines as the client sent them that were put as they
    stood before; `moved`: what was told of the system message at the end of the newest message; `told_before`: how many
    messages before that one end with what was told there in earlier requests."""

    messages: tuple[Message, ...]
    pinned: tuple[str, ...] = ()
    moved: str = ""
    told_before: int = 0
    conversation: "Conversation | None" = field(default=None, compare=False, repr=False)
    noticed: "Noticed | None" = field(default=None, compare=False, repr=False)

    @property
    def header(self) -> str | None:
        """The value of the reply's header `Seamount-Steady`; None: all is put as it came."""
        said = [f"pinned={len(self.pinned)}"] if self.pinned else []
        said += ["moved"] if self.moved or self.told_before else []
        return ", ".join(said) or None

    @property
    def told(self) -> dict[str, Any] | None:
        """What the reply's body says under `seamount.steady`; None: all is put as it came."""
        if self.header is None:
            return None
        said: dict[str, Any] = {}
        if self.pinned:
            said["pinned"] = [_shown(line) for line in self.pinned[:SHOWN_LINES]]
        if self.moved:
            said["moved"] = [_shown(line) for line in self.moved.split("\n")[:SHOWN_LINES]]
        if self.told_before:
            said["moved_before"] = self.told_before
        return said


@dataclass(frozen=True)
class Noticed:
    """A line for whose sake a beginning is read again, and the rule that would spare that."""

    caller: Caller
    line: str
    suggestion: Literal["pin", "move"]


@dataclass(frozen=True)
class _Note:
    """What was told behind the first `place` messages, whose sum is `digest`; with `changes` the system message as it
    was put became the one that was told then."""

    place: int
    digest: bytes
    text: str
    changes: tuple[Change, ...]

    @property
    def size(self) -> int:
        """What it keeps, about."""
        return len(self.text) + sum(len(line) for change in self.changes for line in _lines(change))


@dataclass(eq=False)
class Conversation:
    """One conversation of a client: `base` is its system message as it is put to the model, `sent` as it came last."""

    model_id: str
    chain: tuple[bytes, ...]
    base: str
    sent: str
    notes: tuple[_Note, ...] = ()
    held_tokens: int = 0
    """What the context held at the end of its last answer."""

    @property
    def size(self) -> int:
        """What it keeps, about."""
        told_size = sum(note.size for note in self.notes)
        return len(self.base) + len(self.sent) + told_size + SUM_SIZE * len(self.chain)


@dataclass
class _Key:
    conversations: list[Conversation] = field(default_factory=list[Conversation])
    """Those used last stand last."""
    offers: dict[str, SteadyOffer] = field(default_factory=dict[str, SteadyOffer])
    """By their suggestions."""


class PrefixWatch:
    """What all keys' conversations began with. Any thread. `changed`: called when the offers have changed."""

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        self.changed = changed
        self._keys: OrderedDict[str, _Key] = OrderedDict()
        self._lock = threading.Lock()

    def steady(self, caller: Caller, model_id: str, messages: Sequence[Message]) -> Steadied:
        """The messages of a request as they are put to the model, by the rules that hold for its key."""
        self.agreed(caller.key_id, caller.steady)
        count = next((at for at, each in enumerate(messages) if each.role != "system"), len(messages))
        head, rest = messages[:count], messages[count:]
        text = _BETWEEN.join(message.text for message in head)
        comparable = 0 < len(text) <= MOST_TEXT and text.count("\0") == 2 * (count - 1)
        if not comparable or not 0 < len(rest) <= MOST_MESSAGES:
            return Steadied(tuple(messages))
        chain = tuple(_sums(rest))
        with self._lock:
            key = self._key(caller.key_id)
            known = _going_on(key, model_id, chain, rest, text)
            conversation = known or Conversation(model_id, chain, text, text)
            if known is None and caller.steady.move:
                conversation.base = _twin(key, model_id, text) or text
            _keep(key, conversation, chain)
            pinned, moved, noticed = _settle(conversation, caller, rest, chain, text, is_new=known is None)
            conversation.chain, conversation.sent = chain, text
            _bound(key)
            put = _put(head, rest, conversation)
            told_before = len(conversation.notes) - bool(moved)
        return Steadied(put, pinned, moved, told_before, conversation, noticed)

    def ended(self, steadied: Steadied, usage: Usage) -> None:
        """The request has been answered: what was read for it tells what a line cost."""
        conversation, noticed = steadied.conversation, steadied.noticed
        # One that was ended before its first token may not have been read whole.
        if conversation is None or not usage.generated_tokens:
            return
        reread = min(usage.prompt_tokens, conversation.held_tokens) - usage.reused_tokens
        conversation.held_tokens = usage.prompt_tokens + usage.generated_tokens
        if noticed is None or reread < LEAST_REREAD:
            return
        with self._lock:
            key = self._keys.get(noticed.caller.key_id)
            if key is None:  # revoked meanwhile
                return
            before = key.offers.get(noticed.suggestion)
            key.offers[noticed.suggestion] = SteadyOffer(
                key_id=noticed.caller.key_id,
                key_name=noticed.caller.key_name,
                program=noticed.caller.program,
                line=_shown(noticed.line),
                reread_tokens=reread,
                times=1 if before is None else before.times + 1,
                suggestion=noticed.suggestion,
            )
        self.changed()

    def offers(self) -> list[SteadyOffer]:
        """What a person may agree to, the dearest first."""
        with self._lock:
            keys = [list(key.offers.values()) for key in self._keys.values()]
        wanted = [each for of in keys if sum(one.times for one in of) >= LEAST_TIMES for each in of]
        return sorted(wanted, key=lambda each: (-each.reread_tokens, each.key_id, each.suggestion))

    def agreed(self, key_id: str, rules: SteadyRules) -> None:
        """These rules hold for a key: what they spare is offered no more."""
        with self._lock:
            key = self._keys.get(key_id)
            offers = {} if key is None else key.offers
            spared = [each for each in offers if rules.move or (rules.pin and each == "pin")]
            for each in spared:
                del offers[each]
        if spared:
            self.changed()

    def forget(self, key_id: str) -> None:
        """The key is revoked: nothing of its conversations is kept."""
        with self._lock:
            had = self._keys.pop(key_id, None)
        if had is not None and had.offers:
            self.changed()

    def _key(self, key_id: str) -> _Key:
        key = self._keys.setdefault(key_id, _Key())
        self._keys.move_to_end(key_id)
        while len(self._keys) > KEYS_KEPT:
            self._keys.popitem(last=False)
        return key


# --- which conversation a request goes on with ------------------------------------------------------------


def _sums(messages: Iterable[Message]) -> Iterable[bytes]:
    """For each message the sum of all up to it. Reasoning does not count: clients strip it, sooner or later."""
    running = hashlib.blake2b(digest_size=12)
    for message in messages:
        calls = [part for call in message.tool_calls for part in (call.name, call.arguments)]
        for part in (message.role, message.text, message.tool_call_id, *calls):
            coded = part.encode("utf-8", "surrogatepass")
            running.update(len(coded).to_bytes(8, "little") + coded)
        running.update(b"\xff" * 8)  # no part is so long: here a message ends
        yield running.copy().digest()


def _going_on(
    key: _Key, model_id: str, chain: Sequence[bytes], rest: Sequence[Message], text: str
) -> Conversation | None:
    """The conversation that a request goes on with: of those with a system message like its the one that has most of
    its first messages. A request without an answer in it begins one."""
    if not any(message.role == "assistant" for message in rest):
        return None
    shared = [(_common(each.chain, chain), each) for each in reversed(key.conversations)]
    candidates = [pair for pair in shared if pair[0] and pair[1].model_id == model_id]
    candidates.sort(key=lambda pair: -pair[0])  # of equals the one used last
    for _, each in candidates[:ALIKE_TRIED]:
        if changes_of(each.sent, text) is not None:
            return each
    return None


def _twin(key: _Key, model_id: str, text: str) -> str | None:
    """A system message like this one as another conversation of the key has it in the model's context."""
    others = [each for each in reversed(key.conversations) if each.model_id == model_id]
    bases = dict.fromkeys(each.base for each in others)
    return next((base for base in list(bases)[:ALIKE_TRIED] if changes_of(base, text) is not None), None)


def _keep(key: _Key, conversation: Conversation, chain: Sequence[bytes]) -> None:
    """It is the one used last; one that it begins anew, with the very same messages, is let go."""

    def begun_anew(each: Conversation) -> bool:
        same = each.chain == chain and each.model_id == conversation.model_id
        return same and changes_of(each.sent, conversation.sent) is not None

    kept = [each for each in key.conversations if each is not conversation and not begun_anew(each)]
    key.conversations = [*kept, conversation]


def _bound(key: _Key) -> None:
    """Let go of the conversations that were not used for longest."""
    kept = key.conversations
    while len(kept) > 1 and (len(kept) > CONVERSATIONS_KEPT or sum(each.size for each in kept) > KEPT_SIZE):
        kept.pop(0)


# --- what is put to the model -----------------------------------------------------------------------------


def _settle(
    conversation: Conversation,
    caller: Caller,
    rest: Sequence[Message],
    chain: Sequence[bytes],
    text: str,
    *,
    is_new: bool,
) -> tuple[tuple[str, ...], str, Noticed | None]:
    """Bring the conversation to what the request says: (lines that are pinned, what is moved, what is noticed)."""
    rules, place = caller.steady, _newest(rest)
    notes = [note for note in conversation.notes if rules.move and _holds(note, chain) and note.place < place]
    said = applied(conversation.base, notes[-1].changes) if notes else conversation.base
    changes = changes_of(said, text)
    if (
        changes is None
        or any(_SEAM in _lines(each) for each in changes)
        or (conversation.notes and not rules.move)
    ):
        conversation.base, conversation.notes = text, ()
        return (), "", None
    pins = [each for each in changes if each.in_figures and rules.pin and not is_new]
    left = [each for each in changes if each not in pins]
    pinned = tuple(line for each in pins for line in each.after)
    conversation.notes = tuple(notes)
    if not left:
        return pinned, "", None
    put = applied(said, left)
    moved = told(left) if rules.move and place else ""
    whole = changes_of(conversation.base, put) if moved else None
    if whole is None or len(notes) >= MOST_TOLD or sum(note.size for note in notes) > MOST_TOLD_TEXT:
        conversation.base, conversation.notes = put, ()
        return pinned, "", None if rules.move else _noticed(caller, left)
    conversation.notes = (*notes, _Note(place, chain[place - 1], moved, whole))
    return pinned, moved, None


def _noticed(caller: Caller, changes: Sequence[Change]) -> Noticed | None:
    if caller.key_id == WINDOW_KEY:  # for the engine's own key nobody can agree to anything
        return None
    first = changes[0]
    line = next((line for line in (*first.after, *first.before) if line.strip()), "")
    return Noticed(caller, line, "pin" if all(each.in_figures for each in changes) else "move")


def _newest(rest: Sequence[Message]) -> int:
    """How many messages there are up to the newest that asks or brings a result; 0: none that something can be told
    behind, as a quick instruction's cannot."""
    at = next((at for at in range(len(rest), 0, -1) if rest[at - 1].role in ("user", "tool")), 0)
    return 0 if at and rest[at - 1].task is not None else at


def _holds(note: _Note, chain: Sequence[bytes]) -> bool:
    """Whether the messages that a note was told behind are still there."""
    return note.place <= len(chain) and chain[note.place - 1] == note.digest


def _put(head: Sequence[Message], rest: Sequence[Message], conversation: Conversation) -> tuple[Message, ...]:
    """The messages with the system message as it is put, and what was told behind some of them."""
    texts = conversation.base.split(_BETWEEN)
    put = [replace(message, text=text) for message, text in zip(head, texts, strict=True)]
    notes = {note.place: note.text for note in conversation.notes}
    for place, message in enumerate(rest, 1):
        if place not in notes:
            put.append(message)
        elif message.role == "user":
            put.append(replace(message, text=f"{message.text}\n\n{notes[place]}"))
        else:  # what a tool said stays what it said
            put += [message, Message("user", notes[place])]
    return tuple(put)


def _common(one: Sequence[bytes], other: Sequence[bytes]) -> int:
    most = min(len(one), len(other))
    return next((at for at in range(most) if one[at] != other[at]), most)


def _lines(change: Change) -> tuple[str, ...]:
    return (*change.before, *change.after)


def _shown(line: str) -> str:
    return line if len(line) <= SHOWN_CHARACTERS else f"{line[: SHOWN_CHARACTERS - 1]}…"
