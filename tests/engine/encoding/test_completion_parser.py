"""The parser of completions against the yardstick, in any pieces, and case by case where it repairs."""

import itertools
import json
import random
import time
from typing import Any

import pytest
from hypothesis import example
from hypothesis import strategies as st

from engine.encoding.completion import (
    AnswerText,
    CallText,
    Completion,
    MalformedCompletion,
    ParsedCall,
    ParseEvent,
    ReasoningEnd,
    ReasoningText,
)
from engine.encoding.completion_parser import CompletionParser, parse
from engine.encoding.detokenizer import Detokenizer
from engine.encoding.dsml import render_calls
from engine.encoding.tokenizer import official_tokenizer
from engine.encoding.tool_schemas import check_calls
from tests.engine.encoding import vectors
from tests.engine.encoding.completions import (
    END,
    PIECES,
    RELEASE,
    THINK_END,
    D,
    calls,
    completions,
    random_soup,
    split,
    valid,
)
from tests.engine.encoding.properties import for_all, fuzz
from tests.engine.encoding.strict_grammar import Rejected, parse_strictly


def official_shape(completion: Completion) -> dict[str, Any]:
    return {
        "role": "assistant",
        "content": completion.text,
        "reasoning_content": completion.reasoning,
        "tool_calls": [
            {"type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in completion.calls
        ],
    }


def strictly(text: str, *, thinking: bool) -> dict[str, Any] | None:
    """What the program's parser makes of `text` when it is strict; None for a rejection."""
    try:
        return official_shape(parse(text, RELEASE, thinking=thinking, strict=True))
    except MalformedCompletion:
        return None


def yardstick(text: str, *, thinking: bool) -> dict[str, Any] | None:
    try:
        return parse_strictly(text, thinking=thinking)
    except Rejected:
        return None


def in_pieces(pieces: list[str], *, thinking: bool) -> tuple[Completion, list[ParseEvent]]:
    parser = CompletionParser(RELEASE, thinking=thinking)
    events = [event for piece in pieces for event in parser.feed(piece)]
    completion = parser.finish()
    return completion, events + parser.take_events()


def told(events: list[ParseEvent]) -> tuple[str, str, list[tuple[str, str]]]:
    """(reasoning, text, calls) as somebody knows them who has only heard the events."""
    heard: dict[int, list[CallText]] = {}
    for event in events:
        if isinstance(event, CallText):
            heard.setdefault(event.index, []).append(event)
    assert list(heard) == list(range(len(heard)))
    return (
        "".join(event.text for event in events if isinstance(event, ReasoningText)),
        "".join(event.text for event in events if isinstance(event, AnswerText)),
        [(pieces[0].name, "".join(piece.arguments for piece in pieces)) for pieces in heard.values()],
    )


# --- the official parser --------------------------------------------------------------------------------


@vectors.needs_vectors
def test_the_golden_completions_are_read_and_rejected_one_for_one() -> None:
    cases = vectors.golden("parse_cases.json")
    assert cases
    for case in cases:
        thinking = case["thinking_mode"] == "thinking"
        assert strictly(case["text"], thinking=thinking) == case.get("result"), case["name"]
        assert ("error" in case) == ("result" not in case)


def test_every_completion_has_its_stored_digest() -> None:
    for case in vectors.stored()["parse"]:
        read = strictly(case["text"], thinking=case["thinking_mode"] == "thinking")
        assert vectors.result_digest(read) == case["result_sha256"], case["name"]


@pytest.mark.slow
@for_all(completions, examples=600)
@example((f"\n\n<{D}tool_calls", False))
@example((f"\n\n<{D}tool_calls>\n", False))
@example((f'\n\n<{D}tool_calls>\n<{D}invoke name="a">\n', False))
@example((f'\n\n<{D}tool_calls>\n<{D}invoke name="a">\n\n', False))
@example((f'\n\n<{D}tool_calls>\n<{D}invoke name="a">\n</{D}invoke>\n</{D}tool_calls>{END}{END}', False))
@example((f'\n\n<{D}tool_calls>\n<{D}invoke name="a">\n<{D}parameter name=" string="true">x" string="true">'
          f"v</{D}parameter>\n", False))  # fmt: skip
@example((f'\n\n<{D}tool_calls>\n<{D}invoke name="a">\n<{D}parameter name="b" string="true">v<\n/{D}parameter>\n',
          False))  # fmt: skip
@example((f"a\n\n<{D}tool_calls>b{THINK_END}c{END}", True))
@example((f"a{END}b{THINK_END}c{END}", True))
@example((f"\n\n\n<{D}tool_calls>\n", False))
def test_verdict_and_result_are_the_yardsticks(case: tuple[str, bool]) -> None:
    text, thinking = case
    expected = yardstick(text, thinking=thinking)
    assert strictly(text, thinking=thinking) == expected
    completion = parse(text, RELEASE, thinking=thinking)
    assert (not completion.problems) == (expected is not None)
    if expected is not None:
        assert official_shape(completion) == expected
        assert all(call.status == "exact" or call.status == "rejected" for call in completion.calls)


@for_all(valid())
def test_what_is_written_well_is_accepted(case: tuple[str, bool]) -> None:
    text, thinking = case
    marks = (RELEASE.tokens.begin, END, RELEASE.tokens.think, THINK_END, D)
    said = yardstick(text, thinking=thinking)
    if said is None:  # its plain text happened to hold a mark
        assert any(mark in text for mark in marks)


# --- any pieces -----------------------------------------------------------------------------------------


@pytest.mark.slow
@for_all(completions, st.lists(st.integers(0, 10_000), max_size=12), examples=300)
def test_in_pieces_it_reads_what_it_reads_whole(case: tuple[str, bool], cuts: list[int]) -> None:
    text, thinking = case
    whole = parse(text, RELEASE, thinking=thinking)
    for pieces in (split(text, cuts), list(text)):
        completion, events = in_pieces(pieces, thinking=thinking)
        assert completion == whole
        reasoning, answer, heard = told(events)
        assert reasoning == completion.reasoning
        assert answer == completion.text
        assert heard == [(call.name, call.arguments) for call in completion.calls]
        ends = [event for event in events if isinstance(event, ReasoningEnd)]
        assert len(ends) == (1 if thinking and not parser_thinks(pieces) else 0)


def parser_thinks(pieces: list[str]) -> bool:
    parser = CompletionParser(RELEASE, thinking=True)
    for piece in pieces:
        parser.feed(piece)
    parser.finish()
    return parser.is_reasoning


@for_all(completions)
def test_no_call_that_may_be_carried_out_holds_anything_but_a_json_object(case: tuple[str, bool]) -> None:
    text, thinking = case
    for call in parse(text, RELEASE, thinking=thinking).usable_calls:
        assert isinstance(json.loads(call.arguments), dict)


@for_all(completions)
def test_a_call_in_the_reasoning_is_never_carried_out(case: tuple[str, bool]) -> None:
    completion = parse(case[0].replace(THINK_END, ""), RELEASE, thinking=True)
    assert completion.usable_calls == []


@for_all(calls, st.lists(st.integers(0, 10_000), max_size=6))
def test_calls_that_were_rendered_are_read_back(made: list[Any], cuts: list[int]) -> None:
    text = f"\n\n{render_calls(made, RELEASE)}{END}"
    completion, _ = in_pieces(split(text, cuts), thinking=False)
    assert completion.problems == ()
    assert [call.status for call in completion.calls] == ["exact"] * len(made)
    assert [call.name for call in completion.calls] == [call.name for call in made]
    for read, call in zip(completion.calls, made, strict=True):
        assert json.loads(read.arguments) == json.loads(call.arguments)


# --- repairs and rejections -----------------------------------------------------------------------------


def block(*lines: str, end: str = f"</{D}tool_calls>{END}") -> str:
    return f"\n\n<{D}tool_calls>\n" + "".join(f"{line}\n" for line in lines) + end


def param(key: str, value: str, kind: str = "true") -> str:
    return f'<{D}parameter name="{key}" string="{kind}">{value}</{D}parameter>'


OPEN, CLOSE = f'<{D}invoke name="f">', f"</{D}invoke>"


def one_call(text: str, *, thinking: bool = False) -> tuple[ParsedCall, list[str]]:
    completion = parse(text, RELEASE, thinking=thinking)
    assert len(completion.calls) == 1
    return completion.calls[0], [problem.code for problem in completion.problems]


@pytest.mark.parametrize(
    ("text", "arguments", "code"),
    [
        (block(OPEN, param("a", "1"), CLOSE, end=""), '{"a": "1"}', "call_format"),
        (block(OPEN, param("a", "1"), CLOSE) + "\n", '{"a": "1"}', "text_after_end"),
        (block(OPEN, param("a", "1"), CLOSE).replace(END, " Done." + END), '{"a": "1"}', "text_after_calls"),
        (block(OPEN, param("a", "1"), param("a", "1"), CLOSE), '{"a": "1"}', "duplicate_parameter"),
        (block(OPEN, param("a", "1", "FALSE"), CLOSE), '{"a": 1}', "parameter_format"),
        (block(OPEN, param("a", "1").replace('string="true"', "string=true"), CLOSE), '{"a": "1"}', "parameter_format"),
        (block(OPEN + param("a", "1"), CLOSE).replace("\n<", "<", 1), '{"a": "1"}', "call_name"),
        (block(f"<{D}invoke name='f'>", param("a", "1"), CLOSE), '{"a": "1"}', "call_name"),
        (block(OPEN, param("a", "1") + param("b", "2"), CLOSE), '{"a": "1", "b": "2"}', "parameter_format"),
        (block(OPEN, param("a", "1"), CLOSE).lstrip(), '{"a": "1"}', "call_format"),
    ],
)  # fmt: skip
def test_a_slip_that_leaves_one_meaning_is_repaired(text: str, arguments: str, code: str) -> None:
    completion = parse(text, RELEASE, thinking=False)
    (call,) = completion.calls
    assert call.arguments == arguments
    assert call.status in ("repaired", "exact"), call.problem
    assert code in [problem.code for problem in completion.problems]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (block(OPEN, param("a", "1"), end=END), "parameter_format"),
        (block(OPEN, f'<{D}parameter name="a" string="true">1', end=""), "parameter_format"),
        (block(OPEN, param("a", "1"), param("a", "2"), CLOSE), "duplicate_parameter"),
        (block(OPEN, param("a", "1"), param("a", "1", "false"), CLOSE), "duplicate_parameter"),
        (block(OPEN, param("a", "1", "maybe"), CLOSE), "parameter_format"),
        (block(OPEN, param("a", "{1", "false"), CLOSE), None),
        (block(OPEN, param("a", "NaN", "false"), CLOSE), None),
        (block(OPEN, param("a", "", "false"), CLOSE), None),
        (block(OPEN, param("a", '1, "b": 2', "false"), CLOSE), None),
        (block(OPEN, param("a", '1, "a": 2', "false"), CLOSE), None),
        (block(OPEN, param("a", "1"), "and then", param("b", "2"), CLOSE), "parameter_format"),
        (block(f"<{D}invoke>", param("a", "1"), CLOSE), "call_name"),
        (block(f'<{D}invoke name="f" >', f'<{D}parameter name=a>1</{D}parameter>', CLOSE), "call_name"),
    ],
)  # fmt: skip
def test_what_may_have_been_meant_otherwise_is_rejected(text: str, code: str | None) -> None:
    call, codes = one_call(text)
    assert call.status == "rejected"
    assert call.problem
    if code is not None:
        assert code in codes


