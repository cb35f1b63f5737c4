"""How a start of the program hands what it is to open to a window of the same data folder that is open already.

Owns: a local socket for each data folder, in a folder that its user alone may enter; who listens there, and the one
line that is said. Does not know what is asked for, nor widgets. Of several windows one listens; the others wait at its
door and the first of them takes its place when it goes, so that there is one as long as any window is open.
"""

import contextlib
import hashlib
import json
import os
import stat
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

from PySide6.QtCore import QLockFile, QObject, QTimer, Signal
from PySide6.QtNetwork import QLocalServer, QLocalSocket

LONGEST_LINE = 64 << 10
MOST_GUESTS = 32
ANSWER_MS = 3000
"""A window that does not answer in this time hangs: another one is opened."""
_LOCK_MS = 2000
_TAKEN = b"taken\n"
_LONGEST_SOCKET_PATH = 100
"""What every Unix has room for (Linux 107, macOS 103)."""


def door_of(root: Path) -> str | None:
    """The name of the socket for the data folder `root`; None where there is no place that is this user's alone."""
    key = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:24]
    if sys.platform == "win32":
        return f"seamount-{key}"  # a pipe, whose rights QLocalServer sets
    place = _private_folder()
    name = f"{place}/{key}" if place is not None else ""
    return name if name and len(os.fsencode(name)) <= _LONGEST_SOCKET_PATH else None


def hand_over(root: Path, request: str) -> bool:
    """Give `request` to the open window of the data folder `root`; False where there is none that takes it."""
    name = door_of(root)
    if name is None:
        return False
    socket = QLocalSocket()
    socket.connectToServer(name)
    if not socket.waitForConnected(ANSWER_MS):
        return False
    socket.write(json.dumps({"open": request}).encode() + b"\n")
    answer = b""
    while not answer.endswith(b"\n") and socket.waitForReadyRead(ANSWER_MS):
        answer += bytes(socket.readAll().data())
    socket.abort()
    return answer == _TAKEN


class FrontDoor(QObject):
    """A window's side of it. Nothing that goes wrong here is more than a second window."""

    asked = Signal(str)
    """What is to be opened, as it was given: anybody of this user's programs may have said it."""

    def __init__(self, root: Path, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._root = root
        self._server: QLocalServer | None = None
        self._before_us: QLocalSocket | None = None
        self._guests: dict[QLocalSocket, bytes] = {}
        self._closed = False

    @property
    def is_listening(self) -> bool:
        """Whether it is this window that is asked."""
        return self._server is not None

    def open(self) -> None:
        """Listen, or wait at the door of the window that does."""
        # Asked for each time: who had the door before may have tidied its folder away.
        name = door_of(self._root)
        if name is None or self._closed or self._server is not None:
            return
        # Two windows that find a dead one's socket at the same moment would each take it from the other.
        lock = QLockFile(
            f"{tempfile.gettempdir()}/{name}.lock" if sys.platform == "win32" else f"{name}.lock"
        )
        if lock.tryLock(_LOCK_MS):
            try:
                if not self._waits_behind(name):
                    self._listen(name)
            finally:
                lock.unlock()

    def close(self) -> None:
        """Let the next window have the door."""
        self._closed = True
        before, self._before_us = self._before_us, None
        if before is not None:
            before.disconnected.disconnect(self._is_our_turn)
            before.abort()
        server, self._server = self._server, None
        if server is not None:
            # The name is given back first: those who wait take it when their connection ends.
            name = server.fullServerName()
            server.close()
            for guest in list(self._guests):
                guest.abort()
            if sys.platform != "win32":
                with contextlib.suppress(OSError):  # others of this user's have doors there
                    Path(name).parent.rmdir()

    # --- inside ---------------------------------------------------------------------------------------

    def _waits_behind(self, name: str) -> bool:
        socket = QLocalSocket(self)
        socket.connectToServer(name)
        if not socket.waitForConnected(ANSWER_MS):
            socket.deleteLater()
            return False
        self._before_us = socket
        socket.disconnected.connect(self._is_our_turn)
        return True

    def _is_our_turn(self) -> None:
        before, self._before_us = self._before_us, None
        if before is not None:
            before.deleteLater()
        QTimer.singleShot(0, self, lambda: self.open())

    def _listen(self, name: str) -> None:
        server = QLocalServer(self)
        if sys.platform == "win32":
            server.setSocketOptions(QLocalServer.SocketOption.UserAccessOption)
        else:
            QLocalServer.removeServer(name)  # nobody answered there: it is a dead window's
        if not server.listen(name):
            server.deleteLater()
            return
        self._server = server
        server.newConnection.connect(self._welcome)

    def _welcome(self) -> None:
        server = self._server
        while server is not None and server.hasPendingConnections():
            guest = server.nextPendingConnection()
            if len(self._guests) >= MOST_GUESTS:
                guest.abort()
                guest.deleteLater()
                continue
            self._guests[guest] = b""
            guest.readyRead.connect(self._read)
            guest.disconnected.connect(self._left)

    def _read(self) -> None:
        guest = cast(QLocalSocket, self.sender())
        said = self._guests.get(guest, b"") + bytes(guest.readAll().data())
        if len(said) > LONGEST_LINE:
            guest.abort()
            return
        self._guests[guest] = said
        if not said.endswith(b"\n"):
            return
        self._guests[guest] = b""
        request = _request_in(said)
        if request is None:
            guest.abort()
            return
        guest.write(_TAKEN)
        guest.flush()
        self.asked.emit(request)

    def _left(self) -> None:
        guest = cast(QLocalSocket, self.sender())
        self._guests.pop(guest, None)
        guest.deleteLater()


def _request_in(line: bytes) -> str | None:
    try:
        found: Any = json.loads(line)
        request = found["open"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return request if isinstance(request, str) else None


def _private_folder() -> str | None:
    """A folder that this user alone may enter, made if need be."""
    folder = f"{tempfile.gettempdir()}/seamount-{os.getuid()}"
    if (given := os.environ.get("XDG_RUNTIME_DIR", "")) and _is_private(given):
        folder = f"{given}/seamount"
    with contextlib.suppress(OSError):
        Path(folder).mkdir(mode=0o700)
    return folder if _is_private(folder) else None


def _is_private(folder: str) -> bool:
    try:
        found = os.lstat(folder)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
