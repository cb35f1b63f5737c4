"""A desktop for a program that cannot be looked into: keys and pointer from outside, pictures of all that is seen.

Owns: an X server with a window manager (openbox: title bars, focus, and a way to close a window as everywhere),
xdotool's keys and clicks, the clipboard, and pictures. Knows a program's windows by their titles alone.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from tests.end_to_end.virtual_display import virtual_display

SCREEN = "1280x800x24"
TOOLS = {"Xvfb": "xvfb", "openbox": "openbox", "xdotool": "xdotool"}
LOOK_S = 0.05
"""From one look at what is waited for to the next."""
CLOSE_KEYS = "alt+F4"
"""What openbox closes a window with, as its close button does."""

# Qt reads the screen and the clipboard; in processes of their own, since the tests' own Qt has no display.
TAKE_PICTURE = """
import sys
from PySide6.QtGui import QGuiApplication
application = QGuiApplication([])
picture = application.primaryScreen().grabWindow(0)
sys.exit(0 if picture.save(sys.argv[1]) else 1)
"""
READ_CLIPBOARD = """
import sys
from PySide6.QtGui import QGuiApplication
application = QGuiApplication([])
sys.stdout.buffer.write(application.clipboard().text().encode())
"""
Found = TypeVar("Found")


def missing_tools() -> list[str]:
    """Debian's names of what this machine lacks for a desktop."""
    return sorted(package for tool, package in TOOLS.items() if shutil.which(tool) is None)


def wait_until(look: Callable[[], Found], what: str, timeout_s: float = 60) -> Found:
    """The first thing that `look` finds that counts as true. Raises AssertionError when the time is over."""
    deadline = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s:.0f} s"
        time.sleep(LOOK_S)
    return found


class BareDesktop:
    """The display that DISPLAY names in this process."""

    display: str

    def __init__(self) -> None:
        self.display = os.environ["DISPLAY"]

    def window(self, title: str, timeout_s: float = 30) -> str:
        """The number of the visible window whose title matches the regular expression `title`."""
        found = wait_until(lambda: self._windows(title), f"a window named {title}", timeout_s)
        return found[-1]

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        _do("xdotool", "type", "--delay", "15", text)

    def press(self, *keys: str) -> None:
        """Press keys, in xdotool's names: Return, ctrl+w."""
        _do("xdotool", "key", "--clearmodifiers", *keys)

    def click(self, x: int, y: int) -> None:
        """Click with the left button; pixels from the screen's left upper corner."""
        _do("xdotool", "mousemove", str(x), str(y), "click", "1")

    def close(self, window: str) -> None:
        """Close a window as a person does, by the window manager, and see it go: one behind it may wait for that."""
        _do("xdotool", "windowactivate", "--sync", window)
        self.press(CLOSE_KEYS)
        wait_until(lambda: window not in self._windows(".*"), "the window's end")

    def picture(self, path: Path) -> None:
        """Keep a picture of the whole screen, a PNG."""
        path.parent.mkdir(parents=True, exist_ok=True)
        _do(sys.executable, "-c", TAKE_PICTURE, str(path))

    def clipboard(self) -> str:
        """The text that was copied last."""
        return _do(sys.executable, "-c", READ_CLIPBOARD)

    def _windows(self, title: str) -> list[str]:
        done = subprocess.run(
            ["xdotool", "search", "--onlyvisible", "--name", title], capture_output=True, text=True
        )
        return done.stdout.split()


def _do(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{command[0]} {command[1]}: {done.stderr}"
    return done.stdout


@contextmanager
def bare_desktop() -> Iterator[BareDesktop]:
    """A new one; this process's DISPLAY names it meanwhile."""
    with virtual_display(SCREEN), TemporaryDirectory() as home:
        managing = Path(home) / "managing"
        manager = subprocess.Popen(
            ["openbox", "--sm-disable", "--startup", f"touch {managing}"],
            env={**os.environ, "HOME": home, "XDG_CONFIG_HOME": home, "XDG_CACHE_HOME": home},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            wait_until(managing.exists, "openbox")
            yield BareDesktop()
        finally:
            manager.terminate()
            manager.wait(20)
