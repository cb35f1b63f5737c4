"""A second Seamount as the model: the same sessions, the same journal, no token ids."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import cli
from engine.paths import DataFolder
from tests.integration.live_engine import LiveEngine, write_script
from tests.integration.v4_script import BROAD_CONTEXT, TOOLS, V4_MODEL, V4_SCRIPT

SETTINGS = f'resume = "offer"\ncontext_tokens = {BROAD_CONTEXT}\nsystem_message = "Be brief."\n'


def v4_engine(root: Path) -> LiveEngine:
    """An engine with the scripted V4 loaded."""
    root.mkdir(parents=True, exist_ok=True)
    DataFolder(root).settings.write_text(SETTINGS)
    write_script(DataFolder(root), V4_SCRIPT, "v4")
    live = LiveEngine(root, "--model", V4_MODEL)
    live.wait_model()
    return live


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveEngine]:
    """The engine that computes."""
    live = v4_engine(tmp_path_factory.mktemp("there"))
    yield live
    live.close()


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, there: LiveEngine) -> Iterator[LiveEngine]:
    """The engine that asks it, with a model of its own too."""
    live = v4_engine(tmp_path_factory.mktemp("here"))
    made = live.post("/api/remotes", remote_of(there))
    load(live, made["id"])
    yield live
    live.close()


def remote_of(there: LiveEngine, **more: Any) -> dict[str, Any]:
    return {
        "name": "The other one",
        "kind": "seamount",
        "addresses": [{"url": f"{there.address.url}/v1"}],
        "key": there.address.key,
        "price": {"read": 1.0, "written": 2.0, "currency": "EUR"},
        **more,
    }


def load(live: LiveEngine, model_id: str) -> Any:
    live.post("/api/models/load", {"model_id": model_id})
    status = live.wait_status(lambda s: s["loading_model_id"] is None)
    assert status["error"] is None, status["error"]
    assert status["model"]["id"] == model_id
    return status["model"]


def remote_id(live: LiveEngine) -> str:
    return live.get("/api/remotes")["remotes"][0]["id"]


def test_what_it_can_do_is_found_out(here: LiveEngine, there: LiveEngine) -> None:
    remote = here.get("/api/remotes")["remotes"][0]
    features = remote["features"]
    assert features["software"] == "Seamount"
    assert (features["reasoning"], features["efforts"]) == ("yes", "yes")
    assert (features["continues"], features["continue_by"]) == ("yes", "prefix")
    assert features["usage"] == "yes" and features["spent_tokens"] > 0
    assert remote["model"] == V4_MODEL and remote["has_key"] and remote["whereabouts"] == "this machine"
    assert there.address.key not in str(here.get("/api/remotes"))
    entry = next(each for each in here.get("/api/models")["models"] if each["id"] == remote["id"])
    assert entry["source"] == "remote" and entry["remote"]["whereabouts"] == "this machine"
    loaded = here.get("/api/status")["model"]
    assert loaded["backend"] == "remote" and loaded["remote"]["host"] == "127.0.0.1"
    assert [each["problem"] for each in loaded["modes"]] == [None, None, None]


def test_an_answer_with_its_reasoning_and_cost(here: LiveEngine) -> None:
    message = here.answer("Hello?", mode="high")
    assert (message["reasoning"], message["text"]) == ("First I think.", "Then I answer.")
    assert message["status"] == "complete" and message["finish_reason"] == "stop"
    usage = message["usage"]
    assert usage["currency"] == "EUR"
    assert usage["cost"] == pytest.approx(
        (usage["prompt_tokens"] * 1.0 + usage["generated_tokens"] * 2.0) / 1e6
    )
    assert message["thought"]["tokens"] == len("First I think.")
    assert here.answer("Hello?", mode="non-think")["text"] == "A plain answer."


def test_tools_and_their_results(here: LiveEngine) -> None:
    session_id = here.new_session()
    here.client.patch(f"/api/sessions/{session_id}", json={"tools": TOOLS}).raise_for_status()
    asked = here.ask("What is the weather in Paris?", session_id, mode="high")
    answer = here.finish(asked["id"])["message"]
    assert [call["name"] for call in answer["tool_calls"]] == ["get_weather", "get_weather"]
    assert answer["finish_reason"] == "tool_calls" and answer["text"] == "Looking."
    results = [{"tool_call_id": call["id"], "text": "22 degrees"} for call in answer["tool_calls"]]
    turn = {"kind": "results", "session_id": session_id, "message_id": answer["id"], "results": results}
    second = here.finish(here.post("/api/turns", {"turn": turn, "mode": "high"})["id"])["message"]
    assert [call["name"] for call in second["tool_calls"]] == ["write_file"]
    costs = here.get(f"/api/sessions/{session_id}")["costs"]
    assert costs["EUR"] == pytest.approx(answer["usage"]["cost"] + second["usage"]["cost"])


def test_a_conversation_between_both(here: LiveEngine) -> None:
    """Begun by a local model, gone on with elsewhere, and back again: text alone goes between them."""
    far = remote_id(here)
    load(here, V4_MODEL)
    session_id = here.new_session()
    here.finish(here.ask("One.", session_id, mode="high")["id"])
    load(here, far)
    second = here.finish(here.ask("Two.", session_id, mode="high")["id"])["message"]
    assert second["text"] == "Then I answer."
    reuse = here.post("/api/reuse", {"session_id": session_id, "mode": "high"})
    assert (reuse["total"], reuse["reread"]) == (0, 0)
    load(here, V4_MODEL)
    retry = {"kind": "retry", "session_id": session_id, "message_id": second["id"]}
    again = here.finish(here.post("/api/turns", {"turn": retry, "mode": "high"})["id"])["message"]
    third = here.finish(here.ask("Three.", session_id, mode="high")["id"])["message"]
    assert again["model_id"] == third["model_id"] == V4_MODEL and third["status"] == "complete"
    exported = here.client.get(f"/api/sessions/{session_id}/export?kind=json")
    assert exported.status_code == 200 and "Then I answer." in exported.text
    load(here, far)


def test_a_conversation_goes_only_where_the_person_was_told_that_it_goes(here: LiveEngine) -> None:
    """Another window may have had a model elsewhere loaded since the person looked."""
    far = remote_id(here)
    session_id = here.new_session()
    turn = {"kind": "ask", "session_id": session_id, "text": "Private?"}

    def asked(told_place: str) -> Any:
        return here.client.post("/api/turns", json={"turn": turn, "mode": "high", "told_place": told_place})

    load(here, V4_MODEL)
    first = asked("")
    assert first.status_code == 201
    answer = here.finish(first.json()["id"])["message"]
    load(here, far)
    turns: list[dict[str, Any]] = [
        turn,
        {"kind": "retry", "session_id": session_id, "message_id": answer["id"]},
        {"kind": "edit", "session_id": session_id, "message_id": answer["parent_id"], "text": "Else?"},
    ]
    for each in turns:
        for told_place in ("", "elsewhere.example.org"):
            refused = here.client.post("/api/turns", json={"turn": each, "told_place": told_place})
            assert refused.status_code == 409 and "127.0.0.1" in refused.json()["error"]["text"]
    assert len(here.get(f"/api/sessions/{session_id}")["messages"]) == 2
    taken = asked("127.0.0.1")
    assert taken.status_code == 201
    assert here.finish(taken.json()["id"])["message"]["model_id"] == far


def test_a_program_asks_through_it(here: LiveEngine) -> None:
    body = {
        "model": remote_id(here),
        "messages": [{"role": "user", "content": "Hello?"}],
        "reasoning_effort": "high",
    }
    whole = here.post("/v1/chat/completions", body)
    message = whole["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("Then I answer.", "First I think.")
    assert whole["usage"]["completion_tokens"] > 0


def test_a_program_of_anthropics_dialect_asks_through_it(here: LiveEngine) -> None:
    tools = [
        {"name": tool["function"]["name"], "input_schema": tool["function"]["parameters"]} for tool in TOOLS
    ]
    question = {"role": "user", "content": "The weather in Paris?"}
    body: dict[str, Any] = {
        "model": remote_id(here),
        "max_tokens": 2000,
        "tools": tools,
        "thinking": {"type": "adaptive", "display": "omitted"},
        "messages": [question],
    }
    whole = here.post("/v1/messages", body)
    assert whole["stop_reason"] == "tool_use"
    assert [block["type"] for block in whole["content"]] == ["thinking", "text", "tool_use", "tool_use"]
    ids = [block["id"] for block in whole["content"] if block["type"] == "tool_use"]
    results = [{"type": "tool_result", "tool_use_id": each, "content": "22 degrees"} for each in ids]
    turns = [
        question,
        {"role": "assistant", "content": whole["content"]},
        {"role": "user", "content": results},
    ]
    after = here.post("/v1/messages", {**body, "messages": turns})
    assert [block["name"] for block in after["content"] if block["type"] == "tool_use"] == ["write_file"]
    asked = {name: body[name] for name in ("model", "messages")}
    counted = here.client.post("/v1/messages/count_tokens", json=asked)
    assert counted.status_code == 400 and "another machine" in counted.json()["error"]["message"]


def test_an_answer_that_is_stopped_and_gone_on_with(here: LiveEngine, there: LiveEngine) -> None:
    session_id = here.new_session()
    turn = here.ask("slowly now", session_id, mode="high")
    for _, event in here.events(turn["id"]):
        if event["kind"] == "text" and event["part"] == "text":
            break
    here.client.delete(f"/api/turns/{turn['id']}").raise_for_status()
    cut = here.message(session_id, turn["answer"]["id"])
    assert cut["finish_reason"] == "cancelled" and 0 < len(cut["text"]) < len("And so I say it.")
    # Nobody wants it there either.
    there.wait_status(lambda s: s["active_turn_id"] is None and s["queue_length"] == 0)
    whole = here.finish(here.continue_answer(session_id, cut["id"])["id"])["message"]
    assert whole["text"] == "And so I say it." and whole["reasoning"] == "Step by step I think of it."
    assert whole["continued"] == "different"
    assert "beginning" in " ".join(whole["notices"])


def test_the_commands(
    here: LiveEngine, there: LiveEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    aside: list[str] = []

    def run(root: Path, *words: str) -> str:
        status = cli.main(["--data", str(root), *words], open_window=lambda *_: 9)
        told = capsys.readouterr()
        assert status == 0, told.err
        assert there.address.key not in told.out + told.err
        aside.append(told.err)
        return told.out

    assert run(there.folder.root, "remotes", "port") == f"{there.address.url.rpartition(':')[2]}\n"
    assert "The other one" in run(here.folder.root, "remotes")
    assert "elsewhere  The other one" in run(here.folder.root, "models")
    added = run(here.folder.root, "remotes", "add", "http://127.0.0.1:1/v1", "--model", "m", "--name", "Gone")
    assert "nothing listens there" in added
    assert "is forgotten" in run(here.folder.root, "remotes", "remove", "Gone")
    asked = run(here.folder.root, "chat", "--model", remote_id(here), "--prompt", "Hello?")
    assert asked.strip() == "Then I answer."
    assert "(What you write is sent to 127.0.0.1: this machine.)" in aside[-1]
    exported = here.client.get(
        f"/api/sessions/{here.get('/api/sessions')['sessions'][0]['id']}/export?kind=json"
    )
    assert '"cost"' in exported.text
    (tmp_path / "one.json").write_bytes(exported.content)
    run(here.folder.root, "sessions", "import", str(tmp_path / "one.json"))
    run(here.folder.root, "sessions", "verify")


def test_a_model_that_answers_is_not_removed(here: LiveEngine) -> None:
    reply = here.client.delete(f"/api/remotes/{remote_id(here)}")
    assert reply.status_code == 409
    assert here.client.get("/api/placement", params={"model_id": remote_id(here)}).status_code in (404, 405)


def test_an_engine_that_cannot_be_reached_leaves_the_loaded_model(here: LiveEngine) -> None:
    body = {"name": "Gone", "model": "m", "addresses": [{"url": "http://127.0.0.1:1/v1"}]}
    gone = here.post("/api/remotes", body)
    before = here.get("/api/status")["model"]["id"]
    here.post("/api/models/load", {"model_id": gone["id"]})
    status = here.wait_status(lambda s: s["loading_model_id"] is None and s["error"] is not None)
    assert status["error"]["code"] == "remote_unreachable" and status["model"]["id"] == before
    here.client.delete(f"/api/remotes/{gone['id']}").raise_for_status()
    load(here, before)


def test_the_dialects_through_it(here: LiveEngine) -> None:
    """What programs ask of this engine, asked of the other one: streams, tools, beginnings, bare texts, blocks."""
    model, hello = remote_id(here), [{"role": "user", "content": "Hello?"}]
    weather = [{"role": "user", "content": "What is the weather in Paris?"}]
    body = {"model": model, "messages": weather, "tools": TOOLS, "stream": True}
    events = here.client.post("/v1/chat/completions", json=body).text
    chunks = [json.loads(line[6:]) for line in events.splitlines() if line.startswith("data: {")]
    deltas = [each["choices"][0]["delta"] for each in chunks]
    assert "".join(each.get("reasoning_content", "") for each in deltas) == "I need two things."
    calls = next(each["tool_calls"] for each in deltas if "tool_calls" in each)
    assert [json.loads(each["function"]["arguments"])["city"] for each in calls] == ["Paris", "Rome"]
    begun = [*hello, {"role": "assistant", "content": "A pl", "prefix": True}]
    whole = here.post("/v1/chat/completions", {"model": model, "messages": begun, "reasoning_effort": "none"})
    assert whole["choices"][0]["message"]["content"] == "ain answer."
    bare = here.post("/v1/completions", {"model": model, "prompt": "Hello", "max_tokens": 5})
    assert bare["choices"][0]["finish_reason"] == "length" and bare["usage"]["completion_tokens"] == 5
    blocks = here.post("/v1/messages", {"model": model, "messages": hello, "max_tokens": 500})["content"]
    assert blocks[-1]["text"] in ("Then I answer.", "A plain answer.")
    refused = here.client.post(
        "/v1/chat/completions", json={"model": model, "messages": hello, "logprobs": True}
    )
    assert refused.status_code == 400 and "another machine" in refused.text


def test_over_the_networks_own_door(here: LiveEngine, there: LiveEngine) -> None:
    """TLS with the certificate that the other one made, a key of its own, and nothing once that is revoked."""
    door = there.put("/api/access/network", {"wanted": True})
    if not door["is_open"] or not door["addresses"]:
        pytest.skip("this machine has no network that the other engine could be reached by")
    made = there.post("/api/access/keys", {"name": "far", "is_network": True})
    url = f"{door['addresses'][0].removesuffix('/v1')}/v1"
    asked = remote_of(there, name="By TLS", key=made["secret"], addresses=[{"url": url}])
    before = here.get("/api/status")["model"]["id"]
    try:
        unknown = here.post("/api/remotes/check", {"remote": asked})
        assert unknown["fingerprint"] == door["fingerprint"] and unknown["features"] is None
        asked["addresses"] = [{"url": url, "fingerprint": unknown["fingerprint"]}]
        remote = here.post("/api/remotes", asked)
        assert remote["problem"] is None and remote["features"]["software"] == "Seamount"
        load(here, remote["id"])
        assert here.answer("Hello?", mode="high")["text"] == "Then I answer."
        there.client.delete(f"/api/access/keys/{made['key']['id']}").raise_for_status()
        failed = here.finish(here.ask("Hello?")["id"])
        assert failed["kind"] == "error" and failed["error"]["code"] == "remote_key"
        assert made["secret"] not in str(failed)
    finally:
        load(here, before)
        there.put("/api/access/network", {"wanted": False})
