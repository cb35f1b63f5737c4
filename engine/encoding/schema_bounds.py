"""A JSON schema that came from outside, looked at before anything is made of it.

Owns: its limits (size, depth, counts), which keywords can be enforced token by token, that it refers only to itself,
and that a finite value can follow it at all. Does not know how it is enforced (`token_grammar`) or what it is asked
of. Nothing in a schema is fetched or executed.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast
from urllib.parse import unquote

from jsonschema.exceptions import SchemaError
from jsonschema.validators import Draft202012Validator, validator_for

from engine.errors import FormRefused

LARGEST_BYTES = 256 << 10
"""Of a schema's JSON text."""
DEEPEST = 64
MOST_VALUES = 8_000
"""Values of any kind within one schema."""
MOST_PROPERTIES = 400
"""Of one object: the grammar of one with more is too wide."""
MOST_CHOICES = 4_000
"""Of one enum."""
LONGEST_PATTERN = 1_000
LARGEST_COUNT = 100_000
"""Of the keywords that count characters, items or properties."""

Schema = dict[str, Any]
Whole = Schema | bool

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
_ONE = ("items", "additionalProperties", "additionalItems")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_MAPS = ("properties", "patternProperties", "$defs", "definitions")
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


def refusal(what: str, why: str, remedy: str) -> FormRefused:
    """The error for a form called `what`, like "The schema of the answer"."""
    return FormRefused(f"{what} was refused", why, remedy)


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
    _require_finite(whole, what)
    return whole


def resolve(schema: object, whole: Whole, what: str) -> object:
    """`schema`, or what it says by `$ref` alone, within `whole`. Raises FormRefused for a circle."""
    seen: set[str] = set()
    while isinstance(schema, dict):
        fields = cast(Schema, schema)
        if set(fields) != {"$ref"}:
            return fields
        pointer = str(fields["$ref"])
        if pointer in seen:
            raise refusal(what, f"the references to {pointer[:80]!r} go in a circle", "refer to a schema")
        seen.add(pointer)
        schema = _target(pointer, whole, what)
    return schema


def refers(schema: object) -> bool:
    """Whether there is a `$ref` anywhere in it."""
    return any("$ref" in each for each in _schemas(schema))


def moved(schema: object, place: str) -> Any:
    """A copy in which each reference to the root is one to `place`, like "#/$defs/there", where the root now stands."""
    if not isinstance(schema, dict):
        return schema
    copy: Schema = {}
    for key, value in cast(Schema, schema).items():
        if key == "$ref":
            copy[key] = place + value[1:]
        elif key in _MAPS:
            copy[key] = {name: moved(each, place) for name, each in value.items()}
        elif (key in _LISTS or key in _ONE) and isinstance(value, list):
            copy[key] = [moved(each, place) for each in cast(list[object], value)]
        elif key in _ONE:
            copy[key] = moved(value, place)
        elif key != "$schema":
            copy[key] = value
    return copy


def strings_of(schema: object) -> Iterator[str]:
    """Every text that an answer would have to hold letter by letter: keys and fixed values."""
    for each in _schemas(schema):
        yield from each.get("properties", {})
        yield from (key for key in each.get("required", ()) if isinstance(key, str))
        for fixed in (each.get("const"), each.get("enum")):
            yield from _texts(fixed)


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
        if key in _MAPS and isinstance(value, dict):
            clean[key] = {
                name: _inner(each, what, f"{place}/{key}/{name}")
                for name, each in cast(Schema, value).items()
            }
        elif (key in _LISTS or key in _ONE) and isinstance(value, list):
            listed = cast(list[object], value)
            clean[key] = [_inner(each, what, f"{place}/{key}/{number}") for number, each in enumerate(listed)]
        elif key in _ONE:
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


def _count(value: object) -> int:
    return len(cast(list[object], value)) if isinstance(value, list | dict) else 0


def _require_order(whole: Schema, what: str) -> None:
    """That it is a schema at all, by its own dialect's rules."""
    kind = validator_for(whole, Draft202012Validator)
    try:
        kind.check_schema(whole)
    except SchemaError as error:
        place = "/".join(map(str, error.absolute_path))
        where = f" at /{place[:200]}" if place else ""
        raise refusal(what, f"it is no JSON schema{where}: {error.message[:200]}", "correct it") from error
    except RecursionError:
        raise refusal(what, "it is nested too deeply", f"use at most {DEEPEST} levels") from None


