"""Calls against schemas: an error that a model can read, whatever the schema is."""

import json
import socket
from typing import Any

import pytest
from jsonschema.validators import Draft202012Validator

from engine.encoding import bounded_schemas
from engine.encoding.completion import ParsedCall
from engine.encoding.tool_schemas import check_calls, rejection, schema_fault, schema_problem
from tests.engine.encoding.completions import json_values
from tests.engine.encoding.properties import for_all

WEATHER = {
    "name": "get_weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "array", "items": {"type": "integer"}}},
        "required": ["city"],
    },
}


def checked(name: str, arguments: str, *functions: dict[str, Any]) -> ParsedCall:
    call = ParsedCall(name, arguments)
    check_calls([call], functions)
    return call


def test_a_call_that_fits_stays_as_it_is() -> None:
    assert checked("get_weather", '{"city": "Paris", "days": [1]}', WEATHER).status == "exact"
    assert checked("anything", "{}").status == "exact"
    assert checked("f", '{"a": 1}', {"name": "f"}).status == "exact"
    assert checked("f", '{"a": 1}', {"name": "f", "parameters": True}).status == "exact"


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("get_whether", "{}", "there is no tool 'get_whether'; the tools are get_weather"),
        ("get_weather", "{}", "'city' is a required property"),
        ("get_weather", '{"city": 3}', "`city`: 3 is not of type 'string'"),
        ("get_weather", '{"city": "x", "days": [1, "2"]}', "`days[1]`: '2' is not of type 'integer'"),
        ("get_weather", "{", "its arguments are not JSON"),
    ],
)
def test_one_that_does_not_is_rejected_and_told_why(name: str, arguments: str, said: str) -> None:
    call = checked(name, arguments, WEATHER)
    assert call.status == "rejected"
    assert said in (call.problem or "")
    assert call.problem in rejection(call.name, call.problem or "")


def test_a_rejected_call_keeps_its_first_reason() -> None:
    call = ParsedCall("f", "")
    call.reject("first")
    check_calls([call], [WEATHER])
    assert call.problem == "first"


SCHEMAS: list[Any] = [
    {"type": "string", "pattern": "("}, {"$schema": {}}, {"$schema": ["x"]}, {"$schema": "http://x/y"},
    {"multipleOf": 0}, {"multipleOf": 0.1}, {"$ref": "#"}, {"$ref": "http://localhost:1/y"}, {"$ref": 5},
    {"$ref": "#/a/b"}, {"$defs": 5}, {"properties": {"a": {"$ref": "#/properties/a"}}}, {"enum": 5},
    {"type": "objekt"}, {"properties": {"a": 5}}, {"patternProperties": {"(": {}}}, {"$dynamicRef": "#x"},
    {"$id": "http://["}, {"allOf": [{"$id": "http://[", "$ref": "x"}]}, {"$ref": "file:///etc/passwd"},
]  # fmt: skip
VALUES = [
    '"x"',
    '{"a": 1}',
    '{"a": {"a": {}}}',
    "[1]",
    "1e400",
    "9" * 400 + ".5",
    "1" * 4000,
    "9" * 9000,
    "[" * 9000,
]


@pytest.mark.parametrize("number", range(len(SCHEMAS)))
def test_no_schema_raises_and_none_is_fetched(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "socket", refuse)
    for value in VALUES:
        problem = schema_problem(value, SCHEMAS[number])
        assert problem is None or (problem and "\n" not in problem[:100])


def test_a_schema_without_end() -> None:
    schema: dict[str, Any] = {}
    for _ in range(5000):
        schema = {"properties": {"a": schema}}
    assert schema_problem("{}", schema) == "the tool's own schema is not in order (it is nested too deeply)"
    itself = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}
    assert schema_problem("{}", itself) == "the tool's schema has no end"


@for_all(json_values, json_values)
def test_any_schema_and_any_value(value: Any, schema: Any) -> None:
    problem = schema_problem(json.dumps(value), schema)
    assert problem is None or problem


@pytest.mark.parametrize("pattern", [r"^\p{L}+$", r"^(?<word>\w+)$", r"^(?=P)\w+$"])
def test_patterns_that_python_does_not_know_are_no_fault_of_a_tool(pattern: str) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string", "pattern": pattern}}}
    assert schema_fault(schema) is None
    assert schema_problem('{"city": "Paris"}', schema) is None


def test_a_schema_that_takes_for_ever_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_schemas, "MOST_STEPS", 10)
    schema = {"type": "object", "properties": {"a": {"items": {"type": "integer"}}}}
    assert schema_problem('{"a": [1, 2]}', schema) is None
    assert "takes too long" in (schema_problem(json.dumps({"a": [1] * 20}), schema) or "")


def test_a_schema_is_looked_at_once_and_a_very_large_one_never(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    kind: Any = Draft202012Validator
    check = kind.check_schema

    def counting(schema: Any, **more: Any) -> None:
        looked.append(len(schema["properties"]))
        check(schema, **more)

    monkeypatch.setattr(kind, "check_schema", counting)
    for count in (7, 1_000, 7, 1_000, 20_000):
        properties = {f"looked at {number}": {"type": "string"} for number in range(count)}
        problem = schema_problem('{"looked at 1": 1}', {"type": "object", "properties": properties})
        assert (problem is None) is (count == 20_000)
    assert looked == [7, 1_000]
