"""Where things stand in a long column of which only a part is measured.

Owns: a list of heights with their tops, the place that stays put, and guesses of the height of text that no
layout has seen. Knows no widgets. Heights are logical pixels.
"""

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate


class Heights:
    """Heights one below the other. A change costs nothing; the next question adds up what stands behind."""

    def __init__(self) -> None:
        self._heights: list[int] = []
        self._tops: list[int] = [0]  # tops[i] is right for i <= clean
        self._clean = 0

    def __len__(self) -> int:
        return len(self._heights)

    def __getitem__(self, index: int) -> int:
        return self._heights[index]

    def append(self, height: int) -> None:
        """Add one at the end."""
        self._heights.append(height)

    def truncate(self, count: int) -> None:
        """Keep the first `count`."""
        del self._heights[count:]
        self._clean = min(self._clean, count)

    def change(self, index: int, height: int) -> bool:
        """Set one height. True when it differs from the one before."""
        if self._heights[index] == height:
            return False
        self._heights[index] = height
        self._clean = min(self._clean, index)
        return True

    def top(self, index: int) -> int:
        """Where number `index` begins; for len(self): where everything ends."""
        if index > self._clean:
            start = self._tops[self._clean]
            del self._tops[self._clean :]
            self._tops.extend(accumulate(self._heights[self._clean :], initial=start))
            self._clean = len(self._heights)
        return self._tops[index]

    @property
    def total(self) -> int:
        """The sum of all."""
        return self.top(len(self._heights))

    def at(self, y: int) -> int:
        """The index of the one that covers `y`; the first or last when `y` lies outside. Not without any."""
        count = len(self._heights)
        end = self.top(count)
        if y >= end:
            return count - 1
        return max(0, bisect_right(self._tops, y, 0, count + 1) - 1)


@dataclass
class Anchor:
    """What stays at the upper edge: the place `offset` pixels below a slot's top (-1: the message's)."""

    index: int = 0
    slot: int = -1
    offset: int = 0


def text_height(text: str, width_px: float, font_px: float, line_px: float) -> int:
    """A guess at the height of `text` set in `width_px`: a character takes half a font size."""
    per_line = max(8.0, width_px / (font_px * 0.5))
    lines = len(text) / per_line + 0.7 * text.count("\n") + 1
    return round(lines * line_px)
