"""Which tokens an answer may go on with, so that it has the form that was asked for.

Owns: the parts of an answer and what counts in each: reasoning is free, then the form holds, and when the form is
complete only an end may come; and that no text spells out a mark that the parser of the answer would take for one.
Does not know schemas' bounds (`schema_bounds`), rules (`call_grammar`), how they are followed (`token_grammar`), or
how tokens are drawn (`generation`).

V4's answers are read back as text, in which a control token stands as its literal (`completion_parser`). So the
tokens of plain text that would complete such a literal are not allowed wherever it would be misread: the model has
the control token for that.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from engine.answer_form import AnswerForm
from engine.backends.base import Backend
from engine.encoding.call_grammar import LARGEST_BYTES, Function, call_rules, loose, read_function
from engine.encoding.release import Release, releases
from engine.encoding.schema_bounds import read_schema
from engine.encoding.schema_parts import Whole, refusal, strings_of
from engine.encoding.token_grammar import (
    BYTE_MARK,
    Completions,
    Ids,
    TokenGrammar,
    TokenVocabulary,
    byte_vocabulary,
    json_source,
    lark_source,
    vocabulary_of,
)
from engine.encoding.v4_chat import V4Chat
from engine.errors import FormRefused, GenerationError

_WHAT = "The form of the answer"
_ANSWER = "The schema of the answer"
_BEFORE_CALLS = b"\n\n<"
_MOST_TRIES = 16
"""Functions that are let off their schemas one by one; then all that are not strict are, without a look."""
_TAIL_BYTES = 1_024
"""More than any text that is forbidden."""
Functions = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class _Plan:
    """What is enforced once reasoning has ended. `sources`: of the grammars, one of which is followed; none: any text
    without calls. `waits`: text is free until a block of calls begins. `has_text`: one of them is of a text."""

    sources: tuple[str, ...]
    waits: bool = False
    has_text: bool = False
    has_free_keys: bool = False


def check_form(form: AnswerForm, functions: Functions) -> None:
    """Raises FormRefused for a form that no model here could be held to. Needs no model; may take a fifth of a second.

    `functions`: OpenAI's function objects.
    """
    plan = _plan(form, functions, _any_release(), BYTE_MARK)
    for source in plan.sources if plan else ():
        TokenGrammar(byte_vocabulary(), source, _WHAT)


def answer_mask(
    backend: Backend,
    chat: V4Chat | None,
    form: AnswerForm,
    functions: Functions,
    *,
    thinking: bool,
    begun: str = "",
) -> "AnswerMask | None":
    """The mask that holds one answer of `backend`'s model to `form`; None where any answer will do.

    `chat`: of a V4 model; without it only a JSON text can be enforced. `thinking`: the answer begins inside the
    reasoning. `begun`: text of the answer that stands in the prompt already. Raises FormRefused.
    """
    if chat is None:
        if form.calls in ("required", "named"):
            raise refusal(
                _WHAT, "this model has no agreed way to write a call", "ask a DeepSeek-V4 model, or for JSON"
            )
        if form.json_schema is None:
            return None
        vocabulary = vocabulary_of(backend)
        plan = _Plan((json_source(_answer_schema(form.json_schema)),), has_text=True)
        return AnswerMask(vocabulary, plan, None, thinking=False).begin(begun)
    mark_id = chat.control[chat.release.tokens.dsml]
    plan = _plan(form, functions, chat.release, mark_id)
    if plan is None:
        return None
    return AnswerMask(vocabulary_of(backend), plan, chat, thinking=thinking).begin(begun)


def _plan(form: AnswerForm, functions: Functions, release: Release, mark_id: int) -> _Plan | None:
    """What `form` asks for, in V4's way to write it. Raises FormRefused."""
    schema = None if form.json_schema is None else _answer_schema(form.json_schema)
    if schema is not None:
        _refuse_marks(schema, _ANSWER)
    if form.calls == "none" or (form.calls == "auto" and not functions):
        if schema is not None:
            return _Plan((json_source(schema),), has_text=True)
        return _Plan(()) if functions else None
    strict = form.strict or any(function.get("strict") is True for function in functions)
    if form.calls == "auto" and form.parallel and not strict and schema is None:
        return None
    try:
        # An agent declares the same functions with every request.
        may_be_called = _callable(form.strict, json.dumps(_named(form, functions)))
    except RecursionError:
        raise refusal(_WHAT, "a function in it is nested too deeply", "use a simpler schema") from None
    waits = form.calls == "auto" and schema is None
    rules, schemas = call_rules(may_be_called, release, mark_id, parallel=form.parallel, begun=waits)
    sources = (lark_source(rules, schemas),)
    if form.calls == "auto" and schema is not None:
        # The first token decides: a block of calls begins with an empty line, and no JSON text does.
        sources = (*sources, json_source(schema))
    return _Plan(
        sources,
        waits=waits,
        has_text=len(sources) > 1,
        has_free_keys=any(each.has_free_keys for each in may_be_called),
    )


