"""Validators that a schema cannot hold up."""

import time
from typing import Any

import pytest
from jsonschema.validators import Draft7Validator, Draft202012Validator

from engine.encoding import bounded_schemas
from engine.encoding.bounded_schemas import TooMuchError, bounded, counted, matches


def follows(value: object, schema: Any, kind: Any = Draft202012Validator) -> bool:
    with counted():
        return bounded(kind)(schema).is_valid(value)


@pytest.mark.parametrize("kind", [Draft7Validator, Draft202012Validator])
@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        ({"type": "string", "pattern": "b+"}, "abc", "acd"),
        ({"pattern": "^b"}, 3, "ab"),
        ({"additionalProperties": False, "properties": {"a": {}}}, {"a": 1}, {"b": 1}),
        ({"additionalProperties": {"type": "null"}, "properties": {"a": {}}}, {"a": 1, "b": None}, {"b": 1}),
        ({"patternProperties": {"^n": {"type": "integer"}}}, {"n1": 1, "o": ""}, {"n1": ""}),
        ({"patternProperties": {"^n": {}}, "additionalProperties": False}, {"n1": 1}, {"o": 1}),
        ({"additionalProperties": False}, [1], {"a": 1}),
    ],
)
def test_they_say_what_the_librarys_say(kind: Any, schema: Any, right: object, wrong: object) -> None:
    for value, is_right in ((right, True), (wrong, False)):
        assert follows(value, schema, kind) is kind(schema).is_valid(value) is is_right


def test_patterns_as_other_languages_have_them() -> None:
    assert matches(r"^\p{L}+$", "Bâle") and not matches(r"^\p{L}+$", "B1")
    assert matches(r"^(?<year>\d{4})$", "2024") and not matches(r"^(?<year>\d{4})$", "24")
    # What cannot be followed is taken as met, and so are the keys that it might mean.
    assert matches(r"^(?=a)b$", "c") and matches("(", "c")
    schema = {"patternProperties": {"^(?=a)": {"type": "null"}}, "additionalProperties": False}
    assert follows({"c": 1}, schema)


def test_no_pattern_takes_more_than_its_texts_length() -> None:
    began_s = time.process_time()
    assert not matches("^(a+)+$", "a" * 10_000 + "!")
    assert not matches("^(.*a){12}$", "a" * 11 + "b" * 10_000)
    assert time.process_time() - began_s < 5  # Python's own would take longer than there is time


@pytest.mark.parametrize("keyword", ["anyOf", "allOf", "oneOf"])
def test_references_that_multiply_come_to_an_end(keyword: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_schemas, "MOST_STEPS", 2_000)
    definitions: dict[str, Any] = {f"d{n}": {keyword: [{"$ref": f"#/$defs/d{n + 1}"}] * 3} for n in range(30)}
    schema = {"$defs": {**definitions, "d30": {"type": "string"}}, "$ref": "#/$defs/d0"}
    with pytest.raises(TooMuchError):
        follows(1 if keyword != "allOf" else "a", schema)
    assert follows([1] * 1_000, {"items": {"type": "integer"}})
