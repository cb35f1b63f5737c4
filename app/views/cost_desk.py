"""Costs at work: what the transcript offers is told what it costs before it is paid.

Owns: asking for the costs of what is in sight, putting them into words there, and saying in the status line what going
on from a version costs that was just chosen. Does not know how costs are found (`turn_costs.py`).
"""

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject

from app.api import EngineApi
from app.conversation_state import ConversationState
from app.cost_words import cost_words, is_instant
from app.turn_costs import TurnCosts
from app.views.turn_setup import TurnSetup
from engine.protocol import EngineStatus, Reuse

if TYPE_CHECKING:
    from app.views.transcript import TranscriptView


class CostDesk(QObject):
    """Between the conversation and its transcript."""

    def __init__(
        self,
        api: EngineApi,
        conversation: ConversationState,
        setup: TurnSetup,
        transcript: "TranscriptView",
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._conversation, self._setup, self._transcript = conversation, setup, transcript
        self._costs = TurnCosts(api, conversation, self)
        self._chosen_version = ""
        self._costs.told.connect(self._told)
        self._costs.forgotten.connect(transcript.forget_costs)
        setup.modes.changed.connect(self._costs.forget)
        conversation.session_changed.connect(self._forget_version)
        transcript.cost_wanted.connect(self._costs.want)
        transcript.version_chosen.connect(self._choose_version)

    def engine_status(self, status: EngineStatus) -> None:
        """The engine says what it is doing."""
        self._costs.engine_status(status)

    def _choose_version(self, message_id: str) -> None:
        self._conversation.choose_version(message_id)
        self._chosen_version = message_id
        self._costs.want("version", message_id)

    def _forget_version(self) -> None:
        self._chosen_version = ""

    def _told(self, step: str, message_id: str, cost: Reuse) -> None:
        words = cost_words(cost)
        self._transcript.set_cost(step, message_id, words)
        if step == "version" and message_id == self._chosen_version and not is_instant(cost):
            self._setup.say(f"This version: {words}")