# --- whether a value can end ------------------------------------------------------------------------------


def _require_finite(whole: Schema, what: str) -> None:
    """That some finite value follows it, as far as references go: `{"next": …}` that must have a `next` has no end.

    The least fixed point over all that is referred to: at first nothing is known to end, and what ends when its
    parts do is added until nothing changes.
    """
    known = list(_schemas(whole))
    targets = {each["$ref"]: _target(each["$ref"], whole, what) for each in known if "$ref" in each}
    for pointer, target in targets.items():
        # A place that no keyword makes a schema was not looked at.
        if isinstance(target, dict) and not any(target is each for each in known):
            raise refusal(
                what, f"`$ref` refers to {pointer[:80]!r}, which is no schema", "put it under `$defs`"
            )
    ending: set[str] = set()
    while True:
        new = {p for p, target in targets.items() if p not in ending and _ends(target, ending.__contains__)}
        if not new:
            break
        ending |= new
    if not _ends(whole, ending.__contains__):
        raise refusal(
            what,
            "no value that ends can follow it: it requires itself within itself",
            "make a property optional",
        )


def _ends(schema: object, target_ends: Callable[[str], bool]) -> bool:
    if not isinstance(schema, dict):
        return schema is not False
    fields = cast(Schema, schema)

    def ends(part: object) -> bool:
        return _ends(part, target_ends)

    if "$ref" in fields and not target_ends(fields["$ref"]):
        return False
    if any(not any(map(ends, fields[key])) for key in ("anyOf", "oneOf") if key in fields):
        return False
    if not all(map(ends, fields.get("allOf", ()))):
        return False
    kinds = fields.get("type", "any")
    if "const" in fields or "enum" in fields:
        return True
    # An object or array that has no end matters only where nothing else may stand in its place.
    if any(kind not in ("object", "array") for kind in ([kinds] if isinstance(kinds, str) else kinds)):
        return True
    return ("object" in kinds and _object_ends(fields, ends)) or (
        "array" in kinds and _array_ends(fields, ends)
    )


def _object_ends(fields: Schema, ends: Callable[[object], bool]) -> bool:
    properties: Schema = fields.get("properties", {})
    beyond = fields.get("additionalProperties", True)
    return all(ends(properties.get(key, beyond)) for key in fields.get("required", ()))


def _array_ends(fields: Schema, ends: Callable[[object], bool]) -> bool:
    least = int(fields.get("minItems", 0))
    first = fields.get("prefixItems", [])
    items = fields.get("items", True)
    if isinstance(items, list):
        first, items = cast(list[object], items), fields.get("additionalItems", True)
    return all(map(ends, first[:least])) and (least <= len(first) or ends(items))


def _target(pointer: str, whole: Whole, what: str) -> object:
    found: object = whole
    for step in pointer[1:].split("/")[1:]:
        name = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict) and name in found:
            found = cast(object, found[name])
        elif isinstance(found, list) and name.isdecimal() and int(name) < len(cast(list[object], found)):
            found = cast(list[object], found)[int(name)]
        else:
            raise refusal(
                what, f"`$ref` refers to {pointer[:80]!r}, which is not in it", "correct the reference"
            )
    if not isinstance(found, dict | bool):
        raise refusal(what, f"`$ref` refers to {pointer[:80]!r}, which is no schema", "correct the reference")
    return cast(object, found)


def _schemas(schema: object) -> Iterator[Schema]:
    """Every schema within, itself first."""
    if not isinstance(schema, dict):
        return
    fields = cast(Schema, schema)
    yield fields
    for key in _MAPS:
        for each in fields.get(key, {}).values():
            yield from _schemas(each)
    for key in (*_LISTS, *_ONE):
        value = fields.get(key)
        for each in cast(list[object], value) if isinstance(value, list) else (value,):
            yield from _schemas(each)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in cast(list[object], value):
            yield from _texts(each)
    elif isinstance(value, dict):
        for key, each in cast(Schema, value).items():
            yield key
            yield from _texts(each)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
