"""Requests in the shape that Claude Code makes them, with texts of our own.

The shape was recorded from version 2.1.197 with a model that it does not know: which fields it sends, in which blocks
its system message comes, where its cache marks stand, that instructions of its own come as a message with the role
system behind the first question, and what differs from one request to the next. Within a conversation: the cache mark
moves to the newest block, nothing else. From one conversation to the next: `metadata`, and the end of the version in
the first line of the system message, which is not sent with CLAUDE_CODE_ATTRIBUTION_HEADER=0.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

HEADERS = {
    "anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14,context-management-2025-06-27,"
    "prompt-caching-scope-2026-01-05,mid-conversation-system-2026-04-07,effort-2025-11-24",
    "anthropic-dangerous-direct-browser-access": "true",
    "anthropic-version": "2023-06-01",
    "User-Agent": "claude-cli/2.1.197 (external, sdk-cli)",
    "X-Stainless-Lang": "js",
    "X-Stainless-Retry-Count": "0",
    "x-app": "cli",
}
CACHED = {"cache_control": {"type": "ephemeral"}}
TOOLS: list[dict[str, Any]] = [
    {
        "name": name,
        "description": f"{about} "
        + "What it is given is checked first, and what it finds is told in full. " * 6,
        "input_schema": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {key: {"description": f"The {key}", "type": "string"} for key in keys},
            "required": list(keys),
            "additionalProperties": False,
        },
    }
    for name, about, keys in (
        ("Bash", "Runs a command.", ("command", "description")),
        ("Read", "Reads a file.", ("file_path",)),
        ("Write", "Writes a file.", ("file_path", "content")),
    )
]
_INSTRUCTIONS = (
    "\nYou help with work on software.\n\n" + "Keep to what was asked, and say what you did. " * 40
)
_REMINDER = (
    "<system-reminder>\nYou can use the following context:\n"
    "# currentDate\nToday's date is {date}.\n</system-reminder>\n"
)
_AGENTS = (
    "Kinds of helpers that can be asked:\n- any: for whatever is asked.\n"
    + "- one more kind of helper\n" * 20
)


def request(
    model: str,
    question: str,
    later: Sequence[Mapping[str, Any]] = (),
    *,
    attribution: str | None,
    session: str,
) -> dict[str, Any]:
    """A conversation's next request: its first question and what was said since. `attribution`: how the version in the
    first line ends; None: the line is not sent."""
    line = f"x-anthropic-billing-header: cc_version=2.1.197.{attribution}; cc_entrypoint=sdk-cli;"
    told = [{"type": "text", "text": line}] if attribution is not None else []
    first = [_text(_REMINDER.format(date="2026-11-26")), _text(question)]
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": first},
        {"role": "system", "content": _AGENTS},
        *json.loads(json.dumps(later)),
    ]
    newest = messages[-1] if later else messages[0]
    newest["content"][-1] |= CACHED
    return {
        "model": model,
        "messages": messages,
        "system": [
            *told,
            _text("You are an agent.") | CACHED,
            _text(_INSTRUCTIONS) | CACHED,
        ],
        "tools": TOOLS,
        "metadata": {
            "user_id": json.dumps({"device_id": "0" * 64, "account_uuid": "", "session_id": session})
        },
        "max_tokens": 32000,
        "thinking": {"type": "adaptive"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "output_config": {"effort": "high"},
        "stream": True,
    }


def results(content: Sequence[Mapping[str, Any]], text: str) -> list[dict[str, Any]]:
    """The answer as it is sent back, and the results of its calls."""
    blocks = [
        {"tool_use_id": block["id"], "type": "tool_result", "content": text, "is_error": False}
        for block in content
        if block["type"] == "tool_use"
    ]
    return [{"role": "assistant", "content": list(content)}, {"role": "user", "content": blocks}]


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}
