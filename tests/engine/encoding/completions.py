"""Completions to test parsers with: written well, broken a little, and soups of the grammar's own pieces."""

import itertools
import json
import random

from hypothesis import strategies as st

from engine.conversation import ToolCall
from engine.encoding.dsml import render_calls
from engine.encoding.release import release

RELEASE = release("preview")
END, THINK_END = RELEASE.tokens.end, RELEASE.tokens.think_end
D = RELEASE.tokens.dsml

PIECES = (
    END, THINK_END, RELEASE.tokens.think, RELEASE.tokens.begin, D, f"\n\n<{D}tool_calls", f"<{D}tool_calls",
    f"</{D}tool_calls>", f"<{D}invoke", f"</{D}invoke", f"</{D}invoke>", f"<{D}parameter", f"</{D}parameter>",
    f"/{D}parameter", ' name="', '">\n', '"', '" string="true">', '" string="false">', ' string="True"', ">\n", ">",
    "\n", "\n\n", "<", "/", "｜", "name=", " ", "a", "key", "1", "{", "}", "[]", "é🙂", "\\", "'", "\x00", ", \"b\": 2",
)  # fmt: skip

texts = st.lists(st.sampled_from((*PIECES, "word ", "Paris")), max_size=6).map("".join)
soups = st.lists(st.sampled_from(PIECES), max_size=60).map("".join)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(texts | st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
"""Any JSON value, strings holding DSML tags among them."""

keys = st.text(max_size=8).filter(lambda key: '" string="' not in key and D not in key)
"""Names of parameters that DSML can write: nothing in them is escaped."""

calls = st.lists(
    st.builds(
        lambda name, arguments: ToolCall(name, json.dumps(arguments, ensure_ascii=False)),
        st.from_regex(r"\A[a-z_.-]{1,12}\Z"),
        st.dictionaries(keys, json_values, max_size=4),
    ),
    min_size=1,
    max_size=3,
)

plain = st.text(max_size=20).filter(lambda text: D not in text)


@st.composite
def valid(draw: st.DrawFn) -> tuple[str, bool]:
    """(a completion that the official parser accepts, whether it begins inside the reasoning)."""
    thinking, text = draw(st.booleans()), draw(plain)
    if thinking:
        text = draw(plain) + THINK_END + text
    if draw(st.booleans()):
        return f"{text}\n\n{render_calls(draw(calls), RELEASE)}{draw(st.sampled_from(['', END]))}", thinking
    return text + END, thinking


@st.composite
def broken(draw: st.DrawFn) -> tuple[str, bool]:
    """A valid completion with a few pieces cut out, put in, or doubled."""
    text, thinking = draw(valid())
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(text)))
        kind = draw(st.integers(0, 3))
        if kind == 0:
            text = text[:at] + draw(st.sampled_from(PIECES)) + text[at:]
        elif kind == 1:
            text = text[:at] + text[at + draw(st.integers(1, 12)) :]
        elif kind == 2:
            text = text[:at] + text[max(0, at - draw(st.integers(1, 60))) :]
        else:
            old, new = draw(st.sampled_from(PIECES)), draw(st.sampled_from(PIECES))
            text = text.replace(old, new, 1)
    return text, thinking


completions = valid() | broken() | broken() | st.tuples(soups, st.booleans())


def split(text: str, cuts: list[int]) -> list[str]:
    """`text` in pieces, cut at `cuts` (taken modulo its length)."""
    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(edges)]


def random_soup(random_: random.Random, most: int) -> str:
    """Pieces of the grammar, stray characters and long runs, by a seeded generator."""
    parts: list[str] = []
    for _ in range(random_.randint(0, most)):
        kind = random_.random()
        if kind < 0.7:
            parts.append(random_.choice(PIECES))
        elif kind < 0.8:
            parts.append(random_.choice(PIECES) * random_.randint(1, 40))
        elif kind < 0.9:
            parts.append(random_.randbytes(random_.randint(0, 30)).decode("utf-8", "replace"))
        else:
            parts.append(random_.choice(PIECES)[: random_.randint(0, 12)])
    return "".join(parts)
