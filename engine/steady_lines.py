"""Lines of a system message that differ from one request of a conversation to the next.

Owns: what differs between two texts line by line, whether it differs in figures alone (numbers, dates, times, ids), and
the text with chosen differences taken back or told elsewhere. Pure: does not know who asks, which conversation a text
belongs to or what a person has agreed to (`prefix_watch`).

A figure is a whole word, without the quotes, brackets and stops around it, or the value of `name=value` and
`name: value` written together: a number with its separators and up to three letters of a unit, a date or a time, a
version, a UUID, a hexadecimal number of four places and more with a digit in it (without one only as such a value), a
random-looking id of sixteen places and more; names of weekdays, and those of months, short weekdays and time zones
beside another figure. A part of a word is none: `file2.py` and `file3.py` are different words, and so are two paths.

The cost of comparing grows with the texts' lengths and not faster: what comes from outside cannot make it slow.
"""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

MOST_TEXT = 500_000
"""Characters of a text that is compared at all."""
MOST_LINES = 20_000
"""The same for its lines."""
MOST_CHANGED_LINES = 256
"""Of either text: with more of them it is another text."""
MOST_CHANGED_TEXT = 16_000
"""Characters of the changed lines of either text."""
LONGEST_LINE = 2000
"""A longer line has no figures: it is the same, or another one."""
LONGEST_WORD = 120
FIGURE = "\0"
"""Stands for a figure. No text that is stored or sent has this character (`conversation.clean_text`)."""

_WEEKDAY = re.compile(r"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day")
_MAYBE_OF_A_DATE = re.compile(
    r"Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?"
    r"|Nov(?:ember)?|Dec(?:ember)?|Mon|Tues?|Wed|Thu(?:rs?)?|Fri|Sat|Sun|[AP]M|[ap]m|[ap]\.m"
    r"|UTC|GMT|[CEW]ES?T|[BIJ]ST|[ECMP][SD]T"
)
_BARE = re.compile(r"^([\"'(\[{<*#$€£]*)(.*?)([\"')\]}>*,.;:!?%]*)$", re.ASCII | re.DOTALL)
_NAMED = re.compile(r"^([A-Za-z_][\w.-]*[\"']?[=:][\"']?)(.+)$", re.ASCII | re.DOTALL)
_FIGURE = re.compile(
    r"[+-]?\d+(?:[.,:_-]\d+)*[A-Za-z]{0,3}"  # 12, 1,234.5, 14:03:22, 2026-08-05, 45s, 3rd
    r"|\d[\d,]*(?:/\d[\d,]*){1,2}"  # 5/8/2026, 12,345/200,000
    r"|\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?"
    r"|\d+(?:\.[0-9a-f]+)+"  # a version, with a hash behind it
    r"|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
    r"|(?:0x)?(?=[A-Fa-f]*\d)[0-9a-fA-F]{4,128}"
    r"|(?:[a-z]{2,12}[_-])?(?=(?:[A-Za-z]*\d){3})[A-Za-z0-9]{16,100}",
    re.ASCII,
)
_HEX = re.compile(r"[0-9a-f]{4,128}|[0-9A-F]{4,128}", re.ASCII)


@dataclass(frozen=True)
class Change:
    """From line `first` of a text on, the lines `before` became the lines `after`; either may be none.

    `in_figures`: they are as many, and differ line for line in figures alone.
    """

    first: int
    before: tuple[str, ...]
    after: tuple[str, ...]
    in_figures: bool


def changes_of(before: str, after: str) -> tuple[Change, ...] | None:
    """What makes `after` of `before`, in the order of the lines. None: that is another text, since too much of it is
    other; a text of which less than half the characters stand in lines that stayed, figures apart, is too."""
    if before == after:
        return ()
    if max(len(before), len(after)) > MOST_TEXT:
        return None
    if max(before.count("\n"), after.count("\n")) >= MOST_LINES:
        return None
    old, new = before.split("\n"), after.split("\n")
    found: list[Change] = []
    # Most lines are the same; what they are made of is looked at where they are not.
    parts = [(old[a:a_end], new[b:b_end], a) for a, a_end, b, b_end in _gaps(old, new)]
    parts = [part for part in parts if part[0] != part[1]]
    lines = [line for part in parts for line in (*part[0], *part[1])]
    if len(lines) > 4 * MOST_CHANGED_LINES or sum(map(len, lines)) > 4 * MOST_CHANGED_TEXT:
        return None
    for one, other, first in parts:
        found += _changes(one, other, first)
    return tuple(found) if _is_same_text(found, before, after) else None


