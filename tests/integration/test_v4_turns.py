"""DeepSeek-V4's modes, tools and titles over HTTP, with a scripted model."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.contexts.turn_context import MOST_TRIES
from engine.paths import DataFolder
from tests.integration.live_engine import LiveEngine, write_script
from tests.integration.v4_script import BROAD_CONTEXT, TOOLS, V4_MODEL, V4_SCRIPT


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveEngine]:
    root = tmp_path_factory.mktemp("v4")
    yield from started(root, BROAD_CONTEXT)


def started(root: Path, context_tokens: int) -> Iterator[LiveEngine]:
    folder = DataFolder(root)
    write_script(folder, V4_SCRIPT, "v4")
    folder.settings.write_text(f'format = 1\ncontext_tokens = {context_tokens}\nresume = "offer"\n')
    live = LiveEngine(root, "--model", V4_MODEL)
    live.wait_model()
    yield live
    live.close()


def texts(events: list[Any], part: str) -> str:
    return "".join(e["text"] for e in events if e["kind"] == "text" and e["part"] == part)


def ask(engine: LiveEngine, text: str, session_id: str | None = None, **more: Any) -> tuple[Any, list[Any]]:
    turn = engine.ask(text, session_id, **more)
    return turn, [event for _, event in engine.events(turn["id"])]


def with_tools(engine: LiveEngine) -> str:
    session_id = engine.new_session()
    assert engine.client.patch(f"/api/sessions/{session_id}", json={"tools": TOOLS}).status_code == 200
    return session_id


def results(engine: LiveEngine, turn: Any, told: list[Any]) -> tuple[Any, list[Any]]:
    given = [{"tool_call_id": call_id, "text": text} for call_id, text in told]
    body = {"kind": "results", "session_id": turn["session_id"], "message_id": turn["answer"]["id"]}
    following = engine.post("/api/turns", {"turn": {**body, "results": given}})
    return following, [event for _, event in engine.events(following["id"])]


def test_the_status_names_the_release_and_its_modes(engine: LiveEngine) -> None:
    model = engine.get("/api/status")["model"]
    assert model["release"] == "preview"
    assert [(choice["mode"], choice["problem"]) for choice in model["modes"]] == [
        ("non-think", None), ("high", None), ("max", None),
    ]  # fmt: skip


@pytest.mark.parametrize("mode", ["high", "max"])
def test_thinking_streams_before_the_answer(engine: LiveEngine, mode: str) -> None:
    turn, events = ask(engine, "Hello?", mode=mode)
    kinds = [event["kind"] for event in events]
    assert texts(events, "reasoning") == "First I think."
    assert texts(events, "text") == "Then I answer."
    assert kinds.index("thought") > kinds.index("text")
    thought = next(event["thought"] for event in events if event["kind"] == "thought")
    assert thought["tokens"] == len("First I think.")
    message = events[-1]["message"]
    assert (message["mode"], message["reasoning"], message["text"]) == (
        mode, "First I think.", "Then I answer.",
    )  # fmt: skip
    assert message["thought"]["tokens"] == thought["tokens"]
    assert engine.message(turn["session_id"], turn["answer"]["id"]) == message


def test_without_thinking_there_is_none(engine: LiveEngine) -> None:
    _, events = ask(engine, "Hello?", mode="non-think")
    message = events[-1]["message"]
    assert (message["text"], message["reasoning"], message["thought"]) == ("A plain answer.", "", None)
    assert all(event.get("part") != "reasoning" for event in events)


def test_the_default_mode_is_a_setting(engine: LiveEngine) -> None:
    settings = engine.get("/api/settings")
    engine.put("/api/settings", {**settings, "mode": "non-think"})
    try:
        assert ask(engine, "Hello?")[1][-1]["message"]["mode"] == "non-think"
    finally:
        engine.put("/api/settings", settings)


def test_two_tools_with_reasoning_between(engine: LiveEngine) -> None:
    session_id = with_tools(engine)
    first, events = ask(engine, "The weather in Paris and Rome, saved", session_id, mode="high")
    done = events[-1]
    assert done["finish_reason"] == "tool_calls"
    paris, rome = done["message"]["tool_calls"]
    assert [(c["name"], c["arguments"], c["status"]) for c in (paris, rome)] == [
        ("get_weather", '{"city": "Paris"}', "exact"),
        ("get_weather", '{"city": "Rome"}', "exact"),
    ]
    for number, call in enumerate((paris, rome)):
        written = [e for e in events if e["kind"] == "call" and e["index"] == number]
        assert "".join(e["arguments"] for e in written) == call["arguments"]
        assert {e["id"] for e in written} == {call["id"]}
    # Results come in any order and are kept in the order of the calls.
    second, events = results(engine, first, [(rome["id"], "25 degrees"), (paris["id"], "22 degrees")])
    assert [m["text"] for m in second["results"]] == ["22 degrees", "25 degrees"]
    (write,) = events[-1]["message"]["tool_calls"]
    assert write["name"] == "write_file"
    third, events = results(engine, second, [(write["id"], "saved")])
    assert events[-1]["finish_reason"] == "stop"
    assert events[-1]["message"]["text"] == "It is warm, and the file is written."
    roles = [m["role"] for m in engine.get(f"/api/sessions/{session_id}")["messages"]]
    assert roles == ["user", "assistant", "tool", "tool", "assistant", "tool", "assistant"]
    # With tools all reasoning stays, and what was written is not tokenised anew: nothing is read twice.
    usage = next(event["usage"] for event in events if event["kind"] == "usage")
    assert usage["prompt_tokens"] - usage["reused_tokens"] < 60
    assert third["session_id"] == session_id


def test_a_call_with_a_slip_is_repaired_and_said(engine: LiveEngine) -> None:
    _, events = ask(engine, "a slip, please", with_tools(engine), mode="high")
    message = events[-1]["message"]
    (call,) = message["tool_calls"]
    assert (call["status"], call["arguments"]) == ("repaired", '{"city": "Oslo"}')
    assert events[-1]["finish_reason"] == "tool_calls"
    assert "in spite of a slip" in call["problem"]
    assert message["notices"] == []


@pytest.mark.parametrize(
    ("question", "why"), [("city twice", "given twice"), ("an unknown tool", "there is no tool 'rm'")]
)
def test_a_call_that_may_mean_something_else_is_refused_and_the_model_told(
    engine: LiveEngine, question: str, why: str
) -> None:
    turn, events = ask(engine, question, with_tools(engine), mode="high")
    assert events[-1]["finish_reason"] == "stop"
    (call,) = events[-1]["message"]["tool_calls"]
    assert call["status"] == "rejected"
    assert why in call["problem"]
    _, events = results(engine, turn, [(call["id"], call["problem"])])
    assert events[-1]["message"]["tool_calls"][0]["arguments"] == '{"city": "Bern"}'


def test_reasoning_ends_at_its_budget(engine: LiveEngine) -> None:
    _, events = ask(engine, "ponder", mode="high", thinking_tokens=30)
    message = events[-1]["message"]
    assert len(message["reasoning"]) == 30
    assert message["text"] == "Forty-two."
    assert [e["code"] for e in events if e["kind"] == "notice"] == ["budget"]
    assert "after 30 tokens" in message["notices"][0]


def test_reasoning_in_circles_is_ended(engine: LiveEngine) -> None:
    _, events = ask(engine, "circles", mode="high")
    message = events[-1]["message"]
    assert 200 < len(message["reasoning"]) < 500
    assert message["text"] == "Out."
    assert [e["code"] for e in events if e["kind"] == "notice"] == ["loop"]


def test_the_model_names_the_conversation_once(engine: LiveEngine) -> None:
    turn, _ = ask(engine, "What is a seamount?", mode="high")
    title = "A Talk About Seamounts"
    wait_for(lambda: engine.get(f"/api/sessions/{turn['session_id']}")["summary"]["title"] == title)
    engine.client.patch(f"/api/sessions/{turn['session_id']}", json={"title": "Mine"})
    engine.finish(engine.ask("More?", turn["session_id"])["id"])
    assert engine.get(f"/api/sessions/{turn['session_id']}")["summary"]["title"] == "Mine"


def test_a_question_keeps_the_context_that_it_can(engine: LiveEngine) -> None:
    session_id = ask(engine, "Hello?", mode="high")[0]["session_id"]
    wait_for(lambda: engine.get("/api/status")["active_turn_id"] is None)
    # Nothing that cannot be rewound survives a new question that drops the last reasoning.
    cost = engine.post("/api/reuse", {"session_id": session_id, "mode": "high"})
    assert cost["total"] == cost["kept"] + cost["reread"]
    assert cost["kept"] > 0
    most = engine.post("/api/reuse", {"session_id": session_id, "mode": "max"})
    assert most["total"] > cost["total"]
    assert most["kept"] < most["total"]
    following = engine.finish(engine.ask("And?", session_id, mode="high")["id"])
    assert following["message"]["usage"]["reused_tokens"] >= cost["kept"]


@pytest.mark.slow
def test_think_max_is_refused_in_a_small_context(tmp_path: Path) -> None:
    for live in started(tmp_path, 8192):
        choices = {choice["mode"]: choice["problem"] for choice in live.get("/api/status")["model"]["modes"]}
        assert choices["high"] is None
        assert "393,216" in choices["max"]
        session_id = live.new_session()
        turn = {"kind": "ask", "session_id": session_id, "text": "?"}
        refused = live.client.post("/api/turns", json={"turn": turn, "mode": "max"})
        assert refused.status_code == 409
        assert refused.json()["error"]["code"] == "context_too_small"
        assert "Think-High" in refused.json()["error"]["text"]
        assert live.get(f"/api/sessions/{session_id}")["messages"] == []


@pytest.mark.slow
def test_a_stopped_thought_goes_on_where_it_was(engine: LiveEngine) -> None:
    turn = engine.ask("slowly", mode="high")
    shown = ""
    events = engine.events(turn["id"])
    while len(shown) < 8:
        _, event = next(events)
        if event["kind"] == "text":
            shown += event["text"]
    engine.client.delete(f"/api/turns/{turn['id']}")
    shown += texts([event for _, event in events], "reasoning")
    message = engine.message(turn["session_id"], turn["answer"]["id"])
    assert message["reasoning"] == shown
    assert (message["text"], message["finish_reason"]) == ("", "cancelled")
    more = engine.continue_answer(turn["session_id"], turn["answer"]["id"])
    rest = [event for _, event in engine.events(more["id"])]
    assert shown + texts(rest, "reasoning") == "Step by step I think of it."
    assert rest[-1]["message"]["text"] == "And so I say it."
    assert rest[-1]["message"]["reasoning"] == "Step by step I think of it."


@pytest.mark.parametrize(
    ("question", "reasoning", "text", "arguments"),
    [
        ("crash", "I think and think.", "Then I die.", None),
        ("fall", "I think.", "Then I fall over here.", None),
        ("late call", "I call.", "", '{"city": "Lima"}'),
    ],
)
@pytest.mark.slow
def test_after_a_crash_an_answer_goes_on_in_any_part(
    tmp_path: Path, question: str, reasoning: str, text: str, arguments: str | None
) -> None:
    session_id = answer_id = ""
    for live in started(tmp_path, 8192):
        session_id = with_tools(live)
        turn = live.ask(question, session_id, mode="high")
        answer_id = turn["answer"]["id"]
        assert live.process.wait(20) == 70
    for _ in range(MOST_TRIES):  # it goes on just as it came, and so to the same end
        for live in started(tmp_path, 8192):
            live.continue_answer(session_id, answer_id)
            assert live.process.wait(20) == 70
    for live in started(tmp_path, 8192):
        message = live.message(session_id, answer_id)
        assert message["status"] == "interrupted"
        assert reasoning.startswith(message["reasoning"])
        assert bool(message["unfinished_call"]) == (arguments is not None)
        more = live.continue_answer(session_id, answer_id)
        done = live.finish(more["id"])["message"]
        assert (done["reasoning"], done["text"]) == (reasoning, text)
        assert [call["arguments"] for call in done["tool_calls"]] == ([arguments] if arguments else [])
        assert done["unfinished_call"] == ""


def wait_for(condition: Any) -> None:
    import time

    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
