"""A JSON schema that came from outside, looked at before anything is made of it.

Owns: its limits (size, depth, counts), which keywords can be enforced token by token, and that it refers only to
itself. Does not know how it is enforced (`token_grammar`), which values follow it (`schema_values`) or what it is asked
of. Nothing in a schema is fetched or executed.
"""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, cast

from jsonschema.exceptions import SchemaError
from jsonschema.validators import Draft202012Validator, validator_for

from engine.encoding.schema_parts import LISTS, MAPS, ONE, Schema, Whole, refusal
from engine.encoding.schema_values import require_values
from engine.errors import FormRefused

LARGEST_BYTES = 256 << 10
"""Of a schema's JSON text."""
DEEPEST = 64
MOST_VALUES = 5_000
"""Values of any kind within one schema."""
MOST_PROPERTIES = 400
"""Of one object: the grammar of one with more is too wide."""
MOST_CHOICES = 4_000
"""Of one enum."""
LONGEST_PATTERN = 1_000
LARGEST_WHOLE = 2**53
"""Beyond it the library takes one whole number for another."""
LARGEST_STEP = 250
"""Of `multipleOf`, its decimal point and the zeros at its end left out: 25 for 0.0025 and for 2,500."""
LARGEST_COUNT = 100_000
"""Of the keywords that count characters, items or properties."""

_DIALECTS = tuple(
    f"{scheme}://json-schema.org/{name}"
    for scheme in ("http", "https")
    for name in ("draft/2020-12/schema", "draft/2019-09/schema", "draft-07/schema", "draft-06/schema")
)
_ANNOTATIONS = frozenset(
    (
        "title",
        "description",
        "default",
        "examples",
        "example",
        "deprecated",
        "readOnly",
        "writeOnly",
        "$comment",
    )
)
"""They say something to people and ask for nothing."""
_COUNTS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_NOT_ENFORCED: Mapping[str, str] = {
    "not": "say what is allowed in its place",
    "if": "use `anyOf` with the two cases",
    "then": "use `anyOf` with the two cases",
    "else": "use `anyOf` with the two cases",
    "contains": "leave it out",
    "minContains": "leave it out",
    "maxContains": "leave it out",
    "propertyNames": "use `patternProperties`",
    "dependentRequired": "list the properties under `required`",
    "dependentSchemas": "use `anyOf` with the cases",
    "dependencies": "list the properties under `required`",
    "unevaluatedProperties": "use `additionalProperties`",
    "unevaluatedItems": "use `items`",
    "$dynamicRef": "use `$ref`",
    "$dynamicAnchor": "use `$ref`",
    "$recursiveRef": "use `$ref`",
    "$recursiveAnchor": "use `$ref`",
    "$anchor": "use `$ref` with a path from the schema's root",
    "extends": "use `allOf`",
    "disallow": "say what is allowed in its place",
}
"""Keywords that a grammar cannot follow, and what does the same."""


def read_schema(text: str, what: str) -> Whole:
    """The schema in the JSON text `text`, checked and without what asks for nothing. Raises FormRefused."""
    if len(text) > LARGEST_BYTES or len(text.encode("utf-8", "replace")) > LARGEST_BYTES:
        raise refusal(what, f"it is larger than {LARGEST_BYTES:,} bytes", "send a smaller one")
    try:
        found: object = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise refusal(what, "it is nested too deeply", f"use at most {DEEPEST} levels") from None
    except ValueError as error:
        raise refusal(what, f"it is not JSON ({str(error)[:120]})", "correct it") from error
    return check_schema(found, what)


def check_schema(found: object, what: str) -> Whole:
    """As `read_schema`, for what was read already. `found` is not changed."""
    _Bounds(what).check(found)
    if isinstance(found, bool):
        if not found:
            raise refusal(what, "nothing can follow the schema `false`", "say what is allowed")
        return found
    if not isinstance(found, dict):
        raise refusal(what, "a schema is an object or a boolean", "send an object")
    whole = _cleaned(cast(Schema, found), what, "", is_root=True)
    _require_order(whole, what)
    require_values(whole, what)
    return whole


