"""What going on with a cut answer costs, as it is told and as it is paid."""

from typing import Any

import pytest

from tests.integration.conftest import StartEngine
from tests.integration.live_engine import LiveEngine

QUICK = 8
"""As many tokens may be read anew and it is still called nothing: the end of what is kept."""


def cut(engine: LiveEngine) -> tuple[str, dict[str, Any]]:
    """An answer that was stopped in the middle; its session and message."""
    turn = engine.ask("Say it slowly, please.")
    seen = 0
    for _, event in engine.events(turn["id"]):
        seen += event["kind"] == "text"
        if seen == 20:
            engine.client.delete(f"/api/turns/{turn['id']}")
    message = engine.message(turn["session_id"], turn["answer"]["id"])
    assert message["finish_reason"] == "cancelled"
    return turn["session_id"], message


def cost(engine: LiveEngine, session_id: str, message_id: str, kind: str = "continue") -> Any:
    body = {"session_id": session_id, "mode": "high", "kind": kind, "message_id": message_id}
    return engine.post("/api/reuse", body)


@pytest.mark.slow
def test_going_on_at_once_reads_nothing_again(engine: LiveEngine) -> None:
    session_id, message = cut(engine)
    told = cost(engine, session_id, message["id"])
    usage = message["usage"]
    assert told["total"] == usage["prompt_tokens"] + usage["generated_tokens"]
    assert told["reread"] <= QUICK
    # An answer beside it does without the tokens that this one has.
    assert cost(engine, session_id, message["id"], "retry")["total"] == usage["prompt_tokens"]


@pytest.mark.slow
def test_without_what_was_read_all_of_it_is_read_and_no_time_is_made_up(start_engine: StartEngine) -> None:
    engine = start_engine()
    engine.wait_model()
    session_id, message = cut(engine)
    engine.close()
    later = start_engine()
    later.wait_model()
    later.post("/api/storage/forget")
    told = cost(later, session_id, message["id"])
    assert (told["kept"], told["reread"]) == (0, told["total"])
    assert told["seconds"] is None


def test_only_an_answer_goes_on(engine: LiveEngine) -> None:
    session_id, message = cut(engine)
    body = {"session_id": session_id, "mode": "high", "kind": "continue", "message_id": message["parent_id"]}
    reply = engine.client.post("/api/reuse", json=body)
    assert reply.status_code == 400
