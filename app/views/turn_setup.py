"""What goes with every question: the mode, and the tools that the model may call.

Owns: the wiring of both to their widgets, and what the window says about them. Does not ask questions: the
conversation takes the mode and the tools from here.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Qt, Signal

from app.api import EngineApi
from app.conversation_state import ConversationState
from app.mode_choice import NAMES, USUAL, ModeShelf, switch_words
from app.tool_text import count_words
from app.window_state import WindowState
from engine.protocol import ErrorBody, LoadedModel, ReasoningMode, Reuse, Tool

if TYPE_CHECKING:
    from app.views.composer import Composer
    from app.views.mode_switch import ModeSwitch
    from app.views.notice import NoticeBar


class TurnSetup(QObject):
    """Mode and tools of the next turn, for one window."""

    changed = Signal()
    """What can be done may have changed, or the words for the status line have."""

    def __init__(
        self,
        api: EngineApi,
        conversation: ConversationState,
        switch: "ModeSwitch",
        notices: "NoticeBar",
        composer: "Composer",
        memory: WindowState,
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._conversation, self._notices, self._memory = conversation, notices, memory
        self._composer = composer
        self.modes = ModeShelf(api, memory.mode, self)
        self.words = ""
        """What the switch that was just made, of the mode or of the version, costs; "" when there is nothing to say."""
        switch.set_shelf(self.modes)
        switch.mode_chosen.connect(self.choose)
        switch.menu_opening.connect(self._ask_costs)
        self.modes.changed.connect(self._modes_changed)
        self.modes.refused.connect(self._refused)
        self.modes.switched.connect(self._switched)
        conversation.running_changed.connect(self._forget_words)
        conversation.branch_replaced.connect(self._forget_words)
        conversation.tools.changed.connect(self._tools_changed)
        composer.tools_requested.connect(self.show_tools)

    def set_model(self, model: LoadedModel | None) -> None:
        """The engine has loaded this, or nothing."""
        self.modes.set_model(model)

    def choose(self, mode: ReasoningMode) -> None:
        """The person wants the next answers in `mode`."""
        self._notices.dismiss("mode")
        self.modes.choose(mode, self._priced_session())
        self._memory.mode = self.modes.wanted

    def show_tools(self) -> None:
        """The tools of the open conversation, to be changed."""
        from app.views.tools_dialog import ToolsDialog

        tools, window = self._conversation.tools, self._composer.window()
        dialog = ToolsDialog(tools.tools, self._composer.theme, window)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        is_open = True

        def closed() -> None:
            nonlocal is_open
            is_open = False

        def stored() -> None:
            if is_open:
                dialog.accept()

        def failed(error: ErrorBody) -> None:
            if is_open:
                dialog.refuse(error.text)

        dialog.finished.connect(closed)

        def save(wanted: list[Tool]) -> None:
            tools.save(wanted, stored, failed)

        dialog.saved.connect(save)
        dialog.open()

    def say(self, words: str) -> None:
        """What has just been chosen costs this."""
        self.words = words
        self.changed.emit()

    def _tools_changed(self) -> None:
        count = len(self._conversation.tools.tools)
        self._composer.set_tools(count_words(count) if count else "")

    def _priced_session(self) -> str | None:
        """The session whose tokens a switch would have to read again; None where there is nothing to tell."""
        conversation = self._conversation
        if conversation.running or not conversation.shown:
            return None
        return conversation.session_id

    def _ask_costs(self) -> None:
        self.modes.ask_costs(self._priced_session())

    def _modes_changed(self) -> None:
        self._conversation.mode = self.modes.mode
        self._forget_words()
        self.changed.emit()

    def _refused(self, _mode: str, sentence: str) -> None:
        usual = any(choice.mode == USUAL and choice.problem is None for choice in self.modes.choices)
        use: Callable[[], None] = lambda: self.choose(USUAL)  # noqa: E731
        button = f"Use {NAMES[USUAL]}" if usual else ""
        self._notices.tell("mode", sentence, kind="info", button=button, on_button=use)
        # The entry that was clicked has ticked itself.
        self.changed.emit()

    def _switched(self, mode: ReasoningMode, cost: Reuse) -> None:
        self.say(switch_words(mode, cost))

    def _forget_words(self) -> None:
        if self.words:
            self.words = ""
            self.changed.emit()
