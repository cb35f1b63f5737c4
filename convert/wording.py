"""How this package puts what a file says into a sentence.

Owns: byte counts and names from files, bounded and printable. Does not know what went wrong.
"""

LONGEST_SHOWN = 80


def byte_count(count: int) -> str:
    """`count` bytes, spelled out."""
    return f"{count:,} bytes"


def quoted(name: str) -> str:
    """A name from a file, fit for a sentence: bounded, with nothing in it that is not printable."""
    return f"“{shown(name)}”"


def shown(name: str) -> str:
    """A name from a file without quotation marks: bounded, with nothing in it that is not printable."""
    return printable(name[:LONGEST_SHOWN])


def printable(text: str) -> str:
    """`text` with a replacement character for everything that could move a cursor or hide something."""
    return "".join(each if each.isprintable() else "�" for each in text)


def listed(names: list[str], limit: int = 3) -> str:
    """The first `limit` names, quoted, and how many more there are."""
    text = ", ".join(quoted(name) for name in names[:limit])
    return text + (f" and {len(names) - limit:,} more" if len(names) > limit else "")
