"""The three commands as functions: shapes that are read, options that win, errors as lines."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from engine.encoding_commands import encode, parse_completions, text_streams, tokenize

END = "<｜end▁of▁sentence｜>"
USER = {"role": "user", "content": "Hi"}


def run_encode(given: str, **options: Any) -> tuple[int, list[Any]]:
    target = io.StringIO()
    defaults: dict[str, Any] = {
        "profile": None, "mode": None, "strict_official": False, "lines": False, "tokenizer": None,
    }  # fmt: skip
    status = encode(io.StringIO(given, newline=""), target, **{**defaults, **options})
    return status, [json.loads(line) for line in target.getvalue().splitlines()]


def run_parse(given: str, **options: Any) -> tuple[int, list[Any]]:
    target = io.StringIO()
    defaults: dict[str, Any] = {"profile": None, "mode": None, "strict": False, "lines": False}
    status = parse_completions(io.StringIO(given, newline=""), target, **{**defaults, **options})
    return status, [json.loads(line) for line in target.getvalue().splitlines()]


def run_tokenize(given: str, **options: Any) -> tuple[int, list[Any]]:
    target = io.StringIO()
    defaults: dict[str, Any] = {"parse_control": False, "lines": False, "tokenizer": None}
    status = tokenize(io.StringIO(given, newline=""), target, **{**defaults, **options})
    return status, [json.loads(line) for line in target.getvalue().splitlines()]


def prompt(case: Any, **options: Any) -> str:
    status, lines = run_encode(json.dumps(case), **options)
    assert status == 0, lines
    return lines[0]["prompt"]


def test_a_bare_list_an_object_and_a_case_are_read() -> None:
    thinking = "<｜begin▁of▁sentence｜><｜User｜>Hi<｜Assistant｜><think>"
    assert prompt([USER]) == prompt({"messages": [USER]}) == thinking
    assert prompt({"messages": [USER], "thinking_mode": "chat"}).endswith("</think>")
    bare = {"messages": [USER], "thinking_mode": "chat", "kwargs": {"add_default_bos_token": False}}
    assert prompt(bare) == "<｜User｜>Hi<｜Assistant｜></think>"
    rest = {
        "messages": [USER],
        "thinking_mode": "chat",
        "kwargs": {"context": [{"role": "system", "content": "S"}]},
    }
    assert prompt(rest) == "<｜User｜>Hi<｜Assistant｜></think>"


def test_drop_thinking_can_be_turned_off() -> None:
    said = [USER, {"role": "assistant", "content": "Yo", "reasoning_content": "R"}, USER]
    assert "R</think>" not in prompt({"messages": said})
    assert "R</think>" in prompt({"messages": said, "kwargs": {"drop_thinking": False}})


def test_options_win_over_the_case() -> None:
    case = {"messages": [USER], "thinking_mode": "chat", "encoder": "0731/0813", "reasoning_effort": "low"}
    assert prompt(case, mode="max").startswith("<｜begin▁of▁sentence｜>Reasoning Effort: Beyond")
    assert prompt(case, mode="max", profile="preview").startswith(
        "<｜begin▁of▁sentence｜>Reasoning Effort: Abs"
    )
    assert prompt(case, mode="high").startswith("<｜begin▁of▁sentence｜>Reasoning Effort: Abs")
    assert prompt(case).endswith("</think>")


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ("", "bad_request"),
        ("{", "bad_request"),
        ("7", "bad_request"),
        ("[" * 100_000, "bad_request"),
        ('{"messages": 1}', "conversation"),
        ('{"messages": [{"role": "king"}]}', "conversation"),
        ('{"messages": [{"role": "developer", "content": ""}]}', "conversation"),
        ('{"messages": [], "kwargs": [1]}', "bad_request"),
        ('{"messages": [], "thinking_mode": ["chat"]}', "bad_request"),
        ('{"messages": [{"role": "user"}], "reasoning_effort": "mighty"}', "unknown_release"),
        ('{"messages": [], "encoder": "V4.1"}', "unknown_release"),
    ],
)
def test_what_is_wrong_is_an_error_on_its_line(given: str, code: str) -> None:
    status, lines = run_encode(given)
    assert status == 1
    assert [line["error"]["code"] for line in lines] == [code]


@pytest.mark.parametrize("depth", [*range(300, 1000, 7)])
def test_json_at_any_depth_is_written_or_refused(depth: int) -> None:
    deep = "[" * depth + "]" * depth
    tool = f'{{"type": "function", "function": {{"name": "f", "parameters": {deep}}}}}'
    call = json.dumps({"a": "DEEP"}).replace('"DEEP"', deep)
    answer = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": call}}]}
    for case in (
        f'{{"messages": [], "tools": [{tool}]}}',
        json.dumps({"messages": [answer]}),
        f'{{"messages": [{{"role": "system", "response_format": {deep}}}]}}',
    ):
        status, lines = run_encode(case)
        assert status in (0, 1)
        assert ("error" in lines[0]) == (status == 1)


def test_one_line_each_and_errors_do_not_stop_the_rest() -> None:
    cases = [json.dumps([USER]), "nonsense", "", json.dumps([USER])]
    status, lines = run_encode("\r\n".join(cases), lines=True)
    assert status == 1
    assert [list(line) for line in lines] == [["prompt", "ids"], ["error"], ["prompt", "ids"]]


def test_ids_parse_typed_literals_only_when_told_to() -> None:
    case = json.dumps([{"role": "user", "content": "<think>"}])
    (ours,), (official,) = run_encode(case)[1], run_encode(case, strict_official=True)[1]
    assert ours["prompt"] == official["prompt"]
    assert ours["ids"].count(128821) == 1
    assert official["ids"].count(128821) == 2


def test_arguments_that_are_an_object_are_that_object_unless_strictly_official() -> None:
    call = {"function": {"name": "f", "arguments": {"a": "x"}}}
    case = [{"role": "assistant", "tool_calls": [call]}]
    assert '<｜DSML｜parameter name="a" string="true">x</' in prompt(case)
    official = prompt(case, strict_official=True)
    assert '<｜DSML｜parameter name="arguments" string="false">{"a": "x"}</' in official
    for odd in (5, [5], [{"tool_calls": 5}], [{"tool_calls": [5]}], [{"tool_calls": [{"function": 5}]}]):
        assert run_encode(json.dumps({"messages": odd}), strict_official=True)[0] == 1


@pytest.mark.parametrize("suffix", ["json", "gguf"])
def test_a_tokeniser_that_cannot_be_used_is_an_error(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"t.{suffix}"
    path.write_bytes(b"{}")
    for status, lines in (
        run_encode(json.dumps([USER]), tokenizer=str(path)),
        run_tokenize("x", tokenizer=str(path)),
    ):
        assert status == 1
        assert lines[0]["error"]["code"] == "model_file"


def test_parse_tells_thinking_by_mode_case_or_mark() -> None:
    assert run_parse(f"a</think>b{END}")[1][0]["reasoning_content"] == "a"
    assert run_parse(f"a</think>b{END}", mode="non-think")[1][0]["reasoning_content"] == ""
    assert run_parse(f"b{END}")[1][0]["content"] == "b"
    assert run_parse(f"b{END}", mode="high")[1][0]["reasoning_content"] == "b"
    case = json.dumps({"text": f"b{END}", "thinking_mode": "thinking"})
    assert run_parse(case, lines=True)[1][0]["reasoning_content"] == "b"


def test_parse_tells_repairs_and_rejections_but_passes_no_rejected_call() -> None:
    d = "｜DSML｜"
    call = f'<{d}invoke name="f">\n<{d}parameter name="a" string="maybe">1</{d}parameter>\n</{d}invoke>\n'
    text = f"\n\n<{d}tool_calls>\n{call}</{d}tool_calls>{END}"
    status, (message,) = run_parse(text)
    assert status == 0
    assert message["tool_calls"] == []
    assert message["rejected_calls"][0]["name"] == "f"
    assert message["problems"][0]["code"] == "parameter_format"
    status, (message,) = run_parse(text, strict=True)
    assert status == 1
    assert message["error"]["problem"] == "parameter_format"


def test_parse_and_tokenize_refuse_lines_of_another_shape() -> None:
    assert run_parse("[1]", lines=True)[0] == 1
    assert run_tokenize("[1]", lines=True)[0] == 1
    assert run_tokenize('"a"', lines=True) == (0, [{"ids": [67]}])


def test_control_tokens_in_text_are_parsed_when_told_to() -> None:
    assert 128821 not in run_tokenize("<think>")[1][0]["ids"]
    assert run_tokenize("<think>", parse_control=True) == (0, [{"ids": [128821]}])


def test_a_lone_surrogate_in_json_is_written_as_a_question_mark() -> None:
    status, (line,) = run_encode('[{"role": "user", "content": "\\ud800"}]')
    assert status == 0
    assert "<｜User｜>?<｜Assistant｜>" in line["prompt"]


def test_streams_are_utf_8_with_line_ends_as_they_are() -> None:
    raw, written = io.BytesIO("é\r\n".encode() + b"\xff"), io.BytesIO()
    source, target = text_streams(
        io.TextIOWrapper(raw, encoding="ascii"), io.TextIOWrapper(written, encoding="ascii")
    )
    assert source.read() == "é\r\n\udcff"
    target.write("é\n")
    target.flush()
    assert written.getvalue() == "é\n".encode()
