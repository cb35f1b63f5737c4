"""A grammar followed token by token, by the library llguidance.

Owns: the vocabulary of a loaded model in the library's shape, built once; compiling a grammar within limits; which
tokens may come next. Alone knows llguidance. Does not know what a grammar is for (`answer_mask`, `call_grammar`), nor
which schemas are let in (`schema_bounds`).

A vocabulary of 129,280 tokens takes most of a second to build. It is built for the first answer that has to follow
a grammar, so that nobody else waits for it.
"""

import json
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property
from typing import Any, cast
from weakref import WeakKeyDictionary, ref

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from numpy.typing import NDArray

from engine.backends.base import Backend
from engine.encoding.schema_parts import Whole, refusal
from engine.errors import FormRefused

Ids = NDArray[np.intp]
"""Token ids, ascending."""
Completions = tuple[list[int], list[tuple[bytes, list[int]]]]
"""Of a text: tokens that hold all of it, and for each of its beginnings the tokens that begin with the rest."""
_MOST_COMPLETIONS = 256

# How hard the library may work (its own defaults, but for the last: a narrower grammar). Compiling under these limits
# was measured at most at a fifth of a second, a step at some ten milliseconds, for the worst schemas of the tests.
_LIMITS = LLParserLimits(
    initial_lexer_fuel=150_000,
    step_lexer_fuel=200_000,
    step_max_items=50_000,
    max_items_in_row=2_000,
    max_lexer_states=100_000,
    max_grammar_size=200_000,
    verbose_errors=False,
)
# Kinds of plain text whose tokens are let through together: JSON strings, and text in which "<" has a meaning.
_SLICES = [
    r"[\x20\x0A\x0D\x09]+",
    r'[^"\\<\x00-\x1F\x7F]{1,10}',
    r'[^"\\<\x00-\x1F\x7F]{1,30}',
    r'[^"\\<\x00-\x1F\x7F]+',
    r"[^<\x00]+",
    r'[^"\\\x00-\x1F\x7F]+',
]
_SPECIAL = b"\xff"
"""What the library wants before the bytes of a control token; no text begins so."""

# White space as people write JSON: none, one space, or a line with its indentation. Unbounded, it is where a model
# that does not know what to say goes on for ever.
_SPACE = r"\x20|\n\x20{0,40}|\n\t{0,12}"
_FREE = {"whitespace_pattern": _SPACE}
_CLOSE = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}


class TokenVocabulary:
    """Every token of a model, as bytes."""

    def __init__(
        self,
        token_bytes: Sequence[bytes],
        control: Mapping[int, bytes],
        end_ids: frozenset[int],
        tokenize: Callable[[str], list[int]],
    ) -> None:
        """`token_bytes`: of plain tokens; empty for control tokens and ids that are none. `control`: their literals.

        `tokenize`: ids of plain text; used where the grammar leaves one text, so that the model meets it as it was
        trained to.
        """
        self.size = len(token_bytes)
        self.end_ids: Ids = np.array(sorted(end_ids), np.intp)
        self._completions: dict[bytes, Completions] = {}
        self._plain = token_bytes
        self._control = control
        self._tokenize = tokenize
        self.native = LLTokenizer(
            cast(Any, _Wrapper(self._all(), sorted(control), min(end_ids), self.ids_of)),
            n_vocab=self.size,
            eos_token=sorted(end_ids),
            slices=_SLICES,
        )

    def bytes_of(self, token_id: int) -> bytes:
        """What a token stands for: text, or a control token's literal."""
        return self._control.get(token_id) or self._plain[token_id]

    def completions(self, text: bytes) -> Completions:
        """The plain tokens by which `text` may come to stand in a longer text."""
        known = self._completions.get(text)
        if known is None:
            order, texts = self._sorted
            endings: list[tuple[bytes, list[int]]] = []
            for cut in range(1, len(text)):
                first = bisect_left(texts, text[cut:])
                ids = order[first : bisect_left(texts, text[cut:] + _SPECIAL, first)]
                if ids:
                    endings.append((text[:cut], ids))
            whole = [token_id for token_id, plain in enumerate(self._plain) if text in plain]
            if len(self._completions) >= _MOST_COMPLETIONS:
                self._completions.clear()
            known = self._completions[text] = (whole, endings)
        return known

    def ids_of(self, text: str | bytes) -> list[int]:
        """Ids of a plain text, as the model's own tokeniser writes it."""
        data = text if isinstance(text, bytes) else text.encode("utf-8", "replace")
        ids = self._tokenize(data.decode("utf-8", "replace"))
        # Some tokenisers put a space before a text, which a grammar would not allow.
        if b"".join([self._plain[token_id] for token_id in ids]) == data:
            return ids
        return self._greedy(data)

    @cached_property
    def _sorted(self) -> tuple[list[int], list[bytes]]:
        order = sorted(range(self.size), key=self._plain.__getitem__)
        return order, [self._plain[token_id] for token_id in order]

    def _all(self) -> list[bytes]:
        return [
            _SPECIAL + self._control[token_id] if token_id in self._control else plain
            for token_id, plain in enumerate(self._plain)
        ]

    def _greedy(self, data: bytes) -> list[int]:
        order, texts = self._sorted
        ids: list[int] = []
        at = 0
        while at < len(data):
            for length in range(min(len(data) - at, 32), 0, -1):
                piece = data[at : at + length]
                found = bisect_left(texts, piece)
                if found < len(texts) and texts[found] == piece:
                    ids.append(order[found])
                    at += length
                    break
            else:  # a byte that no token stands for: what was found so far is still right
                return ids
        return ids


