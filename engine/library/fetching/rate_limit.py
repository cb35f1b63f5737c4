"""How fast it may go, and how fast it goes.

Owns: the limit that all streams of a download share, and the smoothed rate that is shown. Knows only the steady
clock: one that is set, or a machine that slept, makes no burst and no pause.
"""

import threading
import time
from collections import deque
from collections.abc import Callable

WINDOW_S = 10.0
_BURST_S = 0.25
_LONGEST_WAIT_S = 0.25


class RateLimit:
    """A limit in bytes a second over all threads that take from it.

    `limit_bytes_per_s` is asked again and again, so the limit can change meanwhile; 0: there is none.
    """

    def __init__(
        self,
        limit_bytes_per_s: Callable[[], float],
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self._limit, self._clock, self._wait = limit_bytes_per_s, clock, wait
        self._lock = threading.Lock()
        self._free_at_s = clock()

    def is_on(self) -> bool:
        """Whether there is a limit now."""
        return self._limit() > 0

    def take(self, count_bytes: int, stopped: Callable[[], bool] = lambda: False) -> None:
        """Return when so many bytes more are within the limit, or at once when `stopped()`."""
        limit = self._limit()
        if limit <= 0:
            return
        with self._lock:
            now = self._clock()
            # What was not used is saved up for a moment only.
            begin = max(self._free_at_s, now - _BURST_S)
            self._free_at_s = begin + count_bytes / limit
            until = self._free_at_s
        while not stopped() and (left_s := until - self._clock()) > 0:
            self._wait(min(left_s, _LONGEST_WAIT_S))
            if self._limit() != limit:
                with self._lock:
                    # Debts by the old limit are forgiven: they would hold for as long as it was slow.
                    self._free_at_s = min(self._free_at_s, self._clock() + _BURST_S)
                return


class Speed:
    """Bytes a second over the last `WINDOW_S` seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._seconds: deque[tuple[int, int]] = deque()
        """(second of the clock, bytes in it)."""
        self._began_s: float | None = None

    def count(self, count_bytes: int) -> None:
        """So many bytes came just now."""
        now = self._clock()
        with self._lock:
            if self._began_s is None:
                self._began_s = now
            second = int(now)
            if self._seconds and self._seconds[-1][0] == second:
                self._seconds[-1] = second, self._seconds[-1][1] + count_bytes
            else:
                self._seconds.append((second, count_bytes))
                self._forget(now)

    def bytes_per_s(self) -> float:
        """The smoothed rate; 0.0 before anything came, or when nothing came for that long."""
        now = self._clock()
        with self._lock:
            self._forget(now)
            if self._began_s is None or not self._seconds:
                return 0.0
            span_s = min(now - self._began_s, WINDOW_S)
            return sum(count for _, count in self._seconds) / max(span_s, 1.0)

    def _forget(self, now: float) -> None:
        while self._seconds and self._seconds[0][0] < now - WINDOW_S:
            self._seconds.popleft()
