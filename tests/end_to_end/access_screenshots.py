"""Other programs and models on other machines, for `make screenshots`: the page, its dialogs, what is said at the point
of use.

The real window on an engine that only tells: what is seen needs other programs at work, and other machines.
"""

import time
from collections.abc import Callable
from typing import Any

from PySide6.QtCore import QSize, Qt
from PySide6.QtWidgets import QDialog, QMessageBox

from app.views.address_dialog import AddressDialog
from app.views.key_dialog import KeyDialog
from app.views.make_key_dialog import MakeKeyDialog
from app.views.network_dialog import NetworkDialog
from app.views.remote_dialog import RemoteDialog
from engine.protocol_access import OpenNetwork
from tests.app.conftest import FakeEngine

SIZE = QSize(1280, 720)
FINGERPRINT = ":".join(f"{(n * 37 + 11) % 256:02X}" for n in range(32))
PRICE = {"read": 0.28, "read_cached": 0.028, "written": 0.42, "currency": "USD"}
PLACE = {"host": "api.deepseek.com", "whereabouts": "elsewhere", "price": PRICE}
FEATURES = {
    "checked_at": 0.0, "software": "vLLM 0.12.0", "models": ["deepseek-v4-pro", "deepseek-v4-flash"],
    "context_tokens": 131_072, "reasoning": "yes", "efforts": "yes", "tools": "yes", "continues": "yes",
}  # fmt: skip


def _open(scene: Any, kind: type[QDialog]) -> Any:
    scene.wait(lambda: any(each.isVisible() for each in scene.window.findChildren(kind)))
    return next(each for each in scene.window.findChildren(kind) if each.isVisible())


def _fill(engine: FakeEngine) -> None:
    now = time.time()
    zed = engine.add_key("Zed", kept=True, last_used_at=now, last_used_by="Zed 1.4",
                         limits={"answer_tokens": 8192, "waiting": 4})  # fmt: skip
    agent = engine.add_key("Coding agent", last_used_at=now - 2 * 86_400, last_used_by="claude-cli 2.1",
                           steady={"pin": True})  # fmt: skip
    engine.add_key("Backup script")
    engine.access["clients"] = [
        {"key_id": agent["id"], "key_name": "Coding agent", "program": "claude-cli 2.1", "address": "127.0.0.1",
         "last_at": now, "requests": [
             {"id": "r1", "dialect": "messages", "model_id": "m1", "state": "writing", "generated_tokens": 1340,
              "since": now - 40},
             {"id": "r2", "dialect": "messages", "model_id": "m1", "state": "reading", "done": 40_960,
              "total": 100_000, "since": now - 20}]},
        {"key_id": zed["id"], "key_name": "Zed", "program": "Zed 1.4", "address": "127.0.0.1", "last_at": now - 65,
         "requests": [{"id": "r3", "dialect": "chat", "model_id": "m1", "state": "queued", "place": 2, "since": now}]},
    ]  # fmt: skip
    engine.access["offers"] = [
        {"key_id": agent["id"], "key_name": "Coding agent", "program": "claude-cli 2.1", "suggestion": "move",
         "line": "Today’s date is Friday, 27 November 2026; 14 files have changed since the last commit.",
         "reread_tokens": 6140, "times": 7},
    ]  # fmt: skip


def tour(scene: Any, engine: FakeEngine, take: Callable[..., None]) -> None:
    """Through the states; `scene` is a window on `engine`, which tells what it is told to."""
    window, desk = scene.window, scene.desk
    window.activateWindow()
    desk.access.open()
    page = desk.access.page
    scene.wait(lambda: bool(page.openai.value()))
    take("a1-programs-empty")
    _fill(engine)
    engine.tell_access()
    scene.wait(lambda: len(page.clients.cards) == 2 and len(page.keys.cards) == 3)
    take("a2-programs")
    window.resize(QSize(1280, 1900))
    take("a3-programs-whole")
    window.resize(SIZE)
    page.keys.cards[engine.access["keys"][0]["id"]].change_button.setFocus(Qt.FocusReason.TabFocusReason)
    page.area.bring_up(page.keys)
    take("a4-programs-focus")
    _dialogs(scene, engine, take)
    desk.access.leave()
    take("a10-sign-in-the-status-line")
    window.resize(QSize(640, 720))
    take("a11-sign-narrow")
    desk.access.open()
    take("a12-programs-narrow")
    window.resize(SIZE)
    for _ in range(6):
        window.actions_by_id["zoom_in"].trigger()
    page.area.verticalScrollBar().setValue(0)
    take("a13-programs-200-percent")
    page.area.bring_up(page.keys)
    take("a14-programs-200-percent-keys")
    window.actions_by_id["zoom_reset"].trigger()
    desk.access.leave()
    engine.access["clients"] = []
    engine.tell_access()
    scene.wait(lambda: not window.status.sign.isVisible())
    _remotes(scene, engine, take)