@lru_cache(maxsize=32)
def _answer_schema(text: str) -> Whole:
    """The schema of the whole text; that of "{}" is any object, as clients mean it."""
    schema = read_schema(text, _ANSWER)
    return {"type": "object"} if schema == {} else schema


def _named(form: AnswerForm, functions: Functions) -> Functions:
    """Those that may be called. Raises FormRefused for a name that none has."""
    names = [str(function.get("name", "")) for function in functions]
    if double := next((name for place, name in enumerate(names) if name in names[:place]), None):
        raise refusal(_WHAT, f"two functions are called {double[:80]!r}", "rename one")
    if form.calls != "named":
        return functions
    for name in form.call_names:
        if name not in names:
            raise refusal(_WHAT, f"a call of {name[:80]!r} is asked for, which is not declared", "declare it")
    return [function for function in functions if function.get("name") in form.call_names]


@lru_cache(maxsize=8)
def _callable(all_strict: bool, told: str) -> tuple[Function, ...]:
    """The functions in the JSON text `told` as calls of them can be enforced. Raises FormRefused.

    One that is not strict and whose schema cannot be followed takes any arguments: they are looked at when it is
    called, as always.
    """
    if len(told) > LARGEST_BYTES:
        raise refusal(_WHAT, f"its functions take more than {LARGEST_BYTES:,} bytes", "declare fewer")
    shapes: list[dict[str, Any]] = json.loads(told)
    strict = [all_strict or shape.get("strict") is True for shape in shapes]
    found: list[Function] = []
    for shape, is_strict in zip(shapes, strict, strict=True):
        try:
            function = read_function(shape)
            _refuse_marks(function.parameters, f"The schema of the function {function.name[:80]!r}")
        except FormRefused:
            if is_strict:
                raise
            function = loose(str(shape.get("name", "")))
        found.append(function)
    try:
        _try_calls(found)
    except FormRefused:
        # Which of them it was is found one by one, and not for ever.
        tries = _MOST_TRIES
        for place, function in enumerate(found):
            try:
                if tries <= 0 and not strict[place]:
                    raise refusal(
                        _WHAT, "too many functions cannot be followed", "use simpler schemas"
                    ) from None
                _try_calls([function])
            except FormRefused:
                if strict[place]:
                    raise
                tries -= 1
                found[place] = loose(function.name)
        _try_calls(found)
    return tuple(found)


def _try_calls(functions: Sequence[Function]) -> None:
    """Raises FormRefused where the functions' schemas cannot be followed."""
    what = f"The schema of the function {functions[0].name[:80]!r}" if len(functions) == 1 else _WHAT
    rules, schemas = call_rules(functions, _any_release(), BYTE_MARK, parallel=False, begun=True)
    TokenGrammar(byte_vocabulary(), lark_source(rules, schemas), what)


def _any_release() -> Release:
    """What releases write differently changes nothing about which schemas can be followed."""
    return next(iter(releases().values()))


def _refuse_marks(schema: object, what: str) -> None:
    tokens = _any_release().tokens
    for text in strings_of(schema):
        if mark := next((mark for mark in (tokens.dsml, tokens.end) if mark in text), None):
            raise refusal(what, f"an answer would have to hold {mark}, V4's own mark", "use another text")


