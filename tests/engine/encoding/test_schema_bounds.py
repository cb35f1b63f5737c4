import json
from typing import Any

import pytest

from engine.encoding import schema_bounds
from engine.encoding.schema_bounds import check_schema, read_schema
from engine.errors import FormRefused
from tests.engine.encoding.hostile_schemas import HOSTILE, as_text

WHAT = "The schema of the answer"


def refused(schema: Any) -> str:
    with pytest.raises(FormRefused) as error:
        check_schema(schema, WHAT)
    assert error.value.what == f"{WHAT} was refused"
    return error.value.text


def test_what_asks_for_nothing_is_left_out() -> None:
    schema = {
        "$id": "http://example.test/a",
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A",
        "description": "B",
        "type": "object",
        "properties": {"title": {"type": "string", "default": "x", "examples": []}},
        "x-guidance": {"lenient": True},
    }
    assert check_schema(schema, WHAT) == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {"title": {"type": "string"}},
    }
    assert schema["title"] == "A"


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"properties": {"a": {"items": {"not": {}}}}}, "`not` at /properties/a/items cannot be enforced"),
        ({"anyOf": [{"uniqueItems": True}]}, "`uniqueItems` at /anyOf/0 cannot be enforced"),
        ({"$ref": "https://example.test/x"}, "nothing is fetched"),
        ({"$ref": "x.json"}, "outside the schema"),
        ({"$ref": "#/$defs/a"}, "which is not in it"),
        ({"const": {"type": 3}, "$ref": "#/const"}, "which is no schema"),
        ({"type": "strin"}, "it is no JSON schema at /type"),
        ({"enum": [2**60]}, "a number in it is beyond"),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "no value that ends"),
        (False, "nothing can follow the schema `false`"),
        ("text", "an object or a boolean"),
        ({"maxLength": 10**9, "type": "string"}, "`maxLength` is 1e+09"),
        ({"multipleOf": 997}, "`multipleOf` is 997"),
    ],
)
def test_what_is_refused_is_named_with_its_place(schema: Any, says: str) -> None:
    assert says in refused(schema)


@pytest.mark.parametrize("step", [1, 5, 100, 2500, 0.01, 0.25, 1e-7])
def test_common_steps_are_let_in(step: float) -> None:
    assert check_schema({"type": "number", "multipleOf": step}, WHAT) == {
        "type": "number",
        "multipleOf": step,
    }


def test_names_of_properties_are_not_keywords() -> None:
    names = {"not": {"type": "string"}, "$ref": {"type": "string"}, "if": {"type": "null"}, "enum": {}}
    assert check_schema({"type": "object", "properties": names}, WHAT) == {
        "type": "object",
        "properties": names,
    }


@pytest.mark.parametrize("text", ["", "{", '{"a": NaN}', "[" * 100_000, '{"a": ' * 5_000 + "1" + "}" * 5_000])
def test_a_text_that_is_no_schema_is_refused(text: str) -> None:
    with pytest.raises(FormRefused):
        read_schema(text, WHAT)


def test_a_large_text_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json, "loads", None)
    with pytest.raises(FormRefused, match="larger than"):
        read_schema(" " * (schema_bounds.LARGEST_BYTES + 1), WHAT)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_schemas_are_refused_in_a_sentence_or_let_in(name: str) -> None:
    try:
        read_schema(as_text(HOSTILE[name]), WHAT)
    except FormRefused as error:
        assert error.text.startswith(f"{WHAT} was refused: ")
        assert len(error.text) < 600
