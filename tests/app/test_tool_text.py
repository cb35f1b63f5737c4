"""Tools as text: what is accepted, and one sentence for what is not."""

import json

import pytest

from app.tool_text import MOST_CHARS, ToolTextError, count_words, text_of, tools_of
from engine.protocol import Tool

WEATHER = {"type": "function", "function": {"name": "get_weather", "z": 1, "a": {"b": []}}}


def test_nothing_is_no_tools() -> None:
    assert tools_of(" \n") == tools_of("[]") == []
    assert text_of([]) == ""


def test_tools_are_kept_whole_and_in_their_order_of_keys() -> None:
    (tool,) = tools_of(json.dumps([WEATHER]))
    assert tool == Tool(function=WEATHER["function"])
    assert list(tool.function) == ["name", "z", "a"]
    assert json.loads(text_of([tool])) == [WEATHER]
    assert tools_of(text_of([tool])) == [tool]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[", "not JSON: line 1, column 2"),
        ("[NaN]", "no NaN"),
        ("{}", "not an array but an object"),
        ("null", "not an array but null"),
        ("[true]", "Tool 1 is not an object but a truth value"),
        ('[{"type": "retrieval", "function": {}}]', "of type \"retrieval\""),
        ("[{}]", "Tool 1 has no “function” object"),
        ('[{"function": {}}]', "Tool 1 has no function.name"),
        ('[{"function": {"name": 5}}]', "Tool 1 has no function.name"),
        ('[{"function": {"name": "no spaces"}}]', "the name “no spaces”"),
        ('[{"function": {"name": "a", "description": 1}}]', "the description is not a text"),
        ('[{"function": {"name": "a", "parameters": []}}]', "the parameters are not an object"),
        ('[{"function": {"name": "a"}}, {"function": {"name": "a"}}]', "Tools 1 and 2 are both named “a”"),
        ("[1e999]", "1e999 is too large"),
        ('["\\ud800"]', "half a character"),
        ("[" * 100_000, "too deeply"),
        ("[" + "9" * 5000 + "]", "too long"),
        ("[" + " " * MOST_CHARS + "]", "longer than 500,000 characters"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_sentence(text: str, words: str) -> None:
    with pytest.raises(ToolTextError) as caught:
        tools_of(text)
    assert words in str(caught.value)
    assert str(caught.value).endswith(".")


def test_too_many_tools_are_counted() -> None:
    many = [{"function": {"name": f"t{i}"}} for i in range(257)]
    with pytest.raises(ToolTextError, match="257"):
        tools_of(json.dumps(many))


def test_counting() -> None:
    assert (count_words(1), count_words(2)) == ("1 tool", "2 tools")