def _dialogs(scene: Any, engine: FakeEngine, take: Callable[..., None]) -> None:
    window, page = scene.window, scene.desk.access.page
    page.address_button.click()
    _open(scene, AddressDialog)
    scene.dialog(take, "a4b-address")
    page.make_button.click()
    form = _open(scene, MakeKeyDialog)
    form.name.setText("Notebook")
    take("a5-make-key", form)
    form.keep.setChecked(False)
    form.make_button.click()
    scene.wait(form.secret.isVisible)
    scene.dialog(take, "a6-secret-once")
    page.keys.cards[engine.access["keys"][1]["id"]].change_button.click()
    _open(scene, KeyDialog)
    scene.dialog(take, "a7-change-key")
    page.keys.cards[engine.access["keys"][1]["id"]].revoke_button.click()
    _open(scene, QMessageBox)
    scene.dialog(take, "a7b-revoke-key")
    page.network.open_button.click()
    form = _open(scene, NetworkDialog)
    form.own.setChecked(True)
    scene.dialog(take, "a8-serve-the-network")
    scene.desk.access.shelf.set_network(OpenNetwork(wanted=True), lambda _: None, lambda _: None)
    scene.wait(lambda: page.network.close_button.isVisible())
    engine.access["network"].update(
        addresses=["https://192.168.1.20:8643/v1", "https://studio.local:8643/v1"], fingerprint=FINGERPRINT,
        certificate="generated", expires_at=time.time() + 300 * 86_400,
    )  # fmt: skip
    engine.add_key("Laptop", is_network=True)
    engine.tell_access()
    scene.wait(lambda: bool(page.network.addresses) and bool(page.network_keys.cards))
    page.area.bring_up(page.network)
    take("a9-network")
    window.resize(SIZE)


def _remotes(scene: Any, engine: FakeEngine, take: Callable[..., None]) -> None:
    window, desk = scene.window, scene.desk
    window.actions_by_id["add_remote"].trigger()
    form = _open(scene, RemoteDialog)
    take("a15-remote-empty", form)
    form.name.setText("Pro on the cluster")
    form.addresses.setPlainText(
        "https://node7.lab.example.org:8000/v1\nhttps://node8.lab.example.org:8000/v1"
    )
    form.key.setText("secret-secret")
    engine.checked = {"whereabouts": "local network", "fingerprint": FINGERPRINT}
    form.check_button.click()
    scene.wait(form.trust_button.isVisible)
    take("a16-remote-certificate", form)
    engine.checked = {"whereabouts": "local network", "features": FEATURES}
    form.trust_button.click()
    scene.wait(lambda: form.model.count() > 0)
    form.read.setValue(0.28)
    form.written.setValue(0.42)
    take("a17-remote-checked", form)
    form.save_button.click()
    scene.wait(lambda: window.notices.notice("remote kept") is not None)
    take("a18-remote-added")
    window.notices.dismiss("remote kept")
    engine.remotes[0].update(
        features=FEATURES, whereabouts="local network", model="deepseek-v4-pro", price=PRICE
    )
    engine.add_remote("DeepSeek’s own", kind="deepseek", model="deepseek-reasoner", features=FEATURES, price=PRICE,
                      addresses=[{"url": "https://api.deepseek.com"}], has_key=True)  # fmt: skip
    engine.add_remote("Old workstation", kind="seamount", problem={
        "code": "remote_unreachable", "text": "Nobody answers at workstation.local: the connection was refused; start "
        "Seamount there, or take another address."})  # fmt: skip
    desk.library.open()
    scene.wait(lambda: len(desk.library.page.remotes.cards) == 3)
    desk.library.page.area.bring_up(desk.library.page.remotes)
    take("a19-library-other-machines")
    desk.library.leave()
    engine.status["model"] = {
        **engine.status["model"],
        "id": "remote:2",
        "name": "DeepSeek’s own",
        "remote": PLACE,
    }
    engine.models.append({"id": "remote:2", "name": "DeepSeek’s own", "path": "https://api.deepseek.com",
                          "size_bytes": 0, "source": "remote", "remote": PLACE})  # fmt: skip
    engine.tell_library()
    engine.tell_status()
    scene.wait(window.away.isVisible)
    take("a20-leaves-this-machine")
    menu = window.picker.fill()
    menu.popup(window.mapToGlobal(window.rect().center()))
    take("a21-models-menu", menu)
    menu.close()
    window.resize(QSize(640, 720))
    take("a22-leaves-this-machine-narrow")
    window.resize(SIZE)
    for _ in range(6):
        window.actions_by_id["zoom_in"].trigger()
    take("a23-leaves-this-machine-200-percent")
    window.actions_by_id["add_remote"].trigger()
    form = _open(scene, RemoteDialog)
    form.addresses.setPlainText("https://node7.lab.example.org:8000/v1")
    engine.checked = {"whereabouts": "local network", "fingerprint": FINGERPRINT}
    form.check_button.click()
    scene.wait(form.trust_button.isVisible)
    scene.dialog(take, "a24-remote-200-percent")
    window.actions_by_id["zoom_reset"].trigger()
    engine.remotes[1]["change"] = (
        "deepseek-reasoner at api.deepseek.com has changed: it has room for 65,536 tokens instead of 131,072."
    )
    engine.tell_library()
    scene.wait(lambda: window.notices.notice("remote") is not None)
    take("a25-remote-changed")
    window.notices.dismiss("remote")
