"""What a request puts to the model, for each kind of model, and that counting it is the same."""

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.backends.scripted import ScriptedBackend
from engine.completion_prompt import count_tokens, template_prompt, text_prompt, v4_prompt
from engine.completions import CompletionRequest
from engine.conversation import Message, ToolCall
from engine.encoding.v4_chat import V4Chat, v4_chat
from engine.errors import BadRequest, ContextTooSmall
from engine.protocol import Sampling

QUESTION = Message("user", "Q")
TOOLS = ('{"name": "f"}',)


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., ScriptedBackend]:
    def open_(**more: Any) -> ScriptedBackend:
        path = tmp_path / "a.script.json"
        path.write_text(json.dumps({"replies": [{"text": "x"}], **more}))
        return ScriptedBackend.open(path, name="a", context_tokens=8192, on_progress=lambda _: True)

    return open_


@pytest.fixture
def v4(opened: Callable[..., ScriptedBackend]) -> tuple[ScriptedBackend, V4Chat]:
    backend = opened(release="preview")
    chat = v4_chat(backend)
    assert chat is not None
    return backend, chat


class Memory:
    """Knows one answer, by its name."""

    def __init__(self, chat: V4Chat) -> None:
        self._ids = (*b"R", chat.think_end_id, *b"A")

    def remember_calls(self, call_ids: Sequence[str], reasoning: str, token_ids: Sequence[int]) -> None:
        raise AssertionError("nothing is written")

    def recall(self, call_ids: Sequence[str]) -> Mapping[str, tuple[str, Sequence[int]]]:
        return {each: ("R", self._ids) for each in call_ids if each == "name"}


def asked(*messages: Message, **more: Any) -> CompletionRequest:
    return CompletionRequest(messages, Sampling(seed=1), 10, **more)


def said(backend: ScriptedBackend, tokens: Sequence[int]) -> str:
    """The tokens as text, control tokens as their literals."""
    literals = {id_: literal.encode() for literal, id_ in backend.facts.control_tokens.items()}
    return b"".join(literals.get(id_) or backend.token_bytes(id_) for id_ in tokens).decode()


def test_a_bare_text_is_itself(opened: Callable[..., ScriptedBackend]) -> None:
    backend = opened()
    prompt = text_prompt(backend, "On and")
    assert said(backend, prompt) == "<|begin|>On and"
    assert count_tokens(backend, asked(text="On and"), None) == len(prompt)


def test_a_template_ends_where_the_answer_begins_or_goes_on(opened: Callable[..., ScriptedBackend]) -> None:
    backend = opened()
    whole = template_prompt(backend, asked(QUESTION))
    assert said(backend, whole.tokens) == "<|begin|><|user|>Q<|end|><|assistant|>"
    request = asked(QUESTION, Message("assistant", "It is", is_open=True))
    begun = template_prompt(backend, request)
    assert said(backend, begun.tokens) == "<|begin|><|user|>Q<|end|><|assistant|>It is"
    assert (whole.begun, begun.begun) == ("", "It is")
    assert count_tokens(backend, request, None) == len(begun.tokens)


@pytest.mark.parametrize(
    "message",
    [
        Message("tool", "R"),
        Message("system", tools=TOOLS),
        Message("assistant", tool_calls=(ToolCall("f", "{}"),)),
    ],
)
def test_a_template_has_no_place_for_calls(opened: Callable[..., ScriptedBackend], message: Message) -> None:
    with pytest.raises(BadRequest, match="message 2"):
        template_prompt(opened(), asked(QUESTION, message))


