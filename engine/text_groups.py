"""When the text of an answer is handed on.

Owns: the rule that a slow model's tokens each go out at once, and that a fast model does not pay a commit
and an event for every token. Does not know where the text goes.
"""

import time
from collections.abc import Callable

LONGEST_GROUP_S = 0.015
MOST_TOKENS = 16


class TextGroups:
    """Collects pieces of text and hands them to `deliver(text, token_ids)`.

    The first piece goes at once, and so does any piece that comes `longest_s` or more after the last
    delivery; others wait for the next piece, for `MOST_TOKENS` ids, or for `flush`. Ids without text (an
    unfinished character) wait for their text.
    """

    def __init__(
        self,
        deliver: Callable[[str, list[int]], None],
        clock: Callable[[], float] = time.monotonic,
        *,
        longest_s: float = LONGEST_GROUP_S,
    ) -> None:
        self._deliver = deliver
        self._clock = clock
        self._longest_s = longest_s
        self._texts: list[str] = []
        self._ids: list[int] = []
        self._last_s = float("-inf")

    def add(self, text: str, token_ids: tuple[int, ...]) -> None:
        """One more piece; `deliver` may be called, and what it raises comes through."""
        if text:
            self._texts.append(text)
        self._ids.extend(token_ids)
        due = len(self._ids) >= MOST_TOKENS or self._clock() - self._last_s >= self._longest_s
        if due and self._texts:
            self._send()

    def flush(self) -> None:
        """Hand on what is left; ids without text too."""
        if self._texts or self._ids:
            self._send()

    def _send(self) -> None:
        text, ids = "".join(self._texts), self._ids
        # Emptied first: what failed to be delivered once is not delivered again by the flush at the end.
        self._texts, self._ids = [], []
        self._deliver(text, ids)
        self._last_s = self._clock()
