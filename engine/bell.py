"""A wake-up for any number of asyncio waiters.

Owns: who waits. Does not know what for. Everything here happens on the event loop's own thread; another
thread rings with `loop.call_soon_threadsafe(bell.ring)`.
"""

import asyncio


class Bell:
    """Each `ring` wakes all who wait at that moment; who comes later waits for the next one."""

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[bool]] = set()

    def ring(self) -> None:
        """Wake everybody who waits now."""
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            _settle(waiter, True)

    async def wait(self, timeout_s: float | None = None) -> bool:
        """True when it rang, False when `timeout_s` passed first."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        self._waiters.add(waiter)
        # Waited for at every token of a stream: a timer alone costs a third of `asyncio.timeout`.
        timer = None if timeout_s is None else loop.call_later(timeout_s, _settle, waiter, False)
        try:
            return await waiter
        finally:
            self._waiters.discard(waiter)
            if timer is not None:
                timer.cancel()


def _settle(waiter: asyncio.Future[bool], rang: bool) -> None:
    if not waiter.done():
        waiter.set_result(rang)
