"""Which libraries of the building system travel with the bundle, and which are asked of the system it runs on.

Owns: that choice, and llama.cpp's libraries as files. What has to fit the drivers and the desktop of the machine (C and
C++ runtimes, X, Wayland, OpenGL, fonts, the message bus) is never taken along: a copy that is older than the graphics
driver's would keep the driver from loading. What Python itself is linked with is, and small libraries of Qt's X plugin
that not every desktop has. Used by seamount.spec; make_deb.py names packages for the rest.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

TAKEN_ALONG = (
    r"libpython3(\.\d+)?t?",
    *(r"libssl", r"libcrypto", r"libffi", r"libsqlite3", r"liblzma", r"libbz2", r"libmpdec"),
    *(r"libncursesw", r"libpanelw", r"libtinfo", r"libuuid"),
    *(
        r"libxcb-cursor",
        r"libxcb-icccm",
        r"libxcb-image",
        r"libxcb-keysyms",
        r"libxcb-render-util",
        r"libxcb-util",
    ),
    r"libgomp",
)
_TAKEN = re.compile(rf"({'|'.join(TAKEN_ALONG)})\.so(\.\d+)*")


def wanted(place: str, source: str, kind: str) -> bool:
    """Whether a binary of the analysis goes into the bundle, as far as it is a library of the system's."""
    if kind != "BINARY" or not from_system(place, source):
        return True
    return _TAKEN.fullmatch(Path(place).name) is not None


def from_system(place: str, source: str) -> bool:
    """Whether a binary comes from a package of the building system: not from a Python package, nor from Python
    where that is not the system's."""
    if not sys.platform.startswith("linux") or "/" in place or "site-packages" in Path(source).parts:
        return False
    return Path(source).resolve().is_relative_to("/usr") and not Path(source).resolve().is_relative_to(
        "/usr/local"
    )


def llama_files(folder: Path) -> Iterator[Path]:
    """llama.cpp's libraries in a folder, each under the name by which it is asked for: a file that only other names
    of the same library lead to is left out, and so are pictures' (the wheel's own libmtmd)."""
    for path in sorted(folder.iterdir()):
        if path.is_file() and re.search(r"\.(so(\.\d+)*|dylib|dll)$", path.name):
            yield path
