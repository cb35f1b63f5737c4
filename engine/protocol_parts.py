"""What crosses the wire about optional parts.

Owns: the shapes of `/api/parts`. Does not know how a part is installed. Sizes are bytes.
"""

from typing import Annotated, Literal

from pydantic import Field

from engine.protocol_base import ErrorBody, Wire

PartState = Literal["absent", "installed", "outdated", "outside", "elsewhere"]
"""installed: by Seamount. outdated: so, and this version of Seamount would install another set. outside: the Python
that runs Seamount has it. elsewhere: not for this Python or machine, and not there."""


class PartVariant(Wire):
    """One set of packages that makes the part whole."""

    name: str
    title: str
    download_bytes: int
    unpacked_bytes: int
    needed_bytes: int
    """Free space that installing it takes."""


class PartTask(Wire):
    """An installation, also once it is over. Bytes are those that are downloaded; `item` is what it is at."""

    id: str
    part: str
    variant: str
    state: Literal["running", "done", "failed", "stopped"]
    done_bytes: int = 0
    total_bytes: int = 0
    bytes_per_s: float = 0.0
    seconds_left: float | None = None
    item: str = ""
    error: ErrorBody | None = None


class PartEntry(Wire):
    """One part."""

    name: str
    title: str
    state: PartState
    version: str | None = None
    """Of what is there."""
    variant: str | None = None
    unpacked_bytes: int = 0
    """What it takes now."""
    in_use: bool = False
    """This engine has it loaded, so it cannot be removed."""
    variants: list[PartVariant] = Field(default_factory=list[PartVariant])
    """Those that can be installed here."""
    suited: str | None = None
    """The variant that suits this machine, and `why`, a clause."""
    why: str = ""
    how: str = ""
    """Where it is to be had in another way: what to do, a clause."""
    pays: bool = False
    """A model is here that it is for."""
    free_bytes: int = 0
    task: PartTask | None = None


class PartList(Wire):
    """`GET /api/parts`."""

    parts: list[PartEntry]


class InstallPart(Wire):
    """`POST /api/parts/{name}/install`: begin in the background; 202 with the PartTask. `DELETE /api/parts/{name}/task`
    stops it: 202 with what it then is. `POST /api/parts/{name}/remove` deletes what is installed; 200 with the
    PartEntry.

    `variant` None: the one that suits. `find_links`: the absolute path of a folder of wheels that pip looks into, too.
    """

    variant: Annotated[str, Field(max_length=40)] | None = None
    find_links: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
