"""An answer that broke off because its engine ended, until it is known what becomes of it.

Owns: which one that is, and how long its going on is waited for. Pure; does not know the conversation or the engine.
"""

from app.running_answer import RunningAnswer
from engine.protocol import Message

PATIENCE = 2
"""So often the store is asked again by an engine that has its model and does not write: it may be about to."""


class LostAnswer:
    """At most one at a time."""

    def __init__(self) -> None:
        self._answer: RunningAnswer | None = None
        self._last_id: str | None = None
        self._looks = 0

    @property
    def id(self) -> str | None:
        """The answer that is waited for."""
        return self._answer.id if self._answer is not None else None

    def lose(self, answer: RunningAnswer) -> None:
        """Its stream has broken off."""
        self._answer, self._last_id, self._looks = answer, answer.id, 0

    def is_waited_for(self, stored: Message | None, *, settled: bool) -> bool:
        """Whether it may go on by itself yet. `stored`: as the store has it, None where it is shown no more. `settled`:
        the engine has its model."""
        if stored is None or stored.status not in ("running", "interrupted"):
            return False
        if settled and stored.status == "interrupted":
            self._looks += 1
        return self._looks <= PATIENCE

    def give_up(self) -> Message | None:
        """It is waited for no longer: the answer as it broke off."""
        answer, self._answer = self._answer, None
        return answer.broken_off() if answer is not None else None

    def goes_on(self, answer_id: str) -> bool:
        """This answer is written by an engine. True when that is news of the one that broke off."""
        was_lost, self._last_id = answer_id == self._last_id, None
        self._answer = None
        return was_lost

    def forget(self) -> None:
        """Another conversation is shown, or another turn was asked for."""
        self._answer = self._last_id = None
