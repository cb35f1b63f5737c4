"""What a program's request becomes when another machine answers it, and what is refused or told."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from engine.access.key_limits import AnswerLimits
from engine.answer_form import AnswerForm
from engine.backends.remote import RemoteModel, RemotePoint
from engine.backends.remote_address import read_address
from engine.callers import Caller
from engine.completion_news import CompletionEnd, Reasoning
from engine.completion_remote import answer_remotely
from engine.completions import CompletionRequest
from engine.conversation import Message, ToolCall
from engine.errors import BadRequest, PromptTooLong
from engine.protocol import Sampling, Settings
from engine.protocol_access import KeyLimits
from tests.support.hostile_server import DONE, HostileServer, chunk, hostile, streaming, usage

FUNCTION = {"name": "look", "parameters": {"type": "object", "properties": {}}}


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with hostile() as found:
        yield found


class Memory:
    """In the place of the store: what is known of calls."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    def remember_calls(self, call_ids: Any, reasoning: str, token_ids: Any) -> None:
        self.kept.update(dict.fromkeys(call_ids, (reasoning, token_ids)))

    def recall(self, call_ids: Any) -> dict[str, Any]:
        return {each: self.kept[each] for each in call_ids if each in self.kept}


class Asking:
    """In the place of a Completion."""

    def __init__(self, **request: Any) -> None:
        given = {
            "messages": [Message("user", "Hello?")],
            "sampling": Sampling(seed=1),
            "max_tokens": None,
            **request,
        }
        self.request = CompletionRequest(**given)
        self.memory = Memory()
        self.settings = Settings
        self.cancelled = threading.Event()
        self.told: list[Any] = []

    def tell(self, news: Any) -> None:
        self.told.append(news)

    def wrote(self, tokens: int) -> None:
        assert tokens == 0

    def reading(self, *_: Any) -> None:
        raise AssertionError("nothing is known of what is read elsewhere")


def run(server: HostileServer, asking: Asking) -> CompletionEnd:
    model = RemoteModel("remote:a", "A", "openai", "m", [RemotePoint(read_address(server.url))])
    answer_remotely(model, asking)
    end = asking.told.pop()
    assert isinstance(end, CompletionEnd)
    return end


def test_pieces_go_to_the_client_as_they_come(server: HostileServer) -> None:
    server.answer = streaming(
        chunk({"reasoning_content": "Hm."}),
        chunk({"content": "Yes."}),
        chunk({}, "length"),
        usage(9, 4, completion_tokens_details={"reasoning_tokens": 2}),
        DONE,
    )
    asking = Asking()
    end = run(server, asking)
    assert asking.told == [Reasoning("Hm."), "Yes."]
    assert (end.reason, end.usage.prompt_tokens, end.usage.generated_tokens) == ("length", 9, 4)
    assert end.reasoning_tokens == 2


def test_calls_are_told_whole_and_remembered_with_their_reasoning(server: HostileServer) -> None:
    first = {"index": 0, "id": "call_0a9f31", "function": {"name": "look", "arguments": "{}"}}
    other = {"index": 1, "id": "c2", "function": {"name": "rm", "arguments": "{}"}}
    server.answer = streaming(
        chunk({"reasoning": "Hm."}), chunk({"tool_calls": [first, other]}), chunk({}, "tool_calls"), DONE
    )
    asking = Asking(tools=(FUNCTION,))
    end = run(server, asking)
    assert [call.id for call in end.tool_calls] == ["call_0a9f31"] and end.reason == "tool_calls"
    assert "no tool 'rm'" in " ".join(end.notices)
    assert asking.memory.kept == {"call_0a9f31": ("Hm.", [])}


def test_an_id_that_a_server_gives_twice_brings_no_others_reasoning(server: HostileServer) -> None:
    asking = Asking(tools=(FUNCTION,), kept_as="name")
    for reasoning in ("Hm.", "Hm.", "Another conversation.", "A third one."):
        call = {"index": 0, "id": "call_0a9f31", "function": {"name": "look", "arguments": "{}"}}
        server.answer = streaming(
            chunk({"reasoning": reasoning}), chunk({"tool_calls": [call]}), chunk({}, "tool_calls"), DONE
        )
        asking.memory.kept.pop("name", None)
        run(server, asking)
        sure = reasoning == "Hm."
        assert asking.memory.kept["call_0a9f31"] == ("Hm." if sure else "", [])
        assert asking.memory.kept["name"] == (reasoning, [])


