"""What every window is told."""

import asyncio
import json

from engine.engine_events import MOST_UNREAD, EngineEvents
from engine.protocol import EngineStatus

STATUS = EngineStatus(version="1", pid=1, started_at=0, data_folder="/")


def test_changes_of_status_between_two_readings_are_one_event() -> None:
    async def check() -> None:
        events = EngineEvents(asyncio.get_running_loop(), lambda: STATUS)
        follower = events.follow(idle_s=1)
        ((kind, payload),) = await anext(follower)
        assert kind == "status"
        assert json.loads(payload)["status"]["version"] == "1"
        for _ in range(5):
            events.post_status()
        events.post_session("s", "created")
        events.post_session("s", "updated")
        told: list[str] = []
        while told.count("session") < 2:
            told += [kind for kind, _ in await anext(follower)]
        assert told == ["status", "session", "session"]
        await follower.aclose()

    asyncio.run(check())


def test_a_job_that_changes_often_is_told_once_to_who_reads_seldom() -> None:
    async def check() -> None:
        events = EngineEvents(asyncio.get_running_loop(), lambda: STATUS)
        follower = events.follow(idle_s=1)
        await anext(follower)
        for _ in range(MOST_UNREAD + 1):
            events.post_job("a")
        events.post_job("b")
        await asyncio.sleep(0)
        told = await anext(follower)
        assert [json.loads(payload) for _, payload in told] == [
            {"kind": "job", "job_id": "a"},
            {"kind": "job", "job_id": "b"},
        ]
        await follower.aclose()

    asyncio.run(check())


def test_presence_is_told_and_a_closed_engine_lets_everybody_go() -> None:
    async def check() -> None:
        events = EngineEvents(asyncio.get_running_loop(), lambda: STATUS)
        counts: list[int] = []
        events.on_presence = counts.append
        first, second = events.follow(idle_s=1), events.follow(idle_s=1)
        await anext(first)
        await anext(second)
        assert events.presence == 2
        await first.aclose()
        events.close()
        assert [each async for each in second] == []
        assert counts == [1, 2, 1, 0]

    asyncio.run(check())


def test_a_listener_that_does_not_read_is_let_go() -> None:
    async def check() -> None:
        events = EngineEvents(asyncio.get_running_loop(), lambda: STATUS)
        follower = events.follow(idle_s=1)
        await anext(follower)
        for _ in range(MOST_UNREAD + 1):
            events.post_session("s", "updated")
        await asyncio.sleep(0)
        assert [each async for each in follower] == []
        assert events.presence == 0

    asyncio.run(check())


def test_news_of_the_hardware_comes_once_however_often_it_was_posted() -> None:
    async def check() -> None:
        events = EngineEvents(asyncio.get_running_loop(), lambda: STATUS)
        follower = events.follow(idle_s=1)
        await anext(follower)
        for _ in range(3):
            events.post_hardware()
        await asyncio.sleep(0)
        assert [json.loads(payload) for _, payload in await anext(follower)] == [{"kind": "hardware"}]
        await follower.aclose()

    asyncio.run(check())
