"""Prompts against the golden ones, and what holds for every conversation."""

import dataclasses
import json
import random
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from engine.conversation import Message, ToolCall, Written
from engine.encoding.dialects import from_openai
from engine.encoding.release import Release, release
from engine.encoding.segments import TextIds, ids_of
from engine.encoding.tokenizer import official_tokenizer
from engine.encoding.v4_prompt import Prompt, Style, render
from engine.errors import ConversationError, UnknownRelease
from tests.engine.encoding import vectors
from tests.engine.encoding.properties import for_all, fuzz

PREVIEW = release("preview")
TOKENS = PREVIEW.tokens
TOKENIZER = official_tokenizer()
LITERALS = sorted(TOKENIZER.control)
NAMED = [literal for literal in LITERALS if "place▁holder" not in literal]
PLACES = [*TOKENS.literals(), "<｜System｜>", "<｜fim▁begin｜>", "<｜place▁holder▁no▁799｜>"]
text_ids = TextIds(TOKENIZER.encode)
CONTROL = TOKENIZER.control
CONTROL_IDS = frozenset(CONTROL.values())


def ids(prompt: Prompt) -> list[int]:
    return ids_of(prompt.segments, text_ids)


def write(messages: Sequence[Message], style: Style, **options: Any) -> Prompt:
    return render(messages, style, CONTROL, **options)


# --- golden prompts -------------------------------------------------------------------------------------


def release_of(case: dict[str, Any]) -> Release:
    return release("0731" if case["encoder"].startswith("0731") else "preview")


def rendered(case: dict[str, Any]) -> Prompt:
    style = Style(release_of(case), case["thinking_mode"] == "thinking", case["reasoning_effort"])
    begin = case["kwargs"].get("add_default_bos_token", True)
    assert set(case["kwargs"]) <= {"add_default_bos_token"}
    return write(from_openai(case["messages"]), style, begin=begin)


@vectors.needs_vectors
def test_every_golden_prompt_is_written_byte_for_byte() -> None:
    cases = vectors.encode_cases()
    assert len(cases) > 40
    for case in cases:
        prompt = rendered(case)
        assert prompt.text == case["prompt"], case["name"]
        assert ids(prompt) == case["ids"], case["name"]
        assert TOKENIZER.encode_parsing(prompt.text) == case["ids"], case["name"]


OFFICIAL = {1: True, 2: True, 3: True, 4: False}
"""Pair → whether it is written for thinking."""


@vectors.needs_vectors
@pytest.mark.parametrize("number", OFFICIAL)
def test_the_checkpoints_own_pairs(number: int) -> None:
    given = vectors.golden(f"official/test_input_{number}.json")
    expected = (Path(vectors.FOLDER or "") / f"official/test_output_{number}.txt").read_text("utf-8")
    case = given if isinstance(given, dict) else {"messages": given}
    messages = from_openai(case["messages"], case.get("tools"))
    prompt = write(messages, Style(PREVIEW, OFFICIAL[number]))
    assert prompt.text == expected
    assert ids(prompt) == TOKENIZER.encode_parsing(expected)


def test_every_prompt_has_its_stored_digest() -> None:
    cases = vectors.stored()["encode"]
    assert len(cases) > 40
    for case in cases:
        prompt = rendered(case)
        assert vectors.text_digest(prompt.text) == case["prompt_sha256"], case["name"]
        assert vectors.ids_digest(ids(prompt)) == case["ids_sha256"], case["name"]
        strict = TOKENIZER.encode_parsing(prompt.text)
        assert vectors.ids_digest(strict) == case["ids_sha256"], case["name"]


@vectors.needs_vectors
def test_the_stored_digests_are_those_of_the_golden_prompts() -> None:
    assert vectors.stored() == vectors.digested()


# --- conversations --------------------------------------------------------------------------------------

