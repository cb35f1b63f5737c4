"""DeepSeek-V4's way to hold a conversation, for one opened model.

Owns: finding the model's release and the ids of its control tokens once, and with them prompts, quick
instructions and parsers for that model's vocabulary. Does not know the rules themselves (`v4_prompt`,
`quick`, `completion_parser`), nor who asks.
"""

import json
from collections.abc import Iterable, Sequence
from typing import cast
from weakref import WeakKeyDictionary, ref

from engine.backends.base import Backend, ModelFacts
from engine.conversation import Message, Task
from engine.encoding.completion_parser import CompletionParser
from engine.encoding.detokenizer import Detokenizer
from engine.encoding.quick import QuickQuestion, quick_question
from engine.encoding.release import ARCHITECTURES, Release, choose_release, release, releases
from engine.encoding.segments import TextIds, ids_of
from engine.encoding.v4_prompt import Style, control_id, render

_chats: "WeakKeyDictionary[Backend, V4Chat]" = WeakKeyDictionary()


def v4_chat(backend: Backend, named_release: str | None = None) -> "V4Chat | None":
    """The chat of an opened V4 model; None for a model of another kind.

    `named_release`: what the person says it is, for a file that does not tell. Raises UnknownRelease.
    """
    if backend.facts.architecture not in ARCHITECTURES:
        return None
    known = _chats.get(backend)
    if known is None:
        known = _chats[backend] = V4Chat(backend, release_of(backend.facts, named_release))
    return known


def release_of(facts: ModelFacts, named_release: str | None = None) -> Release:
    """The release of a V4 model: as its converter wrote it, as its names say, as the person says."""
    for name in facts.release_names:
        if name in releases():
            return releases()[name]
    if named_release is not None:
        return release(named_release)
    return choose_release([*facts.release_names, facts.name])


class V4Chat:
    """Prompts and parsers of one model."""

    def __init__(self, backend: Backend, chosen: Release) -> None:
        """Raises UnknownRelease for a vocabulary that lacks the release's tokens."""
        tokens = chosen.tokens
        literals = tokens.literals()
        self.release = chosen
        self.control = {literal: control_id(backend.facts.control_tokens, literal) for literal in literals}
        self.think_end_id = self.control[tokens.think_end]
        spoken = (tokens.think, tokens.think_end, tokens.dsml)
        self.literals = {self.control[literal]: literal.encode() for literal in spoken}
        """The control tokens that a completion's grammar is written with, as their literals."""
        # Not the backend itself: this object is kept for as long as the backend lives.
        self._backend = ref(backend)
        self._text_ids = TextIds(lambda text: self._alive().tokenize(text))

    def prompt(self, messages: Sequence[Message], style: Style) -> list[int]:
        """Token ids of the conversation, up to where the next answer begins. Raises ConversationError."""
        return ids_of(render(messages, style, self.control).segments, self._text_ids)

    def forks(self, prompt: Sequence[int]) -> tuple[int, ...]:
        """Where a prompt's system message and tools end, with which other conversations begin too; none without."""
        user_id = self.control[self.release.tokens.user]
        at = prompt.index(user_id) if user_id in prompt else 0
        return (at,) if at > 1 else ()

    def quick(self, messages: Sequence[Message], task: Task, style: Style, *, url: str = "") -> QuickQuestion:
        """The tokens of a quick instruction; see `quick.quick_question`."""
        return quick_question(messages, task, style, self.control, self._text_ids, url=url)

    def parser(self, *, thinking: bool) -> CompletionParser:
        """A parser of what the model writes."""
        return CompletionParser(self.release, thinking=thinking)

    def text_of(self, token_ids: Iterable[int]) -> str:
        """What tokens that the model wrote say, with the grammar's control tokens as their literals.

        An unfinished character at the end is left out: the answer may go on with it.
        """
        backend = self._alive()
        detokenizer = Detokenizer(lambda id_: self.literals.get(id_) or backend.token_bytes(id_))
        return "".join(map(detokenizer.feed, token_ids))

    def says(self, message: Message) -> bool:
        """Whether `message.written` says what the rest of the message does: a client may have changed that.

        Clients trim texts and write arguments anew, so white space at the ends of a text makes no difference, nor does
        the form of a call's arguments (`_same_value`). A call that was rejected, or not written to its end, was told
        to nobody, so tokens that have one say something else.
        """
        written = message.written
        if written is None or not all(map(self._is_said, set(written.ids))):
            return False
        parser = self.parser(thinking=written.thinking)
        parser.feed(self.text_of(written.ids) + self.release.tokens.end)
        is_in_call = parser.is_in_call
        whole = parser.finish()
        own, calls = whole.calls, message.tool_calls
        return (
            not (is_in_call and not own)
            and whole.text.strip() == message.text.strip()
            and whole.reasoning.strip() == message.reasoning.strip()
            and len(own) == len(calls)
            and all(
                one.status != "rejected"
                and one.name == other.name
                and _same_value(_value(one.arguments), _value(other.arguments))
                for one, other in zip(own, calls, strict=True)
            )
        )

    def _is_said(self, token_id: int) -> bool:
        """Whether a token stands for something that a client is told: other control tokens do not, nor do those of
        another model."""
        backend = self._alive()
        if not 0 <= token_id < backend.facts.vocabulary_size:
            return False
        return token_id in self.literals or bool(backend.token_bytes(token_id))

    def _alive(self) -> Backend:
        backend = self._backend()
        if backend is None:
            raise ValueError("the model is gone")
        return backend


def _value(arguments: str) -> object:
    """What JSON text stands for; nothing at all stands for no arguments."""
    try:
        return json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        return arguments


_EXACT = 2**53
"""Whole numbers up to here are the same in every program; others become the nearest that has 53 bits."""


def _same_value(one: object, other: object) -> bool:
    """Whether two values of JSON are the same to every program: the order of an object's members counts for nothing,
    nor does how a number is written, nor those digits of it that a program may lose."""
    left: list[tuple[object, object]] = [(one, other)]
    while left:
        pair = left.pop()
        a, b = pair
        if isinstance(a, dict) and isinstance(b, dict):
            mine, theirs = cast(dict[str, object], a), cast(dict[str, object], b)
            if mine.keys() != theirs.keys():
                return False
            left += [(mine[key], theirs[key]) for key in mine]
            continue
        if isinstance(a, list) and isinstance(b, list):
            one_by_one, others = cast(list[object], a), cast(list[object], b)
            if len(one_by_one) != len(others):
                return False
            left += zip(one_by_one, others, strict=True)
            continue
        if not _is_same(*pair):
            return False
    return True


def _is_same(one: object, other: object) -> bool:
    """The same of two values that are not both objects or both lists."""
    if isinstance(one, int | float) and isinstance(other, int | float):
        # True is no 1.
        return _same_number(one, other) if isinstance(one, bool) == isinstance(other, bool) else False
    return type(one) is type(other) and one == other


def _same_number(one: float, other: float) -> bool:
    if one == other:
        return True
    try:
        return abs(one) > _EXACT and float(one) == float(other)
    except OverflowError:  # a whole number beyond what a float reaches
        return False
