"""Whether there is a newer version: asked for once a day at most, and only where a person turned that on.

Owns: when the feed is asked, and what it said last (`updates.json`). Nothing is downloaded but the feed, and nothing
that goes wrong is more than a sentence in the settings. Does not know what a feed is (`update_feed`), nor who shows
that there is a newer version.
"""

import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.atomic_file import write_atomically
from engine.errors import SeamountError
from engine.library.hub_place import is_offline
from engine.protocol import Settings
from engine.protocol_about import UpdateFound, UpdateState
from engine.update_feed import built_in_address, checked_address, fetch, page_of
from engine.version import is_newer, is_version, version

DAY_S = 86_400.0
FIRST_AFTER_S = 15.0
"""A start has more urgent things to do."""
_LARGEST_NOTE_BYTES = 10_000
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Noted:
    """`updates.json`. `asked_at`: the last attempt, `looked_at`: the last answer; Unix seconds."""

    address: str
    asked_at: float
    looked_at: float | None = None
    version: str | None = None
    notes_url: str | None = None


class Updates:
    """Of one engine. Any thread; `changed` is called from a thread of its own when there is other news."""

    def __init__(
        self,
        path: Path,
        settings: Callable[[], Settings],
        changed: Callable[[], None] = lambda: None,
        *,
        first_after_s: float = FIRST_AFTER_S,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.changed = changed
        self._path, self._settings, self._now = path, settings, now
        self._first_after_s = first_after_s
        self._built_in = built_in_address()
        self._noted = _read(path)
        self._problem: str | None = None
        self._bell = threading.Condition()
        self._rung = self._closed = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin; nothing is asked before it is due."""
        self._thread = threading.Thread(target=self._run, name="updates", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """The settings have changed."""
        with self._bell:
            self._rung = True
            self._bell.notify_all()

    def close(self) -> None:
        """Ask nobody any more. A question that is under way is not waited for."""
        self._closed = True
        self.wake()

    def state(self) -> UpdateState:
        """What is so now."""
        address, noted = self._address(), self._noted
        own = noted if noted is not None and noted.address == address else None
        return UpdateState(
            asks=self._asks() is not None,
            address=address,
            looked_at=own.looked_at if own is not None else None,
            found=self.found(),
            problem=self._problem if self._asks() is not None else None,
        )

    def found(self) -> UpdateFound | None:
        """The newer version that is known of; None where there is none, or nobody wants to know."""
        noted = self._noted
        if noted is None or noted.version is None or noted.address != self._asks():
            return None
        if not is_newer(noted.version, version()):
            return None
        return UpdateFound(version=noted.version, notes_url=noted.notes_url)

    # --- when -----------------------------------------------------------------------------------------

    def _address(self) -> str | None:
        return (self._settings().updates_address or "").strip() or self._built_in

    def _asks(self) -> str | None:
        """The address that is asked; None where nobody is."""
        settings = self._settings()
        return self._address() if settings.look_for_updates and not is_offline(settings) else None

    def _wait_s(self) -> float | None:
        """Until the feed is due; None: it is not, before the settings change."""
        address, noted = self._asks(), self._noted
        if address is None:
            return None
        # A clock that was put back must not silence it for years.
        if noted is None or noted.address != address or noted.asked_at > self._now():
            return 0.0
        return max(0.0, noted.asked_at + DAY_S - self._now())

    def _run(self) -> None:
        self._sleep(self._first_after_s)
        while not self._closed:
            wait_s = self._wait_s()
            if wait_s == 0:
                self._look()
            else:
                self._sleep(wait_s)

    def _sleep(self, seconds: float | None) -> None:
        with self._bell:
            # A wait of days may be counted without the time that the machine slept: so look now and then.
            self._bell.wait_for(lambda: self._rung, None if seconds is None else min(seconds, 3600.0))
            self._rung = False

    def _look(self) -> None:
        address = self._asks()
        if address is None:
            return
        before = self._noted if self._noted is not None and self._noted.address == address else None
        asked_at = self._now()
        try:
            told = fetch(address, lambda: self._closed)
        except SeamountError as error:
            self._problem = error.text
            _log.info("%s", error.text)
            last = before or _Noted(address, asked_at)
            self._note(_Noted(address, asked_at, last.looked_at, last.version, last.notes_url))
        else:
            self._problem = None
            self._note(_Noted(address, asked_at, asked_at, told.version, told.notes_url))
        if not self._closed:
            self.changed()

    def _note(self, noted: _Noted) -> None:
        self._noted = noted
        # Without the note it is asked once more after the next start.
        with contextlib.suppress(OSError):
            write_atomically(self._path, json.dumps(asdict(noted), indent=1).encode() + b"\n")


def _read(path: Path) -> _Noted | None:
    """What was noted, as far as it can be believed."""
    try:
        with path.open("rb") as file:
            found: Any = json.loads(file.read(_LARGEST_NOTE_BYTES))
        looked_at, named = found.get("looked_at"), found.get("version")
        noted = _Noted(
            checked_address(str(found["address"])),
            float(found["asked_at"]),
            None if looked_at is None else float(looked_at),
            named if isinstance(named, str) and is_version(named) else None,
            page_of(found.get("notes_url")),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, SeamountError):
        return None
    return noted if noted.asked_at == noted.asked_at else None  # no NaN