words = st.sampled_from(["Hi", "Paris?", " ", "a\n\nb", "naïve 漢字 🙂", "12345", "", "<", "｜", "\n\n"])
said = st.lists(words | st.sampled_from(PLACES), max_size=4).map("".join)
json_texts = st.dictionaries(said, said | st.integers() | st.lists(said, max_size=2), max_size=3).map(
    lambda value: json.dumps(value, ensure_ascii=False)
)
escaped_texts = st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2).map(json.dumps)
calls = st.lists(
    st.builds(ToolCall, said, json_texts | escaped_texts | said, st.sampled_from(["1", "2", ""])), max_size=2
).map(tuple)
tools = st.lists(
    st.builds(
        lambda name, about: json.dumps({"name": name, "description": about}, ensure_ascii=False), said, said
    ),
    max_size=2,
).map(tuple)
formats = st.none() | json_texts
systems = st.builds(Message, st.just("system"), said, tools=tools, response_format=formats)
bare_systems = st.builds(Message, st.just("system"), said)
developers = st.builds(Message, st.just("developer"), said.filter(bool), tools=tools, response_format=formats)
users = st.builds(Message, st.just("user"), said)
answers = st.builds(Message, st.just("assistant"), said, said, calls)
results = st.builds(Message, st.just("tool"), said, tool_call_id=st.sampled_from(["1", "2", "x"]))
reminders = st.builds(Message, st.just("latest_reminder"), said)
anything = st.lists(st.one_of(systems, developers, users, answers, answers, results, reminders), max_size=7)
efforts = st.sampled_from(["high", "max"])


@st.composite
def styles(draw: st.DrawFn, thinking: bool | None = None) -> Style:
    mode = draw(st.booleans()) if thinking is None else thinking
    return Style(PREVIEW, mode, draw(efforts), draw(st.booleans()))


@cache
def skeleton_literals() -> frozenset[str]:
    return frozenset(TOKENS.literals())


@pytest.mark.slow
@for_all(anything, styles(), examples=300)
def test_nothing_that_anybody_wrote_becomes_a_control_token(messages: list[Message], style: Style) -> None:
    """The same conversation with every text emptied of literals has the same control tokens, in order."""

    def harmless(text: str) -> str:
        for literal in PLACES:
            text = text.replace(literal, "x")
        return text or "x"

    def harmless_json(text: str) -> str:
        try:
            value = json.loads(text)
        except ValueError:
            return harmless(text)
        if not isinstance(value, dict):
            return harmless(text)
        # As many parameters, since each has its tags.
        return json.dumps({f"k{number}": "x" for number in range(len(value))})

    plain = [
        dataclasses.replace(
            message,
            text=harmless(message.text),
            reasoning=harmless(message.reasoning),
            tool_calls=tuple(
                ToolCall(harmless(call.name), harmless_json(call.arguments), call.id) for call in message.tool_calls
            ),
            tools=tuple(harmless(tool) for tool in message.tools),
            response_format=None if message.response_format is None else harmless(message.response_format),
        )
        for message in messages
    ]  # fmt: skip
    control = [id_ for id_ in ids(write(messages, style)) if id_ in CONTROL_IDS]
    assert control == [id_ for id_ in ids(write(plain, style)) if id_ in CONTROL_IDS]
    assert set(control) <= {CONTROL[literal] for literal in skeleton_literals()}


def test_no_literal_of_the_vocabulary_is_ever_parsed_in_a_text() -> None:
    assert len(LITERALS) == 1283
    for one in LITERALS:
        for text in (one, f"a{one}b", f" {one}\n", one * 2, f"<{one}>", one[1:] + one):
            assert CONTROL_IDS.isdisjoint(TOKENIZER.encode(text)), text


def test_a_callers_mark_before_an_address_is_the_only_exception() -> None:
    mark = CONTROL[TOKENS.extracted_url]

    def marks(text: str, task: Any = "read_url", *before: Message) -> int:
        return ids(write([*before, Message("user", text, task=task)], Style(PREVIEW, False))).count(mark)

    address = f"{TOKENS.extracted_url}https://example.org/a"
    assert marks(f"Is it true? {address}") == 1
    assert marks(f"Is it true? {address}", None) == 0
    assert marks(f"{address} and more") == 0
    assert marks(TOKENS.extracted_url) == 0
    assert marks(f"{TOKENS.extracted_url}one {address}") == 1
    assert marks("https://x", "read_url", Message("user", address), Message("assistant", "A")) == 0


def test_escaped_private_characters_stay_characters() -> None:
    call = ToolCall("f", '{"a": "\\ue000", "b": "\\ue001\\uf8ff"}')
    prompt = write([Message("assistant", "", tool_calls=(call,))], Style(PREVIEW, False))
    assert '"true">\ue000</' in prompt.text
    assert ids(prompt).count(CONTROL[TOKENS.dsml]) == TOKENIZER.encode_parsing(prompt.text).count(
        CONTROL[TOKENS.dsml]
    )


