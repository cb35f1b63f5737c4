"""The real window on a real engine, for tests: what a person would do, and what they would see."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from PySide6.QtWidgets import QApplication

from app.engine_watch import EngineState
from app.views.desk import Desk
from app.views.window import MainWindow
from engine.launch import EngineAddress, running_engine
from engine.paths import DataFolder
from engine.protocol import Message, Settings
from engine.settings import save_settings
from tests.integration.live_engine import SCRIPT_MODEL, write_script

START_TIMEOUT_MS = 60_000
WaitUntil = Callable[..., None]


def scripted_folder(root: Path, script: dict[str, Any] | None = None, **settings: Any) -> DataFolder:
    """A data folder whose model follows a script."""
    folder = DataFolder(root)
    folder.create()
    if script is None:
        write_script(folder)
    else:
        write_script(folder, script)
    save_settings(folder.settings, Settings(model_id=SCRIPT_MODEL, **settings))
    return folder


class LiveWindow:
    """One open window."""

    def __init__(self, folder: DataFolder, wait_until: WaitUntil) -> None:
        self.folder = folder
        self._wait_until = wait_until
        self.closed = False
        self.window = MainWindow(folder)
        self.window.show()

    @property
    def desk(self) -> Desk:
        """The window's wiring; there after the first paint."""
        desk = self.window.desk
        assert desk is not None
        return desk

    def wait(self, condition: Callable[[], bool], timeout_ms: int = 20_000) -> None:
        """Run the event loop until `condition` holds."""
        self._wait_until(condition, timeout=timeout_ms)

    def ready(self) -> "LiveWindow":
        """Wait until the engine is there and its model is loaded."""
        self.wait(lambda: self.window.desk is not None, START_TIMEOUT_MS)
        self.wait(lambda: self.desk.watch.state == EngineState.READY, START_TIMEOUT_MS)
        self.wait(lambda: bool(self.desk.shelf.status and self.desk.shelf.status.model), START_TIMEOUT_MS)
        return self

    def ask(self, text: str) -> None:
        """Type and press Send."""
        self.window.composer.edit.setPlainText(text)
        self.window.composer.button.click()

    def shown(self) -> list[Message]:
        """The messages on the page, with their texts of this moment."""
        return self.desk.conversation.branch()

    def answer(self) -> Message:
        """The last answer on the page."""
        return next(m for m in reversed(self.shown()) if m.role == "assistant")

    def wait_for_text(self, characters: int) -> str:
        """Wait until the running answer shows that much; its text then."""

        def enough() -> bool:
            shown = self.shown()
            return bool(shown) and shown[-1].role == "assistant" and len(shown[-1].text) >= characters

        self.wait(enough)
        return self.answer().text

    def wait_for_end(self, timeout_ms: int = 60_000) -> Message:
        """Wait until no answer runs; the last one."""
        self.wait(lambda: bool(self.shown()) and not self.desk.running, timeout_ms)
        return self.answer()

    def do(self, action_id: str) -> None:
        """Choose a menu entry."""
        action = self.window.actions_by_id[action_id]
        assert action.isEnabled(), action_id
        action.trigger()

    def sentences(self) -> str:
        """Everything that the notices say."""
        return "\n".join(self.window.notices.sentences())

    def engine(self) -> EngineAddress:
        """The engine that serves the folder."""
        address = running_engine(self.folder)
        assert address is not None
        return address

    def close(self) -> None:
        """Close the window and let go of it, as at the end of the program."""
        self.closed = True
        self.window.close()
        self.wait(lambda: not self.window.isVisible())
        self.window.deleteLater()
        QApplication.processEvents()


def end_engine(folder: DataFolder) -> None:
    """End the folder's engine, if one runs, and wait until it has gone."""
    address = running_engine(folder)
    if address is None:
        return
    try:
        process = psutil.Process(address.pid)
        process.terminate()
        process.wait(20)
    except psutil.NoSuchProcess:
        return
