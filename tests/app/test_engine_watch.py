"""Finding, starting, losing and replacing the engine."""

import socket
from types import SimpleNamespace
from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from app import engine_watch
from app.api import EngineApi
from app.engine_watch import CAN_GO_BACK, HELD_BY_ANOTHER, NOT_BACKED_UP, EngineState, EngineWatch
from engine.errors import DataFolderError
from engine.paths import DataFolder


class Watched:
    """A watch, and what it said."""

    def __init__(self, folder: DataFolder, launcher: Any) -> None:
        self.api = EngineApi()
        self.watch = EngineWatch(folder, self.api, launcher)
        self.states: list[EngineState] = []
        self.sentences: list[str] = []
        self.changes: list[tuple[str, str]] = []
        self.watch.state_changed.connect(self.states.append)
        self.watch.stopped.connect(self.sentences.append)
        self.watch.session_changed.connect(lambda *change: self.changes.append(change))

    def wait(self, qtbot: QtBot, state: EngineState) -> None:
        qtbot.waitUntil(lambda: self.watch.state == state)


@pytest.fixture
def watched(qtbot: QtBot, folder: DataFolder, launcher: Any) -> Any:
    made = Watched(folder, launcher)
    yield made
    made.watch.close()
    made.api.close()


def test_without_an_engine_one_is_started(watched: Watched, qtbot: QtBot, launcher: Any) -> None:
    watched.watch.start()
    watched.wait(qtbot, EngineState.READY)
    assert len(launcher.children) == 1
    assert watched.states == [EngineState.STARTING, EngineState.CONNECTING, EngineState.READY]


def test_a_running_engine_is_used(watched: Watched, qtbot: QtBot, launcher: Any) -> None:
    launcher.found = True
    watched.watch.start()
    watched.wait(qtbot, EngineState.READY)
    assert launcher.children == []


def test_news_of_jobs_and_of_the_library_is_passed_on(
    watched: Watched, qtbot: QtBot, fake_engine: Any
) -> None:
    watched.watch.start()
    watched.wait(qtbot, EngineState.READY)
    qtbot.waitUntil(lambda: bool(fake_engine.listeners))
    with qtbot.waitSignal(watched.watch.job_changed) as told:
        fake_engine.tell_job("j7")
    assert told.args == ["j7"]
    with qtbot.waitSignal(watched.watch.library_changed):
        fake_engine.tell_library()
    with qtbot.waitSignal(watched.watch.hardware_changed):
        fake_engine.tell_hardware()


def test_news_of_sessions_is_passed_on(watched: Watched, qtbot: QtBot, fake_engine: Any) -> None:
    watched.watch.start()
    watched.wait(qtbot, EngineState.READY)
    qtbot.waitUntil(lambda: bool(fake_engine.listeners))
    fake_engine.tell_session("s1", "updated")
    qtbot.waitUntil(lambda: watched.changes == [("s1", "updated")])


def test_the_engine_of_another_window_is_not_restarted_and_that_is_told(
    watched: Watched, qtbot: QtBot, launcher: Any
) -> None:
    launcher.found = True
    watched.watch.start()
    watched.wait(qtbot, EngineState.READY)
    with qtbot.waitSignal(watched.watch.not_restarted) as told:
        watched.watch.restart()
    assert "another window" in told.args[0]
    assert watched.watch.state == EngineState.READY
    assert watched.watch._events is not None


def test_the_loser_of_a_start_race_uses_the_winners_engine(
    watched: Watched, qtbot: QtBot, launcher: Any
) -> None:
    def beaten() -> Any:
        child = type(launcher).start.__globals__["FakeChild"](None)
        child.status = HELD_BY_ANOTHER
        launcher.found = True
        return child

    launcher.next_child = beaten
    watched.watch.start()
    watched.wait(qtbot, EngineState.READY)
    assert watched.sentences == []


def test_without_the_backup_before_a_newer_version_it_starts_only_when_asked_to(
    watched: Watched, qtbot: QtBot, launcher: Any
) -> None:
    def refused() -> Any:
        child = type(launcher).start.__globals__["FakeChild"](None)
        child.status = NOT_BACKED_UP
        child.words = "Seamount 0.2.0 has not been started on the data of Seamount 0.1.0: …"
        return child

    usual, launcher.next_child = launcher.next_child, refused
    watched.watch.start()
    watched.wait(qtbot, EngineState.STOPPED)
    words, do = watched.watch.other_way_out()
    assert "without a backup" in words and do is not None and not launcher.without_backup
    launcher.next_child = usual
    do()
    watched.wait(qtbot, EngineState.READY)
    assert launcher.without_backup and watched.watch.other_way_out() == ("", None)


