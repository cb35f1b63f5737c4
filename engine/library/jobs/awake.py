"""Keeping the machine awake while a job runs.

Owns: asking the system for it through wakepy, and letting go of it. It is a favour: where the system cannot, or does
not answer, that is a line in the log and the job goes on. Does not know jobs. What the system answers may take its
time, so all of it happens in a thread of its own.
"""

import logging
import threading
from collections.abc import Callable
from types import TracebackType

CHECK_S = 2.0
LAST_WAIT_S = 2.0
"""How long the end waits for the system to be told."""
_logger = logging.getLogger(__name__)


class Awake:
    """While it is open and `wanted` says so, the machine does not fall asleep; its screen may."""

    def __init__(self, wanted: Callable[[], bool]) -> None:
        self.tries = 0
        """How often the system was asked so far."""
        self._wanted = wanted
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._hold, name="awake", daemon=True)

    def __enter__(self) -> "Awake":
        """Begin."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the machine sleep again."""
        self._over.set()
        self._thread.join(LAST_WAIT_S)

    def _hold(self) -> None:
        try:
            while not self._over.is_set():
                if self._wanted():
                    self._hold_once()
                self._over.wait(CHECK_S)
        except Exception as error:  # noqa: BLE001 - the job is worth more than its favour
            _logger.warning("the machine may fall asleep: %s", error)

    def _hold_once(self) -> None:
        """Until it is over or not wanted any more."""
        from wakepy import keep

        with keep.running(on_fail="pass") as mode:
            if mode.active:
                _logger.info("the machine is kept awake (%s)", mode.method)
            else:
                _logger.warning("the machine may fall asleep: this system has no way to be kept awake")
            self.tries += 1
            while self._wanted() and not self._over.wait(CHECK_S):
                pass
