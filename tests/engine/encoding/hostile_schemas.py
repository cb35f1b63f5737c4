"""Schemas that somebody might send who means no good, or who does not know better: each by what is odd about it."""

import json
from typing import Any


def nested(levels: int) -> Any:
    """Objects within objects."""
    schema: Any = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    return schema


def multiplied(factors: int) -> Any:
    """Choices that hold together, which double with each."""
    choices = [
        [
            {"type": "object", "properties": {f"k{n}{m}": {"type": "string"}}, "required": [f"k{n}{m}"]}
            for m in (0, 1)
        ]
        for n in range(factors)
    ]
    return {"allOf": [{"anyOf": pair} for pair in choices]}


def multiplied_within(factors: int) -> Any:
    """The same, one level down."""
    inner = multiplied(factors)["allOf"]
    return {"allOf": [{"type": "object", "properties": {"a": each}} for each in inner]}


def fan(levels: int, keyword: str) -> Any:
    """Definitions that each name the next one several times: 3 to the power of `levels` of them, written out."""
    definitions: dict[str, Any] = {
        f"d{n}": {keyword: [{"$ref": f"#/$defs/d{n + 1}"}] * 3} for n in range(levels)
    }
    return {"$defs": {**definitions, f"d{levels}": {"type": "string"}}, "$ref": "#/$defs/d0"}


def chain(length: int) -> Any:
    """Definitions that each need the one before, told from the end on."""
    definitions: dict[str, Any] = {
        f"d{n}": {"type": "object", "properties": {"x": {"$ref": f"#/$defs/d{n + 1}"}}, "required": ["x"]}
        for n in range(length)
    }
    return {"$defs": {**definitions, f"d{length}": {"type": "string"}}, "$ref": "#/$defs/d0"}


def large(levels: int) -> Any:
    """Objects of many properties, the first of which is another such object."""
    schema: Any = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {f"p{n}": text() if n else schema for n in range(400)}}
    return schema


def text(**more: Any) -> Any:
    return {"type": "string", **more}


HOSTILE: dict[str, Any] = {
    "nothing": False,
    "a number": 3,
    "a list": [],
    "no choice": {"anyOf": []},
    "no value": {"enum": []},
    "two kinds at once": {"allOf": [{"type": "string"}, {"type": "number"}]},
    "more than at most": {"type": "array", "minItems": 5, "maxItems": 2},
    "a kind that is none": {"type": "strin"},
    "itself": {"$ref": "#"},
    "itself twice": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]},
    "itself and more": {"allOf": [{"$ref": "#"}, {"type": "string"}]},
    "two in a circle": {
        "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
        "$ref": "#/$defs/a",
    },
    "itself or a text": {"anyOf": [{"$ref": "#"}, {"type": "string"}]},
    "references through references": {
        "$defs": {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(1_500)},
        "$ref": "#/$defs/d0",
    },
    "no end": {"type": "object", "properties": {"x": {"$ref": "#"}}, "required": ["x"]},
    "no end by items": {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
    "no end either way": {
        "anyOf": [
            {"type": "object", "properties": {"x": {"$ref": "#"}}, "required": ["x"]},
            {"type": "array", "prefixItems": [{"$ref": "#"}], "minItems": 1},
        ]
    },
    "nowhere": {"$ref": "#/$defs/nothing"},
    "not a schema": {"const": {"properties": 3}, "$ref": "#/const"},
    "elsewhere": {"$ref": "http://127.0.0.1:9/schema.json"},
    "a file": {"$ref": "file:///etc/hostname"},
    "another dialect": {"$schema": "http://127.0.0.1:9/schema", "type": "string"},
    "a base within": {"properties": {"a": {"$id": "http://127.0.0.1:9/", "$ref": "#/x"}}},
    "options of the library": {"x-guidance": {"lenient": True}, "type": "string", "format": "iri"},
    "nested": nested(200),
    "large": {"enum": ["x" * 300_000]},
    "many": {"enum": list(range(20_000))},
    "wide": {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(1000)}},
    "wide choice": {"anyOf": [{"const": f"v{n}"} for n in range(500)]},
    "as wide as it may be": {"type": "object", "properties": {f"p{n}": text() for n in range(400)}},
    "as large as it may be": large(6),
    "many values": {"enum": [f"a longish value of number {n}" for n in range(4_000)]},
    "multiplied 8": multiplied(8),
    "multiplied 9": multiplied(9),
    "multiplied 40": multiplied(40),
    "multiplied within": multiplied_within(40),
    "fanned out": fan(40, "allOf"),
    "fanned out in places": fan(40, "prefixItems"),
    "fanned out in choices": fan(40, "anyOf"),
    "a long chain": chain(800),
    "repeats of repeats": text(pattern="^((a{1,1000}){1,1000}){1,1000}$"),
    "backtracking": text(pattern="^(a+)+$"),
    "many repeats": text(pattern="(a|a)*{1000}"),
    "a far look back": text(pattern="^(.*a.{500}b)$"),
    "all letters": text(pattern=".*".join("abcdefghijklmnopqrstuvwxyz") * 4),
    "a long class": text(pattern="\\w{1,50000}"),
    "patterns that meet": {"allOf": [text(pattern=f".*{each}.{{20}}x") for each in "abcdefgh"]},
    "patterns of keys": {"patternProperties": {f"^.*a{n}.{{0,300}}b$": text() for n in range(20)}},
    "a look ahead": text(pattern="(?=a)b"),
    "a pattern that is none": text(pattern="("),
    "a long pattern": text(pattern="a" * 2_000),
    "formats that meet": {"allOf": [text(format="email"), text(format="uri"), text(pattern="a{100}")]},
    "long": text(minLength=100_000, maxLength=100_000),
    "longer": text(maxLength=10**12),
    "items": {"type": "array", "minItems": 100_000, "items": text()},
    "items of items": {"type": "array", "maxItems": 1000, "items": {"type": "array", "maxItems": 1000}},
    "a great step": {"type": "integer", "multipleOf": 999_999_937},
    "a small step": {"type": "number", "multipleOf": 0.0000001},
    "a great number": {"const": 10**400},
    "a number that is none": {"const": float("inf")},
    "a narrow range": {"type": "number", "minimum": 1e308, "maximum": 1e308},
    "a wide range": {"type": "number", "minimum": -1.23456789e100, "maximum": 9.87654e200},
    "half a character": {"const": "\ud800"},
    "nul": {"const": "a\x00b"},
    "V4's own mark": {"const": "</｜DSML｜parameter>"},
    "V4's own end": {"properties": {"<｜end▁of▁sentence｜>": {}}},
    **{f"no grammar for {word}": {word: {"a": {}}} for word in ("not", "if", "contains", "dependentSchemas")},
    **{f"no grammar for {word}": {word: {"a": ["b"]}} for word in ("dependentRequired", "propertyNames")},
    "items unlike": {"type": "array", "uniqueItems": True},
    "several properties": {"type": "object", "minProperties": 3},
    "one of two that meet": {"oneOf": [{"type": "number"}, {"type": "integer"}]},
    "a format that is none": text(format="iri"),
    "keywords of the wrong kind": {"properties": [], "required": {}, "items": 3, "anyOf": {}, "$defs": []},
}  # fmt: skip


def as_text(schema: Any) -> str:
    """Its JSON text, as deep as it is."""
    return json.dumps(schema)
