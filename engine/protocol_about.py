"""The shapes on the wire for what the program is: its parts and their licences, and whether there is a newer one.

Owns: `/api/about` and `/api/updates` as pydantic models, by the conventions of `protocol`. Imports nothing heavy.
"""

from typing import Annotated

from pydantic import Field

from engine.protocol_base import Wire

LONGEST_LICENCE = 1 << 20


class LicenceEntry(Wire):
    """A part of the program that others made. `licence`: its short name, as its package says; "" where it does not."""

    name: str
    version: str = ""
    licence: str = ""


class About(Wire):
    """`GET /api/about`. The texts of `licences` are fetched one by one, by their place in the list."""

    version: str
    data_folder: str
    python: str
    llama_cpp: str
    """Which build of llama.cpp computes, for people."""
    program_folder: str
    """Where the program itself lies."""
    licences: list[LicenceEntry]


class LicenceText(Wire):
    """`GET /api/about/licences/{place}`: the whole text, or a sentence that says why there is none."""

    name: str
    text: Annotated[str, Field(max_length=LONGEST_LICENCE)]


class UpdateFound(Wire):
    """A version newer than this one, as the feed tells of it. `notes_url`: a page about it, https; None without one."""

    version: str
    notes_url: str | None = None


class UpdateState(Wire):
    """`GET /api/updates`. Nothing is ever downloaded but the feed."""

    asks: bool
    """Whether the feed is asked at all: a person turned that on, and there is one."""
    address: str | None = None
    """Of the feed; None: this build has none, and the settings name none."""
    looked_at: float | None = None
    """When it answered last."""
    found: UpdateFound | None = None
    problem: str | None = None
    """Why the last look gave nothing, a sentence."""
