"""What is asked of the engine about models on other machines."""

from collections.abc import Iterator
from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from app.api import EngineApi
from app.remote_shelf import RemoteShelf
from engine.protocol_remote import CheckedRemote, CheckRemote, Remote, RemoteAddress, SetRemote


@pytest.fixture
def shelf(qtbot: QtBot, fake_engine: Any) -> Iterator[RemoteShelf]:
    api = EngineApi()
    api.connect_to(fake_engine.url, fake_engine.key)
    yield RemoteShelf(api)
    api.close()


def wanted(name: str = "Pro", **more: Any) -> SetRemote:
    return SetRemote(name=name, addresses=[RemoteAddress(url="https://node7.example.org/v1")], **more)


def refuse(_: object) -> None:
    raise AssertionError


def test_one_is_checked_kept_changed_and_forgotten(
    shelf: RemoteShelf, qtbot: QtBot, fake_engine: Any
) -> None:
    found: list[CheckedRemote] = []
    shelf.check(CheckRemote(remote=wanted(key="secret")), found.append, refuse)
    qtbot.waitUntil(lambda: bool(found))
    kept: list[Remote] = []
    shelf.save(None, wanted(key="secret"), kept.append, refuse)
    qtbot.waitUntil(lambda: bool(kept) and shelf.remote(kept[0].id) is not None)
    remote_id = kept[0].id
    assert kept[0].has_key
    shelf.save(remote_id, wanted("Other"), kept.append, refuse)
    qtbot.waitUntil(lambda: (one := shelf.remote(remote_id)) is not None and one.name == "Other")
    assert len(fake_engine.remotes) == 1
    shelf.remove(remote_id)
    qtbot.waitUntil(lambda: shelf.remotes == [])


def test_a_change_is_agreed_to(shelf: RemoteShelf, qtbot: QtBot, fake_engine: Any) -> None:
    fake_engine.add_remote("Pro", change="It has another model now.")
    with qtbot.waitSignal(shelf.changed):
        shelf.refresh()
    agreed: list[Remote] = []
    shelf.agree(shelf.remotes[0].id, None, agreed.append)
    qtbot.waitUntil(lambda: bool(agreed) and shelf.remotes[0].change is None)


def test_what_cannot_be_told_says_why_and_the_list_stays(
    shelf: RemoteShelf, qtbot: QtBot, fake_engine: Any
) -> None:
    fake_engine.add_remote("Pro")
    with qtbot.waitSignal(shelf.changed):
        shelf.refresh()
    fake_engine.refusals["GET", "/api/remotes"] = (500, {"error": {"code": "internal", "text": "It broke."}})
    with qtbot.waitSignal(shelf.changed):
        shelf.refresh()
    assert shelf.error is not None
    assert [each.name for each in shelf.remotes] == ["Pro"]