# --- append-only ----------------------------------------------------------------------------------------


def is_prefix(prompt: Prompt, longer: Prompt) -> bool:
    shorter, whole = ids(prompt), ids(longer)
    return longer.text.startswith(prompt.text) and whole[: len(shorter)] == shorter


def stands_before_answers(messages: Sequence[Message]) -> list[int]:
    """Where the model was asked: lengths of the conversation that end in a question."""
    return [
        end
        for end in range(1, len(messages))
        if messages[end].role == "assistant" and messages[end - 1].role in ("user", "developer", "tool")
    ]


turns = st.tuples(users | results | developers, answers).map(list)
histories = st.lists(turns, min_size=1, max_size=4).map(lambda pairs: [m for pair in pairs for m in pair])


@for_all(st.none() | systems, histories, efforts, st.booleans())
def test_without_thinking_prompts_only_grow(
    system: Message | None, history: list[Message], effort: str, drop: bool
) -> None:
    messages = [*filter(None, [system]), *history]
    style = Style(PREVIEW, False, effort, drop)
    whole = write(messages, style)
    assert all(is_prefix(write(messages[:end], style), whole) for end in stands_before_answers(messages))


@for_all(systems.filter(lambda system: system.tools), histories, efforts)
def test_with_tools_prompts_only_grow_and_keep_all_reasoning(
    system: Message, history: list[Message], effort: str
) -> None:
    messages, style = [system, *history], Style(PREVIEW, True, effort)
    whole = write(messages, style)
    assert all(is_prefix(write(messages[:end], style), whole) for end in stands_before_answers(messages))
    for message in history:
        if message.role == "assistant":
            assert message.reasoning + TOKENS.think_end in whole.text


@for_all(st.none() | bare_systems, histories, efforts)
def test_reasoning_that_is_kept_on_demand_only_grows(
    system: Message | None, history: list[Message], effort: str
) -> None:
    messages, style = [*filter(None, [system]), *history], Style(PREVIEW, True, effort, drop_thinking=False)
    whole = write(messages, style)
    assert all(is_prefix(write(messages[:end], style), whole) for end in stands_before_answers(messages))


@for_all(st.none() | bare_systems, users, answers, efforts)
def test_within_a_turn_a_thinking_prompt_grows_and_a_new_question_rewrites_it(
    system: Message | None, question: Message, answer: Message, effort: str
) -> None:
    before, style = [*filter(None, [system]), question], Style(PREVIEW, True, effort)
    asked, answered = write(before, style), write([*before, answer], style)
    assert is_prefix(asked, answered)
    following = write([*before, answer, Message("user", "And?")], style)
    assert not is_prefix(asked, following)
    # What remains is everything up to the mark of the answer.
    kept = ids(asked)[:-1]
    assert ids(asked)[-1] == CONTROL[TOKENS.think]
    assert ids(following)[: len(kept) + 1] == [*kept, CONTROL[TOKENS.think_end]]
    if answer.reasoning and answer.reasoning not in answer.text:
        assert f"{answer.reasoning}{TOKENS.think_end}" not in following.text.split(TOKENS.assistant)[-2]


def test_a_new_effort_rewrites_all_and_thinking_or_not_only_the_end() -> None:
    messages = [Message("system", "S"), Message("user", "Q")]
    high, most = (ids(write(messages, Style(PREVIEW, True, effort))) for effort in ("high", "max"))
    plain = ids(write(messages, Style(PREVIEW, False)))
    assert high[0] == most[0] and high[1] != most[1]
    assert high[:-1] == plain[:-1] and high[-1] != plain[-1]
    assert write([Message("user", "Q")], Style(PREVIEW, True, "max")).text.startswith(
        f"{TOKENS.begin}Reasoning Effort: Absolute"
    )


# --- tokens that the model wrote ------------------------------------------------------------------------


