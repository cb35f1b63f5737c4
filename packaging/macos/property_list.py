"""What macOS is told of Seamount.app: Info.plist with the project's version.

Owns: that. The spec of the bundle asks for it. Uses the standard library only.
"""

import plistlib
import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SOURCE = Path(__file__).with_name("Info.plist")


def properties(version: str | None = None) -> dict[str, Any]:
    """The whole list, for `version` or the one that pyproject.toml names. Raises ValueError for no number."""
    if version is None:
        with (ROOT / "pyproject.toml").open("rb") as file:
            version = str(tomllib.load(file)["project"]["version"])
    numbers = re.match(r"\d+(\.\d+){0,2}", version)
    if numbers is None:
        raise ValueError(f"{version} is no version that macOS can be told; it has to begin with a number")
    found: dict[str, Any] = plistlib.loads(SOURCE.read_bytes())
    # Shown to people; compared by the system, which takes three numbers at most.
    return found | {"CFBundleShortVersionString": version, "CFBundleVersion": numbers.group()}
