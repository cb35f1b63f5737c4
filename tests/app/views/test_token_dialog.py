"""Asking for an access token."""

from PySide6.QtWidgets import QLabel, QLineEdit
from pytestqt.qtbot import QtBot

from app.views.token_dialog import TokenDialog
from engine.protocol_library import HubState

SECRET = "hf_verysecret"


def made(qtbot: QtBot, hub: HubState | None = None) -> TokenDialog:
    dialog = TokenDialog("a/b is only for those who may.", hub)
    qtbot.addWidget(dialog)
    dialog.show()
    return dialog


def everything(dialog: TokenDialog) -> str:
    return "\n".join([*(label.text() for label in dialog.findChildren(QLabel)), dialog.field.text()])


def test_it_is_never_shown_and_leaves_the_field_at_once(qtbot: QtBot) -> None:
    dialog = made(qtbot)
    assert dialog.field.echoMode() == QLineEdit.EchoMode.Password
    assert not dialog.give_button.isEnabled()
    dialog.field.setText(f"  {SECRET} ")
    with qtbot.waitSignal(dialog.given) as given:
        dialog.give_button.click()
    assert given.args == [SECRET]
    assert dialog.field.text() == ""
    assert dialog.isVisible()
    dialog.refuse("It is not valid; make another.")
    assert dialog.message.text() == "It is not valid; make another."
    assert dialog.field.isEnabled()
    assert SECRET not in everything(dialog)


def test_cancelled_it_keeps_nothing(qtbot: QtBot) -> None:
    dialog = made(qtbot)
    dialog.field.setText(SECRET)
    dialog.reject()
    assert dialog.field.text() == ""


def test_it_says_why_where_from_and_where_to(qtbot: QtBot) -> None:
    words = everything(made(qtbot))
    assert "only for those who may" in words
    assert "huggingface.co/settings/tokens" in words
    assert "keyring" in words
    without = HubState(endpoint="h", keyring_problem="No keyring answers.")
    assert "for this run only" in everything(made(qtbot, without))


def test_blanks_are_no_token(qtbot: QtBot) -> None:
    dialog = made(qtbot)
    dialog.field.setText("   ")
    assert not dialog.give_button.isEnabled()
    with qtbot.assertNotEmitted(dialog.given):
        dialog._give()
