"""The library as the engine tells it, and what is asked of it."""

from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from app.api import EngineApi
from app.library_shelf import LibraryShelf
from engine.protocol import ErrorBody
from engine.protocol_library import HubState, LibraryItem, Lookup, Removed


@pytest.fixture
def shelf(qtbot: QtBot, fake_engine: Any) -> Any:
    api = EngineApi()
    api.connect_to(fake_engine.url, fake_engine.key)
    yield LibraryShelf(api)
    api.close()


def test_much_news_is_few_requests(shelf: LibraryShelf, qtbot: QtBot, fake_engine: Any) -> None:
    with qtbot.waitSignals([shelf.changed, shelf.changed]):
        for _ in range(50):
            shelf.refresh()
    assert len(fake_engine.asked("GET", "/api/library")) == 2
    assert shelf.library is not None
    assert shelf.library.machine.cores == 16


def test_what_cannot_be_told_is_said_and_asked_again(
    shelf: LibraryShelf, qtbot: QtBot, fake_engine: Any
) -> None:
    error = {"code": "data_folder", "text": "It cannot be read."}
    fake_engine.refusals["GET", "/api/library"] = (507, {"error": error})
    with qtbot.waitSignal(shelf.changed):
        shelf.refresh()
    assert (shelf.error, shelf.library) == (ErrorBody(**error), None)
    fake_engine.refusals.clear()
    with qtbot.waitSignal(shelf.changed):
        shelf.refresh()
    assert shelf.error is None
    assert shelf.library is not None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "what", "revision"),
    [
        ("a/b", "a/b", None),
        ("a/b@main", "a/b", "main"),
        (" a/b @ v1 ", "a/b", "v1"),
        ("https://user@hub/a/b", "https://user@hub/a/b", None),
    ],
)
def test_a_name_may_carry_its_revision(
    shelf: LibraryShelf, qtbot: QtBot, fake_engine: Any, typed: str, what: str, revision: str | None
) -> None:
    fake_engine.lookup = {
        "offer": {"name": "a/b", "title": "b", "kind": "gguf", "repository": "a/b", "revision": "main"},
        "files": [],
    }  # fmt: skip
    found: list[Lookup] = []
    shelf.look_up(typed, found.append, lambda _: None)
    qtbot.waitUntil(lambda: bool(found))
    assert fake_engine.asked("POST", "/api/library/lookup") == [{"what": what, "revision": revision}]


def test_add_and_remove_refresh(shelf: LibraryShelf, qtbot: QtBot, fake_engine: Any) -> None:
    added: list[LibraryItem] = []
    shelf.add("/c/Flash", added.append)
    qtbot.waitUntil(lambda: bool(added) and shelf.library is not None)
    assert shelf.library is not None
    assert [item.id for item in shelf.library.items] == ["checkpoint:/c/Flash"]
    removed: list[Removed] = []
    shelf.remove(added[0].id, for_good=True, ok=removed.append)
    qtbot.waitUntil(lambda: bool(removed) and shelf.library is not None and not shelf.library.items)
    assert removed == [Removed(size_bytes=5, in_trash=False)]


def test_a_token_is_handed_on_and_forgotten(shelf: LibraryShelf, qtbot: QtBot, fake_engine: Any) -> None:
    told: list[HubState] = []
    shelf.keep_token("hf_secret", told.append, lambda _: None)
    qtbot.waitUntil(lambda: bool(told))
    assert fake_engine.asked("PUT", "/api/library/token") == [{"token": "hf_secret"}]
    assert "hf_secret" not in repr(vars(shelf))
    over: list[bool] = []
    shelf.forget_token(lambda: over.append(True))
    qtbot.waitUntil(lambda: bool(over))
    assert fake_engine.library["hub"]["token"] == "none"


def test_a_refusal_is_told(shelf: LibraryShelf, qtbot: QtBot, fake_engine: Any) -> None:
    error = {"code": "library", "text": "It is in use."}
    fake_engine.refusals["POST", "/api/library/remove"] = (422, {"error": error})
    with qtbot.waitSignal(shelf.refused) as told:
        shelf.remove("m1", for_good=False, ok=lambda _: None)
    assert told.args == [ErrorBody(**error)]
