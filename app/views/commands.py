"""What can be done with the open conversation from the menus and the keyboard.

Owns: a method for each such row of `app.actions`, and whether it makes sense now. Does not know menus, nor the
engine: what it takes to have one stays with the desk.
"""

from typing import TYPE_CHECKING

from PySide6.QtGui import QGuiApplication

from app.conversation_state import ConversationState
from app.engine_words import conversation_markdown
from app.session_catalogue import SessionCatalogue
from app.views.turn_setup import TurnSetup

if TYPE_CHECKING:
    from app.views.notice import NoticeBar
    from app.views.sidebar import Sidebar
    from app.views.transcript import TranscriptView


class Commands:
    """Carries out; the names of the methods are slots of `app.actions`."""

    def __init__(
        self,
        conversation: ConversationState,
        catalogue: SessionCatalogue,
        setup: TurnSetup,
        sidebar: "Sidebar",
        transcript: "TranscriptView",
        notices: "NoticeBar",
    ) -> None:
        self._conversation, self._catalogue, self._setup = conversation, catalogue, setup
        self._sidebar, self._transcript, self._notices = sidebar, transcript, notices

    def can(self, action_id: str) -> bool:
        """Whether an action makes sense now."""
        conversation = self._conversation
        answer = next((m for m in reversed(conversation.shown) if m.role == "assistant"), None)
        free = not conversation.running
        match action_id:
            case "stop":
                return conversation.running
            case "send":
                return free
            case "retry":
                return free and answer is not None
            case "continue":
                return free and answer is not None and answer.is_continuable
            case "edit_last":
                return free and conversation.last("user") is not None
            case "copy_answer":
                return answer is not None
            case "copy_conversation":
                return bool(conversation.shown)
            case "rename" | "delete" | "export":
                return conversation.session_id is not None
            case "undo_delete":
                return self._catalogue.can_undo
            case "mode_non_think" | "mode_high" | "mode_max":
                return self._setup.modes.mode is not None
            case _:
                return True

    def is_chosen(self, action_id: str) -> bool:
        """Whether the entry of a mode is ticked."""
        mode = self._setup.modes.mode
        return mode is not None and action_id == "mode_" + mode.replace("-", "_")

    def rename_conversation(self) -> None:
        """Edit the open conversation's title in the list."""
        if self._conversation.session_id:
            self._sidebar.rename(self._conversation.session_id)

    def delete_conversation(self) -> None:
        """Delete the open conversation."""
        if self._conversation.session_id:
            self._catalogue.delete(self._conversation.session_id)

    def undo_delete(self) -> None:
        """Bring back what was deleted last."""
        self._notices.dismiss("deleted")
        self._catalogue.undo_delete()

    def next_conversation(self) -> None:
        """The one below."""
        self._step(1)

    def previous_conversation(self) -> None:
        """The one above."""
        self._step(-1)

    def stop(self) -> None:
        """End the running answer."""
        self._conversation.stop()

    def retry(self) -> None:
        """Another last answer."""
        answer = self._conversation.last("assistant")
        if answer:
            self._conversation.retry(answer.id)

    def continue_answer(self) -> None:
        """Go on with the last answer."""
        answer = self._conversation.last("assistant")
        if answer:
            self._conversation.continue_answer(answer.id)

    def edit_last(self) -> None:
        """Ask the last question differently, where it stands."""
        question = self._conversation.last("user")
        if question and not self._conversation.running:
            self._transcript.start_editing(question.id)

    def copy_answer(self) -> None:
        """The last answer's Markdown."""
        answer = self._conversation.last("assistant")
        if answer:
            QGuiApplication.clipboard().setText(answer.text)

    def copy_conversation(self) -> None:
        """The shown branch as Markdown."""
        QGuiApplication.clipboard().setText(conversation_markdown(self._conversation.shown_now()))

    def mode_non_think(self) -> None:
        """Answers without thinking first."""
        self._setup.choose("non-think")

    def mode_high(self) -> None:
        """Answers after some thinking."""
        self._setup.choose("high")

    def mode_max(self) -> None:
        """Answers after all the thinking it takes."""
        self._setup.choose("max")

    def show_tools(self) -> None:
        """The tools of the open conversation, to be changed."""
        self._setup.show_tools()

    def _step(self, step: int) -> None:
        session_id = self._sidebar.neighbour(step)
        if session_id and session_id != self._conversation.session_id:
            self._sidebar.open_requested.emit(session_id)
