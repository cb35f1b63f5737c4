"""The OpenAI dialect in front of a (scripted) DeepSeek-V4: reasoning, tools, efforts, refusals."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from engine.paths import DataFolder
from tests.integration.live_engine import LiveEngine, write_script
from tests.integration.v4_script import TOOLS, V4_MODEL, V4_SCRIPT


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveEngine]:
    root = tmp_path_factory.mktemp("v4")
    write_script(DataFolder(root), V4_SCRIPT, "v4")
    live = LiveEngine(root, "--model", V4_MODEL)
    live.wait_model()
    yield live
    live.close()


def body(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"model": V4_MODEL, "messages": list(messages), **more}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def complete(engine: LiveEngine, *messages: dict[str, Any], **more: Any) -> Any:
    return engine.post("/v1/chat/completions", body(*messages, **more))


def stream(engine: LiveEngine, *messages: dict[str, Any], **more: Any) -> list[Any]:
    reply = engine.client.post("/v1/chat/completions", json=body(*messages, stream=True, **more))
    lines = [line.removeprefix("data: ") for line in reply.text.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_reasoning_has_its_own_field(engine: LiveEngine) -> None:
    choice = complete(engine, user("Hi"))["choices"][0]
    assert choice["message"]["reasoning_content"] == "First I think."
    assert choice["message"]["content"] == "Then I answer."
    deltas = [chunk["choices"][0]["delta"] for chunk in stream(engine, user("Hi"))]
    assert "".join(d.get("reasoning_content", "") for d in deltas) == "First I think."
    assert "".join(d.get("content", "") for d in deltas) == "Then I answer."


@pytest.mark.parametrize("more", [{"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}])
def test_thinking_can_be_switched_off(engine: LiveEngine, more: dict[str, Any]) -> None:
    message = complete(engine, user("Hi"), **more)["choices"][0]["message"]
    assert message["content"] == "A plain answer."
    assert "reasoning_content" not in message


def test_calls_come_whole_and_reasoning_that_a_client_drops_is_put_back(engine: LiveEngine) -> None:
    question = user("The weather in Paris?")
    chunks = stream(engine, question, tools=TOOLS)
    (delta,) = [c["choices"][0]["delta"] for c in chunks if "tool_calls" in c["choices"][0]["delta"]]
    assert [(c["index"], c["function"]["arguments"]) for c in delta["tool_calls"]] == [
        (0, '{"city": "Paris"}'),
        (1, '{"city": "Rome"}'),
    ]
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"
    calls = [{k: v for k, v in call.items() if k != "index"} for call in delta["tool_calls"]]
    stripped = {"role": "assistant", "content": "Looking.", "tool_calls": calls}
    result = [
        {"role": "tool", "tool_call_id": call["id"], "content": text}
        for call, text in zip(reversed(calls), ["25 degrees", "22 degrees"], strict=True)
    ]
    whole = complete(engine, question, stripped, *result, tools=TOOLS)
    assert whole["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "write_file"
    # All that the model read and wrote before is still in its context, the reasoning too.
    read = whole["usage"]["prompt_tokens"] - whole["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert read < 110


def test_an_answer_that_a_client_changed_is_put_as_the_client_has_it(engine: LiveEngine) -> None:
    question = user("The weather in Paris?")
    message = complete(engine, question, tools=TOOLS)["choices"][0]["message"]
    calls = message["tool_calls"]
    result = [{"role": "tool", "tool_call_id": call["id"], "content": "22 degrees"} for call in calls]

    def prompt_tokens(**changes: Any) -> int:
        answer = {"role": "assistant", "content": "Looking.", "tool_calls": calls, **changes}
        return complete(engine, question, answer, *result, tools=TOOLS)["usage"]["prompt_tokens"]

    as_it_was = prompt_tokens()
    assert prompt_tokens(content="Looking, longer.") == as_it_was + len(", longer")
    respaced = [
        {
            **call,
            "function": {**call["function"], "arguments": call["function"]["arguments"].replace(" ", "")},
        }
        for call in calls
    ]
    assert prompt_tokens(tool_calls=respaced) == as_it_was
    other = [{**calls[0], "function": {"name": "get_weather", "arguments": '{"city": "Oslo!"}'}}, calls[1]]
    assert prompt_tokens(tool_calls=other) == as_it_was


def test_a_refused_call_reaches_no_client(engine: LiveEngine) -> None:
    whole = complete(engine, user("city twice"), tools=TOOLS)
    assert "tool_calls" not in whole["choices"][0]["message"]
    assert whole["choices"][0]["finish_reason"] == "stop"
    assert "given twice" in whole["seamount"]["notices"][0]
    chunks = stream(engine, user("city twice"), tools=TOOLS)
    assert not any("tool_calls" in chunk["choices"][0]["delta"] for chunk in chunks)
    assert "given twice" in chunks[-1]["seamount"]["notices"][0]


@pytest.mark.parametrize(
    ("more", "status", "why"),
    [
        ({"reasoning_effort": "some"}, 400, "no effort 'some'"),
        ({"reasoning_effort": "max"}, 409, "393,216"),
        ({"tool_choice": "always", "tools": TOOLS}, 400, "tool_choice"),
        ({"thinking": "yes"}, 400, "thinking"),
        ({"tools": [{"type": "function"}]}, 400, "tools.0.function"),
    ],
)
def test_what_cannot_be_done_is_refused(
    engine: LiveEngine, more: dict[str, Any], status: int, why: str
) -> None:
    reply = engine.client.post("/v1/chat/completions", json=body(user("Hi"), **more))
    assert reply.status_code == status
    assert why in reply.json()["error"]["message"]


def test_tool_choice_none_declares_no_tools(engine: LiveEngine) -> None:
    with_tools = complete(engine, user("Hi"), tools=TOOLS)["usage"]["prompt_tokens"]
    without = complete(engine, user("Hi"), tools=TOOLS, tool_choice="none")["usage"]["prompt_tokens"]
    assert with_tools > without + 500
