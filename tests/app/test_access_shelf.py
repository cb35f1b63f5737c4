"""What is asked of the engine about other programs."""

from collections.abc import Iterator
from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from app.access_shelf import AccessShelf
from app.api import EngineApi
from engine.protocol import ErrorBody
from engine.protocol_access import ClientKey, KeyLimits, MadeKey, NetworkDoor, OpenNetwork, SteadyOffer


@pytest.fixture
def shelf(qtbot: QtBot, fake_engine: Any) -> Iterator[AccessShelf]:
    api = EngineApi()
    api.connect_to(fake_engine.url, fake_engine.key)
    yield AccessShelf(api)
    api.close()


def refreshed(shelf: AccessShelf, qtbot: QtBot) -> None:
    with qtbot.waitSignal(shelf.changed):
        shelf.refresh()


def offer(**more: Any) -> dict[str, Any]:
    return {"key_id": "k1", "key_name": "editor", "program": "Zed", "line": "Today is 3 May", "reread_tokens": 6100,
            "times": 2, "suggestion": "move", **more}  # fmt: skip


def test_asked_again_while_it_is_asked_it_is_fetched_once_more_and_no_oftener(
    shelf: AccessShelf, qtbot: QtBot, fake_engine: Any
) -> None:
    told: list[object] = []
    shelf.changed.connect(lambda: told.append(shelf.access))
    for _ in range(20):
        shelf.refresh()
    qtbot.waitUntil(lambda: len(told) == 2)
    qtbot.wait(50)
    assert len(fake_engine.asked("GET", "/api/access")) == 2


def test_a_key_is_made_changed_and_taken_back(shelf: AccessShelf, qtbot: QtBot, fake_engine: Any) -> None:
    made: list[MadeKey] = []
    shelf.make_key("Zed", is_network=False, keep=True, ok=made.append, failed=lambda _: None)
    qtbot.waitUntil(lambda: bool(made) and shelf.key(made[0].key.id) is not None)
    assert made[0].secret == "sm-secret-of-Zed"
    key_id = made[0].key.id
    changed: list[ClientKey] = []
    shelf.change_key(key_id, name="Editor", limits=KeyLimits(waiting=3), ok=changed.append)
    qtbot.waitUntil(lambda: (key := shelf.key(key_id)) is not None and key.name == "Editor")
    assert changed[0].limits.waiting == 3
    # What was not named stays.
    assert fake_engine.asked("PATCH", f"/api/access/keys/{key_id}")[0]["steady"] is None
    again: list[MadeKey] = []
    shelf.fetch_secret(key_id, again.append)
    qtbot.waitUntil(lambda: bool(again))
    assert again[0].secret == "sm-secret-of-Zed"
    shelf.revoke(key_id)
    qtbot.waitUntil(lambda: shelf.key(key_id) is None)


def test_ending_what_has_just_ended_is_no_error(shelf: AccessShelf, qtbot: QtBot, fake_engine: Any) -> None:
    refused: list[ErrorBody] = []
    shelf.refused.connect(refused.append)
    path = "/api/access/requests/r1"
    fake_engine.refusals["DELETE", path] = (404, {"error": {"code": "not_found", "text": "It is not here."}})
    with qtbot.waitSignal(shelf.changed):
        shelf.end("r1")
    assert refused == []
    fake_engine.refusals["DELETE", path] = (500, {"error": {"code": "internal", "text": "It broke."}})
    with qtbot.waitSignal(shelf.refused):
        shelf.end("r1")


def test_agreeing_adds_a_rule_to_those_that_hold(shelf: AccessShelf, qtbot: QtBot, fake_engine: Any) -> None:
    key = fake_engine.add_key("editor", steady={"pin": True, "move": False})
    fake_engine.access["offers"] = [offer(key_id=key["id"])]
    refreshed(shelf, qtbot)
    shelf.agree(shelf.offers[0])
    qtbot.waitUntil(lambda: fake_engine.access["keys"][0]["steady"] == {"pin": True, "move": True})


def test_a_declined_offer_does_not_come_back_with_the_next_date(
    shelf: AccessShelf, qtbot: QtBot, fake_engine: Any
) -> None:
    fake_engine.access["offers"] = [offer()]
    refreshed(shelf, qtbot)
    shelf.decline(SteadyOffer(**offer()))
    assert shelf.offers == []
    fake_engine.access["offers"] = [offer(line="Today is 4 May"), offer(line="You are an agent")]
    refreshed(shelf, qtbot)
    assert [each.line for each in shelf.offers] == ["You are an agent"]
    assert not fake_engine.asked("PATCH", "/api/access/keys/k1")


def test_the_network_is_opened_and_closed(shelf: AccessShelf, qtbot: QtBot, fake_engine: Any) -> None:
    doors: list[NetworkDoor] = []
    shelf.set_network(OpenNetwork(wanted=True, port=9000), doors.append, lambda _: None)
    qtbot.waitUntil(lambda: bool(doors))
    assert (doors[0].is_open, doors[0].port) == (True, 9000)
    shelf.set_network(OpenNetwork(wanted=False), doors.append, lambda _: None)
    qtbot.waitUntil(lambda: len(doors) == 2 and shelf.access is not None and not shelf.access.network.wanted)


def test_an_engine_that_cannot_tell_says_why_and_its_end_takes_everything_away(
    shelf: AccessShelf, qtbot: QtBot, fake_engine: Any
) -> None:
    refreshed(shelf, qtbot)
    assert shelf.access is not None
    shelf.forget()
    assert shelf.access is None
    fake_engine.refusals["GET", "/api/access"] = (
        404,
        {"error": {"code": "not_found", "text": "No such thing."}},
    )
    refreshed(shelf, qtbot)
    assert (shelf.access, shelf.error and shelf.error.text) == (None, "No such thing.")
