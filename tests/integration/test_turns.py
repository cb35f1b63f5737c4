"""Turns over HTTP, with the scripted backend."""

from typing import Any

import pytest

from tests.integration.conftest import StartEngine
from tests.integration.live_engine import SLOW_TEXT, LiveEngine, in_thread, read_events


def test_an_answer_streams_in_order_and_is_stored(engine: LiveEngine) -> None:
    session_id = engine.new_session()
    turn = engine.ask("Talk quickly, please", session_id)
    assert turn["question"]["text"] == "Talk quickly, please"
    assert turn["answer"]["status"] == "running"
    events = list(engine.events(turn["id"]))
    numbers = [number for number, _ in events]
    assert numbers == sorted(set(numbers))
    kinds = [event["kind"] for _, event in events]
    order = {"queued": 0, "prefill": 1, "text": 2, "usage": 3, "done": 4}
    assert [order[kind] for kind in kinds] == sorted(order[kind] for kind in kinds)
    assert set(kinds) == set(order)
    text = "".join(event["text"] for _, event in events if event["kind"] == "text")
    assert len(text) == 3000
    done = events[-1][1]
    assert done["finish_reason"] == "stop"
    assert done["message"]["text"] == text
    assert done["message"]["status"] == "complete"
    usage = events[-2][1]["usage"]
    assert usage["generated_tokens"] == 3000
    assert 0 <= usage["seed"] < 2**53
    stored = engine.get(f"/api/sessions/{session_id}")
    assert [m["text"] for m in stored["messages"]] == ["Talk quickly, please", text]
    assert stored["leaf_id"] == turn["answer"]["id"]
    assert stored["summary"]["title"] == "Talk quickly, please"