def test_a_call_before_the_reasonings_end_is_rejected_and_the_reasoning_goes_on() -> None:
    text = f"so{block(OPEN, param('a', '1'), CLOSE, end=f'</{D}tool_calls>')}on{THINK_END}Hi{END}"
    completion = parse(text, RELEASE, thinking=True)
    assert (completion.reasoning, completion.text) == ("soon", "Hi")
    assert completion.usable_calls == []
    assert "</think>" in (completion.calls[0].problem or "")


def test_a_second_block_is_a_repair_and_told() -> None:
    first = block(OPEN, CLOSE, end=f"</{D}tool_calls>")
    completion = parse(first + block(f'<{D}invoke name="g">', CLOSE), RELEASE, thinking=False)
    assert [(call.name, call.status) for call in completion.calls] == [("f", "exact"), ("g", "repaired")]
    assert [problem.code for problem in completion.problems] == ["text_after_calls"]


def test_numbers_of_any_size_are_json() -> None:
    call, codes = one_call(block(OPEN, param("a", "9" * 10_000, "false"), CLOSE))
    assert (call.status, codes) == ("exact", [])


def test_what_the_window_may_ask_while_it_streams() -> None:
    parser = CompletionParser(RELEASE, thinking=True)
    assert (parser.is_reasoning, parser.is_in_call, parser.has_calls) == (True, False, False)
    parser.feed(f"hm{THINK_END}")
    assert not parser.is_reasoning
    parser.feed(f"\n\n<{D}tool_calls>\n{OPEN}\n<{D}par")
    assert parser.is_in_call and not parser.has_calls
    events = parser.feed('ameter name="city" string="true">Par')
    assert "".join(event.arguments for event in events if isinstance(event, CallText)) == '{"city": "Par'
    assert parser.has_calls


