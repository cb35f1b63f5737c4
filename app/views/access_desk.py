"""Other programs at work: the page, its dialogs, the sign in the status line, and what is asked of the engine for them.

Owns: opening the page and the dialogs, once each, and handing what they ask for to the shelf. Does not lay anything
out. The page is made when it is first opened.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Qt, QTimer, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QMessageBox, QWidget
from shiboken6 import isValid

from app.access_shelf import AccessShelf
from app.access_words import closing_words, program_name, revoke_words, running, short, sign_words
from app.model_shelf import ModelShelf
from app.theme import Theme
from app.wrapping import breakable
from engine.protocol import ErrorBody, Settings
from engine.protocol_access import ChangeKey, ClientKey, MadeKey, NetworkDoor, OpenNetwork

if TYPE_CHECKING:
    from app.views.access_page import AccessPage
    from app.views.answering_sign import AnsweringSign
    from app.views.notice import NoticeBar

TICK_MS = 5000
"""So often what is told as "ago" is told anew."""


class AccessDesk(QObject):
    """The names of its public methods without parameters are slots of `app.actions`."""

    opened = Signal()
    """The page is to be seen."""
    left = Signal()
    """The conversation is to be seen again."""

    def __init__(
        self,
        shelf: AccessShelf,
        models: ModelShelf,
        sign: "AnsweringSign",
        notices: "NoticeBar",
        make_page: "Callable[[], AccessPage]",
        theme: Callable[[], Theme],
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self.shelf = shelf
        self._models, self._sign, self._notices = models, sign, notices
        self._make_page, self._theme = make_page, theme
        self.page: AccessPage | None = None
        self._is_open = self._may_close = False
        self._clock = QTimer(self)
        self._clock.setInterval(TICK_MS)
        self._clock.timeout.connect(self._tick)
        shelf.changed.connect(self._show)
        shelf.refused.connect(self._refused)
        models.changed.connect(self._show)
        sign.opened.connect(self.open)
        sign.end_requested.connect(self._end_first)

    @property
    def is_open(self) -> bool:
        """The page is what is seen."""
        return self._is_open

    def show_programs(self) -> None:
        """The page; away again where it is open already."""
        if self._is_open:
            self.leave()
        else:
            self.open()

    def open(self) -> None:
        """The page, made when it is first needed."""
        page = self.page
        if page is None:
            page = self.page = self._make_page()
            self._wire(page)
        self.shelf.refresh()
        self._is_open = True
        self._clock.start()
        page.clear_message()
        self._show()
        self.opened.emit()
        page.openai.button.setFocus(Qt.FocusReason.OtherFocusReason)

    def leave(self) -> None:
        """Back to the conversation."""
        if self._is_open:
            self._is_open = False
            self._clock.stop()
            self.left.emit()

    def may_close(self, close: Callable[[], None]) -> bool:
        """Whether the window may be closed now. While other programs are answered the person is told first that the
        engine goes on, and `close()` is called once they agree; who closes again while it is asked agrees as well."""
        words = closing_words(self.shelf.access)
        program = QGuiApplication.instance()
        is_logout = isinstance(program, QGuiApplication) and program.isSavingSession()
        if words is None or self._may_close or is_logout:
            return True
        self._may_close = True
        box = QMessageBox(self._window())
        box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        box.setWindowTitle("Close")
        box.setTextFormat(Qt.TextFormat.PlainText)
        box.setText(breakable(words[0]))
        box.setInformativeText(breakable(words[1]))
        agree = box.addButton("Close the window", QMessageBox.ButtonRole.AcceptRole)
        stay = box.addButton("Stay", QMessageBox.ButtonRole.RejectRole)
        box.setDefaultButton(agree)
        box.setEscapeButton(stay)
        # Once the question itself has gone.
        agree.clicked.connect(lambda: QTimer.singleShot(0, self, lambda: close()))
        box.rejected.connect(self._stay)
        stay.clicked.connect(self._stay)
        box.open()
        return False

    def _stay(self) -> None:
        self._may_close = False

    def _wire(self, page: "AccessPage") -> None:
        page.left.connect(self.leave)
        page.address_requested.connect(self._fetch_address)
        page.make_key_requested.connect(self._make_key)
        page.change_key_requested.connect(self._change_key)
        page.copy_key_requested.connect(self._copy_key)
        page.revoke_key_requested.connect(self._ask_to_revoke)
        page.end_requested.connect(self.shelf.end)
        page.agreed.connect(self.shelf.agree)
        page.declined.connect(self.shelf.decline)
        page.network.open_requested.connect(self._ask_about_network)
        page.network.close_requested.connect(self._close_network)

    def _tick(self) -> None:
        if self.page is not None:
            self.page.tick()

    def _show(self) -> None:
        shelf = self.shelf
        self._sign.say(sign_words(shelf.access), self._first_program())
        if self.page is not None and self._is_open:
            self.page.show_access(shelf.access, shelf.error, shelf.offers, self._models.loaded_id)

    def _refused(self, error: ErrorBody) -> None:
        if self.page is not None and self._is_open:
            self.page.refuse(error)
        else:
            self._notices.tell("access", error.text)

    # --- what runs ------------------------------------------------------------------------------------

    def _first_program(self) -> str:
        found = running(self.shelf.access)
        return program_name(found[0][0]) if found else ""

    def _end_first(self) -> None:
        """What the sign tells of."""
        found = running(self.shelf.access)
        if found:
            self.shelf.end(found[0][1].id)

    # --- the address ----------------------------------------------------------------------------------

    def _fetch_address(self) -> None:
        self._clear()
        self._models.fetch_settings(self._change_address)

    def _change_address(self, settings: Settings) -> None:
        from app.views.address_dialog import AddressDialog

        if self._window().findChild(AddressDialog) is not None:
            return
        dialog = AddressDialog(settings, self._window())
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)

        def stored(_: Settings) -> None:
            self.shelf.refresh()
            if isValid(dialog):
                dialog.accept()

        def failed(error: ErrorBody) -> None:
            if isValid(dialog) and dialog.isVisible():
                dialog.refuse(error.text)
            else:
                self._refused(error)

        def apply(port: int, origins: list[str]) -> None:
            # Not by the shape's own checks: what the engine says of a bad one is a sentence.
            wanted = settings.model_copy(update={"port": port, "allowed_origins": origins})
            self._models.save_settings(wanted, stored, failed)

        dialog.applied.connect(apply)
        dialog.open()

    # --- keys -----------------------------------------------------------------------------------------

    def _make_key(self, is_network: bool) -> None:
        from app.views.make_key_dialog import MakeKeyDialog

        self._clear()
        dialog = MakeKeyDialog(self._theme(), self._window(), is_network=is_network)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)

        def made(answer: MadeKey) -> None:
            if isValid(dialog) and dialog.isVisible():
                dialog.show_made(answer)
            elif not answer.key.is_kept:
                # Nobody has seen its secret, and nobody can any more.
                self.shelf.revoke(answer.key.id)

        def failed(error: ErrorBody) -> None:
            if isValid(dialog) and dialog.isVisible():
                dialog.refuse(error.text)
            else:
                self._refused(error)

        def make(name: str, keep: bool) -> None:
            self.shelf.make_key(name, is_network=is_network, keep=keep, ok=made, failed=failed)

        dialog.asked.connect(make)
        dialog.open()

    def _change_key(self, key: ClientKey) -> None:
        from app.views.key_dialog import KeyDialog

        self._clear()
        dialog = KeyDialog(key, self._window())
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)

        def stored(_: ClientKey) -> None:
            if isValid(dialog):
                dialog.accept()

        def failed(error: ErrorBody) -> None:
            if isValid(dialog) and dialog.isVisible():
                dialog.refuse(error.text)
            else:
                self._refused(error)

        def change(wanted: ChangeKey) -> None:
            self.shelf.change_key(
                key.id, name=wanted.name, limits=wanted.limits, steady=wanted.steady, ok=stored, failed=failed
            )

        dialog.applied.connect(change)
        dialog.open()

    def _copy_key(self, key: ClientKey) -> None:
        self._clear()

        def told(answer: MadeKey) -> None:
            QGuiApplication.clipboard().setText(answer.secret)
            self._notices.tell(
                "access", f"The secret of the key “{short(key.name)}” is on the clipboard.", kind="info"
            )

        self.shelf.fetch_secret(key.id, told)

    def _ask_to_revoke(self, key: ClientKey) -> None:
        question, meaning = revoke_words(key)
        self._ask("Revoke", question, meaning, "Revoke it", lambda: self.shelf.revoke(key.id))

    # --- the network ----------------------------------------------------------------------------------

    def _ask_about_network(self) -> None:
        from app.views.network_dialog import NetworkDialog

        self._clear()
        access = self.shelf.access
        dialog = NetworkDialog(access.network if access else NetworkDoor(), self._window())
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)

        def told(door: NetworkDoor) -> None:
            if not isValid(dialog):
                return
            if door.problem is not None:
                dialog.refuse(door.problem.text)
            else:
                dialog.accept()

        def failed(error: ErrorBody) -> None:
            if isValid(dialog) and dialog.isVisible():
                dialog.refuse(error.text)
            else:
                self._refused(error)

        def ask(wanted: OpenNetwork) -> None:
            self.shelf.set_network(wanted, told, failed)

        dialog.asked.connect(ask)
        dialog.open()

    def _close_network(self) -> None:
        self._clear()
        self.shelf.set_network(OpenNetwork(wanted=False), lambda _: None, self._refused)

    # --- questions ------------------------------------------------------------------------------------

    def _ask(self, title: str, question: str, meaning: str, yes: str, then: Callable[[], None]) -> None:
        self._clear()
        box = QMessageBox(self._window())
        box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        box.setWindowTitle(title)
        box.setTextFormat(Qt.TextFormat.PlainText)
        box.setText(breakable(question))
        box.setInformativeText(breakable(meaning))
        agree = box.addButton(yes, QMessageBox.ButtonRole.DestructiveRole)
        keep = box.addButton("Keep it", QMessageBox.ButtonRole.RejectRole)
        box.setDefaultButton(keep)
        box.setEscapeButton(keep)
        agree.clicked.connect(then)
        box.open()

    def _clear(self) -> None:
        if self.page is not None:
            self.page.clear_message()

    def _window(self) -> QWidget:
        return self._notices.window()
