"""What an optional part is made of: which wheels, their sums and sizes, for which Python and platform.

Owns: reading `assets/parts/native.toml`, which `packaging/parts_lock.py` writes, and the digest that names a set of
wheels. Does not know where wheels come from (`wheel_fetch`) or go to (`part_folder`).
"""

import hashlib
import platform
import sys
import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

NATIVE = Path(__file__).resolve().parents[2] / "assets" / "parts" / "native.toml"
FORMAT = 1
_DIGEST_CHARACTERS = 16
Bytes = Annotated[int, Field(gt=0, lt=1 << 40)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Wheel(_Entry):
    """One wheel: what pip is asked for, and what has to come."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    version: Annotated[str, Field(pattern=r"^[0-9][A-Za-z0-9.+!_-]*$")]
    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*\.whl$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size_bytes: Bytes
    unpacked_bytes: Bytes

    @property
    def title(self) -> str:
        """Name and version, for people."""
        return f"{self.name} {self.version}"


class Variant(_Entry):
    """One set of wheels that makes the part whole, the largest or rarest first."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*$")]
    title: str
    least_driver: Annotated[str, Field(pattern=r"^\d+(\.\d+)*$")] | None = None
    """The oldest NVIDIA driver that it works with; None: it needs none."""
    wheel: Annotated[tuple[Wheel, ...], Field(min_length=1)]

    @property
    def size_bytes(self) -> int:
        """What is downloaded."""
        return sum(each.size_bytes for each in self.wheel)

    @property
    def unpacked_bytes(self) -> int:
        """What it takes on the disk."""
        return sum(each.unpacked_bytes for each in self.wheel)

    @property
    def needed_bytes(self) -> int:
        """Free space that installing it takes: a wheel lies there twice, as pip gets it, beside what is unpacked."""
        return self.unpacked_bytes + 2 * max(each.size_bytes for each in self.wheel)


class PartLock(_Entry):
    """A part in all its variants. `python` ("3.11") and `platform` ("linux-x86_64") are those of its wheels;
    `probe` is the module that is there once it is."""

    format: Annotated[int, Field(ge=FORMAT, le=FORMAT)]
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*$")]
    title: str
    python: str
    platform: str
    probe: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    variant: Annotated[tuple[Variant, ...], Field(min_length=1)]

    def named(self, name: str) -> Variant | None:
        """The variant of that name."""
        return next((each for each in self.variant if each.name == name), None)

    def digest(self, variant: Variant) -> str:
        """What names this very set of wheels: another version of any of them makes another."""
        told = "\0".join([self.name, self.python, self.platform, *(each.sha256 for each in variant.wheel)])
        return hashlib.sha256(told.encode()).hexdigest()[:_DIGEST_CHARACTERS]

    @property
    def fits_here(self) -> bool:
        """Whether its wheels are for this Python and this machine."""
        return (self.python, self.platform) == (this_python(), this_platform())


def read_lock(path: Path = NATIVE) -> PartLock:
    """The lock at `path`, a file of the program. Raises OSError, ValueError where it is not in order."""
    return PartLock.model_validate(tomllib.loads(path.read_text("utf-8")))


def this_python() -> str:
    """As a lock names it."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def this_platform() -> str:
    """As a lock names it: "linux-x86_64"."""
    return f"{sys.platform}-{platform.machine().lower()}"
