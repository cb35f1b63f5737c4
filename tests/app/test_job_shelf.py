"""The list of jobs as the engine tells it, and what is asked of them."""

from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from app.api import EngineApi
from app.job_shelf import JobShelf
from engine.protocol import ErrorBody
from engine.protocol_jobs import ConvertRequest, Inspection, Job, StartJob


@pytest.fixture
def shelf(qtbot: QtBot, fake_engine: Any) -> Any:
    api = EngineApi()
    api.connect_to(fake_engine.url, fake_engine.key)
    yield JobShelf(api)
    api.close()


def test_begun_paused_resumed_cancelled_removed(shelf: JobShelf, qtbot: QtBot, fake_engine: Any) -> None:
    begun: list[Job] = []
    shelf.start(StartJob(asked=ConvertRequest(source="/c", target="/m.gguf")), begun.append, lambda _: None)
    qtbot.waitUntil(lambda: bool(begun))
    [job] = shelf.jobs
    for wish, state in (
        (lambda: shelf.pause(job.id), "paused"),
        (lambda: shelf.resume(job.id), "running"),
        (lambda: shelf.cancel(job.id, remove_partial=True), "cancelled"),
    ):
        wish()
        qtbot.waitUntil(lambda state=state: shelf.jobs[0].state == state)
    assert fake_engine.asked("POST", f"/api/jobs/{job.id}/cancel") == [{"remove_partial": True}]
    shelf.forget(job.id)
    qtbot.waitUntil(lambda: shelf.jobs == [])


def test_much_news_is_few_requests(shelf: JobShelf, qtbot: QtBot, fake_engine: Any) -> None:
    fake_engine.add_job()
    for _ in range(50):
        shelf.refresh()
    with qtbot.waitSignals([shelf.changed, shelf.changed]):
        pass
    assert len(fake_engine.asked("GET", "/api/jobs")) == 2
    assert [job.id for job in shelf.running] == ["j1"]


def test_a_refusal_is_told(shelf: JobShelf, qtbot: QtBot, fake_engine: Any) -> None:
    error = {"code": "conflict", "text": "It is done; remove it."}
    fake_engine.refusals["POST", "/api/jobs/j/pause"] = (409, {"error": error})
    with qtbot.waitSignal(shelf.refused) as told:
        shelf.pause("j")
    assert told.args == [ErrorBody(**error)]


def test_a_checkpoint_is_looked_at(shelf: JobShelf, qtbot: QtBot, fake_engine: Any) -> None:
    found: list[Inspection] = []
    shelf.inspect("/c", "", found.append, lambda _: None)
    qtbot.waitUntil(lambda: bool(found))
    assert fake_engine.asked("POST", "/api/inspect") == [{"path": "/c", "target": None}]
