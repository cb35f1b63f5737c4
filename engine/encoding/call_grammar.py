"""The grammar of a block of tool calls as DeepSeek-V4 writes it, each function's arguments by its schema.

Owns: the rules, in llguidance's kind of Lark, for the form that `dsml` describes and `completion_parser` reads back.
Does not know how rules are followed (`token_grammar`), nor when a block may begin (`answer_mask`).

A parameter whose schema is a plain text is written as the text itself (string="true"), one of fixed texts as one of
them; every other value is JSON (string="false"), texts with a pattern or format too: both are read back alike.
Parameters stand in the order of the schema's properties. Where other keys than those named are allowed, each may
stand once; the mask sees to that.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from engine.encoding.dsml import Tags
from engine.encoding.release import Release
from engine.encoding.schema_bounds import DEEPEST, check_schema
from engine.encoding.schema_parts import Schema, Whole, moved, refers, refusal, resolve

MOST_FUNCTIONS = 256
LARGEST_BYTES = 1 << 20
"""Of all rules and schemas together."""

_NAME = re.compile(r'[^"<>\x00-\x1f｜]{1,256}')
"""Names of functions and keys that can stand in a tag."""
_KEY = r'[^"<>\x00-\x1F\x7F｜]{1,128}'
"""A key that no schema names, as a regex of the grammar."""
_LONGEST_RAW = 10_000
"""Largest count of characters that is enforced in a text written as it is; beyond it, the text is written as JSON."""
_TOP = frozenset(
    ("type", "properties", "required", "additionalProperties", "$defs", "definitions", "$schema")
)
"""The keywords of a function's parameters themselves that come apart into single parameters."""
_ON_TEXT = frozenset(
    ("pattern", "format", "minLength", "maxLength", "const", "enum", "anyOf", "oneOf", "allOf", "$ref")
)


@dataclass(frozen=True)
class Function:
    """A function that may be called. `parameters`: a checked schema; None: any arguments."""

    name: str
    parameters: Schema | None

    @property
    def has_free_keys(self) -> bool:
        """Whether it takes parameters that its schema does not name."""
        return self.parameters is None or _beyond(self.parameters) is not False


def read_function(shape: Mapping[str, Any]) -> Function:
    """The function of OpenAI's shape, its schema checked. Raises FormRefused for one that no call can be made by."""
    name = str(shape.get("name", ""))
    _check_name(name)
    what = f"The schema of the function {name[:80]!r}"
    given: object = shape.get("parameters")
    if given is None:
        return Function(name, {"type": "object", "properties": {}, "additionalProperties": False})
    whole = check_schema(given, what)
    parameters = resolve(whole, whole, what)
    if parameters is True:
        return Function(name, {"type": "object"})
    fields = cast(Schema, parameters)
    if fields is not whole and isinstance(whole, dict):
        fields = {**fields, **{key: whole[key] for key in ("$defs", "definitions") if key in whole}}
    kinds = fields.get("type", "object")
    if kinds != "object" and not (isinstance(kinds, list) and "object" in kinds):
        raise refusal(what, f"`type` is {json.dumps(kinds)[:80]}", "arguments are an object: say so")
    strange = next((key for key in fields if key not in _TOP and key in _MEANT), None)
    if strange is not None:
        raise refusal(
            what, f"`{strange}` at its root cannot be enforced in a call", "name the parameters one by one"
        )
    required = fields.get("required", ())
    for key in (*fields.get("properties", {}), *required):
        if not _NAME.fullmatch(key):
            raise refusal(
                what, f"the key {key[:80]!r} cannot stand in a call", "use letters, digits, _ and -"
            )
    return Function(name, fields)


_MEANT = frozenset(
    (
        "anyOf",
        "oneOf",
        "allOf",
        "enum",
        "const",
        "patternProperties",
        "minProperties",
        "maxProperties",
        "$ref",
    )
)


def loose(name: str) -> Function:
    """A function whose arguments are not held to a schema. Raises FormRefused for a name that cannot be written."""
    _check_name(name)
    return Function(name, None)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise refusal(
            f"The function {name[:80]!r}", "its name cannot stand in a call", "use letters, digits, _ and -"
        )


