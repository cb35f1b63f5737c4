"""A scripted DeepSeek-V4: its control tokens are real, its wits are not."""

from typing import Any

V4_MODEL = "folder:v4.script.json"
D = "｜DSML｜"
BROAD_CONTEXT = 400_000
"""Enough for Think-Max."""


def call(name: str, **values: str) -> str:
    """An invoke tag with text parameters."""
    parameters = "".join(
        f'<{D}parameter name="{key}" string="true">{value}</{D}parameter>\n' for key, value in values.items()
    )
    return f'<{D}invoke name="{name}">\n{parameters}</{D}invoke>\n'


def block(*calls: str) -> str:
    """A block of calls."""
    return f"\n\n<{D}tool_calls>\n{''.join(calls)}</{D}tool_calls>"


TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Weather in a city",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    },
    {
        "type": "function",
        "function": {
            "name": "write_file",
            "parameters": {
                "type": "object",
                "properties": {"path": {"type": "string"}, "content": {"type": "string"}},
                "required": ["path", "content"],
            },
        },
    },
]
V4_SCRIPT: dict[str, Any] = {
    "name": "Scripted V4",
    "context_tokens": 1_048_576,
    "release": "preview",
    "title": '"A Talk About Seamounts."',
    "replies": [
        {"match": "not carried out", "text": "I see.</think>" + block(call("get_weather", city="Bern"))},
        {
            "match": "weather in Paris",
            "text": "I need two things.</think>Looking."
            + block(call("get_weather", city="Paris"), call("get_weather", city="Rome")),
        },
        {
            "match": "22 degrees",
            "text": "Now save it.</think>" + block(call("write_file", path="w.txt", content="22 & 25")),
        },
        {"match": "saved", "text": "All is done.</think>It is warm, and the file is written."},
        {
            # No line break behind the block's tag, and the block is not closed.
            "match": "slip",
            "text": f'Hm.</think>\n\n<{D}tool_calls><{D}invoke name="get_weather">\n'
            f'<{D}parameter name="city" string="true">Oslo</{D}parameter>\n</{D}invoke>\n',
        },
        {
            "match": "twice",
            "text": "Hm.</think>"
            + block(
                f'<{D}invoke name="get_weather">\n<{D}parameter name="city" string="true">A</{D}parameter>\n'
                f'<{D}parameter name="city" string="true">B</{D}parameter>\n</{D}invoke>\n'
            ),
        },
        {"match": "unknown tool", "text": "Hm.</think>" + block(call("rm", path="/"))},
        {"match": "ponder", "text": "I wonder. " * 200 + "</think>Forty-two."},
        {"match": "circles", "text": "Round and round we go, for ever. " * 400 + "</think>Out."},
        {"match": "slowly", "text": "Step by step I think of it.</think>And so I say it.", "delay_s": 0.02},
        {"match": "crash", "text": "I think and think.</think>Then I die.", "crash_after": 8, "delay_s": 0.02},
        {"match": "fall", "text": "I think.</think>Then I fall over here.", "crash_after": 15, "delay_s": 0.02},
        {
            "match": "late call",
            "text": "I call.</think>" + block(call("get_weather", city="Lima")),
            "crash_after": 70,
            "delay_s": 0.02,
        },
        {
            "match": "a long call",
            "text": "I call.</think>" + block(call("write_file", path="w.txt", content="much " * 1000)),
            "delay_s": 0.01,
        },
        {"match": "with patience", "text": "Read.</think>Read.", "prefill_delay_s": 0.25},
        {"mode": "non-think", "text": "A plain answer."},
        {"mode": "think", "text": "First I think.</think>Then I answer."},
    ],
}  # fmt: skip
