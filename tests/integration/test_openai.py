"""The OpenAI dialect against the real engine process."""

import json
from typing import Any

import pytest

from tests.integration.live_engine import SCRIPT_MODEL, LiveEngine

HELLO: dict[str, Any] = {"model": SCRIPT_MODEL, "messages": [{"role": "user", "content": "Hello"}]}


def refused(engine: LiveEngine, **changes: Any) -> Any:
    reply = engine.client.post("/v1/chat/completions", content=json.dumps(HELLO | changes).encode())
    assert reply.status_code >= 400, reply.text
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return reply.status_code, error


def streamed(engine: LiveEngine, body: dict[str, Any]) -> list[Any]:
    with engine.client.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as reply:
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith("text/event-stream")
        data = [line.removeprefix("data: ") for line in reply.iter_lines() if line.startswith("data: ")]
    assert data[-1] == "[DONE]"
    return [json.loads(each) for each in data[:-1]]


def test_the_model_list_names_what_is_served(engine: LiveEngine) -> None:
    assert [model["id"] for model in engine.get("/v1/models")["data"]] == [SCRIPT_MODEL]


def test_a_whole_answer(engine: LiveEngine) -> None:
    answer = engine.post("/v1/chat/completions", HELLO)
    choice = answer["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": "Hello there.", "refusal": None}
    assert choice["finish_reason"] == "stop"
    assert answer["object"] == "chat.completion"
    usage = answer["usage"]
    assert usage["completion_tokens"] == len("Hello there.")
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_a_stream_says_the_same(engine: LiveEngine) -> None:
    chunks = streamed(engine, {**HELLO, "model": "talk", "stream_options": {"include_usage": True}})
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"])
    assert text == "Hello there."
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == len(text)
    assert len({chunk["id"] for chunk in chunks}) == 1


def test_limits_and_stop_strings(engine: LiveEngine) -> None:
    cut = engine.post("/v1/chat/completions", {**HELLO, "max_tokens": 5})
    assert cut["choices"][0] | {"message": None} == {
        "index": 0,
        "message": None,
        "logprobs": None,
        "finish_reason": "length",
    }
    assert cut["choices"][0]["message"]["content"] == "Hello"
    stopped = engine.post("/v1/chat/completions", {**HELLO, "stop": ["th"], "max_completion_tokens": 50})
    assert stopped["choices"][0]["message"]["content"] == "Hello "
    assert stopped["choices"][0]["finish_reason"] == "stop"


def test_parts_of_text_and_other_roles(engine: LiveEngine) -> None:
    parts = [{"type": "text", "text": "many "}, {"type": "text", "text": "scripts"}]
    messages = [{"role": "developer", "content": "Be kind."}, {"role": "user", "content": parts}]
    answer = engine.post("/v1/chat/completions", {**HELLO, "messages": messages, "seed": -1, "min_p": 0.1})
    assert "你好" in answer["choices"][0]["message"]["content"]


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"n": 2}, "n"),
        ({"response_format": {"type": "grammar"}}, "response_format of type grammar"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"top_k": 40}, "top_k"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages.0.content.0",
        ),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role = tool"),
    ],
)
def test_what_is_not_supported_is_named(engine: LiveEngine, changes: dict[str, Any], param: str) -> None:
    status, error = refused(engine, **changes)
    assert status == 400
    assert error["param"] == param
    assert param in error["message"]
    assert error["type"] == "invalid_request_error"


def test_harmless_extras_are_taken(engine: LiveEngine) -> None:
    extras = {"n": 1, "tools": [], "logprobs": False, "user": "me", "presence_penalty": 0.0, "logit_bias": {}}
    assert engine.post("/v1/chat/completions", HELLO | extras)["choices"]


def test_errors_have_the_dialects_own_shape(engine: LiveEngine) -> None:
    status, error = refused(engine, model="gpt-17")
    assert (status, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert refused(engine, messages=[])[0] == 400
    assert refused(engine, temperature="hot")[0] == 400
    assert refused(engine, temperature=1e9)[0] == 400
    long = [{"role": "user", "content": "x" * 20_000}]
    for stream in (False, True):
        status, error = refused(engine, messages=long, stream=stream)
        assert (status, error["code"]) == (413, "prompt_too_long")
    failing = [{"role": "user", "content": "fail"}]
    assert refused(engine, messages=failing)[0] == 500
    assert engine.client.get("/v1/nowhere").json()["error"]["type"] == "invalid_request_error"


def test_an_error_in_the_middle_of_a_stream_is_its_last_event(engine: LiveEngine) -> None:
    body = {**HELLO, "messages": [{"role": "user", "content": "fail"}], "stream": True}
    with engine.client.stream("POST", "/v1/chat/completions", json=body) as reply:
        lines = [line for line in reply.iter_lines() if line.startswith("data: ")]
    if reply.status_code == 200:
        assert "error" in json.loads(lines[-2].removeprefix("data: "))
        assert lines[-1] == "data: [DONE]"


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_ends_its_answer(engine: LiveEngine, stream: bool) -> None:
    body = {**HELLO, "messages": [{"role": "user", "content": "Talk slowly"}], "stream": stream}
    if stream:
        with engine.client.stream("POST", "/v1/chat/completions", json=body) as reply:
            lines = reply.iter_lines()
            next(line for line in lines if '"content": "O' in line)
    else:
        import httpx

        with pytest.raises(httpx.ReadTimeout):
            engine.client.post("/v1/chat/completions", json=body, timeout=httpx.Timeout(5, read=0.5))
    # The next one would wait ten seconds for the slow answer to end.
    turn = engine.ask("Hello")
    assert engine.client.get("/api/status").json()["queue_length"] <= 1
    assert engine.finish(turn["id"])["message"]["text"] == "Hello there."


def test_it_waits_in_the_same_queue(engine: LiveEngine) -> None:
    first = engine.ask("Talk slowly", max_tokens=50)
    answer = engine.post("/v1/chat/completions", HELLO)
    assert answer["choices"][0]["message"]["content"] == "Hello there."
    events = list(engine.events(first["id"]))
    assert events[-1][1]["finish_reason"] == "length"


def test_lone_surrogates_and_nul_do_no_harm(engine: LiveEngine) -> None:
    body = {**HELLO, "messages": [{"role": "user", "content": "Hi \ud800 \x00"}], "user": "\udfff"}
    assert engine.post("/v1/chat/completions", body)["choices"][0]["message"]["content"] == "Hello there."
    assert refused(engine, model="\ud800")[0] == 404
