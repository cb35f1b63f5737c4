"""Marks in a text that comes in pieces.

Owns: finding the first mark however the text is split, each character being looked at once but for an
overlap shorter than a mark. Does not know what a mark means.
"""

import re


class Pieces:
    """The text that has come and was not consumed.

    `longest`: length of the longest mark. `beginnings`: every proper beginning of a mark that streamed text
    may run into.
    """

    def __init__(self, longest: int, beginnings: frozenset[str]) -> None:
        self._longest = longest
        self._beginnings = beginnings
        self._new: str = ""  # not yet searched
        self._searched: list[str] = []  # searched in vain
        self._overlap: str = ""  # the end of that, where a mark may have begun
        self._is_whole = False

    def feed(self, piece: str) -> None:
        """More text."""
        self._new += piece

    def end(self) -> None:
        """No more text comes: nothing is held back any more."""
        self._is_whole = True

    def put_back(self, text: str) -> None:
        """What was consumed last is to be searched again, for something else."""
        self._new = text + self._new

    def take_all(self) -> str:
        """Everything, consumed."""
        text = "".join(self._searched) + self._new
        self._searched, self._new, self._overlap = [], "", ""
        return text

    def search(self, pattern: re.Pattern[str]) -> tuple[str, re.Match[str]] | None:
        """(all text before the first match, the match), consumed; None when there is none yet.

        Until there is one, it must be asked for the same `pattern` again.
        """
        window = self._overlap + self._new
        match = pattern.search(window)
        if match is None:
            if self._new:
                self._searched.append(self._new)
                self._overlap, self._new = window[-(self._longest - 1) :], ""
            return None
        searched, start = "".join(self._searched), match.start() - len(self._overlap)
        before = searched + self._new[:start] if start >= 0 else searched[:start]
        self._new = window[match.end() :]
        self._searched, self._overlap = [], ""
        return before, match

    def stream(self, pattern: re.Pattern[str]) -> tuple[str, str | None]:
        """(text that is certain, the mark after it or None), consumed; what may begin a mark stays."""
        match = pattern.search(self._new)
        cut = len(self._new) - self._held()
        # A mark within what is held back may be the inside of a longer one.
        if match is not None and match.start() < cut:
            before, self._new = self._new[: match.start()], self._new[match.end() :]
            return before, match.group()
        before, self._new = self._new[:cut], self._new[cut:]
        return before, None

    def _held(self) -> int:
        """How many of the last characters may yet turn out to begin a mark."""
        if not self._is_whole:
            for length in range(min(len(self._new), self._longest - 1), 0, -1):
                if self._new[-length:] in self._beginnings:
                    return length
        return 0