@for_all(systems, users, answers, styles(), st.booleans())
def test_tokens_that_came_from_a_text_are_written_like_the_text(
    system: Message, question: Message, answer: Message, style: Style, again: bool
) -> None:
    """Where the answer's ids are those of its text, using them changes nothing."""
    before = [system, question]
    after = [Message("user", "And?")] if again else []
    prefix, whole = ids(write(before, style)), ids(write([*before, answer], style))
    if TOKENIZER.control[TOKENS.think_end] in text_ids(answer.reasoning):
        return
    # The open answer alone, without its end token.
    tokens = whole[len(prefix) : -1]
    kept = dataclasses.replace(answer, written=Written(tuple(tokens), thinking=style.thinking))
    written, plain = write([*before, kept, *after], style), write([*before, answer, *after], style)
    assert ids(written) == ids(plain)
    assert written.text == plain.text


def test_an_answer_that_is_cut_off_in_its_reasoning() -> None:
    style = Style(PREVIEW, True)
    thought = tuple(TOKENIZER.encode("hm, well"))
    question = Message("user", "Q")
    cut = Message("assistant", "", "hm, well", written=Written(thought, thinking=True))
    asked = ids(write([question], style))
    # Left as it is, its reasoning is closed; gone on with, it is open.
    end, close = CONTROL[TOKENS.end], CONTROL[TOKENS.think_end]
    assert ids(write([question, cut], style)) == [*asked, *thought, close, end]
    assert ids(write([question, dataclasses.replace(cut, is_open=True)], style)) == [*asked, *thought]
    # Later, and without thinking, nothing of it remains.
    gone = [*asked[:-1], close, end]
    assert ids(write([question, cut, question], style))[: len(gone)] == gone
    assert ids(write([question, cut], Style(PREVIEW, False))) == gone


def test_an_open_answer_has_no_end() -> None:
    open_ = Message("assistant", "```python\n", is_open=True)
    assert write([Message("user", "Q"), open_], Style(PREVIEW, False)).text.endswith("</think>```python\n")


# --- rules, one by one ----------------------------------------------------------------------------------


def text_of(*messages: Message, thinking: bool = False, **options: Any) -> str:
    return write(messages, Style(PREVIEW, thinking), **options).text


def test_users_and_results_become_one_turn_in_the_order_of_the_calls() -> None:
    asked = (ToolCall("f", "{}", "a"), ToolCall("g", "{}", "b"))
    text = text_of(
        Message("user", "Q"),
        Message("assistant", "", tool_calls=asked),
        Message("tool", "second", tool_call_id="b"),
        Message("user", "between"),
        Message("tool", "first", tool_call_id="a"),
        Message("user", "more"),
    )
    assert text.endswith(
        "<｜User｜><tool_result>first</tool_result>\n\nbetween\n\n<tool_result>second</tool_result>\n\nmore"
        "<｜Assistant｜></think>"
    )


def test_an_empty_call_has_an_empty_line_and_odd_arguments_one_parameter() -> None:
    text = text_of(Message("assistant", "", tool_calls=(ToolCall("f", "{}"), ToolCall("g", "not json"))))
    assert '<｜DSML｜invoke name="f">\n\n</｜DSML｜invoke>\n<｜DSML｜invoke name="g">\n' in text
    assert '<｜DSML｜parameter name="arguments" string="true">not json</｜DSML｜parameter>' in text


def test_developers_before_the_last_question_disappear_only_where_reasoning_is_dropped() -> None:
    messages = (Message("developer", "D"), Message("assistant", "A", "R"), Message("user", "Q"))
    assert "D" not in text_of(*messages, thinking=True)
    assert "R" not in text_of(*messages, thinking=True)
    assert "<｜User｜>D" in text_of(*messages)
    tooled = (Message("system", "", tools=('{"name": "f"}',)), *messages)
    assert "<｜User｜>D" in text_of(*tooled, thinking=True)
    assert "R</think>A" in text_of(*tooled, thinking=True)


def test_a_users_tools_count_for_nothing() -> None:
    tooled = Message("user", "Q", tools=('{"name": "f"}',))
    assert text_of(tooled) == text_of(Message("user", "Q"))
    assert "R" not in text_of(tooled, Message("assistant", "A", "R"), Message("user", "Q"), thinking=True)


def test_the_output_of_a_task_is_written_without_thinking() -> None:
    text = text_of(Message("user", "Q", task="action"), Message("assistant", "Search", "R"), thinking=True)
    assert text.endswith("<｜User｜>Q<｜Assistant｜><think><｜action｜>Search<｜end▁of▁sentence｜>")


