"""The program as a person starts it: `seamount`, on a display and without one."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.errors import NotFound
from engine.paths import DataFolder
from engine.store.sessions import SessionStore
from tests.end_to_end.live_window import end_engine, scripted_folder
from tests.end_to_end.virtual_display import virtual_display

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
needs_display = pytest.mark.skipif(
    not (sys.platform.startswith("linux") and shutil.which("Xvfb")),
    reason="no Xvfb: there is no display to use",
)


def _environment(folder: DataFolder, **more: str) -> dict[str, str]:
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    return {**kept, "SEAMOUNT_DATA": str(folder.root), "SEAMOUNT_TRACE_STARTUP": "1", **more}


@contextmanager
def _window_process(folder: DataFolder) -> Iterator["subprocess.Popen[str]"]:
    """`seamount` on a display of its own, its window painted; ended at the end, with its engine."""
    with virtual_display():
        program = subprocess.Popen(
            [sys.executable, "-m", "seamount"],
            env=_environment(folder, DISPLAY=os.environ["DISPLAY"]), stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert program.stderr is not None
        try:
            assert program.stderr.readline().startswith("first_paint")
            yield program
        finally:
            program.kill()
            program.wait(20)
            program.stderr.close()
            end_engine(folder)


@needs_display
def test_the_window_opens_on_a_display_and_starts_its_engine(tmp_path: Path) -> None:
    folder = scripted_folder(tmp_path / "data")
    with _window_process(folder) as program:
        # The terminal's client finds the window's engine and is answered by it.
        asked = subprocess.run(
            [sys.executable, "-m", "seamount", "chat", "--prompt", "Hello"],
            env=_environment(folder), capture_output=True, text=True, timeout=90,
        )  # fmt: skip
        assert (asked.returncode, asked.stdout.strip()) == (0, "Hello there."), asked.stderr
        assert program.poll() is None
        program.terminate()
        assert program.wait(20) == 0
        assert program.stderr is not None and program.stderr.read() == ""


DELETING_WINDOW = """
import sys

from PySide6.QtCore import QTimer

from app.views import application
from engine.paths import data_folder


class Window(application.MainWindow):
    def shown(self):
        ids = self.desk.catalogue.rows.session_ids()
        if self.desk.catalogue.can_undo:
            self.timer.stop()
            self.close()
        elif ids:
            self.desk.catalogue.delete(ids[0])


def made(folder):
    window = Window(folder)
    window.timer = QTimer(window)
    window.timer.timeout.connect(window.shown)
    window.shown_first.connect(lambda: window.timer.start(50))
    return window


application.MainWindow = made
sys.exit(application.open_window(data_folder()))
"""


@needs_display
def test_the_program_ends_when_its_window_closes_after_a_deletion(tmp_path: Path) -> None:
    folder = scripted_folder(tmp_path / "data")
    store = SessionStore.open(folder.sessions_db)
    deleted = store.create_session("Not wanted").id
    store.close()
    try:
        with virtual_display():
            done = subprocess.run(
                [sys.executable, "-c", DELETING_WINDOW], cwd=ROOT, timeout=60, capture_output=True, text=True,
                env=_environment(folder, DISPLAY=os.environ["DISPLAY"]),
            )  # fmt: skip
        assert done.returncode == 0, done.stderr
    finally:
        end_engine(folder)
    store = SessionStore.open(folder.sessions_db)
    with pytest.raises(NotFound):
        store.session(deleted)
    store.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="this platform always has a display")
def test_without_a_display_it_says_so_and_talks_in_the_terminal(tmp_path: Path) -> None:
    folder = scripted_folder(tmp_path / "data")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "seamount"], env=_environment(folder), input="Hello\n",
            capture_output=True, text=True, timeout=90,
        )  # fmt: skip
    finally:
        end_engine(folder)
    assert done.returncode == 0
    assert "Hello there." in done.stdout
    [line] = [line for line in (done.stdout + done.stderr).splitlines() if "display" in line]
    assert "terminal" in line


@needs_display
def test_ctrl_c_in_the_terminal_closes_the_window_as_its_button_does(tmp_path: Path) -> None:
    folder = scripted_folder(tmp_path / "data")
    with _window_process(folder) as program:
        program.send_signal(signal.SIGINT)
        assert program.wait(20) == 0
        assert program.stderr is not None and program.stderr.read() == ""
    assert folder.window_state.exists()  # what it remembers was written


TOLD_WINDOW = """
import sys

from PySide6.QtCore import QTimer

from app.views import application
from engine.paths import data_folder


class Window(application.MainWindow):
    def _after_first_paint(self):
        super()._after_first_paint()
        QTimer.singleShot(0, lambda: print("painted, and at the door", flush=True))

    def open_outside(self, request):
        super().open_outside(request)
        box = "outsideQuestion" in [each.objectName() for each in self.children()]
        print(request, box, self.isActiveWindow() or self.isVisible(), flush=True)
        self.close()


application.MainWindow = Window
sys.exit(application.open_window(data_folder()))
"""


@needs_display
def test_a_link_goes_to_the_window_that_is_open(tmp_path: Path) -> None:
    """The second start hands it over and ends; without a window that start would open one."""
    folder = scripted_folder(tmp_path / "data")
    with virtual_display():
        environment = _environment(folder, DISPLAY=os.environ["DISPLAY"])
        program = subprocess.Popen(
            [sys.executable, "-c", TOLD_WINDOW], cwd=ROOT, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert program.stdout is not None and program.stderr is not None
        try:
            assert program.stdout.readline() == "painted, and at the door\n"
            link = "seamount://get/owner/Name"
            handed = subprocess.run(
                [sys.executable, "-m", "seamount", link],
                env=environment,
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert (handed.returncode, handed.stdout, handed.stderr) == (0, "", "")
            assert program.stdout.readline() == f"{link} True True\n"
            assert program.wait(20) == 0
        finally:
            program.kill()
            program.wait(20)
            program.stdout.close()
            program.stderr.close()
            end_engine(folder)


@needs_display
def test_a_link_opens_a_window_where_none_is_open(tmp_path: Path) -> None:
    folder = scripted_folder(tmp_path / "data")
    with virtual_display():
        environment = _environment(folder, DISPLAY=os.environ["DISPLAY"])
        program = subprocess.Popen(
            [sys.executable, "-m", "seamount", "seamount://get/owner/Name"],
            env=environment, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert program.stderr is not None
        try:
            assert program.stderr.readline().startswith("first_paint")
            program.terminate()
            assert program.wait(20) == 0
            assert program.stderr.read() == ""
        finally:
            program.kill()
            program.wait(20)
            program.stderr.close()
            end_engine(folder)
