"""What experts cost while an answer is written: read from the disk for each token, and how many lay in memory.

Owns: the differences of a backend's counts, over the whole answer and over the last seconds. Pure but for the clock it
is given; does not know who is told.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from engine.backends.base import ExpertCounts

EVERY_S = 0.5
LATELY_S = 5.0
"""A token can take seconds where experts come from the disk: a shorter time would jump with every token."""


@dataclass(frozen=True)
class ExpertCost:
    """`disk_bytes_per_token`: read for experts. `in_memory`: the share of the experts chosen that lay in memory; 1
    where none was chosen."""

    tokens_per_s: float
    disk_bytes_per_token: float
    in_memory: float


@dataclass(frozen=True)
class _Sample:
    at_s: float
    tokens: int
    counts: ExpertCounts


class ExpertMeter:
    """One answer. `counts()` gives the backend's counts of this moment, None where nobody counts; they are asked for
    when it is made and with every `news` that is due."""

    def __init__(
        self, counts: Callable[[], ExpertCounts | None], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._counts, self._clock = counts, clock
        first = counts()
        self._samples: deque[_Sample] = deque()
        if first is not None:
            self._samples.append(_Sample(clock(), 0, first))
        self._first = self._samples[0] if self._samples else None

    def news(self, tokens: int) -> ExpertCost | None:
        """What the last seconds cost, with `tokens` written so far; None while the last news is younger than EVERY_S,
        and where nobody counts."""
        if not self._samples:
            return None
        now_s = self._clock()
        if now_s - self._samples[-1].at_s < EVERY_S or tokens <= self._samples[-1].tokens:
            return None
        counts = self._counts()
        if counts is None:
            return None
        latest = _Sample(now_s, tokens, counts)
        self._samples.append(latest)
        while len(self._samples) > 2 and now_s - self._samples[1].at_s >= LATELY_S:
            self._samples.popleft()
        return _cost(self._samples[0], latest)

    def whole(self, tokens: int) -> ExpertCost | None:
        """What the answer cost as a whole; None for one without a token, and where nobody counts."""
        counts = self._counts() if self._first is not None else None
        if self._first is None or counts is None or tokens <= 0:
            return None
        return _cost(self._first, _Sample(self._clock(), tokens, counts))


def _cost(before: _Sample, after: _Sample) -> ExpertCost:
    tokens = after.tokens - before.tokens
    wanted = after.counts.wanted - before.counts.wanted
    held = after.counts.in_memory - before.counts.in_memory
    return ExpertCost(
        tokens_per_s=tokens / max(1e-9, after.at_s - before.at_s),
        disk_bytes_per_token=max(0, after.counts.read_bytes - before.counts.read_bytes) / tokens,
        in_memory=min(1.0, max(0.0, held / wanted)) if wanted > 0 else 1.0,
    )
