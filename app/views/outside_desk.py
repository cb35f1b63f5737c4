"""What is opened from outside, in the window: a link to a model, or a model's file.

Owns: bringing the window to the front, the question before anything is done, and the sentence for what cannot be
opened. Nothing is fetched, added or asked of a hub without a click: anybody can write a link, and a click on a page is
no click here. What such a request may be is `engine.outside_request`'s.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Qt
from PySide6.QtWidgets import QApplication, QMessageBox, QWidget

from app.engine_watch import EngineState, EngineWatch
from app.library_shelf import LibraryShelf
from app.quantities import size_name
from app.views.library_desk import LibraryDesk
from app.views.notice import NoticeBar
from app.wrapping import breakable
from engine.errors import BadRequest
from engine.outside_request import ModelFile, ModelLink, read_request
from engine.protocol_library import Library

if TYPE_CHECKING:
    from app.views.desk import Desk

MOST_HELD = 8
NOTICE = "outside"


class OutsideDesk(QObject):
    """Takes requests as they come; one question at a time, so that a page with many links can ask only one."""

    def __init__(self, desk: "Desk", window: QWidget) -> None:
        super().__init__(window)
        self._window = window
        self._watch: EngineWatch = desk.watch
        self._shelf: LibraryShelf = desk.library_shelf
        self._library: LibraryDesk = desk.library
        self._notices: NoticeBar = desk.parts.notices
        self._use_file = desk.add_model
        self._held: list[Callable[[], None]] = []
        """What waits for an engine."""
        self._wanted: ModelLink | None = None
        """The model that is looked for in the library once that is known."""
        desk.watch.state_changed.connect(self._engine_state)
        desk.library_shelf.changed.connect(self._library_known)

    def take(self, request: str) -> None:
        """Open what is asked for, or say why not; the window comes to the front."""
        self.come_to_front()
        try:
            meant = read_request(request)
        except BadRequest as error:
            self._notices.tell(NOTICE, error.text)
            return
        self._notices.dismiss(NOTICE)
        if isinstance(meant, ModelFile):
            self._ask_about_file(meant.path)
        elif meant.is_repository or meant.revision is not None:
            self._ask_about_link(meant)
        else:
            self._when_ready(lambda: self._look_for(meant))

    def come_to_front(self) -> None:
        """Before the other windows, as far as the system lets a program do that; else it calls for attention."""
        window = self._window
        window.setWindowState(window.windowState() & ~Qt.WindowState.WindowMinimized)
        window.show()
        window.raise_()
        window.activateWindow()
        if not window.isActiveWindow():
            QApplication.alert(window)

    # --- a model of the library's own -----------------------------------------------------------------

    def _look_for(self, link: ModelLink) -> None:
        self._wanted = link
        self._shelf.refresh()

    def _library_known(self) -> None:
        library = self._shelf.library
        if self._wanted is None or (library is None and self._shelf.error is None):
            return
        wanted, self._wanted = self._wanted, None
        if library is None:
            self._notices.tell(NOTICE, self._shelf.error.text if self._shelf.error else "")
            return
        self._show_offer(library, wanted)

    def _show_offer(self, library: Library, link: ModelLink) -> None:
        offer = next((each for each in library.offers if each.name == link.name), None)
        if offer is not None:
            if not self._has_question():
                self._library.get_linked(offer)
            return
        self._notices.tell(
            NOTICE,
            f"A link asks for the model “{link.name}”, and this Seamount knows none of that name; the Library has "
            "those that it knows.",
            kind="info", button="Open the Library", on_button=self._open_library,
        )  # fmt: skip

    def _open_library(self) -> None:
        self._library.open()

    # --- questions ------------------------------------------------------------------------------------

    def _ask_about_link(self, link: ModelLink) -> None:
        """A repository is the hub's, which is asked only once a person agrees."""
        library = self._shelf.library
        place = library.hub.endpoint if library is not None else "the hub of models"
        self._ask(
            "A link to a model",
            f"A link asks for the model {link.text}.",
            f"To see what it is and how large, {place} has to be asked. Nothing is downloaded before you have seen "
            "that and agreed once more.",
            "Look it up",
            True,
            lambda: self._when_ready(lambda: self._library.look_up_link(link.text)),
        )

    def _ask_about_file(self, path: Path) -> None:
        try:
            size = f"{size_name(path.stat().st_size)}, in {path.parent}"
        except OSError:
            size = f"in {path.parent}"
        self._ask(
            "A model’s file",
            f"Use the model {path.name}?",
            f"{size}. It is added to the Library where it lies and is loaded; nothing is copied.",
            "Add and use",
            False,
            lambda: self._use_file(str(path)),
        )

    def _ask(
        self, title: str, question: str, meaning: str, yes: str, unasked: bool, then: Callable[[], None]
    ) -> None:
        """`unasked`: it may come while somebody is typing, so Return leaves all as it is."""
        if self._has_question():
            return
        box = QMessageBox(self._window)
        box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        box.setObjectName("outsideQuestion")
        box.setWindowTitle(title)
        box.setTextFormat(Qt.TextFormat.PlainText)
        box.setText(breakable(question))
        box.setInformativeText(breakable(meaning))
        agree = box.addButton(yes, QMessageBox.ButtonRole.AcceptRole)
        refuse = box.addButton(QMessageBox.StandardButton.Cancel)
        box.setDefaultButton(refuse if unasked else agree)
        box.setEscapeButton(refuse)
        agree.clicked.connect(then)
        box.open()

    def _has_question(self) -> bool:
        """Something in the window waits for an answer already: that comes first."""
        return QApplication.activeModalWidget() is not None

    # --- the engine -----------------------------------------------------------------------------------

    def _when_ready(self, do: Callable[[], None]) -> None:
        if self._watch.state == EngineState.READY:
            do()
        elif len(self._held) < MOST_HELD:
            self._held.append(do)

    def _engine_state(self, state: EngineState) -> None:
        if state == EngineState.READY:
            held, self._held = self._held, []
            for do in held:
                do()
