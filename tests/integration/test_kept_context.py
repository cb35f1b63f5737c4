"""What is read again in a real conversation with a converted V4 model: next to nothing, whatever computes it."""

from collections.abc import Iterator
from typing import Any

import pytest

from convert.conversion import convert
from engine.paths import DataFolder
from tests.convert.conversions import checkpoint, job
from tests.integration.live_engine import LiveEngine
from tests.integration.v4_script import TOOLS

pytestmark = pytest.mark.slow

LONG_QUESTION = "The deep sea begins where the light of day ends, and it is older than the land. " * 20
THINKS = {
    "mode": "high",
    "thinking_tokens": 12,
    "max_tokens": 40,
    "sampling": {"temperature": 1.0, "top_p": 1.0, "min_p": 0.0, "seed": 4},
}
PLAIN = THINKS | {"mode": "non-think", "max_tokens": 20}
NEXT_TO_NOTHING = 34  # what is not worth reading in two parts, and the end of a prompt


@pytest.fixture(scope="module", params=["llamacpp", "native"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveEngine]:
    if request.param == "native":
        pytest.importorskip("torch", reason="PyTorch is not installed")
    root = tmp_path_factory.mktemp("kept")
    folder = DataFolder(root)
    folder.create()
    source = checkpoint(root / "source", "0731", layers=4, seed=8)
    convert(job(source, folder.models / "DeepSeek-V4-Flash-0731.gguf", draft="skip"))
    folder.settings.write_text(f'format = 1\ncontext_tokens = 4096\nbackend = "{request.param}"\n')
    live = LiveEngine(root, "--model", "folder:DeepSeek-V4-Flash-0731.gguf")
    model = live.wait_model()["model"]
    assert model["backend"] == {"llamacpp": "llama.cpp"}.get(request.param, request.param)
    yield live
    live.close()


def answered(engine: LiveEngine, turn: dict[str, Any], how: dict[str, Any] = THINKS) -> tuple[Any, int]:
    """The answer's message, and how many tokens were read for it."""
    begun = engine.post("/api/turns", {"turn": turn, **how})
    message = engine.finish(begun["id"])["message"]
    usage = message["usage"]
    return message, usage["prompt_tokens"] - usage["reused_tokens"]


def ask(session_id: str, text: str) -> dict[str, Any]:
    return {"kind": "ask", "session_id": session_id, "text": text}


def retry(session_id: str, message: Any) -> dict[str, Any]:
    return {"kind": "retry", "session_id": session_id, "message_id": message["id"]}


def test_thinking_turns_read_the_last_answer_and_the_question(engine: LiveEngine) -> None:
    """The reasoning of the turn before is left out of the prompt, so the context is gone back in."""
    session_id = engine.new_session()
    first, read = answered(engine, ask(session_id, LONG_QUESTION))
    assert read == first["usage"]["prompt_tokens"] > 500
    assert first["reasoning"]
    again, read = answered(engine, retry(session_id, first))
    assert again["usage"]["prompt_tokens"] == first["usage"]["prompt_tokens"]
    assert read <= NEXT_TO_NOTHING
    # What the window tells beforehand is what is then done.
    cost = engine.post("/api/reuse", {"session_id": session_id, "mode": "high"})
    second, read = answered(engine, ask(session_id, "And who lives there?"))
    assert second["usage"]["reused_tokens"] == cost["kept"]
    assert read == second["usage"]["prompt_tokens"] - cost["kept"] <= 100 < cost["kept"]
    assert answered(engine, retry(session_id, second))[1] <= NEXT_TO_NOTHING
    edit = {
        "kind": "edit",
        "session_id": session_id,
        "message_id": second["parent_id"],
        "text": "And who not?",
    }
    third, read = answered(engine, edit)
    assert read <= 100 < third["usage"]["reused_tokens"]


def test_turns_with_tools_read_what_is_new(engine: LiveEngine) -> None:
    """With tools all reasoning stays, so nothing is gone back in."""
    session_id = engine.new_session()
    assert engine.client.patch(f"/api/sessions/{session_id}", json={"tools": TOOLS}).status_code == 200
    answered(engine, ask(session_id, LONG_QUESTION))
    second, read = answered(engine, ask(session_id, "And who lives there?"))
    assert read < 60 < second["usage"]["reused_tokens"]
    edit = {
        "kind": "edit",
        "session_id": session_id,
        "message_id": second["parent_id"],
        "text": "And who not?",
    }
    assert answered(engine, edit)[1] < 60


def test_another_mode_costs_what_was_told(engine: LiveEngine) -> None:
    session_id = engine.new_session()
    first, _ = answered(engine, ask(session_id, LONG_QUESTION), PLAIN)
    cost = engine.post("/api/reuse", {"session_id": session_id, "mode": "high"})
    assert cost["kept"] + cost["reread"] == cost["total"]
    second, _ = answered(engine, ask(session_id, "And who lives there?"))
    assert second["usage"]["reused_tokens"] == cost["kept"]
    same = engine.post("/api/reuse", {"session_id": session_id, "mode": "non-think"})
    again, read = answered(engine, ask(session_id, "Is it dark?"), PLAIN)
    assert again["usage"]["reused_tokens"] == same["kept"]
    assert read == again["usage"]["prompt_tokens"] - same["kept"]
    assert first["usage"]["prompt_tokens"] < again["usage"]["prompt_tokens"]


def test_a_cancelled_reading_goes_on_where_it_was(engine: LiveEngine) -> None:
    session_id = engine.new_session()
    begun = engine.post("/api/turns", {"turn": ask(session_id, LONG_QUESTION * 3), **THINKS})
    for _, event in engine.events(begun["id"]):
        if event["kind"] == "prefill" and event["done"] >= 512:
            engine.client.delete(f"/api/turns/{begun['id']}")
    message = engine.message(session_id, begun["answer"]["id"])
    again, read = answered(engine, retry(session_id, message))
    assert again["usage"]["reused_tokens"] >= 512
    assert read < again["usage"]["prompt_tokens"]
