"""Whether reading a guessed token ahead is worth its time.

Owns: that decision, from how long steps took with a guess and without, and how many guesses came true. It changes no
bit of what is computed (`engine.model.read_ahead`), so it may depend on time. Pure but for what it is told; does not
know how a guess is made.

A pass over two tokens costs more than one over one: how much depends on the machine, and whether it pays on the text.
So both are tried, and tried again now and then.
"""

from collections import deque
from statistics import median

PLAIN_STEPS = 4
"""Steps without a guess, to know how long one takes."""
TRIAL_STEPS = 12
"""Steps with guesses, to know what they bring."""
AGAIN_TOKENS = 256
"""After so many tokens it is tried anew."""
LEAST_GAIN = 1.05
"""Less is not worth a pass that takes twice as long when the guess is wrong."""


class DraftTrial:
    """Of one loaded model."""

    def __init__(self) -> None:
        self._plain_s: deque[float] = deque(maxlen=PLAIN_STEPS)
        self._ahead_s: deque[float] = deque(maxlen=TRIAL_STEPS)
        self._came_true: deque[bool] = deque(maxlen=2 * TRIAL_STEPS)
        self._tokens = 0
        self._pays: bool | None = None

    @property
    def wanted(self) -> bool:
        """Whether the next step is to read a guess ahead."""
        if self._pays is None:
            return len(self._plain_s) == PLAIN_STEPS
        return self._pays

    @property
    def gain(self) -> float | None:
        """How many times as fast steps are with guesses; None: not known."""
        if len(self._plain_s) < PLAIN_STEPS or len(self._ahead_s) < TRIAL_STEPS or not self._came_true:
            return None
        true_share = sum(self._came_true) / len(self._came_true)
        return (1 + true_share) * median(self._plain_s) / max(1e-9, median(self._ahead_s))

    def plain(self, took_s: float) -> None:
        """A step without a guess took so long."""
        self._plain_s.append(took_s)
        self._count()

    def ahead(self, took_s: float) -> None:
        """A step that read a guess ahead took so long."""
        self._ahead_s.append(took_s)
        self._count()

    def guessed(self, *, right: bool) -> None:
        """What became of a guess."""
        self._came_true.append(right)
        if right:
            self._count()

    def _count(self) -> None:
        self._tokens += 1
        if self._pays is None:
            gain = self.gain
            if gain is not None:
                self._pays, self._tokens = gain >= LEAST_GAIN, 0
        elif self._tokens >= AGAIN_TOKENS:
            self._pays = None
            self._plain_s.clear()
            self._ahead_s.clear()
            self._came_true.clear()
