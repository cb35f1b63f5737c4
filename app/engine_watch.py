"""The engine's life as the window sees it.

Owns: finding a running engine for the data folder or starting one, the event stream that is both lease and
news, and the verdict when that stream breaks. Does not know conversations or widgets. Never waits: the
child is started and then polled from a timer.
"""

import time
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Protocol

from pydantic import ValidationError
from PySide6.QtCore import QElapsedTimer, QObject, QTimer, Signal

from app.api import EngineApi, EventStream
from app.event_stream import ServerEvent
from engine.errors import EngineUnreachable, SeamountError
from engine.paths import DataFolder
from engine.protocol import EngineEvent, EngineStatus, ErrorBody

POLL_MS = 50
LINGER_S = 5.0
START_TIMEOUT_S = 120.0
OTHER_ENGINE_TIMEOUT_S = 20.0
ANSWER_TIMEOUT_S = 60.0
"""From the connection to an engine's first word; a machine that has to page it in first needs a while."""
END_TIMEOUT_S = 20.0
"""From asking our engine to end until it is ended; it gives itself 13 seconds."""
RECONNECTS = 5
REPLACEMENTS = 3
"""Engines that died at work are replaced without asking, so many in REPLACED_WITHIN_S; then a person decides."""
REPLACED_WITHIN_S = 600.0
HELD_BY_ANOTHER = 3
"""Exit status of `seamount serve` when another engine holds the data folder."""
NOT_BACKED_UP = 6
"""The same, when the backup before a newer version's first start cannot be made."""
CAN_GO_BACK = 7
"""The same, when a newer version used the folder and what was there before that can be put back."""


class EngineState(Enum):
    """Where the engine is. Only in READY are requests worth sending."""

    LOOKING = "looking"
    STARTING = "starting"
    CONNECTING = "connecting"
    READY = "ready"
    STOPPED = "stopped"


class Address(Protocol):
    """What is needed of `engine.launch.EngineAddress`."""

    @property
    def url(self) -> str: ...
    @property
    def key(self) -> str: ...


class Child(Protocol):
    """What is needed of `engine.launch.EngineProcess`."""

    def poll(self) -> int | None: ...
    def address(self) -> Address | None: ...
    def failure(self) -> str: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


class Restoring(Protocol):
    """What is needed of `engine.launch.PuttingBack`."""

    def poll(self) -> int | None: ...
    def failure(self) -> str: ...


class Launcher(Protocol):
    """How engines are found and started: `engine.launch`, or a fake."""

    def running(self, folder: DataFolder) -> Address | None: ...
    def start(self, folder: DataFolder, *, without_backup: bool = False) -> Child: ...
    def put_back(self, folder: DataFolder) -> Restoring: ...
    def long_work(self, folder: DataFolder) -> str | None: ...


class RealLauncher:
    """`engine.launch`, imported when it is first needed."""

    def running(self, folder: DataFolder) -> Address | None:
        """The engine that serves `folder` now, if there is one."""
        from engine.launch import running_engine

        return running_engine(folder)

    def start(self, folder: DataFolder, *, without_backup: bool = False) -> Child:
        """A new engine that leaves LINGER_S seconds after its last window. `without_backup`: a person goes on without
        the one before a newer version's first start."""
        from engine.launch import EngineProcess

        folder.create()
        arguments = ("--without-backup",) if without_backup else ()
        return EngineProcess.start(folder, linger_s=LINGER_S, arguments=arguments)

    def put_back(self, folder: DataFolder) -> Restoring:
        """Begin to put back what was there before a newer version's first start."""
        from engine.launch import PuttingBack

        return PuttingBack.start(folder)

    def long_work(self, folder: DataFolder) -> str | None:
        """What an engine that starts, or a command, does with `folder` so long, half a sentence; None: nothing."""
        from engine.launch import long_work

        return long_work(folder)


