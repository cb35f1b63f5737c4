"""A wake-up for any number of asyncio waiters.

Owns: who waits. Does not know what for. Everything here happens on the event loop's own thread; another
thread rings with `loop.call_soon_threadsafe(bell.ring)`.
"""

import asyncio


class Bell:
    """Each `ring` wakes all who wait at that moment; who comes later waits for the next one."""

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    def ring(self) -> None:
        """Wake everybody who waits now."""
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, timeout_s: float | None = None) -> bool:
        """True when it rang, False when `timeout_s` passed first."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter
        except TimeoutError:
            return False
        finally:
            self._waiters.discard(waiter)
        return True
