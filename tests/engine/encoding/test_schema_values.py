from typing import Any

import pytest

from engine.encoding.schema_values import MOST_WAYS, require_values
from engine.errors import FormRefused
from tests.engine.encoding.hostile_schemas import chain, fan, multiplied, multiplied_within

NODE: dict[str, Any] = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}


@pytest.mark.parametrize(
    "schema",
    [
        {**NODE, "required": []},
        {"anyOf": [NODE, {"type": "null"}]},
        {"type": "array", "items": {"$ref": "#"}},
        {"type": ["array", "null"], "items": {"$ref": "#"}, "minItems": 2},
        {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}, "required": ["next"]},
        chain(800),
        fan(30, "prefixItems"),
        multiplied(8),
    ],
    ids=lambda schema: str(schema)[:40],
)  # fmt: skip
def test_what_can_end_is_let_in(schema: Any) -> None:
    require_values(schema, "It")


@pytest.mark.parametrize(
    "schema",
    [
        NODE,
        {"$ref": "#"},
        {"anyOf": [NODE, {"$ref": "#/anyOf/0"}]},
        {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
        {"type": "array", "prefixItems": [{"$ref": "#"}], "minItems": 1},
        {"type": "array", "items": [{"$ref": "#"}], "minItems": 1},
        {"type": "object", "additionalProperties": {"$ref": "#"}, "required": ["a"]},
        {"allOf": [{"type": "string"}, {"$ref": "#"}]},
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    ],
)
def test_what_cannot_end_is_refused(schema: Any) -> None:
    with pytest.raises(FormRefused, match="no value that ends"):
        require_values(schema, "It")


@pytest.mark.parametrize(
    "schema",
    [
        {"anyOf": [{"$ref": "#"}, {"type": "string"}]},
        {"properties": {"a": {"oneOf": [{"type": "null"}, {"$ref": "#/properties/a"}]}}},
        {
            "$defs": {"a": {"anyOf": [{"type": "null"}, {"allOf": [{"$ref": "#/$defs/a"}]}]}},
            "$ref": "#/$defs/a",
        },
    ],
)
def test_what_is_itself_is_refused(schema: Any) -> None:
    with pytest.raises(FormRefused, match="back to itself"):
        require_values(schema, "It")


def test_a_chain_of_references_longer_than_can_be_followed_is_refused() -> None:
    definitions: dict[str, Any] = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(3_000)}
    whole = {"$defs": {**definitions, "d3000": {"type": "string"}}, "$ref": "#/$defs/d0"}
    with pytest.raises(FormRefused, match="lead too far"):
        require_values(whole, "It")


@pytest.mark.parametrize(
    "schema",
    [
        multiplied(9),
        multiplied_within(9),
        {"anyOf": [{"const": number} for number in range(MOST_WAYS + 1)]},
        fan(40, "anyOf"),
    ],
    ids=["side by side", "one level down", "many", "by references"],
)
def test_choices_that_multiply_are_refused(schema: Any) -> None:
    with pytest.raises(FormRefused, match="combinations"):
        require_values(schema, "It")