def call_rules(
    functions: Sequence[Function], release: Release, mark_id: int, *, parallel: bool, begun: bool
) -> tuple[str, dict[str, Whole]]:
    """(rules, the schemas that they name) of a block with at least one call.

    `mark_id`: the DSML token's. `begun`: the empty line, bracket and token before the block's name are written already.
    """
    if not functions:
        raise refusal(
            "The form of the answer", "a call is asked for and no function is declared", "declare one"
        )
    if len(functions) > MOST_FUNCTIONS:
        raise refusal(
            "The form of the answer", f"more than {MOST_FUNCTIONS} functions are declared", "send fewer"
        )
    writer = _Rules(release, mark_id)
    writer.block(functions, parallel=parallel, begun=begun)
    if writer.bytes > LARGEST_BYTES:
        raise refusal(
            "The form of the answer", f"its functions take more than {LARGEST_BYTES:,} bytes", "declare fewer"
        )
    return writer.text, writer.schemas


class _Rules:
    """Rules as they are written down."""

    def __init__(self, release: Release, mark_id: int) -> None:
        tags, dsml = Tags.of(release), release.tokens.dsml
        # Each tag is "<" or "</", the token, and a name.
        self._names = {kind: text.partition(dsml)[2] for kind, text in vars(tags).items()}
        self._mark = f"<[{mark_id}]>"
        self._rules: list[str] = []
        self._texts: dict[str, str] = {}
        self._count = 0
        self.schemas: dict[str, Whole] = {}

    @property
    def text(self) -> str:
        """All rules."""
        return "\n".join(self._rules) + "\n"

    @property
    def bytes(self) -> int:
        """Of rules and schemas."""
        return len(self.text) + sum(len(json.dumps(each)) for each in self.schemas.values())

    def block(self, functions: Sequence[Function], *, parallel: bool, begun: bool) -> None:
        """The rule `start` and all that it needs."""
        mark, names = self._mark, self._names
        before = "" if begun else f"{_quoted(chr(10) * 2 + '<')} {mark} "
        more = f"({_quoted(chr(10) + '<')} {mark} call)*" if parallel else ""
        opening = _quoted(names["calls"] + ">\n<")
        closing = f"{_quoted(chr(10) + '</')} {mark} {_quoted(names['calls_end'])}"
        self._rule("start", f"{before}{opening} {mark} call {more} {closing}")
        calls = [self._call(number, function) for number, function in enumerate(functions)]
        self._rule("call", " | ".join(calls))
        # A text ends at the first "</" before the token. In three parts, so that long runs are cheap to follow.
        self._rule("text", "(RUN | BRACKET)* CLOSE")
        self._rule("RUN", r"/[^\x00<]+/")
        self._rule("BRACKET", r"/<[^\x00<]*/")
        self._rule("CLOSE", '"</"')

    def _rule(self, name: str, body: str) -> None:
        self._rules.append(f"{name}: {body}")

    def _call(self, number: int, function: Function) -> str:
        name, names = f"call_{number}", self._names
        head = _quoted(f'{names["invoke"]} name="{function.name}">\n')
        tail = f'"</" {self._mark} {_quoted(names["invoke_end"] + ">")}'
        self._rule(name, f"{head} {self._parameters(number, function)} {tail}")
        return name

    def _parameters(self, number: int, function: Function) -> str:
        """The rule for what stands between a call's tags."""
        whole: Schema = function.parameters or {}
        required = set(cast(list[str], whole.get("required", [])))
        beyond = True if function.parameters is None else _beyond(whole)
        keys = {
            **whole.get("properties", {}),
            **{key: beyond for key in required if key not in whole.get("properties", {})},
        }
        parts: list[str] = []
        for key, schema in keys.items():
            if schema is False:
                continue  # it must not be there
            rule = f"p_{number}_{len(parts)}"
            self._rule(rule, f'"<" {self._mark} {self._parameter(_quoted(key)[1:-1], schema, whole)}')
            parts.append(rule if key in required else f"{rule}?")
        if function.has_free_keys:
            rule, key_rule = f"p_{number}_any", f"KEY_{number}"
            others = f" & ~/({'|'.join(map(_pattern, keys))})/" if keys else ""
            self._rule(key_rule, f"/{_KEY}/{others}")
            self._rule(rule, f'"<" {self._mark} {self._parameter(None, beyond, whole, key_rule)}')
            parts.append(f"{rule}*")
        body = " ".join(parts)
        # Without parameters an empty line stands between the tags.
        self._rule(f"body_{number}", body if required else " | ".join(filter(None, (r'"\n"', body))))
        return f"body_{number}"

    def _parameter(self, key: str | None, schema: object, whole: Schema, key_rule: str = "") -> str:
        """What stands behind a parameter's bracket and token. `key`: escaped; None: one by `key_rule`."""
        name = _escaped(self._names["parameter"])
        end = f"{self._mark} {_quoted(self._names['parameter_end'] + '>' + chr(10))}"

        def head(kind: str) -> str:
            if key is not None:
                return f'"{name} name=\\"{key}\\" string=\\"{kind}\\">"'
            terminal = f"HEAD_{kind.upper()}_{key_rule}"
            self._rule(terminal, f'"{name} name=\\"" {key_rule} "\\" string=\\"{kind}\\">"')
            return terminal

        raw = self._raw(schema, whole)
        ways = [] if raw is None else [f"{head('true')} {raw} {end}"]
        if raw is None or not _is_text(schema, whole):
            ways.append(f'{head("false")} @{self._schema(schema, whole)} "</" {end}')
        return ways[0] if len(ways) == 1 else "(" + " | ".join(ways) + ")"

    def _schema(self, schema: object, whole: Schema) -> str:
        """The name under which the rules know a JSON value's schema."""
        if schema is True:
            schema = {}
        fields = cast(Schema, schema)
        if refers(fields):
            # What it refers to stands in the function's whole schema, which becomes a part of this one.
            fields = {**moved(fields, _WHOLE), "$defs": {"whole": moved(whole, _WHOLE)}}
        text = json.dumps(fields)
        if text not in self._texts:
            self._texts[text] = f"j_{len(self._texts)}"
            self.schemas[self._texts[text]] = fields
        return self._texts[text]

    def _raw(self, schema: object, whole: Schema, depth: int = 0) -> str | None:
        """The rule for a text of `schema` written as it is; None where that cannot be said."""
        found = _resolved(schema, whole)
        if found is True:
            return "text"
        if not isinstance(found, dict) or depth > DEEPEST:
            return None
        fields = cast(Schema, found)
        meant = {key for key in fields if key in _ON_TEXT or key == "type"}
        for key in ("anyOf", "oneOf"):
            if meant == {key}:
                ways = (self._raw(each, whole, depth + 1) for each in fields[key])
                return next((way for way in ways if way is not None), None)
        fixed = fields["enum"] if "enum" in fields else [fields["const"]] if "const" in fields else None
        if fixed is not None and meant <= {"type", "enum", "const"} and not {"enum", "const"} <= meant:
            texts = [each for each in cast(list[object], fixed) if isinstance(each, str)]
            if texts and _allows_text(fields) and not any("\x00" in each for each in texts):
                return self._terminal("(" + " | ".join(map(_quoted, texts)) + ') "</"')
            return None
        if not _allows_text(fields) or not meant <= {"type", "minLength", "maxLength"}:
            return None
        if meant <= {"type"}:
            return "text"
        least, most = fields.get("minLength", 0), fields.get("maxLength")
        if max(least, most or 0) > _LONGEST_RAW:
            return None
        return self._terminal(f"/[^\\x00]{{{int(least)},{'' if most is None else int(most)}}}<\\//")

    def _terminal(self, body: str) -> str:
        name = f"T{self._count}"
        self._count += 1
        self._rule(name, body)
        return name


