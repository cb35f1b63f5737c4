"""The window at work: what the engine says goes to the widgets, what a person asks for goes to the engine.

Owns: the engine's client objects and their wiring to the widgets; made after the first paint, so that a
window is seen before any of this is imported. Does not lay anything out (`window.py`), carry out menu entries
that need no more than the open conversation (`commands.py`), or keep what is not sent yet (`asking.py`).
"""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from app.access_shelf import AccessShelf
from app.api import EngineApi
from app.context_use import context_use
from app.conversation_state import ConversationState
from app.engine_watch import EngineState, EngineWatch, Launcher
from app.engine_words import empty_list, empty_page, resting_words
from app.job_shelf import JobShelf
from app.library_shelf import LibraryShelf
from app.model_shelf import ModelShelf
from app.remote_shelf import RemoteShelf
from app.session_catalogue import SessionCatalogue
from app.transcript_model import ShownMessage
from app.turn_stream import TurnProgress
from app.views.access_desk import AccessDesk
from app.views.asking import Asking
from app.views.commands import Commands
from app.views.cost_desk import CostDesk
from app.views.first_run import FirstRun
from app.views.library_desk import LibraryDesk
from app.views.placement_desk import PlacementDesk
from app.views.remote_desk import RemoteDesk
from app.views.storage_desk import StorageDesk
from app.views.turn_setup import TurnSetup
from app.window_state import WindowState
from engine.errors import KeyMissing
from engine.paths import DataFolder
from engine.protocol import EngineStatus, ErrorBody

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.theme import Theme
    from app.views.access_page import AccessPage
    from app.views.away_line import AwayLine
    from app.views.composer import Composer
    from app.views.library_page import LibraryPage
    from app.views.mode_switch import ModeSwitch
    from app.views.model_picker import ContextMeter, ModelPicker
    from app.views.notice import NoticeBar
    from app.views.sidebar import Sidebar
    from app.views.status_line import StatusLine
    from app.views.transcript import TranscriptView


@dataclass(frozen=True)
class Parts:
    """The widgets the desk works with."""

    sidebar: "Sidebar"
    picker: "ModelPicker"
    switch: "ModeSwitch"
    meter: "ContextMeter"
    transcript: "TranscriptView"
    notices: "NoticeBar"
    composer: "Composer"
    status: "StatusLine"
    away: "AwayLine"
    make_access: "Callable[[], AccessPage]"
    """Makes the page on other programs and gives it its place in the window."""
    make_library: "Callable[[], LibraryPage]"
    """Makes the library's page and gives it its place in the window."""
    theme: "Callable[[], Theme]"
    """The look of the moment."""


