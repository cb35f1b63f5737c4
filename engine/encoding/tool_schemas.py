"""Tool calls against the schemas of the tools that were declared.

Owns: checking a call's arguments (JSON Schema, by the library `jsonschema`) and the sentence that the model
is given when they do not fit. Does not know how a call is written (`completion_parser`) or carried out.
A schema comes from outside: nothing in it is fetched, and one that is itself broken is said, not raised. Nor does one
hold up the engine: its patterns are matched in linear time (`bounded_schemas`), and what is compared is counted.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.exceptions import best_match as _best_match  # pyright: ignore[reportUnknownVariableType]
from jsonschema.validators import Draft202012Validator, validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from engine.encoding.bounded_schemas import TooMuchError, bounded, counted
from engine.encoding.completion_parser import ParsedCall
from engine.encoding.dsml import to_json

_NOTHING: Registry[Any] = Registry()
"""What schemas may refer to outside themselves: nothing, so that no address in one is ever opened."""

_LARGEST = 256 << 10
"""Characters of a schema that calls are compared with. To look at a larger one takes seconds, and the queue waits."""
_USUAL_CHARACTERS = 20_000
"""Of larger schemas only a few are remembered, so that what is kept stays small."""


def check_calls(calls: Iterable[ParsedCall], functions: Sequence[Mapping[str, Any]]) -> None:
    """Reject each of `calls` that names no declared tool or does not fit its schema.

    `functions`: OpenAI's function objects (name, parameters). With none declared nothing is checked.
    """
    if not functions:
        return
    by_name = {str(function.get("name")): function for function in functions}
    for call in calls:
        if call.status == "rejected":
            continue
        function = by_name.get(call.name)
        if function is None:
            known = ", ".join(sorted(by_name))
            call.reject(f"there is no tool {call.name[:80]!r}; the tools are {known[:400]}")
        elif problem := schema_problem(call.arguments, function.get("parameters")):
            call.reject(problem)


def schema_problem(arguments: str, schema: object) -> str | None:
    """Why `arguments` (JSON text) do not fit `schema`, as a clause; None when they do, or it is too large to tell."""
    try:
        value: Any = json.loads(arguments)
    except (ValueError, RecursionError) as error:
        return f"its arguments are not JSON ({error})"
    if not isinstance(schema, dict):
        return None
    whole = cast(dict[str, Any], schema)
    if _size(whole) > _LARGEST:
        return None
    if fault := schema_fault(whole):
        return f"the tool's own schema is not in order ({fault})"
    try:
        kind = validator_for(whole, Draft202012Validator)
        with counted():
            errors = bounded(kind)(whole, registry=_NOTHING).iter_errors(value)
            worst = cast(ValidationError | None, _best_match(errors))
    except TooMuchError:
        return "comparing its arguments with the tool's schema takes too long"
    except Unresolvable as error:
        return f"the tool's schema refers to something that is not in it ({str(error)[:200]})"
    except RecursionError:
        return "the tool's schema has no end"
    except (ArithmeticError, TypeError, ValueError) as error:  # numbers or addresses beyond the library
        return f"its arguments cannot be compared with the tool's schema ({str(error)[:200]})"
    return None if worst is None else _clause(worst)


def schema_fault(schema: object) -> str | None:
    """Why `schema` is no JSON schema, as a clause; None when it is one. The same schemas come with every request."""
    try:
        text = to_json(schema)
    except RecursionError:
        return "it is nested too deeply"
    if len(text) > _LARGEST:
        return _fault(text)
    return _known_fault(text) if len(text) <= _USUAL_CHARACTERS else _known_fault_of_large(text)


def _size(schema: object) -> int:
    """Characters of its text; 0 for one that is nested too deeply to have one."""
    try:
        return len(to_json(schema))
    except RecursionError:
        return 0


def _fault(text: str) -> str | None:
    schema: Any = json.loads(text)
    try:
        # Patterns are as ECMA 262 has them, so that Python's rules for them say nothing.
        kind: Any = validator_for(schema, Draft202012Validator)
        kind.check_schema(schema, format_checker=None)
    except SchemaError as error:
        return error.message[:200]
    except RecursionError:
        return "it is nested too deeply"
    except (ArithmeticError, TypeError, ValueError) as error:  # numbers or addresses beyond the library
        return str(error)[:200]
    return None


_known_fault = lru_cache(maxsize=512)(_fault)
_known_fault_of_large = lru_cache(maxsize=8)(_fault)


def _clause(error: ValidationError) -> str:
    place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path)
    where = f"`{place.lstrip('.')}`: " if place else ""
    return f"{where}{error.message[:300]}"


def rejection(name: str, problem: str) -> str:
    """What the model is told in place of a result."""
    return f"The call of {name or 'a tool'} was not carried out: {problem.rstrip('.')}. Correct it and call again."
