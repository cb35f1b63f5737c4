"""Who is connected, what runs for whom, and ending it; answers are stood in for."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import pytest

from engine.access import client_watch
from engine.access.client_watch import MOST_PROGRAMS, REMEMBERED_S, ClientWatch
from engine.callers import WINDOW, Caller
from engine.errors import Busy, MissingKey, NotFound, TooManyRequests
from engine.protocol_access import KeyLimits


@dataclass(frozen=True)
class Standing:
    state: Literal["queued", "reading", "writing"] = "queued"
    place: int = 0
    done: int = 0
    total: int = 0


@dataclass
class Answer:
    progress: Standing = field(default_factory=Standing)
    generated_tokens: int = 0
    calls: list[Callable[[], None]] = field(default_factory=list)

    def at_end(self, call: Callable[[], None]) -> None:
        self.calls.append(call)

    def end(self) -> None:
        for call in self.calls:
            call()


class Watched:
    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.now = 1000.0
        self.cancelled: list[Answer] = []
        self.told = 0
        self.revoked: set[str] = set()
        self.watch: ClientWatch[Answer] = ClientWatch(
            self.loop,
            cancel=self.cancelled.append,
            tell=self._tell,
            counts=lambda key_id: key_id not in self.revoked,
            clock=lambda: self.now,
        )

    def _tell(self) -> None:
        self.told += 1

    def run(self, seconds: float = 0.0) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))


@pytest.fixture
def watched() -> "Watched":
    made = Watched()
    yield made
    made.loop.close()


def caller(
    key_id: str = "k", program: str = "Editor/1", address: str = "127.0.0.1", waiting: int = 2
) -> Caller:
    return Caller(key_id, key_id.upper(), program, address, limits=KeyLimits(waiting=waiting))


def test_what_runs_is_listed_as_it_stands(watched: Watched) -> None:
    answer = Answer()
    watched.watch.begin(answer, caller(), "chat", "model")
    answer.progress, answer.generated_tokens = Standing("reading", done=5, total=9), 3
    (client,) = watched.watch.connected()
    assert (client.key_id, client.key_name, client.program, client.address) == (
        "k",
        "K",
        "Editor/1",
        "127.0.0.1",
    )
    (request,) = client.requests
    assert (request.dialect, request.model_id, request.state) == ("chat", "model", "reading")
    assert (request.done, request.total, request.generated_tokens, request.since) == (5, 9, 3, 1000.0)
    watched.watch.end(request.id)
    assert watched.cancelled == [answer]
    watched.now += 7
    answer.end()
    (client,) = watched.watch.connected()
    assert (client.requests, client.last_at) == ([], 1007.0)
    with pytest.raises(NotFound):
        watched.watch.end(request.id)


def test_a_key_has_so_many_waiting_and_no_more(watched: Watched) -> None:
    first = Answer()
    watched.watch.begin(first, caller(), "chat", "m")
    watched.watch.begin(Answer(), caller(program="Other"), "messages", "m")
    with pytest.raises(TooManyRequests) as raised:
        watched.watch.begin(Answer(), caller(), "chat", "m")
    assert raised.value.retry_after_s > 0
    watched.watch.begin(Answer(), caller("other"), "chat", "m")
    first.end()
    watched.watch.begin(Answer(), caller(), "chat", "m")
    for _ in range(10):
        watched.watch.begin(Answer(), caller("free", waiting=0), "chat", "m")


def test_all_keys_together_have_a_bound(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_watch, "MOST_REQUESTS", 3)
    for number in range(3):
        watched.watch.begin(Answer(), caller(str(number)), "chat", "m")
    with pytest.raises(Busy):
        watched.watch.begin(Answer(), WINDOW, "chat", "m")


def test_a_revoked_key_begins_nothing_and_what_it_runs_is_ended(watched: Watched) -> None:
    mine, others = Answer(), Answer()
    watched.watch.begin(mine, caller(), "chat", "m")
    watched.watch.begin(others, caller("other"), "chat", "m")
    watched.revoked.add("k")
    watched.watch.end_all("k")
    assert watched.cancelled == [mine]
    with pytest.raises(MissingKey):
        watched.watch.begin(Answer(), caller(), "chat", "m")
    mine.end()
    assert [each.key_id for each in watched.watch.connected()] == ["other"]


def test_a_key_that_is_revoked_while_a_request_begins_begins_nothing() -> None:
    """Whenever that is: revoking ends what is there, and what comes there later sees that the key is gone."""
    loop = asyncio.new_event_loop()
    cancelled: list[Answer] = []
    answer = Answer()
    gone = False

    def counts(_key_id: str) -> bool:
        nonlocal gone
        counted = not gone
        if not gone:  # it is revoked right after it was looked at
            gone = True
            watch.end_all("k")
        return counted

    watch = ClientWatch[Answer](loop, cancel=cancelled.append, tell=lambda: None, counts=counts)
    watch.begin(answer, caller(), "chat", "m")
    assert cancelled == [answer]
    with pytest.raises(MissingKey):
        watch.begin(Answer(), caller(), "chat", "m")
    loop.close()


def test_what_could_not_be_queued_is_let_go(watched: Watched) -> None:
    answer = Answer()
    watched.watch.begin(answer, caller(waiting=1), "chat", "m")
    watched.watch.drop(answer)
    watched.watch.begin(Answer(), caller(waiting=1), "chat", "m")


def test_programs_are_forgotten_by_and_by_and_bounded(watched: Watched) -> None:
    running = Answer()
    watched.watch.begin(running, caller("running"), "chat", "m")
    for number in range(3 * MOST_PROGRAMS):
        watched.now += 0.001
        watched.watch.saw(caller(program=f"p{number}"))
    programs = [each.program for each in watched.watch.connected()]
    assert len(programs) <= MOST_PROGRAMS + 1
    assert programs[0] == f"p{3 * MOST_PROGRAMS - 1}"
    assert "Editor/1" in programs  # what runs stays
    watched.now += REMEMBERED_S + 1
    assert [each.key_id for each in watched.watch.connected()] == ["running"]


def test_it_is_used_while_something_runs_and_some_minutes_longer(watched: Watched) -> None:
    assert not watched.watch.is_used
    answer = Answer()
    watched.watch.begin(answer, WINDOW, "chat", "a model")
    watched.now += 10 * REMEMBERED_S
    assert watched.watch.is_used
    answer.end()
    watched.now += REMEMBERED_S
    assert watched.watch.is_used
    watched.now += 1
    assert not watched.watch.is_used


def test_windows_are_told_a_few_times_a_second_at_most(watched: Watched) -> None:
    for _ in range(50):
        answer = Answer()
        watched.watch.begin(answer, caller(), "chat", "m")
        answer.end()
    watched.run()
    watched.run()
    assert watched.told == 1
    due = watched.watch._timer
    for _ in range(50):
        watched.watch.saw(caller())
        watched.watch.saw(caller(program="new"))
    watched.run()
    assert watched.told == 1
    assert watched.watch._timer is not None
    assert watched.watch._timer is not due


def test_while_something_runs_they_are_told_of_its_progress(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_watch, "LOOK_EVERY_S", 0.001)
    answer = Answer()
    watched.watch.begin(answer, caller(), "chat", "m")
    while watched.told < 4:
        watched.run(0.001)
    monkeypatch.setattr(client_watch, "TELL_EVERY_S", 0.0)
    answer.end()
    while watched.watch._timer is not None:
        watched.run(0.001)
    told = watched.told
    watched.run(0.01)
    assert watched.told == told