class Desk(QObject):
    """Wires the engine's client objects to the widgets, and carries out what needs the engine."""

    changed = Signal()
    """What can be done now may have changed."""

    def __init__(
        self,
        parts: Parts,
        folder: DataFolder,
        memory: WindowState,
        parent: QObject,
        launcher: Launcher | None = None,
    ) -> None:
        super().__init__(parent)
        self.parts, self.folder = parts, folder
        self.api = EngineApi(self)
        self.watch = EngineWatch(folder, self.api, launcher)
        self.conversation = ConversationState(self.api, self)
        self.catalogue = SessionCatalogue(self.api, self)
        self.shelf = ModelShelf(self.api, self)
        self.jobs = JobShelf(self.api, self)
        self.library_shelf = LibraryShelf(self.api, self)
        self.remotes = RemoteDesk(
            RemoteShelf(self.api, self), self.shelf, self.conversation, parts.away, parts.notices, parts.theme,
            parts.picker.showMenu, self,
        )  # fmt: skip
        self.library = LibraryDesk(
            self.library_shelf, self.jobs, self.shelf, self.remotes, parts.sidebar.job_strip, parts.notices,
            parts.make_library, self.add_model, self,
        )  # fmt: skip
        self.access = AccessDesk(
            AccessShelf(self.api, self), self.shelf, parts.status.sign, parts.notices, parts.make_access,
            parts.theme, self,
        )  # fmt: skip
        self.placement = PlacementDesk(self.api, self.shelf, parts.theme, parts.notices.window, self)
        self.setup = TurnSetup(
            self.api, self.conversation, parts.switch, parts.notices, parts.composer, memory, self
        )
        self.costs = CostDesk(self.api, self.conversation, self.setup, parts.transcript, self)
        self.commands = Commands(
            self.conversation, self.catalogue, self.setup, parts.sidebar, parts.transcript, parts.notices
        )
        self.storage = StorageDesk(
            self.api, self.catalogue, lambda: self.conversation.session_id, self.open_conversation, parts.notices,
            parts.theme, self.restart_engine, self,
        )  # fmt: skip
        self._asking = Asking(parts.composer, self.conversation, self.watch, memory.session_id, self)
        self.first_run = FirstRun(
            memory, self.library_shelf, self.shelf, self.catalogue, self.conversation, self.library,
            parts.transcript, parts.composer, self,
        )  # fmt: skip
        self._memory = memory
        self._first_session_id = memory.session_id
        self._was_ready = False
        self._held: list[Callable[[], None]] = []
        """What was asked for before there was an engine to do it."""
        self._stopped_sentence = ""
        self._model_news: tuple[str | None, ErrorBody | None] = (None, None)
        self._engine_notice: str | None = None
        self._wire_engine()
        self._wire_conversation()
        self._wire_asking()

    def begin(self) -> None:
        """Find or start the engine."""
        self._teach()
        self.watch.start()

    # --- what can be asked of the desk ----------------------------------------------------------------

    @property
    def session_id(self) -> str | None:
        """The conversation to open next time."""
        return self.conversation.session_id or (None if self._was_ready else self._first_session_id)

    @property
    def running(self) -> bool:
        """An answer is being written in the open conversation."""
        return self.conversation.running

    @property
    def engine_version(self) -> str:
        """What the engine says it is."""
        return self.shelf.status.version if self.shelf.status else ""

    def new_conversation(self) -> None:
        """An empty page, ready to be written to."""
        self._first_session_id = None
        self.show_conversation()
        self.conversation.new()
        self.parts.composer.setFocus()

    def open_conversation(self, session_id: str) -> None:
        """Show a conversation of the list."""
        self.show_conversation()
        if session_id != self.conversation.session_id:
            self.conversation.open(session_id)

    def show_conversation(self) -> None:
        """Instead of whatever other page is seen."""
        self.library.leave()
        self.access.leave()

    def take_in(self, path: str) -> None:
        """Add a dropped file or folder to the library, as soon as there is an engine to do it."""
        if self.watch.state == EngineState.READY:
            self.library.add(path)
        else:
            self._held.append(partial(self.take_in, path))
            self._tell_stopped()

    def add_model(self, path: str) -> None:
        """Register a model file and load it, as soon as there is an engine to do it."""
        if self.watch.state == EngineState.READY:
            self.parts.status.say("Reading the file's headers…")
            self.shelf.add(path)
        else:
            self._held.append(partial(self.add_model, path))
            self._tell_stopped()

    def show_placement(self) -> None:
        """How the loaded model lies on this machine; the one that is being loaded where none is."""
        model_id = self.shelf.loaded_id or self.shelf.loading_id
        if model_id is not None:
            self.placement.open_model(model_id, self.shelf.name(model_id))

    def restart_engine(self) -> None:
        """End our engine and start anew."""
        self.parts.notices.dismiss("engine")
        self.watch.restart()

    def close(self, done: "Callable[[], None]") -> None:
        """Purge what was deleted here, then `done()`."""
        self.catalogue.purge_deleted(done)

    def drop_engine(self) -> None:
        """Give up the lease and every request."""
        self.watch.close()
        self.api.close()

    # --- engine ---------------------------------------------------------------------------------------

    def _wire_engine(self) -> None:
        parts, watch = self.parts, self.watch
        watch.answering = lambda: self.conversation.running
        watch.state_changed.connect(self._engine_state)
        watch.status_changed.connect(self._engine_status)
        watch.stopped.connect(self._engine_stopped)
        watch.replaced.connect(self._engine_replaced)
        watch.work_changed.connect(self._rest)
        watch.not_restarted.connect(self.tell_refused)
        watch.session_changed.connect(self._session_event)
        watch.job_changed.connect(self.jobs.refresh)
        watch.library_changed.connect(self._library_changed)
        watch.hardware_changed.connect(self.placement.hardware_changed)
        watch.access_changed.connect(self.access.shelf.refresh)
        # One page at a time.
        self.library.opened.connect(self.access.leave)
        self.access.opened.connect(self.library.leave)
        self.library.placement_asked.connect(self.placement.open_model)
        self.library.offer_placement_asked.connect(self.placement.open_offer)
        parts.sidebar.library_requested.connect(self.library.show_library)
        parts.sidebar.jobs_requested.connect(self.library.show_conversions)
        parts.sidebar.programs_requested.connect(self.access.show_programs)
        parts.picker.remote_requested.connect(self.remotes.add_remote)
        parts.picker.set_shelf(self.shelf)
        parts.picker.load_requested.connect(self.shelf.load)
        parts.picker.placement_requested.connect(self.show_placement)
        self.shelf.changed.connect(self._models_changed)
        self.setup.changed.connect(self._setup_changed)
        self.shelf.refused.connect(self._model_refused)
        self.shelf.load_failed.connect(self._model_refused)
        parts.sidebar.set_rows(self.catalogue.rows)
        parts.sidebar.search_changed.connect(self.catalogue.search)
        parts.sidebar.new_requested.connect(self.new_conversation)
        parts.sidebar.open_requested.connect(self.open_conversation)
        parts.sidebar.delete_requested.connect(self.catalogue.delete)
        parts.notices.left.connect(parts.composer.setFocus)
        self.catalogue.refreshed.connect(self._list_refreshed)
        self.catalogue.deleted.connect(self._deleted)
        self.catalogue.restored.connect(self._restored)
        self.catalogue.refused.connect(self._refused)

    def _list_refreshed(self) -> None:
        self.parts.sidebar.say_when_empty(empty_list(self.catalogue.query))

    def _engine_state(self, state: EngineState) -> None:
        if state == EngineState.READY:
            self.parts.notices.dismiss("engine")
            self.catalogue.refresh()
            self.shelf.refresh()
            self.jobs.refresh()
            self.first_run.begin()
            self.library.library_changed()
            self.remotes.shelf.refresh()
            self.access.shelf.refresh()
            self.storage.engine_ready()
            first, self._first_session_id = self._first_session_id, None
            if not self._was_ready and first and self.conversation.session_id is None:
                self.conversation.open(first)
            else:
                self.conversation.reload()
            self._was_ready = True
            self._asking.send_held()
            held, self._held = self._held, []
            for do in held:
                do()
        else:
            self.conversation.engine_left(for_good=state == EngineState.STOPPED)
            self.access.shelf.forget()
            if state in (EngineState.STOPPED, EngineState.STARTING):
                self.shelf.set_status(None)
        self._rest()
        self._teach()
        self.changed.emit()

    def _library_changed(self) -> None:
        self.shelf.refresh()
        self.remotes.shelf.refresh()
        self.library.library_changed()

    def _engine_status(self, status: EngineStatus) -> None:
        self.shelf.set_status(status)
        self.conversation.engine_status(status)
        self.costs.engine_status(status)

    def _engine_replaced(self) -> None:
        """It died. What becomes of an answer that it was writing is told where that stands."""
        if not self.conversation.running:
            sentence = "The engine stopped and is started again; logs/engine.log in the data folder says why."
            self.parts.notices.tell("went on", sentence, kind="info")

    def _went_on(self) -> None:
        sentence = "The engine stopped; the answer went on where it was."
        self.parts.notices.tell("went on", sentence, kind="info")

    def _engine_stopped(self, sentence: str) -> None:
        self._stopped_sentence = sentence
        self.parts.notices.dismiss("went on")
        self._tell_stopped()

    def _tell_stopped(self) -> None:
        """Without an engine: why, again where it was dismissed, since something is asked of it now."""
        if self.watch.state == EngineState.STOPPED and self.parts.notices.notice("engine") is None:
            second, do = self.watch.other_way_out()
            self.parts.notices.tell(
                "engine", self._stopped_sentence, button="Restart", on_button=self.restart_engine,
                second=second, on_second=do,
            )  # fmt: skip

    def _session_event(self, session_id: str, change: str) -> None:
        self.catalogue.refresh_soon()
        self.conversation.session_event(session_id, change)

    def _models_changed(self) -> None:
        status = self.shelf.status
        # Other news leaves what was said of a model, such as why a file was refused.
        loaded, failure = self.shelf.loaded_id, status.error if status else None
        if loaded is not None and failure is None and (loaded, failure) != self._model_news:
            self.parts.notices.dismiss("model")
        self._model_news = (loaded, failure)
        notice = status.notice if status else None
        if notice != self._engine_notice:
            self._engine_notice = notice
            if notice is None:
                self.parts.notices.dismiss("engine notice")
            else:
                self.parts.notices.tell("engine notice", notice, kind="info")
        if status is not None:
            # While the engine is away its model's modes stay, as its name does.
            self.setup.set_model(status.model)
        self._meter(None)
        self._rest()
        self._teach()

    def _setup_changed(self) -> None:
        self._rest()
        self.changed.emit()

    def _model_refused(self, error: ErrorBody) -> None:
        self._rest()
        if error.code == KeyMissing.code:
            return  # it is the conversations that are locked; the desk of what is kept says so
        self._tell_stopped()
        if self.watch.state == EngineState.READY:
            self.parts.notices.tell(
                "model", error.text, button="Choose model", on_button=self.parts.picker.showMenu
            )

    # --- conversation ---------------------------------------------------------------------------------

    def _wire_conversation(self) -> None:
        conversation, transcript = self.conversation, self.parts.transcript
        conversation.branch_replaced.connect(self._branch_replaced)
        conversation.message_added.connect(self._message_added)
        conversation.message_changed.connect(self._message_changed)
        conversation.text_added.connect(transcript.append_text)
        conversation.reasoning_added.connect(transcript.append_reasoning)
        conversation.call_grew.connect(transcript.grow_call)
        conversation.progress_changed.connect(transcript.set_progress)
        conversation.turn_progress.connect(self._turn_progress)
        conversation.running_changed.connect(self._running_changed)
        conversation.session_changed.connect(self._session_changed)
        conversation.gone.connect(self._gone)
        conversation.refused.connect(self._refused)
        conversation.went_on.connect(self._went_on)
        transcript.retry_requested.connect(conversation.retry)
        transcript.continue_requested.connect(conversation.continue_answer)
        transcript.edit_requested.connect(conversation.edit)
        transcript.results_given.connect(conversation.give_results)

    def _branch_replaced(self, messages: list[ShownMessage]) -> None:
        self.parts.transcript.show_messages(messages)
        self._meter(None)
        self._rest()
        self._teach()
        self.changed.emit()

    def _message_added(self, message: ShownMessage) -> None:
        self.parts.transcript.append_message(message)
        self.changed.emit()

    def _message_changed(self, message: ShownMessage) -> None:
        self.parts.transcript.update_message(message)
        self._meter(None)
        self._rest()
        self.changed.emit()

    def _turn_progress(self, progress: TurnProgress | None) -> None:
        if progress is None:
            self._rest()
        else:
            self.parts.status.show_progress(progress)
        self._meter(progress)

    def _running_changed(self, running: bool) -> None:
        self.parts.composer.set_running(running)
        self._rest()
        self.changed.emit()

    def _session_changed(self) -> None:
        if self._asking.take_session():
            self.parts.notices.dismiss("refused")
        self.parts.sidebar.set_open(self.conversation.session_id)
        # At once: a window that is killed opens the same conversation the next time.
        self._memory.session_id = self.session_id
        self._memory.save()
        self._asking.send_held()
        self.changed.emit()

    def _gone(self, session_id: str) -> None:
        if not self.catalogue.is_ours(session_id):
            sentence = "This conversation was deleted in another window; it can be brought back there."
            self.parts.notices.tell("refused", sentence, kind="info")

    def _deleted(self, session_id: str, title: str) -> None:
        if session_id == self.conversation.session_id:
            self.conversation.new()
        self.parts.notices.tell(
            "deleted",
            f"“{title}” was deleted; it can be brought back until this window closes.",
            kind="info",
            button="Undo",
            on_button=self.commands.undo_delete,
        )
        self.changed.emit()

    def _restored(self, session_id: str) -> None:
        self.open_conversation(session_id)
        self.changed.emit()

    # --- asking ---------------------------------------------------------------------------------------

    def _wire_asking(self) -> None:
        composer, asking = self.parts.composer, self._asking
        composer.stop_requested.connect(self.conversation.stop)
        composer.edit_last_requested.connect(self.commands.edit_last)
        composer.notice.connect(self.tell_replaced)
        asking.begun.connect(self._question_begun)
        asking.stopped.connect(self._tell_stopped)
        asking.held_changed.connect(self._rest)
        asking.refused.connect(self._refused)

    def _question_begun(self) -> None:
        for key in ("refused", "mode", "went on"):
            self.parts.notices.dismiss(key)

    def tell_replaced(self, sentence: str) -> None:
        """Something was not stored exactly as it was given."""
        self.parts.notices.tell("replaced", sentence, kind="info")

    def tell_refused(self, sentence: str) -> None:
        """Something was not done."""
        self._tell_stopped()
        if self.watch.state != EngineState.STOPPED:
            self.parts.notices.tell("refused", sentence)

    def _refused(self, error: ErrorBody) -> None:
        self.tell_refused(error.text)

    # --- words ----------------------------------------------------------------------------------------

    def _meter(self, progress: TurnProgress | None) -> None:
        use = context_use(progress, self.conversation.branch())
        self.parts.meter.show_use(use.tokens, self.shelf.context_tokens, overflowed=use.overflowed)

    def _rest(self) -> None:
        """The status line while no turn is running, or nobody knows whether one is."""
        if not self.conversation.running or self.conversation.is_lost:
            answer = self.conversation.last("assistant")
            watch, held = self.watch, self._asking.is_held
            words = resting_words(watch.state, self.shelf, held, answer, watch.work)
            self.parts.status.show_rest(self.setup.words or words)

    def _teach(self) -> None:
        """What an empty page says."""
        if not self.conversation.shown:
            self.parts.transcript.set_empty_state(*empty_page(self.shelf))
