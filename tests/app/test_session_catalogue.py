"""The list of conversations, kept in step with the engine."""

from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from app.api import EngineApi
from app.session_catalogue import SessionCatalogue


@pytest.fixture
def catalogue(qtbot: QtBot, fake_engine: Any) -> Any:
    api = EngineApi()
    api.connect_to(fake_engine.url, fake_engine.key)
    made = SessionCatalogue(api)
    yield made
    api.close()


def shown(catalogue: SessionCatalogue) -> list[str]:
    return [catalogue.title(session_id) for session_id in catalogue.rows.session_ids()]


def test_the_list_is_fetched(catalogue: SessionCatalogue, qtbot: QtBot, fake_engine: Any) -> None:
    fake_engine.add_session("Old", age_days=1)
    fake_engine.add_session("New")
    catalogue.refresh()
    qtbot.waitUntil(lambda: shown(catalogue) == ["New", "Old"])


def test_several_changes_are_one_fetch(catalogue: SessionCatalogue, qtbot: QtBot, fake_engine: Any) -> None:
    for _ in range(5):
        catalogue.refresh_soon()
    with qtbot.waitSignal(catalogue.refreshed):
        pass
    assert len(fake_engine.asked("GET", "/api/sessions")) == 1


def test_searching_asks_the_engine_once_typing_pauses(
    catalogue: SessionCatalogue, qtbot: QtBot, fake_engine: Any
) -> None:
    fake_engine.add_session("Whales & more")
    fake_engine.add_session("Ships")
    for text in ("w", "wh", "whales &"):
        catalogue.search(text)
    qtbot.waitUntil(lambda: shown(catalogue) == ["Whales & more"])
    assert len(fake_engine.asked("GET", "/api/sessions")) == 1


def test_rename(catalogue: SessionCatalogue, qtbot: QtBot, fake_engine: Any) -> None:
    session_id = fake_engine.add_session("Old")
    catalogue.refresh()
    qtbot.waitUntil(lambda: bool(shown(catalogue)))
    catalogue.rows.setData(catalogue.rows.index_of(session_id), "New")
    qtbot.waitUntil(lambda: shown(catalogue) == ["New"])


def test_delete_can_be_undone_until_it_is_purged(
    catalogue: SessionCatalogue, qtbot: QtBot, fake_engine: Any
) -> None:
    session_id = fake_engine.add_session("Dear")
    catalogue.refresh()
    qtbot.waitUntil(lambda: shown(catalogue) == ["Dear"])
    with qtbot.waitSignal(catalogue.deleted) as told:
        catalogue.delete(session_id)
    assert told.args == [session_id, "Dear"]
    qtbot.waitUntil(lambda: shown(catalogue) == [])
    assert catalogue.can_undo
    with qtbot.waitSignal(catalogue.restored):
        catalogue.undo_delete()
    qtbot.waitUntil(lambda: shown(catalogue) == ["Dear"])
    with qtbot.waitSignal(catalogue.deleted):
        catalogue.delete(session_id)
    done: list[bool] = []
    catalogue.purge_deleted(lambda: done.append(True))
    qtbot.waitUntil(lambda: done == [True])
    assert session_id not in fake_engine.sessions


def test_purging_nothing_is_done_at_once(catalogue: SessionCatalogue) -> None:
    done: list[bool] = []
    catalogue.purge_deleted(lambda: done.append(True))
    assert done == [True]


def test_an_undo_that_fails_can_be_tried_again(
    catalogue: SessionCatalogue, qtbot: QtBot, fake_engine: Any
) -> None:
    session_id = fake_engine.add_session("Dear")
    with qtbot.waitSignal(catalogue.deleted):
        catalogue.delete(session_id)
    fake_engine.refusals["POST", f"/api/sessions/{session_id}/restore"] = (500, {})
    with qtbot.waitSignal(catalogue.refused):
        catalogue.undo_delete()
    assert catalogue.can_undo