# --- time and fuzz --------------------------------------------------------------------------------------

HOSTILE = {
    "a letter": "a",
    "angle brackets": "<",
    "line breaks": "\n\n",
    "open tags": f"<{D}parameter",
    "thoughts": "<think>",
    "ends": END,
    "spaces": " ",
    "attributes": '" string="true">',
    "calls": f"\n\n<{D}tool_calls>\n",
    "ends of calls": f"</{D}tool_calls>",
    "parameters": param("a", "1") + "\n",
    "names": f'<{D}invoke name="x">\n',
    "beginnings": f"<{D}tool_call",
    "brackets": "[",
    "digits": "9",
    "quotes": '"',
    "slashes": "/",
}
BEGINNINGS = {
    "nothing": "",
    "a block": f"\n\n<{D}tool_calls>\n",
    "a name": f"\n\n<{D}tool_calls>\n<{D}invoke name=",
    "a parameter": f"\n\n<{D}tool_calls>\n{OPEN}\n<{D}parameter",
    "a parameter's odd name": f'\n\n<{D}tool_calls>\n{OPEN}\n<{D}parameter name=" string="true">',
    "a parameter's loose name": f"\n\n<{D}tool_calls>\n{OPEN}\n<{D}parameter  name =",
    "a text value": f'\n\n<{D}tool_calls>\n{OPEN}\n<{D}parameter name="a" string="true">',
    "a json value": f'\n\n<{D}tool_calls>\n{OPEN}\n<{D}parameter name="a" string="false">',
    "after a parameter": f"\n\n<{D}tool_calls>\n{OPEN}\n{param('a', '1')}",
}
ENDINGS = ("", f"</{D}parameter>\n</{D}invoke>\n</{D}tool_calls>{END}", f'x"{CLOSE}')


