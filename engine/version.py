"""Seamount's own version.

Owns: where it is looked up. Does not know who asks.
"""

from importlib import metadata


def version() -> str:
    """As the installed package says it."""
    try:
        return metadata.version("seamount")
    except metadata.PackageNotFoundError:
        return "0 (not installed)"