def test_context_counts_for_the_rules_and_is_not_written() -> None:
    context = [Message("system", "S"), Message("user", "Q"), Message("assistant", "A", "R")]
    new = [Message("user", "And?")]
    style = Style(PREVIEW, True, "max")
    whole, before = write([*context, *new], style).text, write(context, Style(PREVIEW, True, "max")).text
    rest = write(new, style, context=context).text
    assert rest == "<｜User｜>And?<｜Assistant｜><think>"
    assert whole.endswith(rest)
    assert before.startswith(TOKENS.begin)


def test_what_no_prompt_can_be_made_of_is_said() -> None:
    with pytest.raises(ConversationError):
        text_of(Message("developer", ""))
    with pytest.raises(UnknownRelease, match="mighty"):
        write([Message("user", "Q")], Style(PREVIEW, True, "mighty"))
    with pytest.raises(UnknownRelease, match="no token"):
        render([Message("user", "Q")], Style(PREVIEW, False), {TOKENS.begin: 0})


# --- fuzz -----------------------------------------------------------------------------------------------


def random_text(random_: random.Random) -> str:
    kinds = (
        lambda: random_.choice(LITERALS),
        lambda: random_.choice(NAMED)[: random_.randint(0, 8)],
        lambda: random_.randbytes(random_.randint(0, 12)).decode("utf-8", "replace"),
        lambda: chr(random_.choice([*range(0x20, 0x7F), *range(0xE000, 0xE010), 0xD800, 0x202E, 0x10FFFF])),
        lambda: random_.choice(["\n", " ", "9", "é", "漢", "🙂"]) * random_.randint(1, 9),
    )
    return "".join(random_.choice(kinds)() for _ in range(random_.randint(0, 5)))


def random_message(random_: random.Random) -> dict[str, Any]:
    text = lambda: random_text(random_)  # noqa: E731
    role = random_.choice(
        ["system", "developer", "latest_reminder", "user", "assistant", "assistant", "tool"]
    )
    message: dict[str, Any] = {"role": role, "content": text() or "."}
    if role == "assistant" and random_.random() < 0.5:
        arguments = random_.choice([text(), json.dumps({text(): text()}), "{}", "[" * 5000])
        message["tool_calls"] = [{"id": text(), "function": {"name": text(), "arguments": arguments}}]
        message["reasoning_content"] = text()
    if random_.random() < 0.1:
        message["tools"] = [
            {"type": "function", "function": {"name": text(), "parameters": {text(): text()}}}
        ]
    if random_.random() < 0.1:
        message["task"] = random_.choice(["action", "query", "authority", "domain", "title"])
    return message


def one_conversation(seed: int) -> None:
    """Any conversation is written, and holds the protocol's control tokens only."""
    random_ = random.Random(seed)
    messages = from_openai([random_message(random_) for _ in range(random_.randint(0, 8))])
    style = Style(PREVIEW, random_.random() < 0.5, random_.choice(["high", "max"]), random_.random() < 0.5)
    prompt = write(messages, style)
    known = {CONTROL[literal] for literal in skeleton_literals()}
    assert {id_ for id_ in ids(prompt) if id_ in CONTROL_IDS} <= known
    said = b"".join(map(TOKENIZER.token_bytes, ids(prompt)))
    assert said == prompt.text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def test_random_conversations_are_written_whole() -> None:
    fuzz("conversations", one_conversation, rounds=300)


def test_time_to_write_grows_with_length_and_no_faster() -> None:
    def seconds(turns: int) -> float:
        messages = [Message("system", "S", tools=('{"name": "f"}',))]
        for number in range(turns):
            messages += [
                Message("user", f"Q{number}"),
                Message("assistant", "A", "R", (ToolCall("f", "{}", "1"),)),
            ]
        began = time.process_time()
        write(messages, Style(PREVIEW, True))
        return time.process_time() - began

    quick = min(seconds(250) for _ in range(3))
    assert min(seconds(2000) for _ in range(3)) < max(30 * quick, 0.05)


def test_messages_that_become_one_turn_do_not_multiply() -> None:
    """A client may send thousands in a row; each once copied all before it."""

    def seconds(count: int) -> float:
        messages = [Message("user", "Q"), *[Message("user", "more"), Message("tool", "R")] * count]
        began = time.process_time()
        write(messages, Style(PREVIEW, True))
        return time.process_time() - began

    quick = min(seconds(1000) for _ in range(3))
    assert min(seconds(8000) for _ in range(3)) < 30 * quick