_WHOLE = "#/$defs/whole"


def _beyond(whole: Schema) -> object:
    """The schema of parameters that are not named: False where there are to be none.

    A schema that names its properties and says nothing of others means those.
    """
    if "additionalProperties" in whole:
        return whole["additionalProperties"]
    return "properties" not in whole


def _resolved(schema: object, whole: Schema) -> Any:
    return resolve(schema, whole, "The schema of a function")


def _allows_text(fields: Schema) -> bool:
    kinds = fields.get("type", "string")
    return kinds == "string" or (isinstance(kinds, list) and "string" in kinds)


def _is_text(schema: object, whole: Schema) -> bool:
    """Whether nothing but a text follows `schema`, so that there is one way to write it."""
    found = _resolved(schema, whole)
    if not isinstance(found, dict):
        return False
    fields = cast(Schema, found)
    if fields.get("type") == "string":
        return True
    fixed = fields["enum"] if "enum" in fields else [fields["const"]] if "const" in fields else None
    return fixed is not None and all(isinstance(each, str) for each in cast(list[object], fixed))


def _quoted(text: str) -> str:
    """`text` as a string of the rules."""
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1].replace("\x7f", "\\u007f")


def _pattern(text: str) -> str:
    """`text` within a regex of the rules."""
    return re.escape(text).replace("/", "\\/")
