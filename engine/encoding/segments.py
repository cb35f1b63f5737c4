"""A prompt in pieces: control tokens by id, text that is tokenised as plain text, and ids that are final.

Owns: putting pieces together so that neighbouring texts are tokenised as one (a tokeniser may join across
their border), and remembering the ids of texts, since a conversation is encoded again with every turn. Does
not know what the pieces mean.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Control:
    """A control token."""

    token_id: int


@dataclass(frozen=True)
class Text:
    """Plain text between control tokens; not empty."""

    text: str


@dataclass(frozen=True)
class Ids:
    """Tokens that were generated, as they are."""

    ids: tuple[int, ...]


Segment = Control | Text | Ids


class TextIds:
    """Ids of texts, by `tokenize`, the texts used last remembered up to `most_characters` of them."""

    def __init__(self, tokenize: Callable[[str], list[int]], most_characters: int = 16_000_000) -> None:
        self._tokenize = tokenize
        self._most = most_characters
        self._characters = 0
        self._known: OrderedDict[str, tuple[int, ...]] = OrderedDict()

    def __call__(self, text: str) -> Sequence[int]:
        """The ids of `text` as plain text."""
        known = self._known.get(text)
        if known is not None:
            self._known.move_to_end(text)
            return known
        ids = tuple(self._tokenize(text))
        if len(text) <= self._most:
            self._known[text] = ids
            self._characters += len(text)
            while self._characters > self._most:
                forgotten, _ = self._known.popitem(last=False)
                self._characters -= len(forgotten)
        return ids


def ids_of(segments: Iterable[Segment], text_ids: Callable[[str], Sequence[int]]) -> list[int]:
    """The token ids of `segments`."""
    ids: list[int] = []
    for segment in joined(segments):
        if isinstance(segment, Control):
            ids.append(segment.token_id)
        elif isinstance(segment, Text):
            ids += text_ids(segment.text)
        else:
            ids += segment.ids
    return ids


def joined(segments: Iterable[Segment]) -> list[Segment]:
    """The same with neighbouring texts made one, and nothing empty."""
    whole: list[Segment] = []
    texts: list[str] = []

    def end_text() -> None:
        if texts:
            whole.append(Text("".join(texts)))
            texts.clear()

    for segment in segments:
        if isinstance(segment, Text):
            if segment.text:
                texts.append(segment.text)
        elif isinstance(segment, Control) or segment.ids:
            end_text()
            whole.append(segment)
    end_text()
    return whole
