"""Tool calls and their declaration, as DeepSeek-V4 reads and writes them.

Owns: rendering calls and tool schemas into DSML (V4.md 2.5; the checkpoint's encoding/encoding_dsv4.py), and
the tags by which calls are found again. Does not know conversations (`v4_prompt`) or how a completion is
parsed (`completion_parser`).

A call in DSML, ｜DSML｜ standing for one control token; the block is preceded by an empty line:

    <｜DSML｜tool_calls>
    <｜DSML｜invoke name="NAME">
    <｜DSML｜parameter name="KEY" string="true|false">VALUE</｜DSML｜parameter>
    </｜DSML｜invoke>
    </｜DSML｜tool_calls>

string="true": VALUE is the text itself, nothing escaped. string="false": VALUE is JSON.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from engine.conversation import ToolCall
from engine.encoding.release import Release


@dataclass(frozen=True)
class Tags:
    """The literals of a release's tags. Those that open end before their attributes."""

    calls: str
    calls_end: str
    invoke: str
    invoke_end: str
    parameter: str
    parameter_end: str

    @classmethod
    def of(cls, release: Release) -> "Tags":
        """The tags of `release`."""
        dsml, names = release.tokens.dsml, release.dsml
        return cls(
            calls=f"<{dsml}{names.calls}",
            calls_end=f"</{dsml}{names.calls}>",
            invoke=f"<{dsml}{names.invoke}",
            invoke_end=f"</{dsml}{names.invoke}",
            parameter=f"<{dsml}{names.parameter}",
            # The official parser looks for the end without its "<", which belongs to the value's pattern.
            parameter_end=f"/{dsml}{names.parameter}",
        )


def to_json(value: Any) -> str:
    """`value` as the official encoder writes JSON: ", " and ": ", nothing beyond ASCII escaped."""
    return json.dumps(value, ensure_ascii=False)


def render_calls(calls: Sequence[ToolCall], release: Release) -> str:
    """The block of `calls`, without the empty line before it, so that it can be read back.

    As the official encoder writes it, but for a value that holds the DSML token: it could end its parameter
    early, so it is written as JSON with the token's bars escaped.
    """
    dsml = release.tokens.dsml
    escaped = json.dumps(dsml)[1:-1]
    safe = [
        [(key, to_json(value).replace(dsml, escaped), False) if dsml in text else (key, text, is_text)
         for key, text, is_text, value in _parameters(call)]
        for call in calls
    ]  # fmt: skip
    return "".join(_pieces(calls, safe, Tags.of(release)))


def call_pieces(calls: Sequence[ToolCall], release: Release) -> list[str]:
    """The block of `calls` exactly as the official encoder writes it: its own text and a call's by turns.

    Pieces 0, 2, 4, … are the protocol's, in which literals are control tokens; 1, 3, 5, … are names, keys and
    values, in which they are text.
    """
    plain = [[(key, text, is_text) for key, text, is_text, _ in _parameters(call)] for call in calls]
    return _pieces(calls, plain, Tags.of(release))


def _pieces(
    calls: Sequence[ToolCall], parameters: Sequence[Sequence[tuple[str, str, bool]]], tags: Tags
) -> list[str]:
    pieces: list[str] = []
    between = f"{tags.calls}>\n"
    for call, mine in zip(calls, parameters, strict=True):
        pieces += [f'{between}{tags.invoke} name="', call.name]
        between = '">\n'
        for key, text, is_text in mine:
            kind = "true" if is_text else "false"
            pieces += [f'{between}{tags.parameter} name="', key, f'" string="{kind}">', text]
            between = f"<{tags.parameter_end}>\n"
        # Without parameters an empty line stands between the tags.
        between = f"{between if mine else between + chr(10)}{tags.invoke_end}>\n"
    return [*pieces, f"{between}{tags.calls_end}"]


def _parameters(call: ToolCall) -> list[tuple[str, str, bool, Any]]:
    """(key, what is written of its value, whether that is the text itself, the value) of each argument.

    What is no JSON object becomes the one parameter `arguments`.
    """
    try:
        arguments: Any = json.loads(call.arguments)
        if isinstance(arguments, dict):
            return [
                (key, value, True, value) if isinstance(value, str) else (key, to_json(value), False, value)
                for key, value in cast(dict[str, Any], arguments).items()
            ]
    except (ValueError, RecursionError):
        pass
    return [("arguments", call.arguments, True, call.arguments)]


def tools_frame(release: Release) -> tuple[str, str]:
    """What stands before and after the schemas in the declaration of tools; holds control literals.

    The wording is the protocol's: the model was trained on it.
    """
    tags, tokens, names = Tags.of(release), release.tokens, release.dsml
    think, think_end = tokens.think, tokens.think_end
    before = (
        "## Tools\n\nYou have access to a set of tools to help answer the user's question. "
        f'You can invoke tools by writing a "{tags.calls}>" block like the following:\n\n'
        f"{tags.calls}>\n"
        f'{tags.invoke} name="$TOOL_NAME">\n'
        f'{tags.parameter} name="$PARAMETER_NAME" string="true|false">$PARAMETER_VALUE'
        f"<{tags.parameter_end}>\n...\n"
        f"{tags.invoke_end}>\n"
        f'{tags.invoke} name="$TOOL_NAME2">\n...\n{tags.invoke_end}>\n'
        f"</{tokens.dsml}{names.calls}>\n\n"
        'String parameters should be specified as is and set `string="true"`. For all other types '
        '(numbers, booleans, arrays, objects), pass the value in JSON format and set `string="false"`.\n\n'
        f"If thinking_mode is enabled (triggered by {think}), you MUST output your complete reasoning inside "
        f"{think}...{think_end} BEFORE any tool calls or final response.\n\n"
        f"Otherwise, output directly after {think_end} with tool calls or final response.\n\n"
        "### Available Tool Schemas\n\n"
    )
    after = "\n\nYou MUST strictly follow the above defined tool name and parameter schemas to invoke tool calls.\n"
    return before, after
