"""What a conversation is called: a title made fit for one line, or made from the first question.

Owns: the length and the cleaning of titles. Does not know the store.
"""

import re
import unicodedata

from engine.conversation import clean_text

TITLE_CHARACTERS = 200
"""A title that a person gave is cut here."""

FIRST_WORDS_CHARACTERS = 60
"""A title made from a question: about what a sidebar of 260 px shows in two lines."""

# Marks that turn the direction of whatever stands after them, up to the end of the line they are in.
_DIRECTION = re.compile("[\u202a-\u202e\u2066-\u2069]")


def tidy_title(text: str) -> str:
    """`text` on one line: no control characters, no direction overrides, at most TITLE_CHARACTERS."""
    return _cut(_one_line(text[: 8 * TITLE_CHARACTERS]), TITLE_CHARACTERS)


def title_of_question(text: str) -> str:
    """The first words of a question; empty when it has none."""
    # A megabyte of text has its first words in its first lines.
    line = _one_line(text.lstrip()[: 8 * FIRST_WORDS_CHARACTERS])
    if len(line) <= FIRST_WORDS_CHARACTERS:
        return line
    cut = _cut(line, FIRST_WORDS_CHARACTERS - 1)
    if line[len(cut)] != " " and (space := cut.rfind(" ")) > FIRST_WORDS_CHARACTERS // 2:
        cut = cut[:space]
    return cut.rstrip(" ,;:.-") + "…"


def _one_line(text: str) -> str:
    text = _DIRECTION.sub("", clean_text(text)[0])
    return " ".join("".join(" " if unicodedata.category(each) == "Cc" else each for each in text).split())


def _cut(text: str, length: int) -> str:
    """At most `length` characters, not cutting between a letter and what is drawn onto it."""
    end = min(length, len(text))
    while 0 < end < len(text) and (
        unicodedata.category(text[end]) in ("Mn", "Me", "Mc", "Cf") or text[end - 1] == "\u200d"
    ):
        end -= 1
    return text[:end]
