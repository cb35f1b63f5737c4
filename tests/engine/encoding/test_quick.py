"""Quick instructions: the tokens that ask are those of a prompt with a task, over the prefix that there is."""

import dataclasses
from typing import Any, get_args

import pytest
from hypothesis import strategies as st

from engine.conversation import Message, Task, Written
from engine.encoding.quick import (
    quick_question,
    read_action,
    read_label,
    read_queries,
    read_title,
)
from engine.encoding.release import release
from engine.encoding.segments import TextIds, ids_of
from engine.encoding.tokenizer import official_tokenizer
from engine.encoding.v4_prompt import Style, render
from engine.errors import ConversationError
from tests.engine.encoding.properties import for_all
from tests.engine.encoding.test_v4_prompt import answers, results, said, systems, users

TOKENIZER = official_tokenizer()
CONTROL = TOKENIZER.control
TOKENS = release("preview").tokens
text_ids = TextIds(TOKENIZER.encode)
TASKS: tuple[Task, ...] = get_args(Task)
questions = users | results
histories = st.lists(st.tuples(questions, answers).map(list), max_size=2).map(
    lambda pairs: [message for pair in pairs for message in pair]
)
addresses = st.sampled_from(["https://example.org", "https://example.org/<｜User｜>?q=é"])


def prompt(messages: list[Message], style: Style) -> list[int]:
    return ids_of(render(messages, style, CONTROL).segments, text_ids)


def ask(messages: list[Message], task: Task, style: Style, **more: Any) -> tuple[list[int], list[int]]:
    question = quick_question(messages, task, style, CONTROL, text_ids, **more)
    assert question.task == task
    assert 0 < question.most_tokens <= 128
    return list(question.prefix), list(question.suffix)


@for_all(systems, histories, users, st.booleans(), st.sampled_from([task for task in TASKS if task != "title"]),
         addresses)  # fmt: skip
def test_a_question_about_a_question(
    system: Message, history: list[Message], last: Message, thinking: bool, task: Task, url: str
) -> None:
    style, messages = Style(release("preview"), thinking), [system, *history, last]
    prefix, suffix = ask(messages, task, style, url=url)
    assert prompt(messages, style)[: len(prefix)] == prefix
    # A caller who writes the same into the message itself gets the same tokens.
    text = f"{last.text}{TOKENS.extracted_url}{url}" if task == "read_url" else last.text
    tasked = [*messages[:-1], dataclasses.replace(last, text=text, task=task)]
    assert prefix + suffix == prompt(tasked, style)
    assert len(suffix) == {"action": 3, "read_url": 2 + len(text_ids(url))}.get(task, 1)


@for_all(systems, histories, users, answers, st.booleans())
def test_a_title_is_asked_after_an_answer(
    system: Message, history: list[Message], question: Message, answer: Message, thinking: bool
) -> None:
    style, messages = Style(release("preview"), thinking), [system, *history, question, answer]
    prefix, suffix = ask(messages, "title", style)
    tasked = [*messages[:-1], dataclasses.replace(answer, task="title")]
    assert prefix + suffix == prompt(tasked, style)
    assert suffix == [CONTROL[TOKENS.end], CONTROL[TOKENS.tasks["title"]]]
    whole = prompt(messages, style)
    assert whole[: len(prefix)] == prefix
    assert prompt([*messages, Message("user", "And?")], Style(release("preview"), False))[
        : len(prefix)
    ] == prefix or (thinking)


def test_a_title_of_an_answer_that_was_cut_off_in_its_reasoning() -> None:
    cut = Message("assistant", "", "hm", written=Written(tuple(TOKENIZER.encode("hm")), thinking=True))
    for answer in (cut, dataclasses.replace(cut, is_open=True)):
        messages, style = [Message("user", "Q"), answer], Style(release("preview"), True)
        prefix, suffix = ask(messages, "title", style)
        closed = dataclasses.replace(answer, is_open=False, task="title")
        assert prefix + suffix == prompt([messages[0], closed], style)


@for_all(said)
def test_a_question_after_a_tools_result_is_put_although_fusing_loses_tasks(text: str) -> None:
    messages = [Message("tool", "result"), Message("user", text)]
    prefix, suffix = ask(messages, "query", Style(release("preview"), True))
    assert prefix == prompt(messages, Style(release("preview"), True))[:-2]
    assert suffix == [CONTROL[TOKENS.tasks["query"]]]


@pytest.mark.parametrize("task", TASKS)
def test_a_question_at_the_wrong_place_is_refused(task: Task) -> None:
    style = Style(release("preview"), False)
    wrong = Message("user", "Q") if task == "title" else Message("assistant", "A")
    for messages in ([], [Message("system", "S")], [wrong]):
        with pytest.raises(ConversationError, match=task):
            ask(messages, task, style)


def test_answers_are_read() -> None:
    assert read_action(" Search\n") == "search"
    assert read_action("answer") == "answer"
    assert read_action("Searching") is None
    assert read_title('\n "The  Tide\tTables". \nmore') == "The Tide Tables"
    assert read_title("“深海”。") == "深海"
    assert read_title(" \n") == ""
    assert len(read_title("x" * 500)) == 80
    assert read_queries("a\n\nb||c || a\n") == ["a", "b", "c"]
    assert read_label(" high \n") == "high"
