"""Schemas and answers at random: a model that writes anything that it may, to try masks with.

Owns: strategies of schemas, functions' parameters among them, and the walk of a mask by random logits. Knows nothing
of how a mask is made.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from engine.generation import TokenMask
from engine.protocol import Sampling
from engine.sampling import draw

NAMES = st.sampled_from(["a", "b", "ab", "city", "how_many", "größe", "x-y", "a.b", "kind"])
ODD_NAMES = st.one_of(
    NAMES, st.sampled_from(['q"uote', "back\\slash", "new\nline", "", "日本", "a b", "{", "$ref"])
)
TEXTS = st.sampled_from(
    ["", "a", "ab", "a</b", 'say "hi"', "<", "</", "ß\n", "back\\slash", "null", "12", "日本"]
)
CLOSERS = {b'"': 5.0, b"}": 7.0, b"]": 7.0, b"<": 5.0, b"/": 5.0}


def plain_schemas() -> st.SearchStrategy[Any]:
    """Of values that hold no others."""
    lengths = st.tuples(st.integers(0, 4), st.integers(0, 6))
    return st.one_of(
        st.just({"type": "string"}),
        st.just({"type": "boolean"}),
        st.just({"type": "null"}),
        st.just({"type": "integer"}),
        st.just({"type": "number"}),
        st.builds(lambda least, more: {"type": "integer", "minimum": least, "maximum": least + more},
                  st.integers(-40, 40), st.integers(0, 300)),
        st.builds(lambda pair: {"type": "string", "minLength": pair[0], "maxLength": sum(pair)}, lengths),
        st.builds(lambda texts: {"type": "string", "enum": texts}, st.lists(TEXTS, min_size=1, unique=True)),
        st.builds(lambda values: {"enum": values},
                  st.lists(st.one_of(TEXTS, st.integers(-9, 9), st.none()), min_size=1, unique=True)),
        st.builds(lambda value: {"const": value}, st.one_of(TEXTS, st.integers(-(2**53), 2**53), st.booleans())),
        st.just({"type": ["string", "null"]}),
        st.just({"type": "string", "pattern": "^[a-c]{1,3}(-[0-9]+)?$"}),
        st.just({"type": "string", "pattern": "b+"}),
        st.just({"type": "string", "format": "date"}),
    )  # fmt: skip


def schemas(names: st.SearchStrategy[str] = ODD_NAMES) -> st.SearchStrategy[Any]:
    """Of any values, a few levels deep."""
    return st.recursive(
        plain_schemas(),
        lambda inner: st.one_of(
            objects(inner, names),
            st.builds(
                lambda items, least, more: {
                    "type": "array", "items": items, "minItems": least, "maxItems": least + more
                },
                inner, st.integers(0, 2), st.integers(0, 2),
            ),
            st.builds(lambda ways: {"anyOf": ways}, st.lists(inner, min_size=1, max_size=3)),
        ),
        max_leaves=6,
    )  # fmt: skip


def any_schemas() -> st.SearchStrategy[Any]:
    """Of every keyword that is enforced, whether or not anything can follow them all."""
    number = st.one_of(st.integers(-50, 50), st.sampled_from([0.5, -1.25, 3.75, 10.1]))
    kinds = st.sampled_from(["integer", "number"])
    formats = ("date", "time", "date-time", "uuid", "ipv4", "email", "hostname", "duration", "uri", "ipv6")
    patterns = st.sampled_from(["^a", "b$", "[0-9]", "^\\d{2,3}$", "a|b", "^(x|y)+z?$", "\\w", "\\.", "ß"])
    plain = st.one_of(
        plain_schemas(),
        st.builds(lambda a, b: {"type": "number", "minimum": a, "maximum": b}, number, number),
        st.builds(lambda a, b: {"type": "number", "exclusiveMinimum": a, "exclusiveMaximum": b}, number, number),
        st.builds(lambda step, kind: {"type": kind, "multipleOf": step},
                  st.sampled_from([1, 2, 5, 0.5, 0.25, 100]), kinds),
        st.builds(lambda name: {"type": "string", "format": name}, st.sampled_from(formats)),
        st.builds(lambda pattern, most: {"type": "string", "pattern": pattern, "maxLength": most},
                  patterns, st.integers(1, 6)),
    )  # fmt: skip
    keys = st.sampled_from(["^a", "^x-", "[0-9]$"])
    whole = st.recursive(
        plain,
        lambda inner: st.one_of(
            objects(inner, ODD_NAMES),
            st.builds(lambda named, by_pattern: {"type": "object", "properties": named, "required": sorted(named),
                                                 "patternProperties": by_pattern},
                      st.dictionaries(NAMES, inner, max_size=2), st.dictionaries(keys, inner, max_size=1)),
            st.builds(lambda first, items, least: {"type": "array", "prefixItems": first, "items": items,
                                                   "minItems": least},
                      st.lists(inner, min_size=1, max_size=2), st.one_of(st.booleans(), inner), st.integers(0, 3)),
            st.builds(lambda parts: {"allOf": parts}, st.lists(inner, min_size=1, max_size=2)),
            st.builds(lambda ways: {"oneOf": ways}, st.lists(inner, min_size=1, max_size=2)),
            st.builds(lambda schema, way: {**schema, "anyOf": [way]}, inner, inner),
        ),
        max_leaves=5,
    )  # fmt: skip
    referring = st.builds(
        lambda part, other: {
            "$defs": {"part": part},
            "type": "object",
            "properties": {"p": {"$ref": "#/$defs/part"}, "q": other, "again": {"$ref": "#"}},
            "required": ["p", "q"],
        },
        whole, whole,
    )  # fmt: skip
    return st.one_of(whole, referring)


@st.composite
def objects(
    draw_from: st.DrawFn, values: st.SearchStrategy[Any], names: st.SearchStrategy[str]
) -> dict[str, Any]:
    """Of objects with some named properties, some of them required."""
    properties = draw_from(st.dictionaries(names, values, max_size=3))
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if properties:
        schema["required"] = draw_from(st.lists(st.sampled_from(sorted(properties)), unique=True))
    beyond = draw_from(st.sampled_from(["none", "unsaid", "any", "some"]))
    if beyond != "unsaid":
        choices = {"none": False, "any": True, "some": {"type": "integer"}}
        schema["additionalProperties"] = choices[beyond]
    return schema


def functions() -> st.SearchStrategy[list[dict[str, Any]]]:
    """Declared functions, strict ones among them."""
    parameters = objects(schemas(), NAMES)
    one = st.builds(
        lambda name, schema, strict: {"name": name, "parameters": schema, "strict": strict},
        NAMES, parameters, st.booleans(),
    )  # fmt: skip
    return st.lists(one, min_size=1, max_size=3, unique_by=lambda each: each["name"])


def wander(
    mask: TokenMask,
    token_bytes: Sequence[bytes],
    end_ids: frozenset[int],
    preferred: Sequence[int],
    *,
    seed: int,
    most: int = 1500,
    free: int = 40,
) -> list[int] | None:
    """The tokens of an answer by random logits within `mask`, its end token left out; None: it did not end.

    After `free` tokens whatever closes something is likelier, `preferred` tokens too.
    """
    random = np.random.default_rng(seed)
    bias = np.array([CLOSERS.get(text, 0.0) for text in token_bytes], np.float32)
    bias[list(preferred)] = 5.0
    bias[list(end_ids)] = 9.0
    ids: list[int] = []
    for place in range(most):
        logits = random.standard_normal(len(token_bytes)).astype(np.float32)
        logits += bias * (1.0 if place >= free else 0.3)
        allowed = mask.allowed()
        token_id = int(allowed[draw(logits[allowed], Sampling(seed=seed), place)])
        if token_id in end_ids:
            return ids
        mask.saw(token_id)
        ids.append(token_id)
    return None
