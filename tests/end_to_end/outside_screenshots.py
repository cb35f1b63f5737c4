"""What is opened from outside and what Help shows, for `make screenshots`: links, a file, a newer version, About."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from PySide6.QtCore import QSize
from PySide6.QtWidgets import QDialog

from app.engine_watch import CAN_GO_BACK, NOT_BACKED_UP, EngineState
from app.views.about_dialog import AboutDialog
from app.views.get_dialog import GetDialog
from app.views.settings_dialog import SettingsDialog
from engine.licences import Licences
from engine.version import version
from tests.app.conftest import FakeChild

FEED = "https://releases.example.org/seamount.json"
SIZE = QSize(1280, 720)


def _open(scene: Any, kind: type[QDialog]) -> Any:
    scene.wait(lambda: any(each.isVisible() for each in scene.window.findChildren(kind)))
    return next(each for each in scene.window.findChildren(kind) if each.isVisible())


def tour(scene: Any, engine: Any, take: Callable[..., None]) -> None:
    """Through the states; `scene` is a window on `engine`, which tells what it is told to."""
    window = scene.window
    window.open_outside("seamount://get/flash-0731")
    _open(scene, GetDialog)
    scene.dialog(take, "o1-get-by-link")
    window.open_outside("seamount://get/someone/DeepSeek-V4-Flash-GGUF@main")
    scene.dialog(take, "o2-link-asks")
    file = Path(window.folder.root) / "DeepSeek-V4-Flash-0731-Q8_0.gguf"
    file.write_bytes(b"\0" * 5_300_000)
    window.open_outside(str(file))
    scene.dialog(take, "o3-file-asks")
    window.open_outside("seamount://run/anything?at=once")
    take("o4-link-refused")
    window.notices.dismiss("outside")
    engine.status["version"] = version()
    engine.status["update"] = {"version": "0.2.0", "notes_url": "https://releases.example.org/0.2.0"}
    engine.tell_status()
    scene.wait(lambda: window.notices.notice("update") is not None)
    take("o5-newer-version")
    window.notices.dismiss("update")
    licences = Licences()
    engine.about.update(
        version=version(), data_folder="/home/someone/.local/share/seamount",
        licences=[each.model_dump() for each in licences.entries()],
    )  # fmt: skip
    engine.licence_text = lambda place: licences.text(place).text
    window.actions_by_id["about"].trigger()
    dialog = _open(scene, AboutDialog)
    scene.wait(lambda: bool(dialog.text.toPlainText()))
    take("o6-about", dialog)
    dialog.tabs.setCurrentIndex(1)
    dialog.parts.setCurrentRow(next(
        row for row in range(dialog.parts.count()) if dialog.parts.item(row).text().startswith("llama")
    ))  # fmt: skip
    scene.wait(lambda: "Permission" in dialog.text.toPlainText())
    scene.dialog(take, "o7-about-licences")
    engine.updates = {"asks": True, "address": FEED, "looked_at": 1_795_000_000.0}
    engine.settings["look_for_updates"] = True
    window.actions_by_id["settings"].trigger()
    settings = _open(scene, SettingsDialog)
    settings.tabs.setCurrentIndex(1)
    scene.wait(lambda: "example" in settings.updates.state.text())
    scene.dialog(take, "o8-settings-newer-versions")
    window.resize(QSize(640, 720))
    engine.tell_status()
    window._news._told = ""
    engine.tell_status()
    scene.wait(lambda: window.notices.notice("update") is not None)
    take("o9-newer-version-narrow")
    window.resize(SIZE)
    window.notices.dismiss("update")
    _refusals(scene, engine, take)


def _refusals(scene: Any, engine: Any, take: Callable[..., None]) -> None:
    """An engine that does not begin on a folder of another version."""
    folder = "/home/someone/.local/share/seamount"
    for state, status, words in (
        (
            "o10-newer-data",
            CAN_GO_BACK,
            f"Seamount 0.1.0 does not open the data in {folder}: Seamount 0.2.0 used them last, which is newer; "
            "nothing was changed; install Seamount 0.2.0 again, or put back what was there before it "
            "(backups/before-0.2.0.seamount) with `seamount restore --previous`.",
        ),
        (
            "o11-not-backed-up",
            NOT_BACKED_UP,
            "Seamount 0.1.0 has not been started on the data of Seamount 0.0.9: they are to be backed up first, and "
            f"that failed (the disk that holds {folder}/backups is full); free some space there and start again, or "
            "go on without a backup: `seamount serve --without-backup`.",
        ),
    ):

        def refused(status: int = status, words: str = words) -> FakeChild:
            child = FakeChild(None)
            child.status, child.words = status, words
            return child

        scene.launcher.next_child = refused
        engine.die()
        scene.desk.watch.close()
        scene.desk.watch.start()
        scene.wait(lambda: scene.desk.watch.state == EngineState.STOPPED)
        take(state)
        scene.window.notices.dismiss("engine")
