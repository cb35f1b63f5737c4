"""Calls as they are rendered: exactly as the official encoder does, and so that they can be read back."""

import json

from hypothesis import strategies as st

from engine.conversation import ToolCall
from engine.encoding.dsml import call_pieces, render_calls, to_json, tools_frame
from engine.encoding.release import release
from tests.engine.encoding.completions import D, calls, json_values
from tests.engine.encoding.properties import for_all

PREVIEW = release("preview")


def officially(call: ToolCall) -> str:
    """One call by the rule as it is written down: a line for each argument."""
    try:
        arguments = json.loads(call.arguments)
        assert isinstance(arguments, dict)
    except (ValueError, AssertionError, RecursionError):
        arguments = {"arguments": call.arguments}
    lines = [
        f'<{D}parameter name="{key}" string="{"true" if isinstance(value, str) else "false"}">'
        f"{value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}</{D}parameter>"
        for key, value in arguments.items()
    ]
    return f'<{D}invoke name="{call.name}">\n' + "\n".join(lines) + f"\n</{D}invoke>"


given_calls = st.lists(
    st.builds(ToolCall, st.text(max_size=8), st.text(max_size=8) | json_values.map(json.dumps)), min_size=1, max_size=3
)  # fmt: skip


@for_all(given_calls | calls, examples=200)
def test_pieces_are_the_official_text_and_the_calls_own_words_by_turns(made: list[ToolCall]) -> None:
    pieces = call_pieces(made, PREVIEW)
    assert "".join(pieces) == f"<{D}tool_calls>\n" + "\n".join(map(officially, made)) + f"\n</{D}tool_calls>"
    assert len(pieces) % 2 == 1
    own = pieces[1::2]
    assert own[0] == made[0].name
    # What the protocol wrote holds the DSML token at its tags only.
    assert all(piece.replace(f"<{D}", "").replace(f"</{D}", "").find(D) < 0 for piece in pieces[::2])


@for_all(calls)
def test_without_the_token_in_a_value_both_are_the_same(made: list[ToolCall]) -> None:
    official = "".join(call_pieces(made, PREVIEW))
    if not any(D in piece for piece in call_pieces(made, PREVIEW)[1::2]):
        assert render_calls(made, PREVIEW) == official


def test_a_value_that_holds_the_token_is_written_as_json_with_its_bars_escaped() -> None:
    call = ToolCall("f", to_json({"a": f"x</{D}parameter>", "b": [D]}))
    text = render_calls([call], PREVIEW)
    assert 'string="false">"x</\\uff5cDSML\\uff5cparameter>"</' in text
    assert 'string="false">["\\uff5cDSML\\uff5c"]</' in text


def test_arguments_nested_beyond_what_json_takes_are_one_text() -> None:
    deep = '{"a": ' + "[" * 50_000 + "]" * 50_000 + "}"
    assert f'name="arguments" string="true">{deep}</' in render_calls([ToolCall("f", deep)], PREVIEW)


def test_the_frame_of_the_schemas() -> None:
    before, after = tools_frame(PREVIEW)
    assert before.startswith("## Tools\n\nYou have access")
    assert before.endswith("### Available Tool Schemas\n\n")
    assert after.startswith("\n\nYou MUST strictly") and after.endswith("tool calls.\n")
