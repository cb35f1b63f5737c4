"""The welcome: when it comes, and when it is over.

Owns: that question, and remembering that it was answered. Does not know what the welcome shows (`welcome`).
"""

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject

from app.conversation_state import ConversationState
from app.library_shelf import LibraryShelf
from app.model_shelf import ModelShelf
from app.session_catalogue import SessionCatalogue
from app.views.library_desk import LibraryDesk
from app.window_state import WindowState

if TYPE_CHECKING:
    from app.views.composer import Composer
    from app.views.transcript import TranscriptView
    from app.views.welcome import Welcome


class FirstRun(QObject):
    """Shows the welcome to somebody who has neither talked yet nor chosen a model."""

    def __init__(
        self,
        memory: WindowState,
        library: LibraryShelf,
        models: ModelShelf,
        catalogue: SessionCatalogue,
        conversation: ConversationState,
        desk: LibraryDesk,
        transcript: "TranscriptView",
        composer: "Composer",
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._memory, self._library, self._models = memory, library, models
        self._catalogue, self._conversation, self._desk = catalogue, conversation, desk
        self._transcript, self._composer = transcript, composer
        self._knows_sessions = False
        self.welcome: Welcome | None = None
        if memory.welcomed:
            return
        catalogue.refreshed.connect(self._sessions_known)
        library.changed.connect(self._look)
        models.changed.connect(self._look)
        conversation.session_changed.connect(self._look)

    def begin(self) -> None:
        """There is an engine: ask it what there is."""
        if not self._memory.welcomed:
            self._library.refresh()

    def finish(self) -> None:
        """It does not come again."""
        self._memory.welcomed = True
        if self.welcome is not None:
            self.welcome = None
            self._transcript.set_cover(None)
            self._composer.setFocus()

    def _sessions_known(self) -> None:
        self._knows_sessions = True
        self._look()

    def _look(self) -> None:
        if self._memory.welcomed or not self._knows_sessions:
            return
        has_talked = bool(self._catalogue.rows.session_ids()) and not self._catalogue.query
        if has_talked or self._conversation.session_id is not None or self._has_chosen():
            self.finish()
            return
        library = self._library.library
        if library is None or not self._models.known:
            return
        if self.welcome is None:
            self.welcome = self._made()
        self.welcome.show_library(library, self._models.name(self._models.loaded_id))

    def _has_chosen(self) -> bool:
        """A model other than the starter answers, or is being loaded."""
        chosen = self._models.loading_id or self._models.loaded_id
        return any(entry.id == chosen and entry.source != "starter" for entry in self._models.entries)

    def _made(self) -> "Welcome":
        from app.views.welcome import Welcome

        welcome = Welcome(self._composer.theme)
        welcome.put_away.connect(self.finish)
        welcome.library_requested.connect(self._desk.open)
        welcome.get_requested.connect(self._desk.get_model)
        self._transcript.set_cover(welcome)
        return welcome