class EngineWatch(QObject):
    """Holds on to one engine, and says what becomes of it."""

    state_changed = Signal(object)
    """EngineState."""
    status_changed = Signal(object)
    """EngineStatus, whenever the engine tells."""
    session_changed = Signal(str, str)
    """Session id, and how it changed (EngineEvent.change)."""
    job_changed = Signal(str)
    """Job id."""
    library_changed = Signal()
    hardware_changed = Signal()
    access_changed = Signal()
    replaced = Signal()
    """The engine died at work; another one is being started in its place."""
    work_changed = Signal()
    """`work` is something else now."""
    not_restarted = Signal(str)
    """It is not ours to restart: the sentence to show."""
    stopped = Signal(str)
    """The engine is gone and was not replaced: the sentence to show."""

    def __init__(
        self,
        folder: DataFolder,
        api: EngineApi,
        launcher: Launcher | None = None,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._folder, self._api = folder, api
        self._launcher: Launcher = launcher or RealLauncher()
        self._state = EngineState.LOOKING
        self._child: Child | None = None
        self._events: EventStream | None = None
        self._waiting_for: Callable[[], None] | None = None
        self._since = QElapsedTimer()
        self._timer = QTimer(self)
        self._timer.setInterval(POLL_MS)
        self._timer.timeout.connect(self._poll)
        self.work: str | None = None
        """What has to be done before the engine is ready and may take long, half a sentence."""
        self._reconnects_left = RECONNECTS
        self._replacements: deque[float] = deque(maxlen=REPLACEMENTS)
        """When engines that died were replaced, of late."""
        self.lacks_backup = False
        """It stopped because the backup before this version's first start cannot be made; `start` can leave it out."""
        self.can_go_back = False
        """It stopped because a newer version used the folder; `put_back` undoes that."""
        self._without_backup = False
        self.answering: Callable[[], bool] = lambda: False
        """Set by the window: whether an answer is being written in it."""

    @property
    def state(self) -> EngineState:
        """Where the engine is now."""
        return self._state

    def start(self, *, without_backup: bool = False) -> None:
        """Find an engine or start one. Returns at once; `state_changed` tells."""
        self._without_backup = without_backup
        self._replacements.clear()
        self._reconnects_left = RECONNECTS
        self._find_or_start()

    def _find_or_start(self) -> None:
        self._stop_waiting()
        self.lacks_backup = self.can_go_back = False
        self._set(EngineState.LOOKING)
        try:
            address = self._launcher.running(self._folder)
            if address is None:
                self._child = self._launcher.start(self._folder, without_backup=self._without_backup)
        except SeamountError as error:
            self._stop(error.text)
            return
        except OSError as error:
            self._stop(_cannot_start(error))
            return
        if address is not None:
            self._child = None
            self._attach(address)
        else:
            self._set(EngineState.STARTING)
            self._wait(self._look_at_child)

    def restart(self) -> None:
        """End our own engine if it still runs, and start over. One that others use, and others end, is left to them."""
        if self._child is not None and self._child.poll() is None:
            self._let_go()
            child = self._child
            child.terminate()
            self._set(EngineState.LOOKING)

            def gone() -> None:
                if child.poll() is not None:
                    self.start()
                elif self._since.elapsed() > END_TIMEOUT_S * 1000:
                    child.kill()  # it hangs; what it wrote is stored

            self._wait(gone)
        elif self._state == EngineState.READY:
            self.not_restarted.emit(_not_ours())
        else:
            self._let_go()
            self.start()

    def other_way_out(self) -> tuple[str, Callable[[], None] | None]:
        """What can be done besides starting it again, as a button says it, where its end leaves a choice; else ""."""
        if self.lacks_backup:
            return "Start without a backup", lambda: self.start(without_backup=True)
        if self.can_go_back:
            return "Go back", lambda: self.put_back()
        return "", None

    def put_back(self) -> None:
        """Put back what was there before a newer version's first start, then start an engine on it."""
        try:
            restoring = self._launcher.put_back(self._folder)
        except SeamountError as error:
            self._stop(error.text)
            return
        self._set(EngineState.STARTING)

        def look() -> None:
            status = restoring.poll()
            if status is None:
                self._is_at_work()
            elif status == 0:
                self.start()
            else:
                self._stop(restoring.failure())

        self._wait(look)

    def close(self) -> None:
        """Give up the lease: the engine leaves by itself when no other window holds it."""
        self._stop_waiting()
        self._let_go()

    # --- while it starts ----------------------------------------------------------------------------

    def _wait(self, look: Callable[[], None]) -> None:
        self._waiting_for = look
        self._since.start()
        self._timer.start()

    def _stop_waiting(self) -> None:
        self._waiting_for = None
        self._timer.stop()
        self._work_is(None)

    def _poll(self) -> None:
        if self._waiting_for:
            self._waiting_for()

    def _look_at_child(self) -> None:
        child = self._child
        if child is None:
            return
        status = child.poll()
        if status == HELD_BY_ANOTHER:
            # Two windows were opened at once and the other one's engine was faster.
            self._child = None
            self._wait(self._look_for_other)
        elif status is not None:
            self.lacks_backup, self.can_go_back = status == NOT_BACKED_UP, status == CAN_GO_BACK
            self._stop(child.failure())
        elif (address := child.address()) is not None:
            self._attach(address)
        elif self._is_at_work():
            self._since.restart()
        elif self._since.elapsed() > START_TIMEOUT_S * 1000:
            child.terminate()
            self._stop(_slow_start())

    def _look_for_other(self) -> None:
        was_at_work = self.work is not None
        address = self._launcher.running(self._folder)
        if address is not None:
            self._attach(address)
        elif self._is_at_work():
            self._since.restart()
        elif was_at_work:
            self._find_or_start()  # a command had the folder, or an engine that is listening in a moment
        elif self._since.elapsed() > OTHER_ENGINE_TIMEOUT_S * 1000:
            self._stop(_held_by_silent_engine(self._folder))

    def _is_at_work(self) -> bool:
        """Whether what is waited for is doing something that takes what it takes."""
        self._work_is(self._launcher.long_work(self._folder))
        return self.work is not None

    def _work_is(self, work: str | None) -> None:
        if work != self.work:
            self.work = work
            self.work_changed.emit()

    # --- while it runs ------------------------------------------------------------------------------

    def _attach(self, address: Address) -> None:
        self._stop_waiting()
        self._set(EngineState.CONNECTING)
        self._api.connect_to(address.url, address.key)
        self._events = self._api.stream("/api/events", self._take_events, self._lost)
        self._api.get("/api/status", EngineStatus, self._ready, lambda _: None)
        self._wait(self._look_for_answer)

    def _look_for_answer(self) -> None:
        if self._since.elapsed() > ANSWER_TIMEOUT_S * 1000:
            self._stop(_silent())

    def _ready(self, status: EngineStatus) -> None:
        # Without the stream of events it is about to be looked at what became of the engine.
        if self._state == EngineState.CONNECTING and self._events is not None:
            self._stop_waiting()
            self._reconnects_left = RECONNECTS
            self._set(EngineState.READY)
        self.status_changed.emit(status)

    def _take_events(self, events: list[ServerEvent]) -> None:
        latest: EngineStatus | None = None
        library = hardware = access = False
        for event in events:
            try:
                news = EngineEvent.model_validate_json(event.data)
            except ValidationError:
                self._stop(_not_understood())
                return
            if news.status is not None:
                latest = news.status
            elif news.session_id is not None and news.change is not None:
                self.session_changed.emit(news.session_id, news.change)
            elif news.job_id is not None:
                self.job_changed.emit(news.job_id)
            elif news.kind == "library":
                library = True
            elif news.kind == "hardware":
                hardware = True
            elif news.kind == "access":
                access = True
        if library:
            self.library_changed.emit()
        if hardware:
            self.hardware_changed.emit()
        if access:
            self.access_changed.emit()
        if latest is not None:
            self._ready(latest)

    def _lost(self, error: ErrorBody | None) -> None:
        """The event stream ended. Why, decides what to do; a child's exit may show a moment later."""
        self._events = None
        was_ready = self._state == EngineState.READY
        self._set(EngineState.CONNECTING)
        self._wait(lambda: self._look_after_loss(error, was_ready))

    def _look_after_loss(self, error: ErrorBody | None, was_ready: bool) -> None:
        child = self._child
        if child is not None:
            status = child.poll()
            if status == HELD_BY_ANOTHER or (status == 0 and was_ready):
                self._child = None
                self._find_or_start()
                return
            if status is not None:
                self._child = None
                self._died(child.failure(), at_work=was_ready)
                return
        if self._since.elapsed() < 4 * POLL_MS:
            return  # a killed process needs a moment to be seen as gone
        address = self._launcher.running(self._folder) if child is None else child.address()
        if address is None and child is None:
            if was_ready and self.answering():
                self._died(_other_engine_died(), at_work=True)
            else:
                self._find_or_start()  # it was another window's engine, and left with it
        elif address is None or self._reconnects_left == 0:
            self._stop(error.text if error else _other_engine_died())
        else:
            self._reconnects_left -= 1
            self._attach(address)

    def _died(self, sentence: str, *, at_work: bool) -> None:
        """Replace it, unless it did not get to work, or others died before it of late: then it is no accident."""
        now = time.monotonic()
        died = self._replacements
        if not at_work or (len(died) == REPLACEMENTS and now - died[0] < REPLACED_WITHIN_S):
            self._stop(sentence)
            return
        died.append(now)
        self.replaced.emit()
        self._find_or_start()

    def _let_go(self) -> None:
        if self._events is not None:
            self._events.close()
            self._events = None

    def _stop(self, sentence: str) -> None:
        self._stop_waiting()
        self._let_go()
        self._set(EngineState.STOPPED)
        self.stopped.emit(sentence)

    def _set(self, state: EngineState) -> None:
        if state != self._state:
            self._state = state
            self.state_changed.emit(state)


def _cannot_start(error: OSError) -> str:
    return EngineUnreachable(
        "The engine could not be started", error.strerror or str(error), "close other programs and restart it"
    ).text


def _slow_start() -> str:
    return EngineUnreachable(
        "The engine did not start",
        f"it was not ready after {START_TIMEOUT_S:.0f} seconds",
        "restart it, and look into logs/engine.log in the data folder if that does not help",
    ).text


def _not_ours() -> str:
    return EngineUnreachable(
        "The engine was not restarted",
        "another window or a command has started it",
        "restart it there; or close every window, end `seamount serve` where it runs, and open Seamount again",
    ).text


def _silent() -> str:
    return EngineUnreachable(
        "The engine does not answer",
        f"it runs, but has not said a word for {ANSWER_TIMEOUT_S:.0f} seconds",
        "restart it; if another window started it, close that one first",
    ).text


def _not_understood() -> str:
    return EngineUnreachable(
        "The engine of this data folder cannot be understood",
        "it seems to be of another version of Seamount",
        "close the other windows and programs that use it, then restart the engine",
    ).text


def _held_by_silent_engine(folder: DataFolder) -> str:
    return EngineUnreachable(
        "The engine of another window holds the data folder but does not answer",
        f"{folder.engine_lock} is locked",
        "close the other windows, then restart the engine",
    ).text


def _other_engine_died() -> str:
    return EngineUnreachable(
        "The engine stopped while it was answering",
        "the process that another window had started is gone",
        "restart it; the conversation is kept and the answer can be continued",
    ).text
