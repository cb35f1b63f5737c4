"""The official parser's rules over a whole text, written down once more as a yardstick (V4.md 2.5).

It reads the text from left to right with the same searches and the same regular expressions as the rules
name, and knows nothing of pieces, repairs or the product's parser.
"""

import json
import re
from typing import Any

BEGIN, END, THINK, THINK_END = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<think>", "</think>"
DSML = "｜DSML｜"
CALLS, CALLS_END = f"\n\n<{DSML}tool_calls", f"</{DSML}tool_calls>"
INVOKE, INVOKE_END = f"<{DSML}invoke", f"</{DSML}invoke"
PARAMETER, PARAMETER_END = f"<{DSML}parameter", f"/{DSML}parameter"


class Rejected(Exception):  # noqa: N818 - named for what happened
    """The official parser would raise."""


class _Reader:
    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def until(self, *marks: str) -> tuple[str, str | None]:
        places = [(place, mark) for mark in marks if (place := self.text.find(mark, self.at)) >= 0]
        if not places:
            rest, self.at = self.text[self.at :], len(self.text)
            return rest, None
        place, mark = min(places, key=lambda each: each[0])
        before, self.at = self.text[self.at : place], place + len(mark)
        return before, mark


def need(condition: bool) -> None:
    if not condition:
        raise Rejected


def parse_strictly(text: str, *, thinking: bool) -> dict[str, Any]:
    """The message, or Rejected."""
    reader, reasoning = _Reader(text), ""
    if thinking:
        reasoning, mark = reader.until(THINK_END, CALLS)
        need(mark == THINK_END)
    content, mark = reader.until(END, CALLS)
    calls: list[tuple[str, str]] = []
    if mark == CALLS:
        calls = _calls(reader)
        after, mark = reader.until(END)
        need(after == "")
    else:
        need(mark == END)
    need(reader.at == len(text) and mark in (END, None))
    need(
        not any(
            token in part for token in (BEGIN, END, THINK, THINK_END, DSML) for part in (content, reasoning)
        )
    )
    return {
        "role": "assistant",
        "content": content,
        "reasoning_content": reasoning,
        "tool_calls": [
            {"type": "function", "function": {"name": name, "arguments": arguments}}
            for name, arguments in calls
        ],
    }


def _calls(reader: _Reader) -> list[tuple[str, str]]:
    calls: list[tuple[str, str]] = []
    while reader.at < len(reader.text):
        between, mark = reader.until(INVOKE, CALLS_END)
        need(between == ">\n")
        if mark == CALLS_END:
            break
        need(mark is not None)
        head, mark = reader.until(PARAMETER, INVOKE_END)
        names = re.findall(r'^\s*name="(.*?)">\n$', head, re.DOTALL)
        need(len(names) == 1)
        values: dict[str, str] = {}
        while mark == PARAMETER:
            content, mark = reader.until(PARAMETER_END)
            found = re.findall(r'^ name="(.*?)" string="(true|false)">(.*?)<$', content, re.DOTALL)
            need(len(found) == 1)
            key, kind, value = found[0]
            need(key not in values)
            values[key] = json.dumps(value, ensure_ascii=False) if kind == "true" else value
            after, mark = reader.until(PARAMETER, INVOKE_END)
            need(after == ">\n")
        pairs = (f"{json.dumps(key, ensure_ascii=False)}: {value}" for key, value in values.items())
        calls.append((names[0], "{" + ", ".join(pairs) + "}"))
    return calls
