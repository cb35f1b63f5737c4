"""A prompt in pieces: control tokens by id, text that is tokenised as plain text, and ids that are final.

Owns: putting pieces together so that neighbouring texts are tokenised as one (a tokeniser may join across
their border), and remembering the ids of texts, since a conversation is encoded again with every turn. Does
not know what the pieces mean.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple


class Control(NamedTuple):
    """A control token."""

    token_id: int
    text: str = ""
    """Its literal."""


class Text(NamedTuple):
    """Plain text between control tokens; not empty."""

    text: str


class Ids(NamedTuple):
    """Tokens that were generated, as they are."""

    ids: tuple[int, ...]
    text: str = ""
    """What they say."""


Segment = Control | Text | Ids


class TextIds:
    """Ids of texts, by `tokenize`, the texts used last remembered up to `most_characters` of them.

    There are two generations: what is asked for moves to the young one, and when that holds half of all, the
    old one is forgotten. Asking costs one look-up, which a conversation of thousands of texts feels.
    """

    def __init__(self, tokenize: Callable[[str], list[int]], most_characters: int = 16_000_000) -> None:
        self._tokenize = tokenize
        self._most = most_characters // 2
        self._characters = 0
        # One object for each number: lists of a hundred thousand ids are copied with every turn, which is
        # several times quicker when they name few objects.
        self._numbers: dict[int, int] = {}
        self._young: dict[str, tuple[int, ...]] = {}
        self._old: dict[str, tuple[int, ...]] = {}

    def __call__(self, text: str) -> Sequence[int]:
        """The ids of `text` as plain text."""
        known = self._young.get(text)
        if known is not None:
            return known
        ids = self._old.pop(text, None)
        if ids is None:
            fresh = self._tokenize(text)
            ids = tuple(map(self._numbers.setdefault, fresh, fresh))
        if len(text) <= self._most:
            if self._characters + len(text) > self._most:
                self._young, self._old, self._characters = {}, self._young, 0
            self._young[text] = ids
            self._characters += len(text)
        return ids


def ids_of(segments: Iterable[Segment], text_ids: Callable[[str], Sequence[int]]) -> list[int]:
    """The token ids of `segments`, neighbouring texts taken as one."""
    ids: list[int] = []
    texts: list[str] = []
    for segment in segments:
        if isinstance(segment, Text):
            texts.append(segment.text)
            continue
        if isinstance(segment, Ids) and not segment.ids:
            continue
        if texts:
            ids += text_ids(texts[0] if len(texts) == 1 else "".join(texts))
            texts = []
        if isinstance(segment, Control):
            ids.append(segment.token_id)
        else:
            ids += segment.ids
    if texts:
        ids += text_ids("".join(texts))
    return ids
