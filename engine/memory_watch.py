"""Watches the machine's memory while a model is loaded, and has the model give some back when it is short.

Owns: when it looks, how much is asked back, when it is given again, and the sentence for a person meanwhile. Does not
know how memory is read or when it is short (`placement.pressure`), or what a model can do without
(`backends.base.Backend.relieve`). A load is watched where it happens (`backends.load_guard`).

A model gives back at once, and takes again slowly: a desktop that was short once is likely to be so again. Nothing is
unloaded: what a model cannot do without was free when it was loaded, less the reserve.
"""

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from engine.model_table import size_text
from engine.placement import pressure
from engine.placement.pressure import Level, Reading

_logger = logging.getLogger(__name__)
LOOK_S = 0.5
"""Between two looks while a model is loaded; each costs about a quarter of a millisecond of one core."""
CALM_LOOKS = 60
"""So many calm looks in a row, and what was given back may be taken again: half a minute."""
ROOM_SHARE = 1.25
"""Of the reserve: only what is free beyond that is taken again, so that taking it does not make memory short."""
STEP_SHARE = 1 / 4
"""Of the reserve: asked back at least, where memory is short though there seems to be enough (programs stall)."""


class Holder(Protocol):
    """`ModelHost`, as far as it is asked for memory."""

    @property
    def loaded_id(self) -> str | None:
        """The model that is loaded."""
        ...

    @property
    def needed_mapped_bytes(self) -> int:
        """What of its file every token reads."""
        ...

    @property
    def reads_its_file_again(self) -> bool:
        """Whether that is why programs may be said to wait for memory."""
        ...

    def relieve(self, wanted_bytes: int) -> int:
        """Give back memory; how much it does."""
        ...

    def allow(self, more_bytes: int) -> int:
        """Take memory again; how much of it can be used."""
        ...


class MemoryWatch:
    """One thread, asleep while no model is loaded. `changed` is called, on it, when `notice` has changed."""

    def __init__(
        self, holder: Holder, changed: Callable[[], None], read: Callable[[], Reading] | None = None
    ) -> None:
        """`read`: of this machine's memory unless another one is given."""
        self.notice: str | None = None
        """What a person should know of memory now."""
        self._holder, self._changed, self._read = holder, changed, read or pressure.read
        self._before: Reading | None = None
        self._model_id: str | None = None
        self._short = False  # it was, and what was given back is not all taken again
        self._given_bytes = 0  # and not taken again
        self._calm_looks = 0
        self._news = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="memory watch", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def wake(self) -> None:
        """A model may have been loaded. Any thread; costs nothing."""
        self._news.set()

    def close(self) -> None:
        """End the thread. Calling it again does nothing."""
        self._closing.set()
        self._news.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> Level:
        """Read the memory once and do what it asks for; how short it is."""
        if self._holder.loaded_id != self._model_id:
            self._begin()
        now = self._read()
        found = pressure.strain(
            self._before,
            now,
            self._holder.needed_mapped_bytes,
            stalls=not self._holder.reads_its_file_again,
        )
        level = pressure.level(found)
        self._before = now
        if level is Level.CALM:
            self._calm_looks += 1
            if self._short and self._calm_looks >= CALM_LOOKS:
                self._take_again(found)
        else:
            self._calm_looks = 0
            # In need, twice the reserve: what is freed is used up by others at once.
            spare = found.reserve_bytes if level is Level.CRITICAL else 0
            self._give_back(max(found.missing_bytes + spare, int(STEP_SHARE * found.reserve_bytes)), found)
        return level

    def _begin(self) -> None:
        """Another model, loaded by what was free at that moment: nothing is owed to it."""
        self._model_id = self._holder.loaded_id
        self._short = False
        self._given_bytes = self._calm_looks = 0
        self._before = None
        self._tell(None)

    def _give_back(self, wanted_bytes: int, found: pressure.Strain) -> None:
        given = self._holder.relieve(wanted_bytes)
        self._given_bytes += given
        self._short = True
        if self.notice is not None:
            return
        free = size_text(max(0, found.free_bytes))
        if given:
            _logger.warning(
                "memory is short (%s left, stalled %.0f %%): the model gives back %s",
                free,
                found.some_share * 100,
                size_text(given),
            )
            self._tell(
                f"Memory is short: {free} are left for other programs, so the model does with less and may answer "
                "more slowly; closing other programs gives it back what it had."
            )
        else:
            _logger.warning(
                "memory is short (%s left, stalled %.0f %%), and the model has nothing to give back",
                free,
                found.some_share * 100,
            )
            self._tell(
                f"Memory is short: {free} are left for other programs, and the model can give nothing back; "
                "close other programs, or load a smaller model."
            )

    def _take_again(self, found: pressure.Strain) -> None:
        room = found.free_bytes - int(ROOM_SHARE * found.reserve_bytes)
        if room > 0:
            # A part at a time; the next one after as long a calm.
            self._calm_looks = 0
            taken = self._holder.allow(room)
            if taken == 0:
                _logger.info("memory is there again")
                self._begin()
                return
            self._given_bytes -= taken
        # A plan leaves just the reserve free, so that what lies between may never be taken again.
        if self._given_bytes <= (ROOM_SHARE - 1) * found.reserve_bytes:
            self._tell(None)

    def _tell(self, notice: str | None) -> None:
        if notice != self.notice:
            self.notice = notice
            self._changed()

    def _work(self) -> None:
        while not self._closing.is_set():
            try:
                if self._holder.loaded_id is None:
                    self._begin()
                    self._news.wait()
                    self._news.clear()
                    continue
                self.look()
            except Exception:
                # Without it everything goes on as on a system that tells nothing.
                _logger.exception("memory is not watched any more")
                return
            self._closing.wait(LOOK_S)
