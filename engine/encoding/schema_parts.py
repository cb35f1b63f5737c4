"""The parts of a JSON schema, and what they say of each other by `$ref`.

Owns: which keywords hold schemas, following references within one schema, and copies whose references lead elsewhere.
Does not know which schemas are let in (`schema_bounds`) or what follows them (`schema_values`).
"""

from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import unquote

from engine.errors import FormRefused

Schema = dict[str, Any]
Whole = Schema | bool

ONE = ("items", "additionalProperties", "additionalItems")
"""Keywords that hold a schema; `items` may hold a list of them."""
LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
MAPS = ("properties", "patternProperties", "$defs", "definitions")


def refusal(what: str, why: str, remedy: str) -> FormRefused:
    """The error for a form called `what`, like "The schema of the answer"."""
    return FormRefused(f"{what} was refused", why, remedy)


def schemas_in(schema: object) -> Iterator[Schema]:
    """Every schema within, itself first."""
    if not isinstance(schema, dict):
        return
    fields = cast(Schema, schema)
    yield fields
    for key in MAPS:
        for each in fields.get(key, {}).values():
            yield from schemas_in(each)
    for key in (*LISTS, *ONE):
        value = fields.get(key)
        for each in cast(list[object], value) if isinstance(value, list) else (value,):
            yield from schemas_in(each)


def refers(schema: object) -> bool:
    """Whether there is a `$ref` anywhere in it."""
    return any("$ref" in each for each in schemas_in(schema))


def target_of(pointer: str, whole: Whole, what: str) -> object:
    """What `pointer` ("#/…") refers to within `whole`. Raises FormRefused where there is no schema."""
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
        schema = target_of(pointer, whole, what)
    return schema


def moved(schema: object, place: str) -> Any:
    """A copy in which each reference to the root is one to `place`, like "#/$defs/there", where the root now stands."""
    if not isinstance(schema, dict):
        return schema
    copy: Schema = {}
    for key, value in cast(Schema, schema).items():
        if key == "$ref":
            copy[key] = place + value[1:]
        elif key in MAPS:
            copy[key] = {name: moved(each, place) for name, each in value.items()}
        elif (key in LISTS or key in ONE) and isinstance(value, list):
            copy[key] = [moved(each, place) for each in cast(list[object], value)]
        elif key in ONE:
            copy[key] = moved(value, place)
        elif key != "$schema":
            copy[key] = value
    return copy


def strings_of(schema: object) -> Iterator[str]:
    """Every text that an answer would have to hold letter by letter: keys and fixed values."""
    for each in schemas_in(schema):
        yield from each.get("properties", {})
        yield from (key for key in each.get("required", ()) if isinstance(key, str))
        for fixed in (each.get("const"), each.get("enum")):
            yield from _texts(fixed)


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