@pytest.mark.parametrize("status", [0, 1])
def test_what_was_there_before_a_newer_version_is_put_back_when_asked_for(
    watched: Watched, qtbot: QtBot, launcher: Any, status: int
) -> None:
    def refused() -> Any:
        child = type(launcher).start.__globals__["FakeChild"](None)
        child.status = CAN_GO_BACK
        return child

    usual, launcher.next_child = launcher.next_child, refused
    watched.watch.start()
    watched.wait(qtbot, EngineState.STOPPED)
    words, do = watched.watch.other_way_out()
    assert words == "Go back" and do is not None and launcher.restoring is None
    launcher.next_child = usual
    do()
    assert watched.watch.state == EngineState.STARTING
    launcher.restoring.status = status
    watched.wait(qtbot, EngineState.STOPPED if status else EngineState.READY)
    assert watched.sentences[1:] == ([launcher.restoring.words] if status else [])
    assert bool(watched.watch.other_way_out()[0]) == bool(status), "what failed can be tried again"


def test_a_child_that_dies_at_once_is_a_sentence(watched: Watched, qtbot: QtBot, launcher: Any) -> None:
    def stillborn() -> Any:
        child = type(launcher).start.__globals__["FakeChild"](None)
        child.status, child.words = 4, "Seamount cannot write: no permission; give it."
        return child

    launcher.next_child = stillborn
    watched.watch.start()
    watched.wait(qtbot, EngineState.STOPPED)
    assert watched.sentences == ["Seamount cannot write: no permission; give it."]


def test_a_data_folder_that_cannot_be_written_is_a_sentence(
    watched: Watched, qtbot: QtBot, launcher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: DataFolder, **_wishes: bool) -> Any:
        raise DataFolderError("No", "why", "do")

    monkeypatch.setattr(launcher, "start", refuse)
    watched.watch.start()
    assert watched.watch.state == EngineState.STOPPED
    assert watched.sentences == ["No: why; do."]


def kill(watched: Watched, qtbot: QtBot, launcher: Any, fake_engine: Any) -> None:
    """The engine of now, while it is at work."""
    watched.wait(qtbot, EngineState.READY)
    qtbot.waitUntil(lambda: bool(fake_engine.listeners))
    fake_engine.die()
    launcher.children[-1].status = -9


def test_a_killed_engine_of_ours_is_replaced(
    watched: Watched, qtbot: QtBot, launcher: Any, fake_engine: Any
) -> None:
    watched.watch.start()
    with qtbot.waitSignal(watched.watch.replaced):
        kill(watched, qtbot, launcher, fake_engine)
    watched.wait(qtbot, EngineState.READY)
    assert len(launcher.children) == 2
    assert watched.sentences == []


def test_engines_that_keep_dying_are_a_sentence_and_a_restart_makes_another(
    watched: Watched, qtbot: QtBot, launcher: Any, fake_engine: Any
) -> None:
    watched.watch.start()
    for _ in range(engine_watch.REPLACEMENTS):
        with qtbot.waitSignal(watched.watch.replaced):
            kill(watched, qtbot, launcher, fake_engine)
    kill(watched, qtbot, launcher, fake_engine)
    watched.wait(qtbot, EngineState.STOPPED)
    assert watched.sentences == ["The engine stopped: it was killed; restart it."]
    watched.watch.restart()
    kill(watched, qtbot, launcher, fake_engine)
    qtbot.waitUntil(lambda: len(launcher.children) == engine_watch.REPLACEMENTS + 3)
    watched.wait(qtbot, EngineState.READY)


def test_an_engine_that_left_with_another_window_is_replaced_silently(
    watched: Watched, qtbot: QtBot, launcher: Any, fake_engine: Any
) -> None:
    launcher.found = True
    watched.watch.start()
    watched.wait(qtbot, EngineState.READY)
    launcher.found = False
    fake_engine.die()
    qtbot.waitUntil(lambda: bool(launcher.children))
    watched.wait(qtbot, EngineState.READY)
    assert watched.sentences == []


def test_another_windows_engine_that_dies_during_our_answer_is_replaced(
    watched: Watched, qtbot: QtBot, launcher: Any, fake_engine: Any
) -> None:
    launcher.found = True
    watched.watch.answering = lambda: True
    watched.watch.start()
    watched.wait(qtbot, EngineState.READY)
    launcher.found = False
    with qtbot.waitSignal(watched.watch.replaced):
        fake_engine.die()
    watched.wait(qtbot, EngineState.READY)
    assert (watched.sentences, len(launcher.children)) == ([], 1)


