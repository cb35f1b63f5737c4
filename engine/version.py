"""Seamount's own version, and which of two is the newer one.

Owns: where it is looked up, what a version may look like, and their order. Does not know who asks.
"""

import re
from importlib import metadata

LONGEST = 40
_VERSION = re.compile(
    r"(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?(?:(a|b|rc)(\d{1,6}))?(?:\.dev(\d{1,6}))?(?:\+[a-z0-9.]{1,20})?",
    re.ASCII,
)
_STAGES = {"a": 0, "b": 1, "rc": 2}
_RELEASE_STAGE = 3
_NOT_IN_DEVELOPMENT = 1_000_000


def version() -> str:
    """As the installed package says it."""
    try:
        return metadata.version("seamount")
    except metadata.PackageNotFoundError:
        return "0 (not installed)"


def is_version(text: str) -> bool:
    """Whether `text` is a version of a release, such as 1.2, 1.2.3, 1.2.3rc1, 1.2.3.dev4 (PEP 440, a part of it)."""
    return len(text) <= LONGEST and _VERSION.fullmatch(text) is not None


def is_newer(one: str, other: str) -> bool:
    """Whether `one` comes after `other`. False where either is no version: nothing is known then.

    As PEP 440 orders them; what stands behind a + counts for nothing.
    """
    if not (is_version(one) and is_version(other)):
        return False
    return _order(one) > _order(other)


def _order(text: str) -> tuple[int, ...]:
    found = _VERSION.fullmatch(text)
    if found is None:
        raise ValueError(f"{text} is no version")
    major, minor, patch, stage, number, development = found.groups()
    released = _RELEASE_STAGE
    if stage is not None:
        released = _STAGES[stage]
    elif development is not None:
        released = -1  # 1.2.dev1 comes before 1.2a1
    return (
        int(major),
        int(minor),
        int(patch or 0),
        released,
        int(number or 0),
        _NOT_IN_DEVELOPMENT if development is None else int(development),
    )