@pytest.mark.parametrize(
    "request_",
    [
        {"top_logprobs": 3},
        {"logit_bias": {1: 5.0}},
        {"messages": [Message("user", "x"), Message("assistant", "So f", is_open=True)]},
    ],
)
def test_what_cannot_be_passed_on_is_refused_before_anything_is_sent(
    server: HostileServer, request_: Any
) -> None:
    with pytest.raises(BadRequest):
        run(server, Asking(**request_))
    assert server.paths == []


@pytest.mark.parametrize(
    ("form", "text", "word"),
    [
        (AnswerForm(json_schema='{"type": "object"}'), "no JSON", "did not keep to the form"),
        (AnswerForm(json_schema='{"type": "array"}'), "{}", "did not keep to the form"),
        (AnswerForm(json_schema='{"type": "object"}'), '{"a": 1}', None),
        (AnswerForm(calls="required"), "No.", "made none"),
    ],
)
def test_a_form_is_passed_on_and_looked_at(
    server: HostileServer, form: AnswerForm, text: str, word: str | None
) -> None:
    server.answer = streaming(chunk({"content": text}), chunk({}, "stop"), DONE)
    end = run(server, Asking(form=form, tools=(FUNCTION,) if form.calls == "required" else ()))
    assert (word in " ".join(end.notices)) if word else end.notices == ()
    assert "response_format" in server.chats[0] or "tool_choice" in server.chats[0]


def test_the_limits_of_a_key_hold(server: HostileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    caller = Caller(limits=KeyLimits(answer_tokens=5, seconds=1))
    run(server, Asking(caller=caller, max_tokens=100))
    assert server.chats[0]["max_tokens"] == 5
    monkeypatch.setattr(AnswerLimits, "is_over", lambda self: setattr(self, "ran_out", True) or True)
    server.answer = lambda _exchange: server.release.wait(20) and None
    end = run(server, Asking(caller=caller))
    assert end.reason == "length" and "ended after 1 s" in " ".join(end.notices)


def test_a_prompt_longer_than_its_key_may_send(server: HostileServer) -> None:
    """As far as it can be told here; what the other machine counted is told."""
    caller = Caller(limits=KeyLimits(prompt_tokens=1000))
    with pytest.raises(PromptTooLong, match="about 2,"):
        run(server, Asking(caller=caller, messages=[Message("user", "word " * 1600)]))
    with pytest.raises(PromptTooLong):
        run(server, Asking(caller=caller, text="word " * 1600))
    with pytest.raises(PromptTooLong):
        run(server, Asking(caller=caller, tools=({**FUNCTION, "description": "word " * 1600},)))
    assert server.paths == []
    server.answer = streaming(chunk({"content": "Yes."}), chunk({}, "stop"), usage(1200, 1), DONE)
    end = run(server, Asking(caller=caller))
    assert "counted 1,200 tokens" in " ".join(end.notices)


def test_reasoning_that_a_client_strips_goes_back(server: HostileServer) -> None:
    """Where the server is known to understand it: another Seamount."""
    talk = [
        Message("user", "x"),
        Message("assistant", "", tool_calls=(ToolCall("look", "{}", "c1"),)),
        Message("tool", "ok", tool_call_id="c1"),
    ]
    asking = Asking(messages=talk, tools=(FUNCTION,))
    asking.memory.remember_calls(["c1"], "I thought", [])
    model = RemoteModel("remote:a", "A", "seamount", "m", [RemotePoint(read_address(server.url))])
    answer_remotely(model, asking)
    assert server.chats[0]["messages"][1]["reasoning_content"] == "I thought"


def test_a_keys_limit_of_the_prompt_holds_before_anything_is_sent(server: HostileServer) -> None:
    server.answer = streaming(chunk({"content": "Yes."}, "stop"), DONE)
    key = Caller("k", "Editor", limits=KeyLimits(prompt_tokens=500))
    run(server, Asking(caller=key))
    sent = len(server.chats)
    for more in ({"messages": [Message("user", "Hello? " * 500)]}, {"messages": [], "text": "Hello? " * 500}):
        with pytest.raises(
            PromptTooLong, match=r"about \d,?\d+ tokens by its length, and its key may send 500"
        ):
            run(server, Asking(caller=key, **more))
    assert len(server.chats) == sent
