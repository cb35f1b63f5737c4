"""Memory that is not there, or goes: a real engine with a model of a gigabyte, in a control group of its own."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.paths import DataFolder
from engine.placement.planner import LEAST_RESERVE_BYTES
from tests.benchmarks.synthetic_v4 import synthetic_shape, write_synthetic
from tests.integration.live_engine import SCRIPT_MODEL, LiveEngine, write_script
from tests.integration.memory_group import MemoryGroup

pytestmark = pytest.mark.slow

V4 = "folder:DeepSeek-V4-Flash-0731.gguf"
SHAPE = {
    "n_routed_experts": 40, "num_experts_per_tok": 2, "hidden_size": 256, "moe_intermediate_size": 8192,
    "num_attention_heads": 4, "head_dim": 128, "q_lora_rank": 128, "o_groups": 2, "o_lora_rank": 64,
    "index_n_heads": 4, "index_topk": 16, "vocab_size": 1024,
}  # fmt: skip
AMPLE_BYTES = 4 << 30
QUESTION = "The deep sea begins where the light of day ends, and it is older than the land. " * 4
HOW = {
    "mode": "non-think",
    "max_tokens": 60,
    "sampling": {"temperature": 1.0, "top_p": 1.0, "min_p": 0.0, "seed": 4},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1.1 GB, nearly all of it experts."""
    path = tmp_path_factory.mktemp("model") / "v4.gguf"
    size_bytes = write_synthetic(path, synthetic_shape(layers=8, overrides=SHAPE))
    assert size_bytes > 1_000_000_000
    return path


@pytest.fixture
def group() -> Iterator[MemoryGroup]:
    with MemoryGroup.made(AMPLE_BYTES) as made:
        yield made


@pytest.fixture
def engine(model: Path, group: MemoryGroup, tmp_path: Path) -> Iterator[LiveEngine]:
    """In the group, with a model that weighs nothing."""
    live = started(tmp_path / "data", model, group)
    yield live
    live.close()


def started(root: Path, model: Path, group: MemoryGroup) -> LiveEngine:
    folder = DataFolder(root)
    folder.create()
    write_script(folder)
    folder.settings.write_text("format = 1\ncontext_tokens = 1024\nthreads = 1\n")
    path = folder.models / V4.removeprefix("folder:")
    if not path.exists():
        os.link(model, path)
    live = LiveEngine(root, "--model", SCRIPT_MODEL)
    live.wait_model()
    group.add(live.address.pid)
    # Pages of the file that are in memory already would count for whoever read them.
    with model.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return live


def load(engine: LiveEngine) -> Any:
    """The status once it is loaded or refused."""
    engine.post("/api/models/load", {"model_id": V4})
    return engine.wait_status(
        lambda status: (
            status["loading_model_id"] is None
            and (status["error"] or (status["model"] and status["model"]["id"] == V4))
        )
    )


def begin(engine: LiveEngine, text: str, **more: Any) -> Any:
    ask = {"kind": "ask", "session_id": engine.new_session(), "text": text}
    return engine.post("/api/turns", {"turn": ask, **HOW, **more})


def half(group: MemoryGroup) -> None:
    """Room for half of the experts: the others stay in the file."""
    group.limit(group.taken_bytes + LEAST_RESERVE_BYTES + 600_000_000)


def log_of(engine: LiveEngine) -> str:
    return engine.folder.engine_log.read_text()


def test_what_does_not_fit_is_refused_and_nothing_is_swapped(engine: LiveEngine, group: MemoryGroup) -> None:
    group.limit(group.taken_bytes + LEAST_RESERVE_BYTES + 20_000_000)
    status = load(engine)
    assert status["error"]["code"] == "does_not_fit"
    assert "does not fit into this machine's memory" in status["error"]["text"]
    # The model before it was not given up for that.
    assert status["model"]["id"] == SCRIPT_MODEL
    assert engine.answer("Hello")["text"] == "Hello there."
    assert (group.swapped_bytes, group.killed) == (0, 0)


def test_a_context_that_would_not_fit_leaves_the_model_and_its_conversation(
    engine: LiveEngine, group: MemoryGroup
) -> None:
    # A hundred megabytes too few for what is asked for then, so that it is no near thing.
    group.limit(group.taken_bytes + LEAST_RESERVE_BYTES + 500_000_000)
    assert load(engine)["error"] is None
    turn = begin(engine, QUESTION)
    first = engine.finish(turn["id"])["message"]
    engine.put("/api/settings", engine.get("/api/settings") | {"context_tokens": 1_000_000})
    status = engine.wait_status(lambda status: status["error"] and status["loading_model_id"] is None)
    assert status["error"]["code"] == "does_not_fit"
    assert "1,000,000 tokens" in status["error"]["text"]
    assert (status["model"]["id"], status["model"]["context_tokens"]) == (V4, 1024)
    retry = {"kind": "retry", "session_id": turn["session_id"], "message_id": first["id"]}
    again = engine.finish(engine.post("/api/turns", {"turn": retry, **HOW})["id"])["message"]
    # The context was not made anew: what was read before is still in it.
    assert again["usage"]["reused_tokens"] > again["usage"]["prompt_tokens"] // 2
    assert log_of(engine).count(f"loaded {V4}") == 1


