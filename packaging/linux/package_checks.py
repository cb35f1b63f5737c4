"""What every Debian package passes before it is handed on: the checkers of desktops and of Debian.

Owns: which checkers, and that one which is missing is told. A tag of lintian that is not explained in lintian-overrides
is an error. Knows nothing of how the packages are made.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path


class CheckError(Exception):
    """A checker found something; the text is what it said."""


def check(packages: list[Path]) -> list[str]:
    """Run all checkers there are; returns the names of those that are missing. Raises CheckError."""
    missing: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for package in packages:
            target = Path(folder) / package.stem
            subprocess.run(["dpkg-deb", "--extract", str(package), str(target)], check=True)
            for entry in target.glob("usr/share/applications/*.desktop"):
                _run(["desktop-file-validate", str(entry)], missing)
            for description in target.glob("usr/share/metainfo/*.xml"):
                _run(["appstreamcli", "validate", "--no-net", str(description)], missing)
    command = ["lintian", "--fail-on", "error,warning", "--tag-display-limit", "0"]
    _run([*command, *map(str, packages)], missing)
    if missing:
        print(
            f"seamount release: not checked with {', '.join(missing)}, which is not installed here",
            flush=True,
        )
    return missing


def _run(command: list[str], missing: list[str]) -> None:
    if not shutil.which(command[0]):
        if command[0] not in missing:
            missing.append(command[0])
        return
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C.UTF-8"})
    if done.returncode:
        raise CheckError(
            f"{(done.stdout + done.stderr).strip()[-6000:]}\n{command[0]} does not accept the package"
        )
