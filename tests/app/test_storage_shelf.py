"""What is asked of the engine about what it keeps."""

from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from app import storage_shelf
from app.api import EngineApi
from app.storage_shelf import StorageShelf
from engine.protocol import ErrorBody


@pytest.fixture
def shelf(qtbot: QtBot, fake_engine: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(storage_shelf, "TASK_PAUSE_MS", 5)
    api = EngineApi()
    api.connect_to(fake_engine.url, fake_engine.key)
    made = StorageShelf(api)
    yield made
    api.close()


def test_a_backup_is_followed_to_its_end(shelf: StorageShelf, qtbot: QtBot, fake_engine: Any) -> None:
    states: list[str] = []
    shelf.task_told.connect(lambda task: states.append(task.state))
    shelf.back_up("/b", with_states=True, failed=lambda _: None)
    qtbot.waitUntil(lambda: len(states) >= 3)
    assert set(states) == {"running"}
    fake_engine.task.update(state="done", lines=["Whole."])
    qtbot.waitUntil(lambda: states[-1] == "done")
    asked = len(fake_engine.asked("GET", "/api/storage/task"))
    qtbot.wait(30)
    assert len(fake_engine.asked("GET", "/api/storage/task")) == asked
    assert fake_engine.asked("POST", "/api/storage/tasks") == [
        {"kind": "backup", "path": "/b", "with_states": True}
    ]


def test_a_task_that_is_not_told_of_any_more_is_lost(
    shelf: StorageShelf, qtbot: QtBot, fake_engine: Any
) -> None:
    fake_engine.refusals["GET", "/api/storage/task"] = (404, {"error": {"code": "x", "text": "No task."}})
    with qtbot.waitSignal(shelf.task_lost) as told:
        shelf.back_up("/b", with_states=False, failed=lambda _: None)
    assert told.args[0].text == "No task."


def test_a_conversation_comes_as_the_content_of_a_file(
    shelf: StorageShelf, qtbot: QtBot, fake_engine: Any
) -> None:
    session_id = fake_engine.add_session("t")
    content: list[bytes] = []
    errors: list[ErrorBody] = []
    shelf.export(session_id, "json", content.append, errors.append)
    qtbot.waitUntil(lambda: bool(content))
    assert b'"t"' in content[0]
    fake_engine.refusals["GET", f"/api/sessions/{session_id}/export"] = (
        404, {"error": {"code": "not_found", "text": "Gone."}},
    )  # fmt: skip
    shelf.export(session_id, "json", content.append, errors.append)
    qtbot.waitUntil(lambda: bool(errors))
    assert (errors[0].text, len(content)) == ("Gone.", 1)
