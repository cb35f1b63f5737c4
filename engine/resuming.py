"""Answers that the end of an engine cut off, gone on with by themselves.

Owns: which of them are, in which order, and that one which ends every engine is not tried forever. Does not know how
they were found (`store.journals`) or how an answer goes on (`turns`).

An answer goes on when its model is loaded, if it is the end of the branch that its conversation shows and the settings
say so. A person who cancels it has it stay as it is.
"""

import logging
import threading
from collections.abc import Callable, Sequence

from engine.errors import NotFound, SeamountError
from engine.protocol import Continue, Settings, TurnRequest
from engine.protocol_remote import REMOTE_PREFIX
from engine.store.journals import Unfinished
from engine.store.sessions import SessionStore
from engine.turns import Turns

_logger = logging.getLogger(__name__)
MOST_RESUMES = 2
"""So often in a row an answer is gone on with without a new token or a new state; then a person has to ask for it."""


class Resuming:
    """What is left to be gone on with: `unfinished`, the newest first. `wake` may be called from any thread.
    `may_ask`: whether a model goes on with the beginning of an answer; where not, a person has to ask for it."""

    def __init__(
        self,
        unfinished: Sequence[Unfinished],
        *,
        store: SessionStore,
        turns: Turns,
        settings: Callable[[], Settings],
        loaded_id: Callable[[], str | None],
        may_ask: Callable[[str], bool] = lambda _model_id: True,
    ) -> None:
        self._store = store
        self._turns = turns
        self._settings = settings
        self._loaded_id = loaded_id
        self._may_ask = may_ask
        self._lock = threading.Lock()
        self._left = list(unfinished)

    def wake(self) -> None:
        """A model may have been loaded: go on with what it wrote, on a thread of its own. Does not wait."""
        due = self._take()
        if due:
            threading.Thread(target=self._go_on, args=(due,), name="resuming", daemon=True).start()

    def _take(self) -> list[Unfinished]:
        """What the loaded model has to go on with. It is looked at once."""
        model_id = self._loaded_id()
        if model_id is None or self._settings().resume != "continue":
            return []
        with self._lock:
            due = [each for each in self._left if each.model_id == model_id]
            self._left = [each for each in self._left if each.model_id != model_id]
        return due

    def _go_on(self, due: Sequence[Unfinished]) -> None:
        for each in due:
            try:
                if self._may_go_on(each):
                    turn = Continue(session_id=each.session_id, message_id=each.answer_id)
                    self._turns.start(TurnRequest(turn=turn))
                    _logger.info("an answer that was cut off goes on")
            except NotFound:
                continue  # removed meanwhile
            except SeamountError as error:
                _logger.warning("an answer that was cut off does not go on by itself: %s", error.text)

    def _may_go_on(self, each: Unfinished) -> bool:
        if each.resumes >= MOST_RESUMES:
            _logger.warning(
                "an answer was cut off %d times without getting any further; it waits", each.resumes
            )
            return False
        if not self._may_ask(each.model_id):
            _logger.info(
                "an answer that was cut off waits: its model, on another machine, would have to begin anew"
            )
            return False
        session = self._store.session(each.session_id)
        if session.summary.deleted_at is not None or session.leaf_id != each.answer_id:
            return False
        return any(
            message.id == each.answer_id
            and message.status == "interrupted"
            # What is elsewhere may be computed and charged already: nothing is asked twice by itself.
            and (not each.model_id.startswith(REMOTE_PREFIX) or bool(message.text))
            for message in session.messages
        )
