"""JSON Schema's validators such that a schema from outside cannot hold up the process.

Owns: patterns in linear time, and a count of what is compared. The library `jsonschema` matches patterns by Python's
`re`, which a pattern like `^(a+)+$` keeps busy for ever, and no other thread of the process runs meanwhile; and schemas
that name each other several times are followed as often as that multiplies to. Does not know what is validated, or why.

Patterns are matched by the regular expressions of pydantic's core, which come closer to ECMA 262 as well (`\\p{L}`,
`(?<name>…)`). One that those cannot follow, because it looks ahead, say, is taken as met: whoever carries out a call
looks at its arguments as well.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, cast

from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend  # pyright: ignore[reportUnknownVariableType]
from pydantic_core import SchemaError, SchemaValidator, core_schema

MOST_STEPS = 200_000
"""Keywords that are looked at in one comparison: a few seconds."""
_LONGEST_PATTERN = 10_000

_left: ContextVar[list[int]] = ContextVar("_left")
Rule = Callable[[Any, Any, Any, Any], Iterable[ValidationError] | None]


class TooMuchError(Exception):
    """More than MOST_STEPS keywords would have to be looked at."""


@contextmanager
def counted() -> Generator[None]:
    """What `bounded` validators do within is counted together. Raises TooMuchError."""
    token = _left.set([MOST_STEPS])
    try:
        yield
    finally:
        _left.reset(token)


@lru_cache(maxsize=16)
def bounded(kind: type[Validator]) -> type[Validator]:
    """The validators of a dialect, bounded; for use within `counted`."""
    rules: dict[str, Rule] = dict(cast(Any, kind).VALIDATORS)
    mine: dict[str, Rule] = {
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
        "unevaluatedProperties": _not_looked_at,
    }
    rules |= {name: rule for name, rule in mine.items() if name in rules}
    return cast("type[Validator]", extend(cast(Any, kind), {name: _counting(rules[name]) for name in rules}))


def matches(pattern: object, text: str) -> bool:
    """Whether `pattern` is found in `text`; True too for one that cannot be followed."""
    found = _compiled(pattern) if isinstance(pattern, str) and len(pattern) <= _LONGEST_PATTERN else None
    return found is None or found.isinstance_python(text)


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> SchemaValidator | None:
    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern))
    except SchemaError:
        return None


def _counting(rule: Rule) -> Rule:
    def check(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        left = _left.get()
        left[0] -= 1
        if left[0] < 0:
            raise TooMuchError
        yield from rule(validator, value, instance, schema) or ()

    return check


def _pattern(validator: Any, pattern: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and not matches(pattern, instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(
    validator: Any, patterns: Any, instance: Any, _schema: Any
) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    for pattern, inner in patterns.items():
        for key, value in instance.items():
            # Of a pattern that cannot be followed nobody knows which keys it means.
            if _compiled(pattern) is not None and matches(pattern, key):
                yield from validator.descend(value, inner, path=key, schema_path=pattern)


def _additional_properties(
    validator: Any, beyond: Any, instance: Any, schema: Any
) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    named, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for key, value in instance.items():
        if key in named or any(matches(pattern, key) for pattern in patterns):
            continue
        if beyond is False:
            yield ValidationError(f"{key!r} is not one of its properties")
        elif beyond is not True:
            yield from validator.descend(value, beyond, path=key)


def _not_looked_at(_validator: Any, _value: Any, _instance: Any, _schema: Any) -> None:
    """`unevaluatedProperties` follows patterns by the library's own means."""
