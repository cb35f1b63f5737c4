import gc
import json
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from engine.backends.scripted import END, ScriptedBackend
from engine.encoding.token_grammar import (
    BYTE_MARK,
    TokenGrammar,
    TokenVocabulary,
    byte_vocabulary,
    json_source,
    lark_source,
    vocabulary_of,
)
from engine.errors import FormRefused

OBJECT: Any = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
OBJECT["additionalProperties"] = False


def grammar(schema: Any) -> TokenGrammar:
    return TokenGrammar(byte_vocabulary(), json_source(schema), "The form")


def follow(matcher: TokenGrammar, text: str) -> bool:
    return all(token in matcher.allowed() and matcher.saw(token) for token in text.encode())


def test_a_text_is_followed_and_ends_where_it_is_whole() -> None:
    matcher = grammar(OBJECT)
    assert matcher.allowed().tolist() == [*b"{"]
    assert follow(matcher, '{"a": 12')
    assert 256 not in matcher.allowed()
    assert follow(matcher, "}")
    assert matcher.allowed().tolist() == [256]
    assert matcher.saw(256)
    assert matcher.allowed().tolist() == [256]


def test_what_is_not_allowed_ends_it() -> None:
    matcher = grammar(OBJECT)
    assert not matcher.saw(ord("x"))
    assert not matcher.saw(ord("{"))
    with pytest.raises(FormRefused):
        matcher.allowed()


def test_patterns_as_other_languages_have_them() -> None:
    for pattern in (r"^\p{L}+$", "^(?<word>a|b)$"):
        assert follow(grammar({"type": "string", "pattern": pattern}), '"a"')
    with pytest.raises(FormRefused, match="`pattern` in it is not in order"):
        grammar({"type": "string", "pattern": "(("})


@pytest.mark.parametrize("text", ['{\n  "a": 1\n}', '{"a":1}', '{ "a" : 1 }', '{\n\t"a": 1\n}'])
def test_json_may_be_written_as_people_do(text: str) -> None:
    assert follow(grammar(OBJECT), text)


@pytest.mark.parametrize("text", ['{\n\n"a": 1}', '{  "a": 1}', ' {"a": 1}', "{" + " " * 60])
def test_white_space_has_an_end(text: str) -> None:
    assert not follow(grammar(OBJECT), text)


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"allOf": [{"type": "string"}, {"type": "null"}]}, "nothing can follow it"),
        ({"type": "string", "format": "iri"}, "`format` is iri"),
        ({"type": "string", "pattern": "(?=a)"}, "looks ahead or behind"),
        ({"oneOf": [{"type": "number"}, {"type": "integer"}]}, "use `anyOf`"),
        ({"anyOf": [{"$ref": "#"}]}, "nothing can follow it"),
        ({"not": {}}, "cannot be enforced"),
    ],
)
def test_why_a_grammar_cannot_be_had(schema: Any, says: str) -> None:
    with pytest.raises(FormRefused, match=r"^The form was refused: ") as refused:
        grammar(schema)
    assert says in refused.value.text


def test_control_tokens_stand_only_where_rules_name_them() -> None:
    source = lark_source(f'start: "a" <[{BYTE_MARK}]> @inner\n', {"inner": {"type": "boolean"}})
    matcher = TokenGrammar(byte_vocabulary(), source, "The form")
    assert not follow(TokenGrammar(byte_vocabulary(), source, "The form"), "a<mark>")
    assert follow(matcher, "a")
    assert matcher.allowed().tolist() == [BYTE_MARK]
    assert matcher.saw(BYTE_MARK)
    assert matcher.allowed().tolist() == sorted(b"tf")
    text = grammar({"type": "string"})
    assert follow(text, '"')
    assert BYTE_MARK not in text.allowed()


def merged() -> TokenVocabulary:
    """A vocabulary whose tokens are longer than a byte, as a model's are; its tokeniser puts a space before a text."""
    tokens = [*(bytes((value,)) for value in range(256)), b"", b' "', b"tr", b"true", b"ue}", b"abc", b"bcd"]

    def tokenize(text: str) -> list[int]:
        return [ord(" "), *text.encode()]

    return TokenVocabulary(tokens, {256: b"<end>"}, frozenset((256,)), tokenize)


def test_tokens_that_are_longer_than_a_byte() -> None:
    vocabulary = merged()
    matcher = TokenGrammar(vocabulary, json_source({"type": "boolean"}), "The form")
    assert [vocabulary.bytes_of(id_) for id_ in matcher.allowed()] == [b"f", b"t", b"tr", b"true"]
    assert matcher.saw(258)
    assert vocabulary.ids_of("abcd") == [261, ord("d")]  # not the tokeniser's, which would not be the text


def test_where_a_text_may_come_to_stand() -> None:
    whole, endings = merged().completions(b"abcd")
    assert whole == []
    assert dict(endings)[b"a"] == [262]
    assert dict(endings)[b"abc"] == [ord("d")]
    assert merged().completions(b"bc")[0] == [261, 262]


def test_a_model_has_one_vocabulary_that_goes_with_it(scripted: Callable[..., ScriptedBackend]) -> None:
    backend = scripted()
    vocabulary = vocabulary_of(backend)
    assert vocabulary_of(backend) is vocabulary
    assert vocabulary.end_ids.tolist() == [END]
    assert vocabulary.bytes_of(END) == b"<|end|>"
    assert json.dumps(vocabulary.ids_of("né")) == json.dumps(list("né".encode()))
    gone = weakref.ref(backend)
    del backend, vocabulary
    gc.collect()
    assert gone() is None