def test_memory_that_shrinks_while_a_model_loads_stops_the_load(
    engine: LiveEngine, group: MemoryGroup
) -> None:
    engine.post("/api/models/load", {"model_id": V4})
    engine.wait_status(lambda status: (status["loading_fraction"] or 0) > 0.1)
    # Room for what is under way, none for all that is to come.
    group.limit(group.taken_bytes + 400_000_000)
    status = engine.wait_status(lambda status: status["error"] and status["loading_model_id"] is None)
    assert status["error"]["code"] == "does_not_fit"
    assert "memory got short while it was being loaded" in status["error"]["text"]
    assert (group.killed, group.swapped_bytes) == (0, 0)
    # What it had taken is given back, and the model before it answers.
    assert group.taken_bytes < 200_000_000
    assert engine.answer("Hello")["text"] == "Hello there."
    # With the memory back it loads.
    group.limit(AMPLE_BYTES)
    assert load(engine)["error"] is None


def squeeze_to(group: MemoryGroup) -> int:
    """What another program has to take for memory to be short, not gone."""
    return group.free_bytes - int(0.45 * LEAST_RESERVE_BYTES)


def test_another_program_takes_the_memory_while_the_model_answers(
    engine: LiveEngine, group: MemoryGroup
) -> None:
    half(group)
    assert load(engine)["error"] is None
    assert group.swapped_bytes == 0
    engine.finish(begin(engine, "Another one", max_tokens=4)["id"])
    calm = engine.finish(begin(engine, QUESTION)["id"])["message"]
    assert len(calm["text"]) > 20
    engine.finish(begin(engine, "Another one", max_tokens=4)["id"])
    turn = begin(engine, QUESTION)
    events = engine.events(turn["id"])
    next(event for _, event in events if event["kind"] == "text")
    with group.hog(squeeze_to(group)):
        status = engine.wait_status(lambda status: status["notice"])
        assert "Memory is short" in status["notice"]
        end = [event for _, event in events][-1]
    assert end["kind"] == "done"
    assert end["message"]["text"] == calm["text"]
    assert log_of(engine).count("the model gives back") == 1
    # On a machine with swap a program that takes so much at once is faster than any watch: some of it was swapped.
    assert group.killed == 0


def test_a_disk_that_slows_down_slows_the_answer_down_and_nothing_else(
    engine: LiveEngine, group: MemoryGroup
) -> None:
    half(group)
    assert load(engine)["error"] is None
    engine.finish(begin(engine, "Another one", max_tokens=4)["id"])
    before = engine.finish(begin(engine, QUESTION, max_tokens=24)["id"])["message"]
    engine.finish(begin(engine, "Another one", max_tokens=4)["id"])
    turn = begin(engine, QUESTION, max_tokens=24)
    events = engine.events(turn["id"])
    next(event for _, event in events if event["kind"] == "text")
    # A tenth of what a slow disk gives.
    with group.slow_disk(engine.folder.models, 10_000_000, engine.address.pid):
        end = [event for _, event in events][-1]
    assert end["kind"] == "done"
    assert end["message"]["text"] == before["text"]
    rates = [each["usage"]["generation_rate"] for each in (before, end["message"])]
    print(f"{rates[0]:.2f} tokens a second before, {rates[1]:.2f} with the disk slowed down")
    # What is told of the answer shows it, and with that what is foretold of the next.
    assert rates[1] < rates[0] / 2


@pytest.mark.parametrize("moment", ["loading", "answering"])
def test_killed_in_the_middle_the_next_start_is_clean(
    model: Path, group: MemoryGroup, tmp_path: Path, moment: str
) -> None:
    engine = started(tmp_path / "data", model, group)
    with contextlib.ExitStack() as stack:
        stack.callback(engine.close)
        if moment == "loading":
            engine.post("/api/models/load", {"model_id": V4})
            engine.wait_status(lambda status: (status["loading_fraction"] or 0) > 0.1)
            engine.process.kill()
        else:
            half(group)
            assert load(engine)["error"] is None
            turn = begin(engine, QUESTION, max_tokens=800)
            stack.enter_context(contextlib.suppress(httpx.HTTPError))
            events = engine.events(turn["id"])
            next(event for _, event in events if event["kind"] == "text")
            stack.enter_context(group.hog(squeeze_to(group)))
            engine.wait_status(lambda status: status["notice"])
            engine.process.kill()
        assert engine.process.wait(10) == -9
    again = started(tmp_path / "data", model, group)
    try:
        assert again.get("/api/status")["error"] is None
        assert again.get("/api/status")["notice"] is None
        if moment == "answering":
            message = again.message(turn["session_id"], turn["answer"]["id"])
            assert message["status"] == "interrupted"
        assert load(again)["error"] is None
        assert again.finish(begin(again, QUESTION)["id"])["kind"] == "done"
    finally:
        again.close()
