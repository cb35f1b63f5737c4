"""The queue before the one thread that touches a backend."""

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from engine.backends.base import Backend
from engine.backends.scripted import ScriptedBackend
from engine.contexts.keeper import ContextKeeper
from engine.errors import EngineUnreachable, GenerationError, ModelLoadError, NotFound, SeamountError
from engine.generation_thread import GenerationThread, Job
from engine.model_host import ModelHost
from engine.protocol import ModelEntry, Settings

WAIT_S = 10.0


class Probe(Job):
    """A job that runs until it is let go or cancelled, and remembers what it heard."""

    def __init__(self, model_id: str = "a", *, hold: bool = False) -> None:
        super().__init__(model_id)
        self.places: list[int] = []
        self.ran_on: str | None = None
        self.refused: list[SeamountError | None] = []
        self.running = threading.Event()
        self.release = threading.Event()
        self.trouble: Exception | None = None
        if not hold:
            self.release.set()

    def place_is(self, place: int) -> None:
        self.places.append(place)

    def run(self, keeper: ContextKeeper) -> None:
        self.ran_on = keeper.backend.facts.name
        self.running.set()
        while not self.release.wait(0.005):
            if self.cancelled.is_set():
                return
        if self.trouble:
            raise self.trouble

    def refuse(self, error: SeamountError | None) -> None:
        self.refused.append(error)


@pytest.fixture
def queue(scripted: Callable[..., ScriptedBackend]) -> Iterator[GenerationThread]:
    def entry(model_id: str) -> ModelEntry:
        if model_id == "nowhere":
            raise NotFound("The model cannot be found", "there is none", "choose another")
        return ModelEntry(id=model_id, name=model_id, path="", size_bytes=0, source="folder")

    def open_backend(entry: ModelEntry, **_: Any) -> Backend:
        if entry.id == "broken":
            raise ModelLoadError("It could not be loaded", "it is broken", "choose another")
        return scripted(name=entry.id)

    host = ModelHost(entry, Settings, lambda: None, lambda _id: None, open_backend)
    thread = GenerationThread(host, lambda: None)
    thread.start()
    yield thread
    assert thread.close(WAIT_S)


def test_what_needs_a_model_of_this_machine_is_refused_elsewhere(queue: GenerationThread) -> None:
    host = queue._host  # pyright: ignore[reportPrivateUsage]
    queue.load("a")
    asked = []

    class Far(Probe):
        def run_remote(self, remote: Any) -> None:
            asked.append(remote.name)

    first = Probe()
    queue.submit(first)
    assert first.ended.wait(WAIT_S)
    host.remote = lambda: cast(Any, SimpleNamespace(name="Pro there"))
    plain, able = Probe(), Far()
    for job in (plain, able):
        queue.submit(job)
    assert able.ended.wait(WAIT_S)
    assert plain.ran_on is None and "Pro there" in str(plain.refused[0])
    assert (asked, able.refused, able.ran_on) == (["Pro there"], [], None)


def test_jobs_run_in_order_and_are_told_their_place(queue: GenerationThread) -> None:
    queue.load("a")
    first, second, third = Probe(hold=True), Probe(), Probe()
    for job in (first, second, third):
        queue.submit(job)
    assert first.running.wait(WAIT_S)
    assert queue.active is first
    assert queue.waiting == 2
    first.release.set()
    assert third.ended.wait(WAIT_S)
    assert (first.places, second.places, third.places) == ([0], [1, 0], [2, 1, 0])
    assert [job.refused for job in (first, second, third)] == [[], [], []]


def test_a_job_runs_on_the_model_that_was_asked_for_before_it(queue: GenerationThread) -> None:
    queue.load("a")
    first = Probe(hold=True)
    queue.submit(first)
    queue.load("b")
    assert queue.model_id == "b"
    second = Probe("b")
    queue.submit(second)
    queue.load("a")
    third = Probe("a")
    queue.submit(third)
    first.release.set()
    assert third.ended.wait(WAIT_S)
    assert (first.ran_on, second.ran_on, third.ran_on) == ("a", "b", "a")


def test_a_load_nobody_depends_on_gives_way_to_the_next(queue: GenerationThread) -> None:
    queue.load("a")
    first = Probe(hold=True)
    queue.submit(first)
    assert first.running.wait(WAIT_S)
    for model_id in ("broken", "nowhere", "b"):
        queue.load(model_id)
    assert queue.load_waiting == "b"
    second = Probe("b")
    queue.submit(second)
    first.release.set()
    assert second.ended.wait(WAIT_S)
    assert second.ran_on == "b"
    assert queue.load_waiting is None


def test_a_waiting_job_is_cancelled_at_once_and_a_running_one_soon(queue: GenerationThread) -> None:
    queue.load("a")
    first, second, third = Probe(hold=True), Probe(), Probe()
    for job in (first, second, third):
        queue.submit(job)
    assert first.running.wait(WAIT_S)
    queue.cancel(second)
    assert second.refused == [None]
    assert third.places == [2, 1]
    queue.cancel(first)
    assert third.ended.wait(WAIT_S)
    assert first.ended.is_set()
    queue.cancel(second)
    assert second.refused == [None]
    assert second.ran_on is None


def test_jobs_of_a_model_that_does_not_load_hear_why(queue: GenerationThread) -> None:
    queue.load("a")
    held = Probe()
    queue.submit(held)
    assert held.ended.wait(WAIT_S)
    queue.load("broken")
    lost = Probe("broken")
    queue.submit(lost)
    assert lost.ended.wait(WAIT_S)
    (error,) = lost.refused
    assert isinstance(error, ModelLoadError)
    assert "it is broken" in error.text
    # The model before it is back.
    job = Probe("a")
    queue.submit(job)
    assert job.ended.wait(WAIT_S)
    assert job.ran_on == "a"


@pytest.mark.parametrize("trouble", [RuntimeError("boom"), GenerationError("x", "y", "z")])
def test_an_exception_is_the_jobs_and_not_the_threads(queue: GenerationThread, trouble: Exception) -> None:
    queue.load("a")
    job = Probe()
    job.trouble = trouble
    queue.submit(job)
    assert job.ended.wait(WAIT_S)
    (error,) = job.refused
    assert isinstance(error, GenerationError)
    after = Probe()
    queue.submit(after)
    assert after.ended.wait(WAIT_S)
    assert after.ran_on == "a"


def test_closing_ends_everything_and_takes_nothing_more(queue: GenerationThread) -> None:
    queue.load("a")
    first, second = Probe(hold=True), Probe()
    queue.submit(first)
    queue.submit(second)
    assert first.running.wait(WAIT_S)
    assert queue.close(WAIT_S)
    assert first.ended.is_set()
    assert second.refused == [None]
    with pytest.raises(EngineUnreachable):
        queue.submit(Probe())
