"""Wrong keys, and what they cost those who send them.

Owns: how many came from each address of late, and what follows. Secrets have 256 random bits, so nobody guesses one;
this is so that trying costs the engine nothing. On loopback a wrong key is answered ever more slowly, and the right key
at once, however many wrong ones came: programs of this machine have one address, and none may lock out another. On the
network's socket an address that sent too many is not listened to for a while, whatever it sends. The table is bounded.
Does not know keys or HTTP. For the event loop's thread.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

FREE = 5
"""So many wrong keys are answered at once: a person who pastes one wrongly is not kept waiting."""
LONGEST_WAIT_S = 4.0
MOST_BEFORE_PAUSE = 20
PAUSE_S = 60.0
FORGOTTEN_AFTER_S = 300.0
MOST_ADDRESSES = 1024
MOST_HELD = 32
"""Refusals that wait at once; more are answered without waiting, since each holds a connection."""


@dataclass
class _Tried:
    count: int = 0
    last_s: float = 0.0
    paused_until_s: float = 0.0


class Guesses:
    """The wrong keys of one socket. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float], *, pauses: bool) -> None:
        self._clock = clock
        self._pauses = pauses
        self._tried: OrderedDict[str, _Tried] = OrderedDict()
        self.held = 0

    def paused_s(self, address: str) -> float:
        """For how long this address is not listened to; 0 where it is."""
        tried = self._tried.get(address)
        return max(0.0, tried.paused_until_s - self._clock()) if tried and self._pauses else 0.0

    def wrong(self, address: str) -> float:
        """A wrong key came from there: the seconds that its refusal is to wait."""
        now = self._clock()
        tried = self._tried.pop(address, None)
        if tried is None or now - tried.last_s > FORGOTTEN_AFTER_S:
            tried = _Tried()
        self._tried[address] = tried
        while len(self._tried) > MOST_ADDRESSES:
            self._tried.popitem(last=False)
        tried.count += 1
        tried.last_s = now
        if self._pauses and tried.count >= MOST_BEFORE_PAUSE:
            tried.paused_until_s = now + PAUSE_S
        if tried.count <= FREE or self.held >= MOST_HELD:
            return 0.0
        return min(LONGEST_WAIT_S, 0.25 * 2 ** min(tried.count - FREE - 1, 10))

    def right(self, address: str) -> None:
        """A key that counts came from there."""
        self._tried.pop(address, None)
