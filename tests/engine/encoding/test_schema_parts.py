from typing import Any

import pytest

from engine.encoding.schema_parts import moved, refers, resolve, schemas_in, strings_of
from engine.errors import FormRefused

WHOLE: dict[str, Any] = {
    "type": "object",
    "properties": {"a": {"$ref": "#/$defs/one"}, "b": {"items": [{"const": "x"}]}, "const": {"$ref": "#"}},
    "$defs": {"one": {"$ref": "#/$defs/two~1x"}, "two/x": {"enum": ["p", {"q": ["r"]}], "required": ["s"]}},
}


def test_references_are_followed() -> None:
    assert resolve({"$ref": "#/$defs/one"}, WHOLE, "It") == WHOLE["$defs"]["two/x"]
    assert resolve({"$ref": "#/properties/b/items/0"}, WHOLE, "It") == {"const": "x"}
    assert resolve({"type": "string"}, WHOLE, "It") == {"type": "string"}


@pytest.mark.parametrize(
    "pointer", ["#/$defs/none", "#/properties/b/items/7", "#/type", "#/properties/a/$ref"]
)
def test_references_to_nothing_are_refused(pointer: str) -> None:
    with pytest.raises(FormRefused):
        resolve({"$ref": pointer}, WHOLE, "It")


def test_a_circle_is_refused() -> None:
    with pytest.raises(FormRefused, match="circle"):
        resolve({"$ref": "#"}, {"$ref": "#"}, "It")


def test_all_schemas_are_found_and_no_values() -> None:
    assert len(list(schemas_in(WHOLE))) == 7
    assert list(schemas_in({"const": {"properties": {"a": {}}}})) == [{"const": {"properties": {"a": {}}}}]
    assert refers(WHOLE)
    assert not refers({"const": {"$ref": "#"}})


def test_a_schema_that_moves_takes_its_references_along() -> None:
    copy = moved({**WHOLE, "const": {"$ref": "#"}}, "#/$defs/whole")
    assert copy["properties"]["a"] == {"$ref": "#/$defs/whole/$defs/one"}
    assert copy["properties"]["const"] == {"$ref": "#/$defs/whole"}
    assert copy["const"] == {"$ref": "#"}  # a value, not a reference


def test_what_an_answer_would_hold_is_found() -> None:
    assert set(strings_of(WHOLE)) == {"a", "b", "const", "x", "p", "q", "r", "s"}