def test_a_lost_stream_of_a_living_engine_is_taken_up_again(
    watched: Watched, qtbot: QtBot, launcher: Any, fake_engine: Any
) -> None:
    watched.watch.start()
    watched.wait(qtbot, EngineState.READY)
    qtbot.waitUntil(lambda: bool(fake_engine.listeners))
    fake_engine.listeners.pop().put(None)
    qtbot.waitUntil(lambda: bool(fake_engine.listeners))
    watched.wait(qtbot, EngineState.READY)
    assert len(launcher.children) == 1
    assert watched.sentences == []


def test_an_engine_that_left_by_itself_is_replaced_silently(
    watched: Watched, qtbot: QtBot, launcher: Any, fake_engine: Any
) -> None:
    watched.watch.start()
    watched.wait(qtbot, EngineState.READY)
    launcher.children[0].status = 0
    fake_engine.die()
    qtbot.waitUntil(lambda: len(launcher.children) == 2)
    watched.wait(qtbot, EngineState.READY)
    assert watched.sentences == []


@pytest.mark.slow
def test_an_engine_that_refuses_our_key_is_given_up(
    watched: Watched, qtbot: QtBot, launcher: Any, fake_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake_engine, "key", "another", raising=False)
    watched.watch.start()
    qtbot.waitUntil(lambda: watched.watch.state == EngineState.STOPPED, timeout=10_000)
    assert watched.sentences == ["The key is wrong."]


def test_an_engine_that_never_says_a_word_is_a_sentence(
    watched: Watched, qtbot: QtBot, launcher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_watch, "ANSWER_TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setattr(launcher, "running", lambda _: SimpleNamespace(url=url, key="k"))
        watched.watch.start()
        assert watched.watch.state == EngineState.CONNECTING
        watched.wait(qtbot, EngineState.STOPPED)
    assert "has not said a word" in watched.sentences[0]
    assert "restart it" in watched.sentences[0]


@pytest.mark.slow
def test_a_start_that_has_something_long_to_do_is_not_given_up(
    watched: Watched, qtbot: QtBot, launcher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_watch, "START_TIMEOUT_S", 0.2)
    told: list[str | None] = []
    watched.watch.work_changed.connect(lambda: told.append(watched.watch.work))
    launcher.work = "the conversations are being encrypted"
    launcher.next_child = lambda: type(launcher).start.__globals__["FakeChild"](None)
    watched.watch.start()
    qtbot.wait(600)
    assert watched.watch.state == EngineState.STARTING
    assert told == ["the conversations are being encrypted"]
    assert launcher.children[0].status is None
    # From its end on it has the usual time.
    launcher.work = None
    watched.wait(qtbot, EngineState.STOPPED)
    assert told[1:] == [None]
    assert launcher.children[0].status == 0
    assert "did not start" in watched.sentences[0]


def test_what_holds_the_folder_and_is_no_engine_is_waited_for(
    watched: Watched, qtbot: QtBot, launcher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_watch, "OTHER_ENGINE_TIMEOUT_S", 0.2)

    def beaten() -> Any:
        child = type(launcher).start.__globals__["FakeChild"](None)
        child.status = HELD_BY_ANOTHER
        return child

    usual, launcher.next_child = launcher.next_child, beaten
    launcher.work = "the conversations are being backed up"
    watched.watch.start()
    qtbot.wait(600)
    assert watched.watch.work == "the conversations are being backed up"
    launcher.next_child, launcher.work = usual, None
    watched.wait(qtbot, EngineState.READY)
    assert watched.sentences == []
    assert watched.watch.work is None


def test_an_engine_of_another_version_is_a_sentence(watched: Watched, qtbot: QtBot, fake_engine: Any) -> None:
    watched.watch.start()
    watched.wait(qtbot, EngineState.READY)
    qtbot.waitUntil(lambda: bool(fake_engine.listeners))
    fake_engine._tell({"kind": "hologram", "depth": 3})
    watched.wait(qtbot, EngineState.STOPPED)
    assert "another version" in watched.sentences[0]


def test_an_engine_of_ours_that_hangs_is_ended_for_a_restart(
    watched: Watched, qtbot: QtBot, launcher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_watch, "END_TIMEOUT_S", 0.2)
    watched.watch.start()
    watched.wait(qtbot, EngineState.READY)
    launcher.children[0].hangs = True
    watched.watch.restart()
    qtbot.waitUntil(lambda: len(launcher.children) == 2)
    assert launcher.children[0].status == -9
    watched.wait(qtbot, EngineState.READY)
    assert watched.sentences == []