class _Bounds:
    """Counts a value's parts. Raises FormRefused beyond the limits."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._values = 0

    def check(self, value: object, depth: int = 0) -> None:
        self._values += 1
        if depth > DEEPEST:
            raise refusal(self._what, "it is nested too deeply", f"use at most {DEEPEST} levels")
        if self._values > MOST_VALUES:
            raise refusal(self._what, f"it holds more than {MOST_VALUES:,} values", "send a smaller one")
        if isinstance(value, int) and abs(value) > LARGEST_WHOLE:
            raise refusal(
                self._what, f"a number in it is beyond {LARGEST_WHOLE:,}", "use a text for such a number"
            )
        if isinstance(value, dict):
            for each in cast(Schema, value).values():
                self.check(each, depth + 1)
        elif isinstance(value, list):
            for each in cast(list[object], value):
                self.check(each, depth + 1)


# --- keywords ---------------------------------------------------------------------------------------------


def _cleaned(schema: Schema, what: str, place: str, *, is_root: bool = False) -> Schema:
    """`schema` without annotations; every keyword looked at. Raises FormRefused that names the keyword."""
    clean: Schema = {}
    for key, value in schema.items():
        if key in _ANNOTATIONS or key == "x-guidance":
            continue
        _check_keyword(key, value, what, place, is_root=is_root)
        if key in ("$id", "id", "uniqueItems"):
            continue
        if key in MAPS and isinstance(value, dict):
            clean[key] = {
                name: _inner(each, what, f"{place}/{key}/{name}")
                for name, each in cast(Schema, value).items()
            }
        elif (key in LISTS or key in ONE) and isinstance(value, list):
            listed = cast(list[object], value)
            clean[key] = [_inner(each, what, f"{place}/{key}/{number}") for number, each in enumerate(listed)]
        elif key in ONE:
            clean[key] = _inner(value, what, f"{place}/{key}")
        else:
            clean[key] = value
    return clean


def _inner(schema: object, what: str, place: str) -> object:
    if isinstance(schema, dict):
        return _cleaned(cast(Schema, schema), what, place)
    return schema  # a boolean, or what the look at the order of things will refuse


def _check_keyword(key: str, value: object, what: str, place: str, *, is_root: bool) -> None:
    where = f" at {place[:200]}" if place else ""

    def refuse(why: str, remedy: str) -> FormRefused:
        return refusal(what, f"`{key}`{where} {why}", remedy)

    if key in _NOT_ENFORCED:
        raise refuse("cannot be enforced", _NOT_ENFORCED[key])
    if key == "uniqueItems" and value is not False:
        raise refuse("cannot be enforced", "leave it out")
    if key == "$schema" and (not isinstance(value, str) or value.rstrip("#") not in _DIALECTS):
        raise refuse(f"names {str(value)[:80]!r}, which is not known here", "leave it out")
    if key in ("$id", "id") and not is_root and isinstance(value, str):
        raise refuse("is not followed", "refer to parts by their path from the schema's root")
    if key == "$ref" and not (isinstance(value, str) and (value == "#" or value.startswith("#/"))):
        raise refuse(
            f"refers to {str(value)[:80]!r}, which is outside the schema",
            "put it under `$defs`: nothing is fetched",
        )
    if key in _COUNTS and isinstance(value, int | float) and value > LARGEST_COUNT:
        raise refuse(f"is {value:.3g}", f"use at most {LARGEST_COUNT:,}")
    if key == "multipleOf" and isinstance(value, int | float) and _digits(value) > LARGEST_STEP:
        raise refuse(f"is {value}", "use one of few digits, like 5, 100 or 0.01")
    if key == "minProperties" and isinstance(value, int | float) and value > 1:
        raise refuse("above 1 cannot be enforced", "list the properties under `required`")
    if key in ("properties", "required") and (count := _count(value)) > MOST_PROPERTIES:
        raise refuse(f"names {count:,} properties", f"use at most {MOST_PROPERTIES:,}")
    if key == "enum" and (count := _count(value)) > MOST_CHOICES:
        raise refuse(f"has {count:,} values", f"use at most {MOST_CHOICES:,}")
    patterns: object = [value] if key == "pattern" else value if key == "patternProperties" else []
    for pattern in cast(list[object], patterns if isinstance(patterns, list | dict) else []):
        if isinstance(pattern, str) and len(pattern) > LONGEST_PATTERN:
            raise refuse(f"has a pattern of {len(pattern):,} characters", f"use at most {LONGEST_PATTERN:,}")


def _digits(value: float) -> int:
    """The digits of a number as a whole one, without zeros at the end."""
    return int("".join(map(str, Decimal(repr(value)).as_tuple().digits)).rstrip("0") or "0")


def _count(value: object) -> int:
    return len(cast(list[object], value)) if isinstance(value, list | dict) else 0


def _require_order(whole: Schema, what: str) -> None:
    """That it is a schema at all, by its own dialect's rules."""
    kind = validator_for(whole, Draft202012Validator)
    try:
        # Patterns are as ECMA 262 has them: whether they are in order, the grammar's own library tells.
        cast(Any, kind).check_schema(whole, format_checker=None)
    except SchemaError as error:
        place = "/".join(map(str, error.absolute_path))
        where = f" at /{place[:200]}" if place else ""
        raise refusal(what, f"it is no JSON schema{where}: {error.message[:200]}", "correct it") from error
    except RecursionError:
        raise refusal(what, "it is nested too deeply", f"use at most {DEEPEST} levels") from None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
