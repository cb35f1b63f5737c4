"""The form of a model on another machine."""

from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QComboBox, QDoubleSpinBox, QLineEdit, QPlainTextEdit, QPushButton
from pytestqt.qtbot import QtBot

from app.remote_words import KEY_KEPT
from app.theme import Theme
from app.views.remote_dialog import RemoteDialog
from engine.protocol_remote import (
    CheckedRemote,
    Remote,
    RemoteAddress,
    RemoteFeatures,
    RemotePrice,
    SetRemote,
)

URL = "https://node7.example.org/v1"


@pytest.fixture
def dialog(qtbot: QtBot) -> RemoteDialog:
    made = RemoteDialog(Theme.light())
    qtbot.addWidget(made)
    made.show()
    return made


def kept(**more: Any) -> Remote:
    return Remote(
        id="remote:1", name="Pro", kind="seamount", model="pro", whereabouts="elsewhere", has_key=True,
        addresses=[RemoteAddress(url=URL, fingerprint="AB:CD"), RemoteAddress(url="http://10.0.0.2/v1")], **more
    )  # fmt: skip


def test_nothing_can_be_asked_without_an_address(dialog: RemoteDialog) -> None:
    assert not dialog.check_button.isEnabled()
    assert not dialog.save_button.isEnabled()
    dialog.addresses.setPlainText(URL)
    assert dialog.check_button.isEnabled()
    asked = dialog.wanted()
    assert asked is not None
    # Without a name it is called by its machine; what was left out is not sent.
    assert (asked.name, asked.key, asked.price, asked.model) == ("node7.example.org", None, None, "")


def test_what_was_typed_is_what_is_asked_for(dialog: RemoteDialog) -> None:
    dialog.name.setText("  Pro   on the cluster ")
    dialog.addresses.setPlainText(f"{URL}\n\n http://10.0.0.2:8000/v1 \n")
    dialog.key.setText(" secret ")
    dialog.model.setEditText("pro")
    dialog.read.setValue(0.28)
    dialog.written.setValue(0.42)
    asked = dialog.wanted()
    assert asked == SetRemote(
        name="Pro on the cluster", kind="openai", model="pro", key="secret",
        addresses=[RemoteAddress(url=URL), RemoteAddress(url="http://10.0.0.2:8000/v1")],
        price=RemotePrice(read=0.28, written=0.42),
    )  # fmt: skip
    dialog.cached.setValue(0.028)
    priced = dialog.wanted()
    assert priced is not None
    assert priced.price is not None
    assert priced.price.read_cached == 0.028


@pytest.mark.parametrize("addresses", ["\n".join(["http://a/v1"] * 9), "http://" + "a" * 600])
def test_too_much_is_refused_with_a_sentence(dialog: RemoteDialog, qtbot: QtBot, addresses: str) -> None:
    dialog.addresses.setPlainText(addresses)
    with qtbot.assertNotEmitted(dialog.saved):
        dialog.save_button.click()
    assert "cannot be used" in dialog.message.text()


def test_one_that_is_kept_comes_back_as_it_was(qtbot: QtBot) -> None:
    price = RemotePrice(read=1.0, read_cached=0.0, written=2.0, currency="EUR")
    dialog = RemoteDialog(Theme.dark(), kept(price=price))
    qtbot.addWidget(dialog)
    assert dialog.key.text() == ""
    assert dialog._key_caption_hint.text() == KEY_KEPT
    asked = dialog.wanted()
    assert asked == SetRemote(
        name="Pro", kind="seamount", model="pro", addresses=kept().addresses, key=None, price=price
    )


def test_a_check_fills_the_models_and_says_what_was_found(dialog: RemoteDialog, qtbot: QtBot) -> None:
    dialog.addresses.setPlainText(URL)
    with qtbot.waitSignal(dialog.check_requested):
        dialog.check_button.click()
    assert not dialog.check_button.isEnabled()
    features = RemoteFeatures(checked_at=0.0, software="vLLM 0.12", models=["pro"], tools="yes")
    dialog.show_checked(CheckedRemote(whereabouts="elsewhere", features=features))
    assert "goes to node7.example.org, elsewhere. vLLM 0.12 · calls tools." in dialog.found.text().replace(
        "\u200b", ""
    )
    assert dialog.model.currentText() == "pro"
    dialog.model.setEditText("mine")
    dialog.show_checked(CheckedRemote(whereabouts="elsewhere", features=features))
    assert dialog.model.currentText() == "mine"


