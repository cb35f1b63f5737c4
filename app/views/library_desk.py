"""The library at work: its page, its dialogs, and what is asked of the engine for them.

Owns: opening the page and the dialogs, once each, and handing what they ask for to the shelves. Does not lay
anything out. The page is made when it is first opened.
"""

from collections.abc import Callable
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, Qt, QUrl, Signal
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QMessageBox, QWidget
from shiboken6 import isValid

from app.job_shelf import JobShelf
from app.job_words import cancel_words, kind_name, progress_words, share, state_words
from app.library_shelf import LibraryShelf
from app.library_words import kept_words, removed_words
from app.model_shelf import ModelShelf
from engine.protocol import ErrorBody
from engine.protocol_jobs import Job, MoveRequest, StartJob, VerifyRequest
from engine.protocol_library import HubState, LibraryItem, Lookup, Offer, Removed
from engine.protocol_remote import Remote

if TYPE_CHECKING:
    from app.views.get_dialog import GetDialog
    from app.views.job_strip import JobStrip
    from app.views.library_page import LibraryPage
    from app.views.notice import NoticeBar
    from app.views.remote_desk import RemoteDesk


class LibraryDesk(QObject):
    """The names of its public methods without parameters are slots of `app.actions`."""

    opened = Signal()
    """The page is to be seen."""
    left = Signal()
    """The conversation is to be seen again."""
    placement_asked = Signal(str, str)
    """Id and name of a model: how it lies on this machine is to be shown."""
    offer_placement_asked = Signal(object)
    """Offer: how it would lie."""

    def __init__(
        self,
        shelf: LibraryShelf,
        jobs: JobShelf,
        models: ModelShelf,
        remotes: "RemoteDesk",
        strip: "JobStrip",
        notices: "NoticeBar",
        make_page: "Callable[[], LibraryPage]",
        use_file: Callable[[str], None],
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._shelf, self._jobs, self._models, self._notices = shelf, jobs, models, notices
        self._remotes, self._strip = remotes, strip
        self._make_page, self._use_file = make_page, use_file
        self.page: LibraryPage | None = None
        self._is_open = False
        self._asked_about_interrupted = False
        self._link = ""
        """What a link named that is being looked up."""
        shelf.changed.connect(self._show)
        models.changed.connect(self._show)
        remotes.shelf.changed.connect(self._show_remotes)
        models.changed.connect(self._show_remotes)
        jobs.changed.connect(self._show_jobs)
        jobs.changed.connect(self._show_strip)
        jobs.refused.connect(self._refused)
        shelf.refused.connect(self._refused)

    @property
    def is_open(self) -> bool:
        """The page is what is seen."""
        return self._is_open

    # --- the page -------------------------------------------------------------------------------------

    def show_library(self) -> None:
        """The page; away again where it is open already."""
        if self._is_open:
            self.leave()
        else:
            self.open()

    def show_conversions(self) -> None:
        """The page, where it tells what is under way."""
        page = self.open()
        page.show_section(page.jobs)

    def open(self) -> "LibraryPage":
        """The page, made when it is first needed."""
        page = self.page
        if page is None:
            page = self.page = self._make_page()
            self._wire(page)
        self._shelf.refresh()
        self._jobs.refresh()
        self._remotes.shelf.refresh()
        self._is_open = True
        self._show()
        self._show_remotes()
        self._show_jobs()
        page.clear_message()
        self.opened.emit()
        page.field.setFocus(Qt.FocusReason.OtherFocusReason)
        return page

    def leave(self) -> None:
        """Back to the conversation."""
        if self._is_open:
            self._is_open = False
            self.left.emit()

    def library_changed(self) -> None:
        """The engine says so; what nobody looks at is fetched when it is opened."""
        if self._is_open:
            self._shelf.refresh()

    def _wire(self, page: "LibraryPage") -> None:
        page.left.connect(self.leave)
        page.convert_requested.connect(self.convert_checkpoint)
        page.remote_requested.connect(self._remotes.add_remote)
        page.remote_asked.connect(self._remote_asked)
        page.look_up_requested.connect(self._look_up)
        page.item_asked.connect(self._item_asked)
        page.get_requested.connect(self.get_model)
        page.placement_requested.connect(self.offer_placement_asked)
        page.job_asked.connect(self._job_asked)
        page.use_requested.connect(self._use_result)
        page.reveal_requested.connect(reveal)
        page.forget_token_requested.connect(lambda: self._shelf.forget_token(self._shelf.refresh))

    def _show(self) -> None:
        if self.page is not None and self._is_open:
            self.page.show_library(self._shelf.library, self._shelf.error, self._models.loaded_id)

    def _show_remotes(self) -> None:
        if self.page is not None and self._is_open:
            self.page.show_remotes(self._remotes.shelf.remotes, self._models.loaded_id)

    def _remote_asked(self, verb: str, remote: Remote) -> None:
        if self.page is not None:
            self.page.clear_message()
        self._remotes.carry_out(verb, remote)
        if verb == "use":
            self.leave()

    def _show_strip(self) -> None:
        """What runs, in the sidebar."""
        running = self._jobs.running
        if not running:
            self._strip.show_words("", "", 0)
            return
        job = running[0]
        told = f"{state_words(job)} {job.title}: {progress_words(job)}"
        self._strip.show_words(job.title, told, share(job), len(running) - 1)

    def _show_jobs(self) -> None:
        if self.page is not None and self._is_open:
            self.page.show_jobs(self._jobs.jobs, known=self._jobs.known)
        if self._jobs.known and not self._asked_about_interrupted:
            self._asked_about_interrupted = True
            self._tell_interrupted([job for job in self._jobs.jobs if job.state == "interrupted"])

    def _tell_interrupted(self, jobs: list[Job]) -> None:
        if not jobs:
            return
        if len(jobs) == 1:
            sentence = (
                f"The {kind_name(jobs[0])} of {jobs[0].title} was interrupted; nothing that was done is lost."
            )
        else:
            sentence = f"{len(jobs)} jobs were interrupted; nothing that was done is lost."

        def resume() -> None:
            for job in jobs:
                self._jobs.resume(job.id)

        self._notices.tell(
            "interrupted", sentence, kind="info", button="Resume", on_button=resume,
            second="Show", on_second=self.show_conversions,
        )  # fmt: skip

    def _refused(self, error: ErrorBody) -> None:
        if self.page is not None and self._is_open:
            self.page.refuse(error)
        else:
            self._notices.tell("library", error.text)

    # --- looking up and getting -----------------------------------------------------------------------

    def _look_up(self, what: str) -> None:
        page = self.page
        if page is None:
            return

        def found(answer: Lookup) -> None:
            page.show_lookup(answer)
            linked, self._link = self._link, ""
            is_one = not answer.problem and len(answer.choices) < 2
            if linked == what == page.field.text().strip() and is_one:
                self.get_linked(answer.offer)

        def failed(error: ErrorBody) -> None:
            page.refuse_lookup(error.text)
            if error.code == "token_needed":
                self._ask_for_token(error.text, lambda: self._look_up(what))

        self._shelf.look_up(what, found, failed)

    def look_up_link(self, what: str) -> None:
        """Ask the hub what a link names, on the page; where that is one model, its form."""
        page = self.open()
        page.field.setText(what)
        self._link = what
        page.look_button.click()

    def get_linked(self, offer: Offer) -> None:
        """The form of a download that a link asks for, which a key that was meant for something else does not begin."""
        self._show_form(offer).be_unasked_for()

    def get_model(self, offer: Offer) -> None:
        """The form of a download; then the page, where it is seen to run."""
        self._show_form(offer)

    def _show_form(self, offer: Offer) -> "GetDialog":
        from app.views.get_dialog import GetDialog

        library = self._shelf.library
        dialog = GetDialog(offer, library.rooms if library else [], self._window())
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.started.connect(partial(self._start, dialog=dialog))
        dialog.open()
        return dialog

    def convert_checkpoint(self, source: str = "") -> None:
        """The form of a conversion, of a folder where it is known; then the page."""
        from app.views.convert_dialog import ConvertDialog

        dialog = ConvertDialog(self._jobs.inspect, self._window())
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        if source:
            dialog.set_source(source)
        dialog.started.connect(partial(self._start, dialog=dialog))
        dialog.open()

    def _start(self, asked: StartJob, dialog: Any = None) -> None:
        """Begin a job. `dialog`: the form that asks for it, which may be closed before the answer comes."""

        def begun(_: Job) -> None:
            if dialog is not None and isValid(dialog):
                dialog.accept()
            self.show_conversions()

        def failed(error: ErrorBody) -> None:
            if error.code == "token_needed":
                self._ask_for_token(error.text, lambda: self._start(asked, dialog))
            if dialog is not None and isValid(dialog) and dialog.isVisible():
                dialog.refuse(error.text)
            elif error.code != "token_needed":
                self._refused(error)

        self._jobs.start(asked, begun, failed)

    # --- tokens ---------------------------------------------------------------------------------------

    def _ask_for_token(self, why: str, then: Callable[[], None]) -> None:
        """Ask for an access token; `then` once there is one."""
        from app.views.token_dialog import TokenDialog

        if self._window().findChild(TokenDialog) is not None:
            return
        library = self._shelf.library
        dialog = TokenDialog(why, library.hub if library else None, self._window())
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)

        def kept(hub: HubState) -> None:
            if isValid(dialog):
                dialog.accept()
            self._notices.tell("token", kept_words(hub), kind="info")
            self._shelf.refresh()
            then()

        def refused(error: ErrorBody) -> None:
            if isValid(dialog):
                dialog.refuse(error.text)
            else:
                self._refused(error)

        dialog.given.connect(partial(self._shelf.keep_token, ok=kept, failed=refused))
        dialog.open()

    # --- jobs -----------------------------------------------------------------------------------------

    def _job_asked(self, wish: str, job_id: str) -> None:
        if self.page is not None:
            self.page.clear_message()
        job = next((job for job in self._jobs.jobs if job.id == job_id), None)
        if job is None:
            return
        match wish:
            case "pause":
                self._jobs.pause(job_id)
            case "resume":
                self._jobs.resume(job_id)
            case "forget":
                self._jobs.forget(job_id)
            case "token":
                why = job.error.text if job.error else f"{job.title} needs an access token."
                self._ask_for_token(why, lambda: self._jobs.resume(job_id))
            case _:
                self._ask_to_cancel(job)

    def _ask_to_cancel(self, job: Job) -> None:
        question, meaning, go_on, delete_words = cancel_words(job)
        box = QMessageBox(self._window())
        box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        box.setWindowTitle("Cancel")
        box.setTextFormat(Qt.TextFormat.PlainText)
        box.setText(question)
        box.setInformativeText(meaning)
        keep_words = "Cancel and keep" if delete_words else "Cancel"
        keep = box.addButton(keep_words, QMessageBox.ButtonRole.AcceptRole)
        back = box.addButton(go_on, QMessageBox.ButtonRole.RejectRole)
        if delete_words:
            delete = box.addButton(delete_words, QMessageBox.ButtonRole.DestructiveRole)
            delete.clicked.connect(lambda: self._jobs.cancel(job.id, remove_partial=True))
        keep.clicked.connect(lambda: self._jobs.cancel(job.id, remove_partial=False))
        box.setDefaultButton(back)
        box.setEscapeButton(back)
        box.open()

    # --- what lies here -------------------------------------------------------------------------------

    def add(self, path: str) -> None:
        """Take in what was dropped, and show it; a first model is loaded at once."""

        def added(item: LibraryItem) -> None:
            page = self.open()
            page.show_item(item.id)
            if item.kind == "model" and item.problem is None and not self._has_model():
                self._models.load(item.id)
            self._models.refresh()

        self._shelf.add(path, added)

    def _has_model(self) -> bool:
        return self._models.loaded_id is not None or self._models.loading_id is not None

    def _item_asked(self, verb: str, item: LibraryItem) -> None:
        if self.page is not None:
            self.page.clear_message()
        match verb:
            case "use":
                self._models.load(item.id)
                self.leave()
            case "convert":
                self.convert_checkpoint(item.path)
            case "verify":
                self._start(StartJob(asked=VerifyRequest(path=item.path)))
            case "reveal":
                reveal(item.path)
            case "placement":
                self.placement_asked.emit(item.id, item.name)
            case "move":
                self._choose_place(item)
            case _:
                self._ask_to_remove(item)

    def _use_result(self, path: str) -> None:
        """Load what a job has made; the conversation is where it is talked to."""
        self._use_file(path)
        self.leave()

    def _choose_place(self, item: LibraryItem) -> None:
        from app.views.path_choice import choose_folder

        start = str(PurePath(item.path).parent)
        choose_folder(
            self._window(), f"Move {item.name} into the folder", start, partial(self.move_item, item)
        )

    def move_item(self, item: LibraryItem, folder: str) -> None:
        """Into another folder, as a job."""
        self._start(StartJob(asked=MoveRequest(item_id=item.id, folder=folder)))

    def _ask_to_remove(self, item: LibraryItem) -> None:
        from app.views.remove_dialog import RemoveDialog

        # What was added by its path is not the library's to delete.
        stays = any(entry.id == item.id and entry.source == "file" for entry in self._models.entries)
        dialog = RemoveDialog(item, self._window(), stays=stays)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)

        def removed(answer: Removed) -> None:
            self._models.refresh()
            self._notices.tell("removed", removed_words(item.name, answer), kind="info")

        def remove(for_good: bool) -> None:
            self._shelf.remove(item.id, for_good=for_good, ok=removed)

        dialog.chosen.connect(remove)
        dialog.open()

    def _window(self) -> QWidget:
        return self._notices.window()


def reveal(path: str) -> None:
    """Show the folder that holds `path` in the system's file manager."""
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(PurePath(path).parent)))
