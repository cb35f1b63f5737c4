"""What stands in the composer, as values.

Owns: the draft (typed text and large pasted texts kept aside), when a pasted text is kept aside, and how a
draft becomes the text that is sent. Pure.
"""

from dataclasses import dataclass

CHIP_CHARACTERS = 20_000
CHIP_LINE_CHARACTERS = 5_000


@dataclass(frozen=True)
class Draft:
    """A message that was not sent yet."""

    typed: str = ""
    pasted: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Nothing to send."""
        return not self.typed.strip() and not self.pasted

    @property
    def text(self) -> str:
        """What is sent: the typed text, then each pasted text after a blank line."""
        typed = self.typed.strip("\n")
        return "\n\n".join(part for part in (typed if typed.strip() else "", *self.pasted) if part)


def belongs_aside(text: str) -> bool:
    """A text too large to be laid out and edited comfortably."""
    return len(text) > CHIP_CHARACTERS or any(len(line) > CHIP_LINE_CHARACTERS for line in text.splitlines())


def draft_of(text: str) -> Draft:
    """A stored text as a draft again: what belongs aside is put there."""
    return Draft(pasted=(text,)) if belongs_aside(text) else Draft(typed=text)


def replaced_sentence(count: int) -> str:
    """Why the text is not quite what was pasted or typed."""
    what = "1 character was" if count == 1 else f"{count:,} characters were"
    return f"{what} replaced by �: null characters and halves of characters can be neither stored nor sent."
