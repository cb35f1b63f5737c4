"""Several engines on one data folder: one serves, the others give way, and a crash leaves the place free."""

import sys

import pytest

from engine.launch import EXIT_RUNNING, EngineProcess, running_engine
from tests.integration.conftest import StartEngine
from tests.integration.live_engine import LiveEngine

pytestmark = pytest.mark.slow


def conversation(engine: LiveEngine) -> list[str]:
    (summary,) = engine.get("/api/sessions")["sessions"]
    return [message["text"] for message in engine.get(f"/api/sessions/{summary['id']}")["messages"]]


def test_of_engines_that_start_together_one_serves(start_engine: StartEngine) -> None:
    first = start_engine()
    others = [EngineProcess.start(first.folder, linger_s=None) for _ in range(3)]
    assert [other.wait(60) for other in others] == [EXIT_RUNNING] * 3
    assert all("already serves" in other.failure() for other in others)
    # Those that gave way have touched nothing of the one that serves.
    assert running_engine(first.folder) == first.address
    assert first.answer("Hello")["text"] == "Hello there."


@pytest.mark.skipif(
    sys.platform == "win32", reason="a process that is killed there may hold its files a moment longer"
)
def test_a_crash_leaves_the_place_free(start_engine: StartEngine) -> None:
    first = start_engine()
    first.wait_model()
    session_id = first.new_session()
    first.finish(first.ask("Hello", session_id)["id"])
    first.process.kill()
    assert first.process.wait(20) == -9
    assert first.folder.engine_lock.exists()  # the file is still there: it is the lock on it that went
    second = start_engine()
    second.wait_model()
    assert conversation(second) == ["Hello", "Hello there."]
    third = EngineProcess.start(second.folder, linger_s=None)
    assert third.wait(60) == EXIT_RUNNING
    assert second.finish(second.ask("Hello", session_id)["id"])["kind"] == "done"
