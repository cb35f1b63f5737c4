"""A few at once, and the threads of everybody else are left alone."""

import asyncio
import threading

import anyio.to_thread

from engine.server.side_work import AT_ONCE, beside


def test_a_few_are_done_at_once_and_the_others_wait_their_turn() -> None:
    go = threading.Event()
    lock = threading.Lock()
    running = most = 0

    def work(number: int, *, twice: bool = False) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        go.wait(20)
        with lock:
            running -= 1
        return number * (2 if twice else 1)

    async def story() -> None:
        tasks = [asyncio.create_task(beside(work, number, twice=True)) for number in range(60)]
        while running < AT_ONCE:
            await asyncio.sleep(0.001)
        # Sixty wait for a thread of those that everybody else has forty of.
        assert await anyio.to_thread.run_sync(lambda: "at once") == "at once"
        assert not go.is_set()
        go.set()
        assert await asyncio.gather(*tasks) == [2 * number for number in range(60)]
        assert most == AT_ONCE

    asyncio.run(asyncio.wait_for(story(), 30))
    assert asyncio.run(beside(work, 3)) == 3  # another loop has its own