def test_a_certificate_is_trusted_only_by_a_click_and_for_its_address(
    dialog: RemoteDialog, qtbot: QtBot
) -> None:
    dialog.addresses.setPlainText(f"{URL}\nhttps://other.example.org/v1")
    assert not dialog.trust_button.isVisible()
    unknown = CheckedRemote(whereabouts="elsewhere", fingerprint="AB:CD")
    dialog.show_checked(unknown)
    assert dialog.trust_button.isVisible()
    assert dialog.fingerprint.value() == "AB:CD"
    asked = dialog.wanted()
    assert asked is not None
    assert [each.fingerprint for each in asked.addresses] == [None, None]
    with qtbot.waitSignal(dialog.check_requested) as checked:
        dialog.trust_button.click()
    assert [each.fingerprint for each in checked.args[0].addresses] == ["AB:CD", None]
    dialog.show_checked(unknown.model_copy(update={"features": RemoteFeatures(checked_at=0.0)}))
    assert not dialog.trust_button.isVisible()
    # Another certificate is another question.
    dialog.show_checked(CheckedRemote(whereabouts="elsewhere", fingerprint="EF:01"))
    assert dialog.trust_button.isVisible()


def test_the_service_has_one_address_and_another_kind_does_not_keep_it(dialog: RemoteDialog) -> None:
    dialog.kind.setCurrentIndex(dialog.kind.findData("deepseek"))
    assert dialog.addresses.toPlainText() == "https://api.deepseek.com"
    dialog.kind.setCurrentIndex(dialog.kind.findData("openai"))
    assert dialog.addresses.toPlainText() == ""
    dialog.addresses.setPlainText(URL)
    dialog.kind.setCurrentIndex(dialog.kind.findData("deepseek"))
    assert dialog.addresses.toPlainText() == URL


def test_no_key_stays_in_a_closed_form(dialog: RemoteDialog) -> None:
    dialog.key.setText("secret")
    dialog.reject()
    assert dialog.key.text() == ""


def test_every_field_has_a_name(dialog: RemoteDialog) -> None:
    fields = (dialog.name, dialog.kind, dialog.addresses, dialog.key, dialog.model, dialog.read, dialog.cached,
              dialog.written, dialog.currency)  # fmt: skip
    names = [field.accessibleName() for field in fields]
    assert all(names)
    assert len(set(names)) == len(names)
    for kind in (QComboBox, QDoubleSpinBox, QLineEdit, QPlainTextEdit, QPushButton):
        for control in dialog.findChildren(kind):
            named = control.accessibleName() or getattr(control, "text", str)()
            assert (
                named
                or control.objectName().startswith("qt_")
                or isinstance(control.parent(), (QComboBox, QDoubleSpinBox))
            )


def test_the_keyboard_is_back_where_it_was_once_the_server_has_answered(
    dialog: RemoteDialog, qtbot: QtBot
) -> None:
    """A button that cannot be pressed meanwhile passes it on, and what comes next is Cancel."""
    dialog.addresses.setPlainText(URL)
    dialog.activateWindow()
    qtbot.waitUntil(dialog.isActiveWindow)
    for answer in (
        lambda: dialog.refuse("Nobody answers."),
        lambda: dialog.show_checked(CheckedRemote(whereabouts="elsewhere")),
    ):
        dialog.check_button.setFocus()
        dialog.check_button.click()
        assert not dialog.check_button.isEnabled()
        answer()
        assert dialog.check_button.hasFocus()


def test_return_on_check_checks_and_in_a_field_keeps(dialog: RemoteDialog, qtbot: QtBot) -> None:
    dialog.addresses.setPlainText(URL)
    dialog.activateWindow()
    qtbot.waitUntil(dialog.isActiveWindow)
    dialog.check_button.setFocus()
    with qtbot.waitSignal(dialog.check_requested):
        qtbot.keyClick(dialog.check_button, Qt.Key.Key_Return)
    dialog.refuse("Nobody answers.")
    dialog.name.setFocus()
    with qtbot.waitSignal(dialog.saved):
        qtbot.keyClick(dialog.name, Qt.Key.Key_Return)
