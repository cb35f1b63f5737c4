"""Finding text in conversations: what counts as the same text.

Owns: the folding that a text and a query both go through; a query is found where its folded form is a
substring. Does not know tables or sessions.

A plain substring over folded text, and not an index of words or trigrams: it works the same for every
script and for queries of one character, and a scan of 10,000 messages takes some tens of milliseconds.
"""

import unicodedata


def fold(text: str) -> str:
    """`text` in the form that is compared: compatibility-decomposed (Unicode NFKD), then case-folded.

    "Ä", "ä" and their two-part spellings meet; so do full-width and ordinary letters, and "ß" and "ss". A
    letter without its accent finds the accented one, not the other way round.
    """
    if text.isascii():
        return text.lower()
    # Case folding can bring forth characters that decompose again (U+0345 among them), hence twice.
    return unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