class AnswerMask:
    """The mask of one answer (`generation.TokenMask`). The same tokens always lead to the same mask."""

    def __init__(
        self, vocabulary: TokenVocabulary, plan: _Plan, chat: V4Chat | None, *, thinking: bool
    ) -> None:
        """Raises FormRefused for a grammar that cannot be had."""
        self._vocabulary = vocabulary
        self._plan = plan
        self._grammars = [TokenGrammar(vocabulary, source, _WHAT) for source in plan.sources]
        self._part: Literal["reasoning", "text", "form"] = "form"
        self._forbidden = _ForbiddenTexts(vocabulary)
        self._free: tuple[tuple[int, ...], Ids] | None = None
        self._chat = chat
        self._head: bytes | None = None
        self._keys: list[bytes] = []
        if chat is not None:
            tokens = chat.release.tokens
            self._mark, self._mark_id = tokens.dsml.encode(), chat.control[tokens.dsml]
            self._think_end, self._end = tokens.think_end.encode(), tokens.end.encode()
            self._controls = sorted({*chat.control.values(), *vocabulary.end_ids.tolist()})
            self._enter("reasoning" if thinking else "text")

    def begin(self, text: str) -> "AnswerMask":
        """Take in the text that the answer begins with. Raises FormRefused when the form has no such beginning."""
        if self._part == "reasoning":
            return self
        self._forbidden.saw(text.encode("utf-8", "replace"))
        if text and self._part == "form":
            for token_id in self._vocabulary.ids_of(text):
                if not self._follow(token_id):
                    raise refusal(
                        _WHAT, "the text that the answer begins with does not follow it", "leave it out"
                    )
        return self

    def allowed(self) -> Ids:
        """Ids of the tokens that may come next, ascending. Raises GenerationError when there is none."""
        blocked = self._forbidden.completing()
        if self._part == "form":
            ids = self._grammars[0].allowed()
            for other in self._grammars[1:]:
                ids = np.union1d(ids, other.allowed())
            if blocked:
                ids = ids[~np.isin(ids, blocked)]
        else:
            ids = self._all_but((*blocked, *self._blocked_here()))
        if not ids.size:
            raise GenerationError(
                "The answer stopped",
                "no token leads on to the form that was asked for",
                "ask again, or with a simpler schema",
            )
        return ids

    def saw(self, token_id: int) -> None:
        """A token was written."""
        self._forbidden.saw(self._vocabulary.bytes_of(token_id))
        if self._part == "form":
            self._follow(token_id)
        elif self._chat is not None:
            if self._part == "reasoning" and token_id == self._chat.think_end_id:
                self._enter("text")
            elif self._part == "text" and token_id == self._mark_id and self._plan.waits:
                self._enter("form")
        if self._plan.has_free_keys:
            self._follow_keys(token_id)

    def _follow(self, token_id: int) -> bool:
        """Go on with the grammars that allow the token; False when none does."""
        following = [grammar for grammar in self._grammars if grammar.saw(token_id)]
        self._grammars = following or self._grammars
        return bool(following)

    def _enter(self, part: Literal["reasoning", "text", "form"]) -> None:
        if part == "text" and self._plan.sources and not self._plan.waits:
            part = "form"
        self._part = part
        # A call's values may hold an end token's literal, but not the mark that ends them.
        also = {"reasoning": [self._end, self._think_end], "text": [self._end], "form": []}[part]
        if part == "form" and self._plan.has_text:
            also.append(self._end)
        self._forbidden.only([self._mark, *also])

    def _blocked_here(self) -> list[int]:
        """Control tokens that must not stand where text is free."""
        if self._chat is None:
            return []
        wanted: set[int] = set()
        if self._part == "reasoning":
            wanted.add(self._chat.think_end_id)
        elif self._plan.waits and self._forbidden.tail.endswith(_BEFORE_CALLS):
            wanted.add(self._mark_id)
        # An answer that ends in its reasoning has no form at all.
        if self._part == "text" or not self._plan.sources or self._plan.waits:
            wanted.update(self._vocabulary.end_ids.tolist())
        return [token_id for token_id in self._controls if token_id not in wanted]

    def _all_but(self, blocked: tuple[int, ...]) -> Ids:
        if self._free is None or self._free[0] != blocked:
            flags = np.ones(self._vocabulary.size, np.bool_)
            flags[list(blocked)] = False
            self._free = (blocked, np.flatnonzero(flags))
        return self._free[1]

    def _follow_keys(self, token_id: int) -> None:
        """Where a call takes parameters that no schema names, each key stands once: a second one is not allowed."""
        if token_id == self._mark_id:
            self._head = b""
        elif self._head is not None:
            self._head += self._vocabulary.bytes_of(token_id)
            kind, quote, rest = self._head.partition(b'"')
            name, second, _ = rest.partition(b'"')
            if not quote or not second:
                return
            self._head = None
            if kind.strip().startswith(b"invoke"):
                for key in self._keys:
                    self._forbidden.allow(key)
                self._keys.clear()
            else:
                self._keys.append(self._mark + kind + b'"' + name + b'"')
                self._forbidden.forbid(self._keys[-1])


class _ForbiddenTexts:
    """Texts that must not come to stand in an answer, however it is cut into tokens."""

    def __init__(self, vocabulary: TokenVocabulary) -> None:
        self._vocabulary = vocabulary
        self._watched: dict[bytes, Completions] = {}
        self.tail = b""
        """The end of the answer so far."""

    def only(self, texts: Sequence[bytes]) -> None:
        """Forbid these and no others."""
        self._watched.clear()
        for text in texts:
            self.forbid(text)

    def forbid(self, text: bytes) -> None:
        """Forbid one more."""
        self._watched[text] = self._vocabulary.completions(text)

    def allow(self, text: bytes) -> None:
        """Forbid it no longer."""
        self._watched.pop(text, None)

    def completing(self) -> list[int]:
        """Plain tokens that would complete one of them now."""
        found: list[int] = []
        for whole, endings in self._watched.values():
            found += whole
            for beginning, ids in endings:
                if self.tail.endswith(beginning):
                    found += ids
        return found

    def saw(self, text: bytes) -> None:
        """More of the answer."""
        self.tail = (self.tail + text)[-_TAIL_BYTES:]