def test_a_late_listener_and_one_that_comes_back_get_everything(engine: LiveEngine) -> None:
    turn = engine.ask("Talk quickly")
    first = list(engine.events(turn["id"]))
    whole = "".join(event["text"] for _, event in first if event["kind"] == "text")
    late = list(engine.events(turn["id"]))
    assert "".join(event["text"] for _, event in late if event["kind"] == "text") == whole
    texts = [(number, event) for number, event in first if event["kind"] == "text"]
    number, event = texts[(len(texts) - 1) // 2]
    rest = list(engine.events(turn["id"], {"Last-Event-ID": str(number)}))
    assert all(later > number for later, _ in rest)
    missed = [event for _, event in rest if event["kind"] == "text"]
    assert "".join(event["text"] for event in missed) == whole[event["offset"] + len(event["text"]) :]
    # However few events it took to tell them, the pieces have numbers of their own: from any of them it goes
    # on, with the next piece.
    before = max(number for number, event in first if event["kind"] in ("queued", "prefill"))
    middle = (before + texts[-1][0]) // 2
    assert before < middle < texts[-1][0]
    offsets: list[int] = []
    for number in (middle, middle + 1):
        rest = list(engine.events(turn["id"], {"Last-Event-ID": str(number)}))
        missed = [event for _, event in rest if event["kind"] == "text"]
        offsets.append(missed[0]["offset"])
        assert "".join(event["text"] for event in missed) == whole[offsets[-1] :]
    assert 0 < offsets[0] < offsets[1]
    assert rest[-1] == first[-1]
    assert list(engine.events(turn["id"], {"Last-Event-ID": str(first[-1][0])})) == []
    # A number of more digits than Python reads is none.
    again = list(engine.events(turn["id"], {"Last-Event-ID": "9" * 5000}))
    assert (again[0], again[-1]) == (first[0], first[-1])


def test_tokens_of_a_slow_model_go_out_at_once(engine: LiveEngine) -> None:
    turn = engine.ask("Talk slowly", max_tokens=20)
    texts = [event for _, event in engine.events(turn["id"]) if event["kind"] == "text"]
    # 10 ms per token is below the longest group, so two may travel together, but never a whole batch.
    assert len(texts) >= 8


def test_stop_takes_effect_within_a_token(engine: LiveEngine) -> None:
    turn = engine.ask("Talk slowly")
    events = engine.events(turn["id"])
    shown = ""
    while len(shown) < 10:
        _, event = next(events)
        if event["kind"] == "text":
            shown += event["text"]
    assert engine.client.delete(f"/api/turns/{turn['id']}").status_code == 204
    rest = [event for _, event in events]
    shown += "".join(event["text"] for event in rest if event["kind"] == "text")
    assert rest[-1]["kind"] == "done"
    assert rest[-1]["finish_reason"] == "cancelled"
    assert rest[-1]["message"]["status"] == "complete"
    assert rest[-1]["message"]["text"] == shown
    assert len(shown) < 60
    assert engine.client.delete(f"/api/turns/{turn['id']}").status_code == 204
    # What was stopped can go on, and comes to the same end.
    more = engine.continue_answer(turn["session_id"], turn["answer"]["id"])
    first_text = next(event for _, event in engine.events(more["id"]) if event["kind"] == "text")
    assert first_text["offset"] == len(shown)
    engine.client.delete(f"/api/turns/{more['id']}")


def test_a_long_prefill_can_be_stopped(engine: LiveEngine) -> None:
    engine.put("/api/settings", {"context_tokens": 100_000})
    engine.wait_status(lambda s: s["model"] and s["model"]["context_tokens"] == 100_000)
    turn = engine.ask("prefill " * 8000)
    events = engine.events(turn["id"])
    progress = next(event for _, event in events if event["kind"] == "prefill" and event["done"] > 0)
    assert progress["done"] < progress["total"]
    engine.client.delete(f"/api/turns/{turn['id']}")
    rest = [event for _, event in events]
    assert rest[-1]["finish_reason"] == "cancelled"
    # It stopped between two chunks, long before the prompt was read.
    assert all(event["done"] < event["total"] // 2 for event in rest if event["kind"] == "prefill")


def test_a_second_client_waits_and_is_told_its_place(engine: LiveEngine) -> None:
    first = engine.ask("Talk slowly")
    second = engine.ask("Hello")
    third = engine.ask("Hello")
    events = engine.events(third["id"])
    assert next(events)[1] == {"kind": "queued", "place": 2}
    status = engine.get("/api/status")
    assert status["queue_length"] == 2
    assert status["active_turn_id"] == first["id"]
    engine.client.delete(f"/api/turns/{second['id']}")
    assert next(events)[1] == {"kind": "queued", "place": 1}
    gone = engine.finish(second["id"])
    assert (gone["kind"], gone["finish_reason"], gone["message"]["text"]) == ("done", "cancelled", "")
    engine.client.delete(f"/api/turns/{first['id']}")
    rest = [event for _, event in events]
    assert rest[0] == {"kind": "queued", "place": 0}
    assert rest[-1]["message"]["text"] == "Hello there."


def test_a_backend_that_fails_ends_the_turn_and_not_the_engine(engine: LiveEngine) -> None:
    turn = engine.ask("Please fail")
    failed = engine.finish(turn["id"])
    assert failed["kind"] == "error"
    assert failed["error"]["code"] == "generation"
    assert failed["message"]["status"] == "failed"
    assert failed["message"]["text"] == "This answer "
    more = engine.continue_answer(turn["session_id"], turn["answer"]["id"])
    assert engine.finish(more["id"])["message"]["text"] == "This answer breaks off somewhere."


def test_retry_and_edit_make_siblings(engine: LiveEngine) -> None:
    session_id = engine.new_session()
    turn = engine.ask("Hello", session_id)
    engine.finish(turn["id"])
    retry = {"kind": "retry", "session_id": session_id, "message_id": turn["answer"]["id"]}
    again = engine.post("/api/turns", {"turn": retry})
    assert again["question"] is None
    assert again["answer"]["parent_id"] == turn["question"]["id"]
    engine.finish(again["id"])
    edit = {"kind": "edit", "session_id": session_id, "message_id": turn["question"]["id"], "text": "Bye"}
    edited = engine.post("/api/turns", {"turn": edit})
    assert edited["question"]["parent_id"] is None
    engine.finish(edited["id"])
    session = engine.get(f"/api/sessions/{session_id}")
    assert len(session["messages"]) == 5
    assert session["leaf_id"] == edited["answer"]["id"]


def test_every_window_hears_of_every_change(engine: LiveEngine) -> None:
    heard: list[Any] = []
    with engine.client.stream("GET", "/api/events") as reply:
        events = read_events(reply)
        assert next(events)[1]["status"]["model"]["name"] == "talk"
        session_id = engine.new_session()
        engine.client.patch(f"/api/sessions/{session_id}", json={"title": "Ducks"})
        engine.client.delete(f"/api/sessions/{session_id}")
        engine.client.post(f"/api/sessions/{session_id}/restore")
        engine.client.post(f"/api/sessions/{session_id}/purge")
        for _, event in events:
            if event["kind"] == "session":
                assert event["session_id"] == session_id
                heard.append(event["change"])
                if event["change"] == "purged":
                    break
    assert heard == ["created", "updated", "deleted", "restored", "purged"]
    assert engine.client.get(f"/api/sessions/{session_id}").status_code == 404


def test_purging_a_conversation_stops_what_is_written_in_it(engine: LiveEngine) -> None:
    turn = engine.ask("Talk slowly")
    thread, ends = in_thread(engine.finish, turn["id"])
    engine.wait_status(lambda s: s["active_turn_id"] == turn["id"])
    assert engine.client.post(f"/api/sessions/{turn['session_id']}/purge").status_code == 204
    thread.join(5)
    assert ends[0]["message"]["text"] in SLOW_TEXT
    assert engine.answer("Hello")["text"] == "Hello there."


def test_what_was_asked_before_is_part_of_the_prompt(engine: LiveEngine) -> None:
    session_id = engine.new_session()
    first = engine.finish(engine.ask("Hello", session_id)["id"])["message"]["usage"]
    second = engine.finish(engine.ask("Hello", session_id)["id"])["message"]["usage"]
    assert second["prompt_tokens"] > first["prompt_tokens"] + len("Hello there.")
    assert second["reused_tokens"] >= first["prompt_tokens"]


def test_sampling_comes_from_the_request_else_the_settings(engine: LiveEngine) -> None:
    asked = {"temperature": 1.0, "seed": 4242}
    assert engine.answer("Hello", sampling=asked)["usage"]["seed"] == 4242
    settings = engine.get("/api/settings")
    engine.put("/api/settings", {**settings, "sampling": {"temperature": 0.5, "seed": 77}})
    try:
        assert engine.answer("Hello")["usage"]["seed"] == 77
    finally:
        engine.put("/api/settings", {**settings, "sampling": None})
    seeds = {engine.answer("Hello")["usage"]["seed"] for _ in range(3)}
    assert len(seeds) == 3


@pytest.mark.slow
def test_a_retry_of_a_model_that_always_takes_the_likeliest_token_is_drawn(
    start_engine: StartEngine,
) -> None:
    live = start_engine("--model", "starter", scripted=False)
    live.wait_model()
    turn = live.ask("What is the capital of France?", max_tokens=12)
    first = live.finish(turn["id"])["message"]
    assert "Paris" in first["text"]
    retry = {"kind": "retry", "session_id": turn["session_id"], "message_id": first["id"]}
    # Greedy again would be the same text each time. Draws of a sure answer may be alike, but not all of them.
    texts: set[str] = set()
    for _ in range(24):
        again = live.post("/api/turns", {"turn": retry, "max_tokens": 12})
        texts.add(live.finish(again["id"])["message"]["text"])
        if len(texts) > 1:
            break
    assert len(texts) > 1


@pytest.mark.slow
def test_an_answer_that_runs_in_circles_ends_and_can_go_on(start_engine: StartEngine) -> None:
    live = start_engine()
    live.wait_model()
    live.put("/api/settings", {**live.get("/api/settings"), "answer_tokens": 40})
    turn = live.ask("Say it slowly.")
    cut = live.finish(turn["id"])["message"]
    assert (cut["status"], cut["finish_reason"], cut["text"]) == ("complete", "length", SLOW_TEXT[:40])
    more = live.finish(live.continue_answer(turn["session_id"], cut["id"])["id"])["message"]
    assert more["text"] == SLOW_TEXT[:80]


@pytest.mark.slow
def test_the_status_names_the_message_that_is_being_written(start_engine: StartEngine) -> None:
    live = start_engine()
    live.wait_model()
    turn = live.ask("Say it slowly.")
    status = live.wait_status(lambda status: status["active_turn_id"] is not None)
    assert status["active_answer_id"] == turn["answer"]["id"]
    live.client.delete(f"/api/turns/{turn['id']}")
    assert live.wait_status(lambda status: status["active_turn_id"] is None)["active_answer_id"] is None


def test_what_a_turn_would_cost_is_what_it_then_does(engine: LiveEngine) -> None:
    session_id = engine.new_session()
    turn = engine.ask("Hello", session_id)
    engine.finish(turn["id"])
    answer_id, question_id = turn["answer"]["id"], turn["question"]["id"]

    def cost(kind: str, message_id: str | None) -> Any:
        asked = {"session_id": session_id, "mode": "high", "kind": kind, "message_id": message_id}
        return engine.client.post("/api/reuse", json=asked)

    again = cost("retry", answer_id).json()
    assert again["kept"] + again["reread"] == again["total"] > 0
    assert again["reread"] <= 1
    retry = {"kind": "retry", "session_id": session_id, "message_id": answer_id}
    usage = engine.finish(engine.post("/api/turns", {"turn": retry})["id"])["message"]["usage"]
    assert (usage["prompt_tokens"], usage["reused_tokens"]) == (again["total"], again["kept"])
    assert cost("edit", question_id).json()["total"] < again["total"]
    below = cost("ask", answer_id).json()
    assert below["total"] > again["total"]
    assert below["kept"] > 0
    for kind, message_id in (("retry", question_id), ("edit", answer_id), ("edit", None)):
        refused = cost(kind, message_id)
        assert refused.status_code == 400
        assert refused.json()["error"]["code"] == "bad_request"
    assert cost("retry", "nothing").status_code == 404
