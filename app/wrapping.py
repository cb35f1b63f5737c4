"""Long words that have to fit a narrow place.

Owns: where a path or a hash may be broken. Pure.
"""

import re

_LONG_WORD = re.compile(r"\S{32,}")
_PLACES = re.compile(r"([/\\_.-]|[^/\\_.-]{24})")


def breakable(text: str) -> str:
    """`text` with places to break its long words at, which paths are, so that it fits any width."""
    return _LONG_WORD.sub(lambda word: _PLACES.sub("\\1\u200b", word[0]), text)
