"""Which answers go on by themselves, and when. That they do: tests/integration/test_resuming.py."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.errors import Conflict, NoModel
from engine.protocol import Sampling, Settings, TurnRequest
from engine.resuming import MOST_RESUMES, Resuming
from engine.store.journals import Unfinished
from engine.store.sessions import SessionStore


class Starts:
    """In the place of `Turns`: what was begun."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.error: Exception | None = None

    def start(self, request: TurnRequest) -> None:
        assert request.turn.kind == "continue"
        if self.error is not None:
            raise self.error
        self.asked.append(request.turn.message_id)


class Scene:
    """A store with answers that were cut off, and a model that may be loaded."""

    def __init__(self, root: Path) -> None:
        self.store = SessionStore.open(root / "sessions.db")
        self.starts = Starts()
        self.settings = Settings()
        self.loaded: str | None = None
        self.unfinished: list[Unfinished] = []

    def cut_off(self, *, model_id: str = "m", resumes: int = 0, text: str = "") -> Unfinished:
        session_id = self.store.create_session().id
        answer = self.store.begin_turn(
            session_id, parent_id=None, question="q", model_id=model_id, sampling=Sampling(seed=1)
        )[1]
        if text:
            self.store.append(answer.id, text, [])
        self.store.end_turn(answer.id, status="interrupted", finish_reason="interrupted")
        self.unfinished.insert(0, Unfinished(session_id, answer.id, model_id, resumes))
        return self.unfinished[0]

    def resuming(self) -> Resuming:
        turns: Any = self.starts
        return Resuming(
            self.unfinished,
            store=self.store,
            turns=turns,
            settings=lambda: self.settings,
            loaded_id=lambda: self.loaded,
            may_ask=lambda model_id: model_id != "remote:stubborn",
        )


def settle() -> None:
    """Wait until what was woken is done."""
    for thread in threading.enumerate():
        if thread.name == "resuming":
            thread.join()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.store.close()


def test_answers_go_on_when_their_model_is_loaded_the_newest_first(scene: Scene) -> None:
    first, second = scene.cut_off(), scene.cut_off()
    other = scene.cut_off(model_id="other")
    resuming = scene.resuming()
    resuming.wake()
    settle()
    assert scene.starts.asked == []
    scene.loaded = "m"
    for _ in range(3):
        resuming.wake()
        settle()
    assert scene.starts.asked == [second.answer_id, first.answer_id]
    scene.loaded = "other"
    resuming.wake()
    settle()
    assert scene.starts.asked[2:] == [other.answer_id]


def test_nothing_goes_on_by_itself_where_it_is_only_to_be_offered(scene: Scene) -> None:
    cut = scene.cut_off()
    scene.settings, scene.loaded = Settings(resume="offer"), "m"
    resuming = scene.resuming()
    resuming.wake()
    settle()
    assert scene.starts.asked == []
    # Chosen now, it holds from the next load on.
    scene.settings = Settings(resume="continue")
    resuming.wake()
    settle()
    assert scene.starts.asked == [cut.answer_id]


def test_an_answer_that_ends_every_engine_waits_for_a_person(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.cut_off(resumes=MOST_RESUMES)
    last = scene.cut_off(resumes=MOST_RESUMES - 1)
    scene.loaded = "m"
    scene.resuming().wake()
    settle()
    assert scene.starts.asked == [last.answer_id]
    assert "without getting any further" in caplog.text


def test_only_the_end_of_a_shown_branch_goes_on(scene: Scene) -> None:
    hidden, deleted, ended, gone, shown = (scene.cut_off() for _ in range(5))
    question = scene.store.message(hidden.session_id, hidden.answer_id).parent_id
    scene.store.change_session(hidden.session_id, leaf_id=question)
    scene.store.delete_session(deleted.session_id)
    scene.store.reopen_answer(ended.session_id, ended.answer_id)
    scene.store.purge_session(gone.session_id)
    scene.loaded = "m"
    scene.resuming().wake()
    settle()
    assert scene.starts.asked == [shown.answer_id]


def test_one_that_cannot_go_on_is_in_nobodys_way(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.cut_off()
    scene.loaded = "m"
    for error in (Conflict("It cannot", "it runs", "wait"), NoModel("It cannot", "none is there", "add one")):
        scene.starts.error = error
        scene.resuming().wake()
        settle()
        assert error.text in caplog.text


@pytest.mark.parametrize(
    ("model_id", "text", "goes_on"),
    [("remote:able", "Half", True), ("remote:able", "", False), ("remote:stubborn", "Half", False)],
)
def test_another_machine_is_asked_only_for_what_goes_on(
    scene: Scene, model_id: str, text: str, goes_on: bool
) -> None:
    """What it began may be computed and charged already: nothing is asked twice by itself."""
    cut = scene.cut_off(model_id=model_id, text=text)
    scene.loaded = model_id
    resuming = scene.resuming()
    resuming.wake()
    settle()
    assert scene.starts.asked == ([cut.answer_id] if goes_on else [])
