"""Waking whoever waits."""

import asyncio

from engine.bell import Bell


def test_it_wakes_all_who_wait_and_nobody_later() -> None:
    async def check() -> None:
        bell = Bell()
        waiting = [asyncio.create_task(bell.wait()) for _ in range(3)]
        gone = asyncio.create_task(bell.wait())
        await asyncio.sleep(0)
        gone.cancel()
        bell.ring()
        assert await asyncio.gather(*waiting) == [True, True, True]
        assert not await bell.wait(0.001)

    asyncio.run(check())