def processor_seconds(text: str, *, pieces: int) -> float:
    """Processor time of one reading; other work on the machine counts little."""
    parser = CompletionParser(RELEASE, thinking=False)
    began = time.process_time()
    for start in range(0, len(text), pieces):
        parser.feed(text[start : start + pieces])
    parser.finish()
    return time.process_time() - began


@pytest.mark.slow
@pytest.mark.parametrize("begun", BEGINNINGS)
@pytest.mark.parametrize("pieces", [1 << 30, 7], ids=["whole", "in pieces"])
def test_time_grows_with_length_and_no_faster(begun: str, pieces: int) -> None:
    """Eight times the text may take twenty times as long, where quadratic time would be sixty-four."""
    length = 32_000 if pieces == 7 else 160_000
    for (name, unit), ending in itertools.product(HOSTILE.items(), ENDINGS if pieces > 7 else ENDINGS[:1]):
        small, large = (
            BEGINNINGS[begun] + unit * (size // len(unit)) + ending for size in (length // 8, length)
        )
        slow = processor_seconds(large, pieces=pieces)
        if slow < 0.1:  # quadratic time at this length is far more
            continue
        quick = min(processor_seconds(small, pieces=pieces) for _ in range(3))
        slow = min(slow, processor_seconds(large, pieces=pieces))
        assert slow < 20 * quick, f"{begun}, {name}, {ending!r}: {quick:.4f} s, then {slow:.4f} s"


@pytest.mark.slow
def test_a_megabyte_of_anything_is_read() -> None:
    for unit in HOSTILE.values():
        text = unit * (1_000_000 // len(unit))
        completion = parse(text, RELEASE, thinking=True)
        assert completion.problems
        assert len(completion.reasoning) <= len(text)


def one_soup(seed: int) -> None:
    random_ = random.Random(seed)
    text, thinking = random_soup(random_, 80), random_.random() < 0.5
    whole = parse(text, RELEASE, thinking=thinking)
    cuts = [random_.randrange(10_000) for _ in range(random_.randint(0, 20))]
    completion, events = in_pieces(split(text, cuts), thinking=thinking)
    assert completion == whole
    assert told(events)[:2] == (whole.reasoning, whole.text)
    assert strictly(text, thinking=thinking) == yardstick(text, thinking=thinking)


def test_random_soups_raise_nothing_and_are_read_alike() -> None:
    fuzz("completions", one_soup, rounds=1500)


def one_token_stream(seed: int) -> None:
    """Any tokens, control tokens and pieces of the grammar among them, as a model would write them."""
    random_, tokenizer = random.Random(seed), official_tokenizer()
    marks = sorted(tokenizer.control[literal] for literal in RELEASE.tokens.literals())
    ids: list[int] = []
    for _ in range(random_.randint(0, 60)):
        kind = random_.random()
        if kind < 0.4:
            ids += tokenizer.encode_parsing(random_.choice(PIECES))
        elif kind < 0.6:
            ids.append(random_.choice(marks))
        else:
            ids.append(random_.randrange(tokenizer.vocabulary_size))
    detokenizer, thinking = Detokenizer(tokenizer.token_bytes), random_.random() < 0.5
    pieces = [*map(detokenizer.feed, ids), detokenizer.flush()]
    completion, events = in_pieces(pieces, thinking=thinking)
    assert completion == parse("".join(pieces), RELEASE, thinking=thinking)
    assert told(events)[:2] == (completion.reasoning, completion.text)
    check_calls(completion.calls, [{"name": "a", "parameters": {"type": "object"}}])


@pytest.mark.slow
def test_random_token_streams_raise_nothing_and_are_read_alike() -> None:
    fuzz("token streams", one_token_stream, rounds=500)