@pytest.mark.parametrize(
    ("effort", "answer", "end", "thinking", "begun"),
    [
        ("high", None, "<think>", True, ""),
        ("none", None, "</think>", False, ""),
        ("none", Message("assistant", "It is", is_open=True), "</think>It is", False, "It is"),
        ("high", Message("assistant", "It is", is_open=True), "<think></think>It is", False, "It is"),
        (
            "high",
            Message("assistant", "It is", "Hm.", is_open=True),
            "<think>Hm.</think>It is",
            False,
            "It is",
        ),
        ("high", Message("assistant", "", "Hm", is_open=True), "<think>Hm", True, ""),
        ("high", Message("assistant", is_open=True), "<think>", True, ""),
    ],
)
def test_v4_goes_on_in_the_part_that_is_begun(
    v4: tuple[ScriptedBackend, V4Chat],
    effort: str,
    answer: Message | None,
    end: str,
    thinking: bool,
    begun: str,
) -> None:
    backend, chat = v4
    request = asked(QUESTION, *([answer] if answer else []), effort=effort)
    prompt = v4_prompt(backend, chat, request, None)
    assert said(backend, prompt.tokens).endswith("Q<\uff5cAssistant\uff5c>" + end)
    assert (prompt.thinking, prompt.begun) == (thinking, begun)
    assert count_tokens(backend, request, None) == len(prompt.tokens)


def test_what_v4_thought_is_put_back_unless_the_client_has_thought_otherwise(
    v4: tuple[ScriptedBackend, V4Chat],
) -> None:
    backend, chat = v4
    system = Message("system", tools=TOOLS)

    def put(text: str, reasoning: str) -> str:
        answer = Message("assistant", text, reasoning, kept_as="name")
        prompt = v4_prompt(backend, chat, asked(system, QUESTION, answer, QUESTION), Memory(chat))
        return said(backend, prompt.tokens).split("Q")[1]

    kept = put("A", "")
    assert "<think>R</think>A" in kept and put("A", "R") == kept
    assert "<think>mine</think>A" in put("A", "mine")
    # Its own reasoning, and what the client made of the text.
    assert "<think>R</think>B" in put("B", "R")


def test_an_effort_that_the_context_is_too_small_for_is_no_prompt(v4: tuple[ScriptedBackend, V4Chat]) -> None:
    backend, chat = v4
    with pytest.raises(ContextTooSmall):
        v4_prompt(backend, chat, asked(QUESTION, effort="max"), None)
    with pytest.raises(BadRequest, match="utmost"):
        count_tokens(backend, asked(QUESTION, effort="utmost"), None)


STRAY = (
    "a",
    " ",
    "<",
    "</think>",
    "<think>",
    "<｜User｜>",
    "｜DSML｜",
    "\n\n<｜DSML｜tool_calls>\n",
    "no token",
)


def ids_of(backend: ScriptedBackend, text: str) -> list[int]:
    """The tokens of a text that a scripted model writes: bytes and control tokens."""
    control = backend.facts.control_tokens
    if text == "no token":
        return [backend.facts.vocabulary_size]
    begins, mark, ends = text.partition("｜DSML｜")
    if text in control:
        return [control[text]]
    return [*begins.encode(), control[mark], *ends.encode()] if mark else list(text.encode())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text("ab \n", max_size=4),
    sent=st.sampled_from(["R", "R ", "S"]),
    stray=st.lists(st.tuples(st.integers(0, 6), st.sampled_from(STRAY)), max_size=2),
)
def test_whatever_is_remembered_the_model_reads_what_the_client_sent(
    v4: tuple[ScriptedBackend, V4Chat], text: str, sent: str, stray: list[tuple[int, str]]
) -> None:
    """But for white space at the ends of the text and of the reasoning."""
    backend, chat = v4
    written = [[byte] for byte in b"R"] + [[chat.think_end_id]] + [[byte] for byte in text.encode()]
    for place, piece in stray:
        written.insert(place, ids_of(backend, piece))

    class Claims(Memory):
        def recall(self, call_ids: Sequence[str]) -> Mapping[str, tuple[str, Sequence[int]]]:
            return {each: ("R", list(chain.from_iterable(written))) for each in call_ids}

    answer = Message("assistant", text, sent, kept_as="name")
    request = asked(Message("system", tools=TOOLS), QUESTION, answer, Message("user", "On"), effort="high")
    put = said(backend, v4_prompt(backend, chat, request, Claims(chat)).tokens)
    plain = said(backend, v4_prompt(backend, chat, request, None).tokens)
    assert "".join(put.split()) == "".join(plain.split())
