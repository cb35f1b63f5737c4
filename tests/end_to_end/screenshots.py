"""`make screenshots`: the window's main states as pictures, at 1x and 2x, in light and dark.

The real window on the real engine (a scripted model, so that the text is the same every time), drawn on a
virtual X server. The pictures are for looking at; nothing compares them.
"""

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from PySide6.QtCore import QCoreApplication, QEventLoop, QSize
from PySide6.QtWidgets import QApplication, QDialog, QWidget

from tests.end_to_end import durable_screenshots, library_screenshots, v4_screenshots
from tests.end_to_end.live_window import LiveWindow, end_engine, scripted_folder
from tests.end_to_end.virtual_display import virtual_display

FOLDER = Path("screenshots")
SIZE = QSize(1280, 720)
SETTLE_S = 0.4

RICH = """\
A seamount is an **undersea mountain** that rises at least *1,000 m* above the sea floor without reaching the
surface. Most are extinct volcanoes; see the [catalogue](https://example.org/seamounts).

### How they form

1. Magma breaks through the crust
   - at mid-ocean ridges
   - above hot spots
2. Lava piles up, `pillow` by `pillow`
3. The plate moves on

> The summit of Davidson Seamount lies 1,250 m below the surface.

| seamount | depth of the summit | height |
|---|---:|---:|
| Davidson | 1,250 m | 2,280 m |
| Bowie | 24 m | 3,000 m |

```python
def pressure(depth_m: float, density: float = 1025.0) -> float:
    \"\"\"Pascals at a depth, the air above left out.\"\"\"
    return density * 9.80665 * depth_m  # about one bar for ten metres
```

مرحبا بالعالم، هذا سطر يُقرأ من اليمين إلى اليسار. 海山は海の底からそびえる山です。
"""
SCRIPT = {
    "name": "Talker",
    "context_tokens": 65_536,
    "replies": [
        {"match": "seamount", "text": RICH},
        {"match": "slowly", "text": RICH, "delay_s": 0.01},
        {"text": "A short answer, then."},
    ],
}

LOOKS_AT_ONCE = 2


def _pump(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QCoreApplication.processEvents(QEventLoop.ProcessEventsFlag.AllEvents, 20)
        time.sleep(0.002)


def _wait_until(condition: Callable[[], bool], timeout: int) -> None:
    deadline = time.monotonic() + timeout / 1000
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        _pump(0.01)


class Camera:
    """Takes pictures of one window in one look."""

    def __init__(self, window: LiveWindow, look: str) -> None:
        self.window, self.look = window, look

    def take(self, state: str, widget: QWidget | None = None) -> None:
        """The window, or a dialog of it."""
        _pump(SETTLE_S)
        picture = (widget or self.window.window).grab()
        picture.save(str(FOLDER / f"{state}-{self.look}.png"))


def _tour(window: LiveWindow, take: Callable[..., None]) -> None:
    """Through the main states."""
    take("1-empty")
    window.ask("What is a seamount?")
    window.wait_for_end()
    take("2-answer")
    window.desk.conversation.retry(window.answer().id)
    window.wait(lambda: not window.desk.running)
    window.ask("Thank you.")
    window.wait_for_end()
    take("3-turns")
    window.do("new")
    window.ask("Tell me slowly about mountains under the sea")
    window.wait_for_text(500)
    take("4-streaming")
    window.do("stop")
    window.wait_for_end()
    take("5-stopped")
    window.do("delete")
    window.wait(lambda: bool(window.sentences()))
    take("6-deleted")
    window.do("settings")
    window.wait(lambda: bool(window.window.findChildren(QDialog)))
    [dialog] = window.window.findChildren(QDialog)
    take("7-settings", dialog)
    dialog.close()
    window.window.resize(700, 620)
    window.do("toggle_sidebar")
    take("8-narrow")
    window.do("toggle_sidebar")


def _durable_tour(window: LiveWindow, take: Callable[..., None]) -> None:
    durable_screenshots.tour(window, take, lambda: psutil.Process(window.engine().pid).kill())


def _pictures(scale: int, theme: str) -> None:
    os.environ["QT_SCALE_FACTOR"] = str(scale)
    with virtual_display():
        application = QApplication(["seamount"])
        application.setStyle("Fusion")
        for script, context_tokens, tour in (
            (SCRIPT, 8192, _tour),
            (durable_screenshots.TALK, 65_536, _durable_tour),
            (v4_screenshots.V4_TALK, v4_screenshots.CONTEXT_TOKENS, v4_screenshots.tour),
            (v4_screenshots.V4_TALK, 8192, v4_screenshots.small_tour),
        ):
            with TemporaryDirectory() as scratch:
                folder = scripted_folder(Path(scratch), script, context_tokens=context_tokens)
                window = LiveWindow(folder, _wait_until)
                window.ready()
                window.window.actions_by_id[f"theme_{theme}"].trigger()
                window.window.resize(SIZE)
                tour(window, Camera(window, f"{theme}-{scale}x").take)
                window.close()
                end_engine(folder)
        library_screenshots.take_all(theme, scale, _pump, FOLDER)


def _look(scale: int, theme: str) -> bool:
    """All pictures of one look, in a process of its own: Qt reads its scale once. A tour that a busy machine held up is
    gone through once more, and says so."""
    for _ in range(2):
        process = get_context("spawn").Process(target=_pictures, args=(scale, theme))
        process.start()
        process.join()
        if not process.exitcode:
            return True
        print(f"the pictures in {theme}, {scale}x, were not all taken", file=sys.stderr, flush=True)
    return False


def main() -> int:
    """Take all pictures, two looks beside each other: most of the time one waits for what it is to show."""
    FOLDER.mkdir(exist_ok=True)
    with ThreadPoolExecutor(LOOKS_AT_ONCE) as looks:
        taken = list(looks.map(_look, *zip(*product((1, 2), ("light", "dark")), strict=True)))
    if not all(taken):
        return 1
    print(f"{len(list(FOLDER.glob('*.png')))} pictures in {FOLDER}/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