class _Wrapper:
    """A vocabulary as the library takes it."""

    is_tokenizer_wrapper = True

    def __init__(
        self, tokens: list[bytes], special: list[int], end_id: int, ids: Callable[[str | bytes], list[int]]
    ) -> None:
        self.tokens, self.special_token_ids = tokens, special
        self.eos_token_id = self.bos_token_id = end_id
        self._ids = ids

    def __call__(self, text: str | bytes) -> list[int]:
        return self._ids(text)


_vocabularies: "WeakKeyDictionary[Backend, TokenVocabulary]" = WeakKeyDictionary()


def vocabulary_of(backend: Backend) -> TokenVocabulary:
    """That of a loaded model, built at the first call. Call it where the backend is used."""
    known = _vocabularies.get(backend)
    if known is None:
        facts = backend.facts
        control = {token_id: text.encode() for text, token_id in facts.control_tokens.items()}
        # End tokens are control tokens for a grammar, whatever the model's file calls them.
        control |= {end: control.get(end, b"<end %d>" % end) for end in facts.end_token_ids}
        alive = ref(backend)

        def tokenize(text: str) -> list[int]:
            # Not the backend itself: the vocabulary is kept for as long as the backend lives.
            found = alive()
            return [] if found is None else found.tokenize(text)

        known = _vocabularies[backend] = TokenVocabulary(
            [
                b"" if token_id in control else backend.token_bytes(token_id)
                for token_id in range(facts.vocabulary_size)
            ],
            control,
            facts.end_token_ids,
            tokenize,
        )
    return known


@cache
def byte_vocabulary() -> TokenVocabulary:
    """One token for each byte, an end and a control token, `BYTE_MARK`: enough to try a grammar without a model."""
    tokens = [bytes((value,)) for value in range(256)]
    control = {256: b"<end>", BYTE_MARK: b"<mark>"}
    return TokenVocabulary(
        [*tokens, b"", b""], control, frozenset((256,)), lambda text: list(text.encode("utf-8", "replace"))
    )


BYTE_MARK = 257


def json_source(schema: Whole) -> str:
    """The grammar of a JSON text that follows `schema`."""
    return json.dumps({"grammars": [{"json_schema": _with_options(schema, _FREE)}]})


def lark_source(rules: str, schemas: Mapping[str, Whole]) -> str:
    """The grammar of `rules`, in the library's kind of Lark; `@NAME` in them is a JSON text by `schemas`."""
    named = [{"name": name, "json_schema": _with_options(each, _CLOSE)} for name, each in schemas.items()]
    return json.dumps({"grammars": [{"lark_grammar": rules}, *named]})


def _with_options(schema: Whole, options: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {} if isinstance(schema, bool) else schema
    return {**fields, "x-guidance": options}


class TokenGrammar:
    """One text on its way, by one grammar."""

    def __init__(self, vocabulary: TokenVocabulary, source: str, what: str) -> None:
        """Raises FormRefused, in which the form is called `what`, for a grammar that cannot be had."""
        self._vocabulary = vocabulary
        self._bits: NDArray[np.int32] = np.zeros((vocabulary.size + 31) // 32, np.int32)
        self._matcher = LLMatcher(vocabulary.native, source, log_level=0, limits=_LIMITS)
        self._last: tuple[bytes, Ids] | None = None
        try:
            if not self._matcher.is_error() and self.allowed().size:
                return
        except FormRefused:
            pass  # the matcher tells why
        raise _refusal(what, self._matcher.get_error())

    def allowed(self) -> Ids:
        """The tokens that may come next; end tokens where the text may be over. Empty: none may.

        Raises FormRefused when that cannot be told within the limits: asked again, it would end there again.
        """
        if self._matcher.is_stopped() and not self._matcher.is_error():
            return self._vocabulary.end_ids
        self._matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
        if self._matcher.is_error():
            error = self._matcher.get_error()
            if "NoExtension" in error:
                return self._vocabulary.end_ids[:0]
            raise FormRefused(
                "The answer stopped",
                f"its form became too complex to follow ({_line(error)})",
                "use a simpler schema",
            )
        bits = self._bits.tobytes()
        # Within a text the same tokens are allowed again and again.
        if self._last is None or self._last[0] != bits:
            flags = np.unpackbits(self._bits.view(np.uint8), count=self._vocabulary.size, bitorder="little")
            self._last = (bits, np.flatnonzero(flags))
        return self._last[1]

    def saw(self, token_id: int) -> bool:
        """A token was written; whether the grammar allows it. After one that it does not, nothing is allowed."""
        return self._matcher.consume_token(token_id)

    @property
    def may_end(self) -> bool:
        """Whether the text is whole as it stands."""
        return self._matcher.is_accepting()


def _refusal(what: str, error: str) -> Exception:
    line = _line(error)
    if not line or "NoExtension" in line:
        return refusal(what, "nothing can follow it", "say what is allowed")
    if "oneOf" in line:
        return refusal(what, "the choices of a `oneOf` in it may hold at once", "use `anyOf`")
    if "look-around" in error:
        return refusal(what, "a `pattern` in it looks ahead or behind", "write the pattern without")
    if "regex parse error" in error:
        return refusal(what, "a `pattern` in it is not in order, or not one that is known here", "correct it")
    if line.startswith("Unknown format"):
        return refusal(
            what, f"`format` is {line.partition(':')[2].strip()}, which is not known", "leave it out"
        )
    if line.startswith("Unsatisfiable"):
        return refusal(
            what, f"nothing can follow it ({line.partition(':')[2].strip()})", "say what is allowed"
        )
    return refusal(what, f"it cannot be enforced ({line})", "use a simpler schema")


def _line(error: str) -> str:
    return error.partition("\n")[0].strip()[:200].rstrip(".:")