def applied(before: str, changes: Sequence[Change]) -> str:
    """`before` with some of its changes made, in their order: all that `changes_of` gave make `after`."""
    lines = before.split("\n")
    # From the end on, so that places stay right; of two at one place the first puts lines in before the other.
    for change in reversed(changes):
        lines[change.first : change.first + len(change.before)] = change.after
    return "\n".join(lines)


def told(changes: Sequence[Change]) -> str:
    """The changes as a text for the model: each line that is new, and each that is gone."""
    gone = Counter(line for change in changes for line in change.before)
    new = Counter(line for change in changes for line in change.after)
    came = [line for change in changes for line in change.after]
    went = [line for change in changes for line in change.before]
    parts = ["The system message has changed since it was given."]
    if lines := _less(came, gone):
        parts += ["These lines of it are new:", *lines]
    if lines := _less(went, new):
        parts += ["These are no longer in it:", *lines]
    return "\n".join(parts)


def without_figures(line: str) -> str:
    """The line with a `FIGURE` in the place of each, by which two lines that differ in figures alone are the same.

    Spaces beside a figure are one: programs pad them.
    """
    if len(line) > LONGEST_LINE or not line.strip():
        return line
    pieces = re.split(r"(\s+)", line)
    words = [_Word.of(word) for word in pieces[::2]]
    _mark_names_of_dates(words)
    pieces[::2] = [word.shape for word in words]
    for at in range(1, len(pieces), 2):
        if words[at // 2].has_figure or words[at // 2 + 1].has_figure:
            pieces[at] = " "
    return "".join(pieces)


class _Word:
    """A word: what stands around it, and what it is."""

    def __init__(self, text: str, around: tuple[str, str], *, has_figure: bool, name: str) -> None:
        self._text, self._around, self.name, self.has_figure = text, around, name, has_figure

    @classmethod
    def of(cls, text: str) -> "_Word":
        if len(text) > LONGEST_WORD or (bare := _BARE.match(text)) is None:
            return cls(text, ("", ""), has_figure=False, name="")
        opening, core, closing = bare.groups()
        if _FIGURE.fullmatch(core) or _WEEKDAY.fullmatch(core):
            return cls(FIGURE, (opening, closing), has_figure=True, name="")
        named = _NAMED.match(core)
        if named is not None and (_FIGURE.fullmatch(named[2]) or _HEX.fullmatch(named[2])):
            return cls(named[1] + FIGURE, (opening, closing), has_figure=True, name="")
        return cls(core, (opening, closing), has_figure=False, name=core)

    @property
    def may_be_of_a_date(self) -> bool:
        return _MAYBE_OF_A_DATE.fullmatch(self.name) is not None

    @property
    def shape(self) -> str:
        return self._around[0] + self._text + self._around[1]

    def become_figure(self) -> None:
        self._text, self.has_figure = FIGURE, True


def _mark_names_of_dates(words: Sequence[_Word]) -> None:
    """Names that may belong to a date do where a figure stands in the same run of both."""
    at = 0
    while at < len(words):
        end = at
        while end < len(words) and (words[end].has_figure or words[end].may_be_of_a_date):
            end += 1
        run = words[at:end]
        if any(word.has_figure for word in run):
            for word in run:
                if word.may_be_of_a_date:
                    word.become_figure()
        at = end + 1


def _changes(old: Sequence[str], new: Sequence[str], first: int) -> list[Change]:
    """What differs between lines of which none need be the same; `first`: where the old ones stand."""
    old_shapes, new_shapes = list(map(without_figures, old)), list(map(without_figures, new))
    found: list[Change] = []
    for a, a_end, b, b_end in _gaps(old_shapes, new_shapes):
        before, after = old[a:a_end], new[b:b_end]
        if old_shapes[a:a_end] == new_shapes[b:b_end]:
            found += _differing(before, after, first + a)
        else:
            found.append(Change(first + a, tuple(before), tuple(after), in_figures=False))
    return found


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many lines both begin with."""
    most = min(len(one), len(other))
    return next((at for at in range(most) if one[at] != other[at]), most)


def _gaps(old: Sequence[str], new: Sequence[str]) -> list[tuple[int, int, int, int]]:
    """Where two lists of lines, or of their shapes, are compared: (from, to) of the old and of the new one, together
    all of both.

    Those that stand once in either hold them together, in the longest chain that has the same order in both;
    between two of these, what is the same from either end is told apart from the rest.
    """
    once_old, once_new = _once(old), _once(new)
    held = _longest_rising([(once_old[line], once_new[line]) for line in once_old if line in once_new])
    gaps: list[tuple[int, int, int, int]] = []
    a = b = 0
    for a_end, b_end in [*held, (len(old), len(new))]:
        gaps += _trimmed(old, new, (a, a_end, b, b_end))
        if a_end < len(old):
            gaps.append((a_end, a_end + 1, b_end, b_end + 1))
        a, b = a_end + 1, b_end + 1
    return gaps


def _trimmed(
    old: Sequence[str], new: Sequence[str], gap: tuple[int, int, int, int]
) -> list[tuple[int, int, int, int]]:
    a, a_end, b, b_end = gap
    head = _common(old[a:a_end], new[b:b_end])
    tail = _common(old[a + head : a_end][::-1], new[b + head : b_end][::-1])
    parts = [
        (a, a + head, b, b + head),
        (a + head, a_end - tail, b + head, b_end - tail),
        (a_end - tail, a_end, b_end - tail, b_end),
    ]
    return [part for part in parts if part[0] < part[1] or part[2] < part[3]]


def _once(lines: Sequence[str]) -> dict[str, int]:
    """The place of each line that stands there once."""
    counts = Counter(lines)
    return {line: at for at, line in enumerate(lines) if counts[line] == 1}


def _longest_rising(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest part of `pairs`, which rise in their first numbers, that rises in the second ones too."""
    ends: list[int] = []  # the smallest second number with which a chain of that length ends
    links: list[tuple[int, int | None]] = []
    at_length: list[int] = []
    for number, (_, second) in enumerate(pairs):
        length = bisect_left(ends, second)
        links.append((number, at_length[length - 1] if length else None))
        ends[length : length + 1] = [second]
        at_length[length : length + 1] = [number]
    chain: list[tuple[int, int]] = []
    at = at_length[-1] if at_length else None
    while at is not None:
        chain.append(pairs[at])
        at = links[at][1]
    return chain[::-1]


def _differing(old: Sequence[str], new: Sequence[str], first: int) -> list[Change]:
    """Of lines of the same shapes those that are not the same, neighbours as one."""
    found: list[Change] = []
    at = 0
    while at < len(old):
        end = at
        while end < len(old) and old[end] != new[end]:
            end += 1
        if end > at:
            found.append(Change(first + at, tuple(old[at:end]), tuple(new[at:end]), in_figures=True))
        at = end + 1
    return found


def _is_same_text(changes: Sequence[Change], before: str, after: str) -> bool:
    sides = (
        ([(each.before, each.in_figures) for each in changes], before),
        (
            [(each.after, each.in_figures) for each in changes],
            after,
        ),
    )
    for side, text in sides:
        sizes = [(len(line), in_figures) for lines, in_figures in side for line in lines]
        if len(sizes) > MOST_CHANGED_LINES or sum(size for size, _ in sizes) > MOST_CHANGED_TEXT:
            return False
        if 2 * sum(size for size, in_figures in sizes if not in_figures) > len(text):
            return False
    return True


def _less(lines: Sequence[str], others: Counter[str]) -> list[str]:
    """`lines` without those of `others`, each as often as it is there: what only changed its place is not told."""
    left = Counter(others)
    kept: list[str] = []
    for line in lines:
        if left[line] > 0:
            left[line] -= 1
        else:
            kept.append(line)
    return [line for line in kept if line.strip()]
