"""Which values can follow a JSON schema: that one that ends can, and in how many ways.

Owns: the least fixed point over a schema's references, and the count of choices that a grammar multiplies out. Does
not know keywords' limits (`schema_bounds`) or grammars (`token_grammar`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import cast

from engine.encoding.schema_parts import Schema, refusal, schemas_in, target_of

MOST_WAYS = 400
"""Combinations of choices (`anyOf`, `oneOf`, `allOf` and what is beside them) that one value may follow."""


def require_values(whole: Schema, what: str) -> None:
    """That some finite value follows `whole`, and in no more ways than can be told apart. Raises FormRefused.

    `{"next": …}` that must have a `next` has no end. The least fixed point over all that is referred to tells: at
    first nothing is known to end, and what ends when its parts do is added until nothing changes.
    """
    try:
        _require_values(whole, what)
    except RecursionError:
        raise refusal(what, "its references lead too far", "refer to less through one another") from None


def _require_values(whole: Schema, what: str) -> None:
    known = list(schemas_in(whole))
    places = set(map(id, known))
    targets = {each["$ref"]: target_of(each["$ref"], whole, what) for each in known if "$ref" in each}
    users: dict[str, set[str]] = {pointer: set() for pointer in targets}
    for pointer, target in targets.items():
        # A place that no keyword makes a schema was not looked at.
        if isinstance(target, dict) and id(cast(object, target)) not in places:
            raise refusal(
                what, f"`$ref` refers to {pointer[:80]!r}, which is no schema", "put it under `$defs`"
            )
        for each in schemas_in(cast(object, target)):
            if "$ref" in each:
                users[each["$ref"]].add(pointer)
    _Ways(targets, what).require_few(known)
    ending: set[str] = set()
    waiting = list(targets)
    while waiting:
        pointer = waiting.pop()
        if pointer not in ending and _ends(targets[pointer], ending.__contains__):
            ending.add(pointer)
            waiting += users[pointer]
    if not _ends(whole, ending.__contains__):
        raise refusal(
            what,
            "no value that ends can follow it: it requires itself within itself",
            "make a property optional",
        )
    _Circles(targets, what).require_none(known)


class _Circles:
    """Finds schemas that say of a value that it follows themselves: there is no telling what that would mean."""

    def __init__(self, targets: Mapping[str, object], what: str) -> None:
        self._targets = targets
        self._what = what
        self._open: set[int] = set()
        self._done: set[int] = set()

    def require_none(self, known: Sequence[Schema]) -> None:
        """Raises FormRefused where there is one."""
        for each in known:
            self._look_at(each)

    def _look_at(self, schema: object) -> None:
        if not isinstance(schema, dict) or id(cast(object, schema)) in self._done:
            return
        fields = cast(Schema, schema)
        if id(fields) in self._open:
            raise refusal(
                self._what,
                "a `$ref` leads back to itself with nothing in between",
                "refer to it within a property or items, or leave it out",
            )
        self._open.add(id(fields))
        for name in ("allOf", "anyOf", "oneOf"):
            for part in fields.get(name, ()):
                self._look_at(part)
        if "$ref" in fields:
            self._look_at(self._targets[fields["$ref"]])
        self._open.remove(id(fields))
        self._done.add(id(fields))


class _Ways:
    """Counts the choices of schemas that have to hold together."""

    def __init__(self, targets: Mapping[str, object], what: str) -> None:
        self._targets = targets
        self._what = what
        self._seen: set[frozenset[int]] = set()
        self._counts: dict[int, int] = {}

    def require_few(self, known: Sequence[Schema]) -> None:
        """Raises FormRefused where one of `known` has more than MOST_WAYS."""
        for each in known:
            self._look_at([each])

    def _look_at(self, parts: Sequence[object]) -> None:
        """`parts` hold together, and so do what they say of one property or of items."""
        found: dict[int, Schema] = {}
        for part in parts:
            self._gather(part, found)
        together = list(found.values())
        key = frozenset(found)
        if key in self._seen:
            return
        self._seen.add(key)
        product = self._product(together)
        if product > MOST_WAYS:
            raise refusal(
                self._what,
                f"its choices come to more than {MOST_WAYS} combinations",
                "use fewer `anyOf` within `allOf`",
            )
        if len(together) > 1:
            for name in {name for each in together for name in each.get("properties", {})}:
                self._look_at(
                    [each["properties"][name] for each in together if name in each.get("properties", {})]
                )
            self._look_at([each["items"] for each in together if "items" in each])

    def _gather(self, schema: object, found: dict[int, Schema]) -> None:
        """Add `schema` to `found`, and all that it says must hold as well."""
        if not isinstance(schema, dict) or id(cast(object, schema)) in found:
            return
        fields = found[id(cast(object, schema))] = cast(Schema, schema)
        for part in fields.get("allOf", ()):
            self._gather(part, found)
        if "$ref" in fields:
            self._gather(self._targets[fields["$ref"]], found)

    def _product(self, together: Sequence[Schema]) -> int:
        """Ways to follow all of these, as far as it matters."""
        product = 1
        for each in together:
            for name in ("anyOf", "oneOf"):
                if name in each:
                    product = min(product * sum(map(self._count, each[name])), MOST_WAYS + 1)
        return product

    def _count(self, schema: object) -> int:
        """Ways of one choice. One that comes back to itself counts once."""
        if id(schema) not in self._counts:
            self._counts[id(schema)] = 1
            found: dict[int, Schema] = {}
            self._gather(schema, found)
            self._counts[id(schema)] = self._product(list(found.values()))
        return self._counts[id(schema)]


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
