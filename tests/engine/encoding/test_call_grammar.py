import json
from typing import Any

import pytest

from engine.conversation import ToolCall
from engine.encoding.call_grammar import Function, call_rules, loose, read_function
from engine.encoding.dsml import render_calls
from engine.encoding.release import release, releases
from engine.encoding.token_grammar import BYTE_MARK, TokenGrammar, byte_vocabulary, lark_source
from engine.errors import FormRefused

D = "｜DSML｜"


def function(name: str = "get", **parameters: Any) -> dict[str, Any]:
    return {"name": name, "parameters": {"type": "object", **parameters}}


def follows(text: str, *functions: Function, parallel: bool = True, of: str = "preview") -> bool:
    """Whether the rules let `text` through to its end; `D` in it is the mark."""
    rules, schemas = call_rules(functions, release(of), BYTE_MARK, parallel=parallel, begun=False)
    grammar = TokenGrammar(byte_vocabulary(), lark_source(rules, schemas), "The form")
    for number, piece in enumerate(text.split(D)):
        tokens = [*([BYTE_MARK] if number else []), *piece.encode()]
        if not all(token in grammar.allowed() and grammar.saw(token) for token in tokens):
            return False
    return grammar.allowed().tolist() == [256]


def written(*calls: tuple[str, Any], of: str = "preview") -> str:
    """A block as the official encoder writes it."""
    return "\n\n" + render_calls([ToolCall(name, json.dumps(given)) for name, given in calls], release(of))


WEATHER = function(
    properties={
        "city": {"type": "string"},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
        "unit": {"enum": ["c", "f"]},
        "note": {"anyOf": [{"type": "string", "maxLength": 5}, {"type": "null"}]},
    },
    required=["city"],
)


@pytest.mark.parametrize("of", releases())
@pytest.mark.parametrize(
    "given",
    [
        {"city": "Bern"},
        {"city": ""},
        {"city": "a </b> <c", "days": 3},
        {"city": 'say "x"\n', "days": 9, "unit": "f", "note": None},
        {"city": "<", "note": "short"},
    ],
)
def test_calls_as_the_encoder_writes_them(given: Any, of: str) -> None:
    assert follows(written(("get", given), of=of), read_function(WEATHER), of=of)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"days": 3},
        {"city": 3},
        {"city": "Bern", "days": 10},
        {"city": "Bern", "days": "3"},
        {"city": "Bern", "unit": "k"},
        {"city": "Bern", "note": "too long"},
        {"city": "Bern", "other": "x"},
        {"days": 3, "city": "Bern"},
    ],
)
def test_calls_that_do_not_fit_the_schema(given: Any) -> None:
    assert not follows(written(("get", given)), read_function(WEATHER))


def test_calls_without_arguments() -> None:
    for shape in ({"name": "get"}, function(properties={}), function(properties={"a": {}})):
        assert follows(written(("get", {})), read_function(shape))
    assert not follows(written(("get", {"a": "x"})), read_function({"name": "get"}))


def test_how_many_calls_and_of_what() -> None:
    functions = [read_function(WEATHER), read_function(function("put", properties={}))]
    two = written(("get", {"city": "a"}), ("put", {}))
    assert follows(two, *functions)
    assert not follows(two, *functions, parallel=False)
    assert not follows(two, functions[0])
    assert not follows(f"\n\n<{D}tool_calls>\n</{D}tool_calls>", *functions)


def test_texts_with_rules_are_written_as_json() -> None:
    ruled = read_function(
        function(properties={"day": {"type": "string", "format": "date"}}, required=["day"])
    )
    text = written(("get", {"day": "2026-01-31"}))
    assert not follows(text, ruled)
    as_json = text.replace('string="true">2026-01-31', 'string="false">"2026-01-31"')
    assert follows(as_json, ruled)
    assert not follows(as_json.replace("01-31", "01-3"), ruled)


def test_references_lead_into_the_functions_whole_schema() -> None:
    shape = function(
        properties={"kind": {"$ref": "#/$defs/kind"}, "inner": {"type": "array", "items": {"$ref": "#/$defs/kind"}}},
        required=["kind", "inner"],
        **{"$defs": {"kind": {"enum": ["a", "b"]}}},
    )  # fmt: skip
    assert follows(written(("get", {"kind": "a", "inner": ["b", "a"]})), read_function(shape))
    assert not follows(written(("get", {"kind": "a", "inner": ["c"]})), read_function(shape))
    assert not follows(written(("get", {"kind": "c", "inner": []})), read_function(shape))


def test_other_keys_where_a_schema_allows_them() -> None:
    some = read_function(
        function(properties={"a": {"type": "null"}}, additionalProperties={"type": "integer"})
    )
    assert some.has_free_keys
    assert follows(written(("get", {"a": None, "b": 1, "größe": 2})), some)
    assert follows(written(("get", {"b": 1})), some)
    assert not follows(written(("get", {"b": "x"})), some)
    # The named one has its own schema, and its own place.
    assert not follows(written(("get", {"b": 1, "a": 2})), some)
    assert follows(written(("get", {"x": "y", "n": [1]})), read_function({"name": "get", "parameters": {}}))
    assert follows(written(("get", {"x": "y", "n": [1]})), loose("get"))


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ({"name": 'a"b'}, "its name cannot stand in a call"),
        ({"name": ""}, "its name cannot stand in a call"),
        (function(anyOf=[{"required": ["a"]}]), "`anyOf` at its root"),
        (function(patternProperties={"a": {}}), "`patternProperties` at its root"),
        (function(properties={'a"': {}}), "the key 'a\"'"),
        ({"name": "get", "parameters": {"type": "array"}}, "`type` is"),
        ({"name": "get", "parameters": False}, "nothing can follow"),
        (function(properties={"a": {"not": {}}}), "`not` at /properties/a"),
    ],
)
def test_functions_that_no_call_can_be_made_by(shape: Any, says: str) -> None:
    with pytest.raises(FormRefused) as refused:
        read_function(shape)
    assert says in refused.value.text


def test_a_block_needs_functions_and_not_too_many() -> None:
    for functions in ([], [loose(f"f{number}") for number in range(257)]):
        with pytest.raises(FormRefused):
            call_rules(functions, release("preview"), BYTE_MARK, parallel=True, begun=False)
