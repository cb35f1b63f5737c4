"""Of which conversations a kept state holds tokens.

Owns: that it is noted once the state is on the disk, and that one is deleted again whose conversation was purged
meanwhile. Does not know where it is noted (`store.state_uses`) or when a state is kept (`keeper`).
"""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from engine.contexts.kept_states import StateFile
from engine.errors import SeamountError

if TYPE_CHECKING:
    from engine.store.snapshots import SnapshotStore

_logger = logging.getLogger(__name__)

Note = Callable[[str, str], bool]
"""Told (session, state); False where nobody has the state any more. Raises SeamountError."""


class Owners:
    """For one store of states. `note` None: nobody wants to know. Any thread; raises nothing."""

    def __init__(self, snapshots: "SnapshotStore | None", note: Note | None) -> None:
        self._snapshots = snapshots
        self._note = note

    def add(self, file: StateFile, session_id: str | None) -> None:
        """The state is that conversation's too. None: it is no conversation's."""
        if session_id is not None and session_id not in file.sessions:
            file.sessions.add(session_id)
            if file.digest is not None:
                self.written(file)

    def written(self, file: StateFile) -> None:
        """The state is on the disk."""
        found = self._snapshots.by_digest(file.digest) if self._snapshots and file.digest else None
        if found is None or self._note is None or not file.sessions:
            return
        try:
            wanted = [self._note(each, found.id) for each in list(file.sessions)]
        except SeamountError as error:
            _logger.warning("whose a kept state is cannot be noted: %s", error.text)
            return
        # The last answer is about all of them.
        if not wanted[-1] and self._snapshots is not None:
            file.digest = None
            self._snapshots.forget([found.id])
