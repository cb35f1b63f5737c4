"""Other programs and other machines, with the real window and real engines: a key that is made in the window opens the
address, the window shows who asks and ends it, and a conversation is had with a model that another engine computes."""

import hashlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PySide6.QtWidgets import QDialog, QPushButton
from shiboken6 import isValid

from app.views.access_page import AccessPage
from app.views.make_key_dialog import MakeKeyDialog
from app.views.network_dialog import NetworkDialog
from app.views.remote_dialog import RemoteDialog
from tests.end_to_end.conftest import OpenWindow
from tests.end_to_end.live_window import LiveWindow
from tests.integration.live_engine import SCRIPT_MODEL, LiveEngine, write_script

# The offscreen platform cannot tell anybody a dialog's least size, and says so.
pytestmark = pytest.mark.qt_log_ignore("propagateSizeHints")
PROGRAM = "Notebook/1.0"
OTHER_ANSWER = "Computed elsewhere."


def dialog(window: LiveWindow, kind: type[Any]) -> Any:
    window.wait(lambda: window.window.findChild(kind) is not None)
    return window.window.findChild(kind)


def make_key(window: LiveWindow, page: AccessPage, name: str) -> str:
    """By the window's own buttons; the secret as it is shown."""
    page.make_button.click()
    form: MakeKeyDialog = dialog(window, MakeKeyDialog)
    form.name.setText(name)
    form.keep.setChecked(False)
    form.make_button.click()
    window.wait(form.secret.isVisible)
    secret = form.secret.value()
    form.close_button.click()
    window.wait(lambda: window.window.findChild(QDialog) is None)
    return secret


class Program:
    """Another program that asks over the address; it reads its stream on a thread of its own."""

    def __init__(self, base_url: str, secret: str) -> None:
        headers = {"Authorization": f"Bearer {secret}", "User-Agent": PROGRAM}
        self.client = httpx.Client(base_url=base_url, headers=headers, trust_env=False, timeout=60)
        self.lines: list[str] = []
        self.ended = threading.Event()

    def models(self) -> httpx.Response:
        return self.client.get("/models")

    def begin(self, text: str) -> None:
        def read() -> None:
            body = {"model": SCRIPT_MODEL, "stream": True, "messages": [{"role": "user", "content": text}]}
            with self.client.stream("POST", "/chat/completions", json=body) as reply:
                self.lines.extend(reply.iter_lines())
            self.ended.set()

        threading.Thread(target=read, daemon=True).start()


@pytest.mark.slow
def test_a_key_made_here_opens_the_address_and_what_runs_for_it_is_seen_and_ended(
    open_window: OpenWindow,
) -> None:
    window = open_window().ready()
    window.do("programs")
    page = window.desk.access.page
    assert page is not None
    window.wait(lambda: bool(page.openai.value()))
    assert httpx.get(f"{page.openai.value()}/models", trust_env=False).status_code == 401
    secret = make_key(window, page, "Notebook")
    program = Program(page.openai.value(), secret)
    assert program.models().status_code == 200
    # It opens the models and nothing else.
    root = page.openai.value().removesuffix("/v1")
    assert httpx.get(f"{root}/api/sessions", headers=program.client.headers, trust_env=False).status_code in (
        401,
        403,
    )
    program.begin("Take your time.")
    sign = window.window.status.sign
    window.wait(
        lambda: sign.words().startswith(f"{PROGRAM.replace('/', ' ')}: writing") or PROGRAM in sign.words()
    )
    window.wait(lambda: any(card.isVisible() for card in page.clients.cards.values()))
    sign.end_button.click()
    window.wait(program.ended.is_set)
    window.wait(lambda: not sign.isVisible())
    assert any("data:" in line for line in program.lines)
    window.wait(lambda: any("used today" in card.words.words() for card in page.keys.cards.values()))  # type: ignore[attr-defined]
    [card] = page.keys.cards.values()
    card.revoke_button.click()  # type: ignore[attr-defined]
    window.wait(lambda: window.window.findChild(QDialog) is not None)
    box = window.window.findChild(QDialog)
    next(each for each in box.findChildren(QPushButton) if each.text() == "Revoke it").click()
    window.wait(lambda: not page.keys.cards)
    assert program.models().status_code == 401
    program.client.close()
    serve_the_network(window, page)


def _problem_in(form: NetworkDialog) -> str:
    return form.message.text() if isValid(form) and form.message.isVisible() else ""


def serve_the_network(window: LiveWindow, page: AccessPage) -> None:
    """The door is open with the certificate whose fingerprint is shown, and closed again."""
    page.network.open_button.click()
    form: NetworkDialog = dialog(window, NetworkDialog)
    form.open_button.click()
    # The form is gone once the door is open; one that stays says why.
    window.wait(lambda: page.network.state.text().startswith("Open at port") or _problem_in(form) != "")
    assert page.network.close_button.isVisible(), _problem_in(form)
    desk = window.desk.access.shelf
    assert desk.access is not None
    port = desk.access.network.port
    certificate = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", port), timeout=20))
    assert (
        page.network.fingerprint.value().replace(":", "").lower() == hashlib.sha256(certificate).hexdigest()
    )
    page.network.close_button.click()
    window.wait(lambda: page.network.state.text().startswith("Closed."))
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=20)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[tuple[LiveEngine, str]]:
    """Another Seamount at work, and a key of it."""
    engine = LiveEngine(tmp_path / "other")
    write_script(
        engine.folder, {"name": "Elsewhere", "context_tokens": 4096, "replies": [{"text": OTHER_ANSWER}]}
    )
    engine.post("/api/models/load", {"model_id": SCRIPT_MODEL})
    engine.wait_model()
    yield engine, engine.post("/api/access/keys", {"name": "window", "keep": False})["secret"]
    engine.close()


@pytest.mark.slow
def test_a_conversation_with_a_model_that_another_engine_computes(
    open_window: OpenWindow, other: tuple[LiveEngine, str]
) -> None:
    engine, secret = other
    window = open_window().ready()
    away = window.window.away
    assert not away.isVisible()
    window.do("add_remote")
    form: RemoteDialog = dialog(window, RemoteDialog)
    form.name.setText("Other desk")
    form.kind.setCurrentIndex(form.kind.findData("seamount"))
    form.addresses.setPlainText(f"{engine.address.url}/v1")
    form.key.setText(secret)
    form.check_button.click()
    window.wait(
        lambda: form.model.count() > 0 or form.message.isVisible() or bool(form.found.property("danger"))
    )
    assert form.model.count() > 0, (form.found.text(), form.message.text())
    form.model.setEditText(SCRIPT_MODEL)
    form.save_button.click()
    window.wait(lambda: window.window.notices.notice("remote kept") is not None)
    notice = window.window.notices.notice("remote kept")
    assert notice is not None
    assert notice.button is not None
    notice.button.click()
    window.wait(away.isVisible)
    assert "another program on this machine, 127.0.0.1" in away.text()
    window.ask("Who are you?")
    assert window.wait_for_end().text == OTHER_ANSWER
    # The other engine was asked with its key, and shows who asks.
    assert [key["name"] for key in engine.get("/api/access")["keys"] if key["last_used_at"]] == ["window"]
