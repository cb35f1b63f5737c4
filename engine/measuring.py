"""Measuring this machine from a running engine: begun, followed step by step, broken off.

Owns: the process that measures (`seamount bench --hardware`), one at a time, and what is known of it. It is a process
of its own so that neither an answer nor the service is slowed by it beyond what the machine itself is. What is measured
and kept is the command's affair (`bench_command`, `placement/`).
"""

import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence

from engine import own_program
from engine.errors import Conflict, HardwareUnmeasured, SeamountError
from engine.launch import CREATION_FLAGS, child_environment
from engine.paths import DataFolder
from engine.protocol import ErrorBody
from engine.protocol_placement import HardwareState

LONGEST_S = 300.0
"""A disk so slow that its limits add up ends well before."""
STOP_S = 5.0
_STEP = "measuring "
_SENTENCE = "seamount: "

_log = logging.getLogger(__name__)


class Measuring:
    """For one data folder. Any thread. `changed()` is called, on any thread, when `state` would say something else;
    `busy()` tells whether a measurement would be disturbed now. `command`: what measures, `seamount bench --hardware`
    where it is not said."""

    def __init__(
        self,
        folder: DataFolder,
        changed: Callable[[], None],
        busy: Callable[[], bool],
        command: Sequence[str] = (),
    ) -> None:
        self._folder, self._changed, self._busy = folder, changed, busy
        ours = own_program.command("--data", str(folder.root), "bench", "--hardware")
        self._command = list(command) or ours
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._step: str | None = None
        self._error: ErrorBody | None = None
        self._stopped = False

    def state(self) -> HardwareState:
        """What is known now, `measured_at` left out."""
        with self._lock:
            return HardwareState(measuring=self._process is not None, step=self._step, error=self._error)

    def start(self) -> None:
        """Begin. Raises Conflict while an answer is written, a model is loaded or this machine is being measured;
        HardwareUnmeasured where the process cannot be started."""
        what = "This machine is not measured now"
        if self._busy():
            raise Conflict(
                what,
                "an answer is being written or a model is being loaded, and both would slow each other",
                "try again when that has ended",
            )
        with self._lock:
            if self._process is not None:
                raise Conflict(what, "it is being measured already", "wait for the end of it")
            self._step, self._error, self._stopped = None, None, False
            try:
                self._process = process = self._started()
            except OSError as error:
                why = error.strerror or str(error)
                raise HardwareUnmeasured(what, why, "close other programs and try again") from error
        threading.Thread(target=self._follow, args=(process,), name="measuring", daemon=True).start()
        self._changed()

    def stop(self) -> None:
        """Break it off; nothing when none runs."""
        with self._lock:
            process, self._stopped = self._process, True
        if process is not None:
            _interrupt(process)

    def close(self) -> None:
        """Break it off and wait until what it wrote to the disk is gone again."""
        with self._lock:
            process, self._stopped = self._process, True
        if process is None:
            return
        _interrupt(process)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _started(self) -> "subprocess.Popen[str]":
        self._folder.create()
        return subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=child_environment(),
            cwd=self._folder.root,
            creationflags=CREATION_FLAGS,
            start_new_session=sys.platform != "win32",
        )

    def _follow(self, process: "subprocess.Popen[str]") -> None:
        last = ""
        overdue = threading.Timer(LONGEST_S, process.kill)
        overdue.daemon = True
        overdue.start()
        # Only one thread reads, and its lines are few: the process is never held up by a full pipe.
        with process:
            for line in process.stderr or ():
                last = line.strip() or last
                if last.startswith(_STEP):
                    with self._lock:
                        self._step = last.removeprefix(_STEP).removesuffix("…").strip()[:100]
                    self._changed()
        overdue.cancel()
        status = process.returncode
        with self._lock:
            self._process, self._step = None, None
            if status and not self._stopped:
                self._error = _failure(last, status)
                _log.warning("this machine was not measured: %s", self._error.text)
        self._changed()


def _interrupt(process: "subprocess.Popen[str]") -> None:
    """As Ctrl-C does, so that it removes its file from the disk."""
    try:
        if sys.platform == "win32":
            process.terminate()
        else:
            process.send_signal(signal.SIGINT)
    except OSError:
        return


def _failure(last: str, status: int) -> ErrorBody:
    if last.startswith(_SENTENCE):
        return ErrorBody(code=HardwareUnmeasured.code, text=last.removeprefix(_SENTENCE))
    why = last[:200] or f"it ended with status {status}"
    error: SeamountError = HardwareUnmeasured(
        "This machine was not measured", why, "try again, or run `seamount bench --hardware` in a terminal"
    )
    return ErrorBody(code=error.code, text=error.text)
