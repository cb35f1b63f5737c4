"""A Python that has all packages of this one but some, as a program has that was shipped without them.

Owns: making it, a virtual environment whose packages are links to those of this one.
"""

import sys
import sysconfig
import venv
from pathlib import Path


def python_without(folder: Path, *names: str) -> Path:
    """Make it in `folder`; its interpreter. `names`: the beginnings of the names of files and folders that it lacks."""
    venv.create(folder, with_pip=False, symlinks=True)
    there = Path(sysconfig.get_path("purelib"))
    packages = folder / there.relative_to(sys.prefix)
    for each in there.iterdir():
        if not each.name.startswith((*names, "__pycache__")):
            (packages / each.name).symlink_to(each)
    return folder / Path(sys.executable).relative_to(sys.prefix)
