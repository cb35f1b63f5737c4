"""Tools of a conversation: stored at once, or with its session."""

from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from app.api import EngineApi
from app.session_tools import SessionTools
from engine.protocol import ErrorBody, Tool

TOOL = Tool(function={"name": "look"})


class Kept:
    def __init__(self, engine: Any) -> None:
        self.api = EngineApi()
        self.api.connect_to(engine.url, engine.key)
        self.tools = SessionTools(self.api)
        self.done: list[str] = []
        self.errors: list[ErrorBody] = []

    def save(self, *tools: Tool) -> None:
        self.tools.save(tools, lambda: self.done.append("ok"), self.errors.append)


@pytest.fixture
def kept(fake_engine: Any, qapp: object) -> Any:
    made = Kept(fake_engine)
    yield made
    made.api.close()


def test_they_are_stored_with_their_session(kept: Kept, qtbot: QtBot, fake_engine: Any) -> None:
    session_id = fake_engine.add_session()
    kept.tools.show(session_id, ())
    with qtbot.waitSignal(kept.tools.changed):
        kept.save(TOOL)
    assert kept.done == ["ok"]
    assert fake_engine.tools[session_id] == [TOOL.model_dump()]
    assert kept.tools.tools == (TOOL,)
    kept.save()
    qtbot.waitUntil(lambda: fake_engine.tools[session_id] == [])


def test_a_refusal_changes_nothing(kept: Kept, qtbot: QtBot, fake_engine: Any) -> None:
    kept.tools.show("gone", ())
    kept.save(TOOL)
    qtbot.waitUntil(lambda: bool(kept.errors))
    assert kept.tools.tools == ()


def test_without_a_session_they_wait_for_it(kept: Kept, qtbot: QtBot, fake_engine: Any) -> None:
    kept.save(TOOL)
    assert kept.done == ["ok"]
    assert kept.tools.unsent == (TOOL,)
    session_id = fake_engine.add_session()
    kept.tools.adopt(session_id)
    kept.tools.show(session_id, ())  # the store has not heard of them yet
    assert kept.tools.tools == (TOOL,)
    then: list[str] = []
    kept.tools.send(session_id, kept.tools.unsent, lambda: then.append("asked"), kept.errors.append)
    assert then == []
    qtbot.waitUntil(lambda: then == ["asked"])
    assert fake_engine.tools[session_id] == [TOOL.model_dump()]
    assert kept.tools.unsent is None


def test_another_conversation_has_its_own(kept: Kept) -> None:
    kept.save(TOOL)
    kept.tools.show("s2", ())
    assert (kept.tools.tools, kept.tools.unsent) == ((), None)
