"""When a context is saved and loaded again from what was saved: a relay.

Owns: the places at which that happens, as a pure function of positions and sizes. Never of time, of luck or of what
can be written: a turn that is repeated from any place of an earlier run has its relays at the same positions, and so
computes the same bits. Does not know how a relay is done (`keeper`).
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

_PART = 4


@dataclass(frozen=True)
class Schedule:
    """The places of relays, all in tokens from the context's beginning.

    A prompt that is read has one after every `prefill_tokens`, further in after every quarter of what was read, and one
    at its end if so many as `prompt_tokens` were read since the last one or since what was there before. An answer has
    one after every `gap`. What a relay costs grows with the state, so with a large one it comes more seldom: one token
    more for each `bytes_per_token`. So of a state of DeepSeek-V4-Flash at 100,000 tokens, 700 MB, less than 0.3 MB is
    copied for each token written.
    """

    prefill_tokens: int = 8192
    prompt_tokens: int = 256
    least_gap_tokens: int = 256
    bytes_per_token: int = 256 * 2**10
    end_tokens: int = 32
    """At an answer's end a state is kept if so many tokens came since the last one."""
    waited_for_tokens: int = 256
    """The same while somebody waits for the next answer."""

    @property
    def key(self) -> int:
        """By which two schedules are known to be the same; noted with each turn."""
        rule = (_PART, self.prefill_tokens, self.prompt_tokens, self.least_gap_tokens, self.bytes_per_token)
        return zlib.crc32(repr(rule).encode())

    def prefill_stops(self, start: int, end: int) -> Sequence[int]:
        """Where reading from `start` to `end` is interrupted by a relay: between the two.

        They stand at the same places wherever reading starts. A quarter: then all that is written of a prompt on the
        way is about five times its last state, however long it is, and not its square.
        """
        stops: list[int] = []
        stop = 0
        while stop < end:
            if stop > start:
                stops.append(stop)
            stop += max(1, stop // _PART // self.prefill_tokens) * self.prefill_tokens
        return stops

    def at_prompt_end(self, last: int, end: int) -> bool:
        """Whether there is one at the prompt's `end`, with the last one at `last`, or the turn's beginning there."""
        return end - last >= self.prompt_tokens

    def gap(self, state_bytes: int) -> int:
        """After how many tokens of an answer the next one comes; the state had so many bytes at the last one."""
        return max(self.least_gap_tokens, state_bytes // self.bytes_per_token)
