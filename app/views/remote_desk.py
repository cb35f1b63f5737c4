"""Models on other machines at work: their form, the line above the composer, and what is asked of the engine for them.

Owns: opening the form, once, handing what it asks for to the shelf, and telling of a model that has changed. Does not
lay anything out.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Qt
from PySide6.QtWidgets import QMessageBox, QWidget
from shiboken6 import isValid

from app.conversation_state import ConversationState
from app.model_shelf import ModelShelf
from app.remote_shelf import RemoteShelf
from app.remote_words import certificate_question, change_words, place_sentence, removal_words, spent_words
from app.theme import Theme
from app.wrapping import breakable
from engine.protocol import ErrorBody
from engine.protocol_remote import CheckedRemote, CheckRemote, Remote, SetRemote

if TYPE_CHECKING:
    from app.views.away_line import AwayLine
    from app.views.notice import NoticeBar

NOTICE = "remote"


class RemoteDesk(QObject):
    """The names of its public methods without parameters are slots of `app.actions`."""

    def __init__(
        self,
        shelf: RemoteShelf,
        models: ModelShelf,
        conversation: ConversationState,
        away: "AwayLine",
        notices: "NoticeBar",
        theme: Callable[[], Theme],
        choose_model: Callable[[], None],
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self.shelf = shelf
        self._models, self._away, self._notices = models, away, notices
        self._conversation = conversation
        conversation.told_place = ""
        self._theme, self._choose_model = theme, choose_model
        self._told: dict[str, str] = {}
        """What was told of each model that has changed."""
        models.changed.connect(self._show_place)
        for changed in (conversation.branch_replaced, conversation.message_changed):
            changed.connect(self._show_place)
        shelf.changed.connect(self._tell_changes)
        shelf.refused.connect(self._refused)

    def add_remote(self) -> None:
        """The form of a new one."""
        self._open(None)

    def edit(self, remote: Remote) -> None:
        """The form of one that is there."""
        self._open(remote)

    def carry_out(self, verb: str, remote: Remote) -> None:
        """What a card asks for."""
        match verb:
            case "use":
                self._models.load(remote.id)
            case "agree":
                self._agree(remote)
            case "edit":
                self._open(remote)
            case _:
                self._ask_to_remove(remote)

    # --- at the point of use --------------------------------------------------------------------------

    def _show_place(self) -> None:
        """While the engine is away the sentence stays, as the model's name does."""
        if self._models.status is None:
            return
        place = self._models.place
        self._conversation.told_place = place.host if place is not None else ""
        if place is None:
            self._away.say("")
        else:
            costs, whole = self._conversation.costs()
            self._away.say(f"{place_sentence(place)} {spent_words(costs, whole=whole)}".rstrip())

    def _tell_changes(self) -> None:
        """A model that is not as it was agreed to, said once for each change."""
        changed = {each.id: each for each in self.shelf.remotes if each.change}
        for remote_id in [each for each in self._told if each not in changed]:
            del self._told[remote_id]
        if not changed:
            self._notices.dismiss(NOTICE)
        for remote in changed.values():
            if self._told.get(remote.id) != remote.change:
                self._told[remote.id] = remote.change or ""
                self._tell_change(remote)

    def _tell_change(self, remote: Remote) -> None:
        self._notices.tell(
            NOTICE, change_words(remote), button="Agree", on_button=lambda: self._agree(remote),
            second="Choose another", on_second=self._choose_model,
        )  # fmt: skip

    def _agree(self, remote: Remote) -> None:
        """Another certificate is compared first."""
        if remote.offered_fingerprint is None:
            self._agree_to(remote)
            return
        question, meaning = certificate_question(remote)
        self._ask(
            "Certificate", question, meaning, ("Trust it", "Do not trust it"), lambda: self._agree_to(remote)
        )

    def _agree_to(self, remote: Remote) -> None:
        def agreed(answer: Remote) -> None:
            if answer.change is None:
                self._models.load(answer.id)

        self.shelf.agree(remote.id, remote.offered_fingerprint, agreed)

    # --- the form -------------------------------------------------------------------------------------

    def _open(self, remote: Remote | None) -> None:
        from app.views.remote_dialog import RemoteDialog

        if self._window().findChild(RemoteDialog) is not None:
            return
        remote_id = remote.id if remote else None
        dialog = RemoteDialog(self._theme(), remote, self._window())
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)

        def failed(error: ErrorBody) -> None:
            if isValid(dialog) and dialog.isVisible():
                dialog.refuse(error.text)
            else:
                self._refused(error)

        def not_checked(error: ErrorBody) -> None:
            if isValid(dialog):
                dialog.refuse(error.text)

        def checked(answer: CheckedRemote) -> None:
            if isValid(dialog):
                dialog.show_checked(answer)

        def kept(answer: Remote) -> None:
            if isValid(dialog):
                dialog.accept()
            self._models.refresh()
            self._tell_kept(answer, is_new=remote_id is None)

        def check(wanted: SetRemote) -> None:
            self.shelf.check(CheckRemote(remote=wanted, id=remote_id), checked, not_checked)

        def save(wanted: SetRemote) -> None:
            self.shelf.save(remote_id, wanted, kept, failed)

        dialog.check_requested.connect(check)
        dialog.saved.connect(save)
        dialog.open()

    def _tell_kept(self, remote: Remote, *, is_new: bool) -> None:
        """Where its key could only be kept for this run, and that it can be used now."""
        sentence = f"“{remote.name}” is among the models." if is_new else f"“{remote.name}” was changed."
        if remote.key_problem:
            sentence += f" {remote.key_problem}"
        self._notices.tell(
            "remote kept", sentence, kind="info", button="Use it" if is_new else "",
            on_button=lambda: self._models.load(remote.id),
        )  # fmt: skip

    def _ask_to_remove(self, remote: Remote) -> None:
        question, meaning = removal_words(remote)
        answers = "Take it off the list", "Keep it"
        self._ask("Remove", question, meaning, answers, lambda: self.shelf.remove(remote.id))

    def _ask(
        self, title: str, question: str, meaning: str, answers: tuple[str, str], then: Callable[[], None]
    ) -> None:
        """`answers`: what does it, and what leaves all as it is, which Return and Escape mean."""
        box = QMessageBox(self._window())
        box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        box.setWindowTitle(title)
        box.setTextFormat(Qt.TextFormat.PlainText)
        box.setText(breakable(question))
        box.setInformativeText(breakable(meaning))
        agree = box.addButton(answers[0], QMessageBox.ButtonRole.DestructiveRole)
        keep = box.addButton(answers[1], QMessageBox.ButtonRole.RejectRole)
        box.setDefaultButton(keep)
        box.setEscapeButton(keep)
        agree.clicked.connect(then)
        box.open()

    def _refused(self, error: ErrorBody) -> None:
        self._notices.tell(NOTICE, error.text)

    def _window(self) -> QWidget:
        return self._notices.window()
