"""Token ids back to text, as they come.

Owns: putting bytes together into characters, and holding back what may be the beginning of a stop string.
Does not know which tokens end an answer (`generation`) or how a backend names its tokens' bytes.
"""

import codecs
from collections.abc import Callable, Iterable, Sequence

from engine.conversation import REPLACEMENT


class Detokenizer:
    """Streams text out of tokens; never gives half a character.

    Bytes that are not UTF-8 become U+FFFD, as does NUL, which cannot be stored (`conversation.clean_text`).
    """

    def __init__(self, token_bytes: Callable[[int], bytes]) -> None:
        """`token_bytes`: the bytes a token stands for; empty for control tokens."""
        self._token_bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token_id: int) -> str:
        """The text that `token_id` completes; empty while a character is incomplete."""
        return _storable(self._decoder.decode(self._token_bytes(token_id)))

    def prime(self, token_ids: Iterable[int]) -> None:
        """Take in tokens whose text was given before, keeping only a character they leave incomplete."""
        self._decoder.decode(b"".join(map(self._token_bytes, token_ids)))

    def state(self) -> str:
        """The unfinished character as plain data: its bytes in hexadecimal."""
        return self._decoder.getstate()[0].hex()

    def restore(self, state: str) -> None:
        """Go on from where `state` was taken. Raises ValueError for what is none."""
        unfinished = bytes.fromhex(state)
        self._decoder.reset()
        if self._decoder.decode(unfinished) or self._decoder.getstate()[0] != unfinished:
            self._decoder.reset()
            raise ValueError(f"{state[:40]!r} is no unfinished character")

    def flush(self) -> str:
        """What is left at the end: U+FFFD for an incomplete character, else nothing."""
        return _storable(self._decoder.decode(b"", final=True))


def _storable(text: str) -> str:
    return text.replace("\x00", REPLACEMENT) if "\x00" in text else text


class StopStrings:
    """Cuts a stream of text at the first stop string, holding back what may yet become one."""

    def __init__(self, stops: Sequence[str]) -> None:
        """`stops`: empty strings are ignored."""
        self._stops = tuple(stop for stop in stops if stop)
        self._longest = max(map(len, self._stops), default=0)
        self._held = ""
        self.found: str | None = None
        """The stop string that was found; of several at one place the longest."""

    def feed(self, text: str) -> tuple[str, bool]:
        """(text that is certain, whether a stop string was found). Feed nothing after one was found."""
        self._held += text
        found = [(index, -len(stop), stop) for stop in self._stops if (index := self._held.find(stop)) >= 0]
        if found:
            index, _, self.found = min(found)
            certain, self._held = self._held[:index], ""
            return certain, True
        keep = self._beginning()
        cut = len(self._held) - keep
        certain, self._held = self._held[:cut], self._held[cut:]
        return certain, False

    def flush(self) -> str:
        """What was held back, when no more text comes."""
        held, self._held = self._held, ""
        return held

    def _beginning(self) -> int:
        """Length of the longest end of the held text that a stop string begins with."""
        for length in range(min(self._longest - 1, len(self._held)), 0, -1):
            tail = self._held[-length:]
            if any(stop.startswith(tail) for stop in self._stops):
                return length
        return 0
