"""The engine process: what `seamount serve` does.

Owns: the lock of the data folder, the socket, `engine.json`, the server's life and its end (asked for, or by
itself when nobody listens any more). Does not know routes (`server/`) or answers (`turns`).
"""

import asyncio
import contextlib
import errno
import json
import logging
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator

import uvicorn
from uvicorn.server import HANDLED_SIGNALS

from engine.atomic_file import write_atomically
from engine.engine import Engine
from engine.errors import DataFolderError, PortTaken
from engine.folder_lock import forget_work, locked
from engine.paths import DataFolder
from engine.protocol import BackendChoice
from engine.server.app import create_app

HOST = "127.0.0.1"
FIRST_LISTENER_S = 30.0
"""How long a lingering engine waits for its first listener."""

_GRACE_S = 3


def serve(
    folder: DataFolder,
    *,
    port: int = 0,
    model: str | None = None,
    linger_s: float | None = None,
    llama_cpp: str | None = None,
    backend: BackendChoice | None = None,
    without_backup: bool = False,
) -> int:
    """Serve `folder` until asked to end; 0 is the exit status.

    `port` 0: a free one. `llama_cpp`: a folder with libraries to use instead of the settings'. `backend`: what computes
    models instead of what the settings name. `without_backup`: this version's first start on
    the folder is not preceded by a backup. Raises EngineRunning, PortTaken, DataFolderError and its kinds, and what
    `Engine.open` raises for `model`.
    """
    _log_to_stderr()
    folder.create()
    with _locked(folder), contextlib.closing(_bound(port)) as listener:
        number: int = listener.getsockname()[1]
        engine = Engine.open(
            folder, model=model, llama_cpp=llama_cpp, backend=backend, without_backup=without_backup
        )
        try:
            key = secrets.token_urlsafe(32)
            app = create_app(engine, key=key, port=number)
            _Server(app, engine, folder, key, number, linger_s).run([listener])
        finally:
            engine.store.close()
    return 0


class _Server(uvicorn.Server):
    """Uvicorn, with our beginning and end."""

    def __init__(
        self, app: object, engine: Engine, folder: DataFolder, key: str, port: int, linger_s: float | None
    ) -> None:
        config = uvicorn.Config(
            app,  # pyright: ignore[reportArgumentType] - FastAPI's own type is not uvicorn's protocol
            http="h11",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE_S,
        )
        super().__init__(config)
        self._engine = engine
        self._folder = folder
        self._address = {"url": f"http://{HOST}:{port}", "key": key, "pid": os.getpid()}
        self._lease = _Lease(linger_s, self._end_unless_waited_for)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say where."""
        await super().startup(sockets)
        try:
            write_atomically(self._folder.engine_address, json.dumps(self._address).encode())
        except OSError as error:
            raise DataFolderError(
                f"The engine's address cannot be written to {self._folder.engine_address}",
                error.strerror or str(error),
                "check the disk and your permission to write there",
            ) from error
        self._engine.events.on_presence = self._lease.presence_is
        self._lease.begin(asyncio.get_running_loop())
        print(f"Seamount listens at {self._address['url']}/v1", flush=True)
        print(f"its key is in {self._folder.engine_address}", flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answers end first, while their listeners can still be told; then the connections."""
        with contextlib.suppress(OSError):
            self._folder.engine_address.unlink()
        await asyncio.to_thread(self._engine.close)
        self._engine.events.close()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:  # type: ignore[override]
        """Signals ask for an end. Unlike uvicorn's own, they are not raised again after it: status 0."""
        if threading.current_thread() is threading.main_thread():
            for number in HANDLED_SIGNALS:
                signal.signal(number, self.handle_exit)
        yield

    def _end_unless_waited_for(self) -> bool:
        """Nobody listens any more. A job that runs goes on by itself; one that waits needs us to begin it, and a part
        that is being installed needs us to the end."""
        if self._engine.jobs.waiting or self._engine.parts.busy:
            return False
        self.should_exit = True
        return True


class _Lease:
    """Ends a lingering engine when nobody has listened for a while."""

    def __init__(self, linger_s: float | None, end: Callable[[], bool]) -> None:
        """`end` ends the engine, or says that it cannot be done yet."""
        self._linger_s = linger_s
        self._end = end
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for the first listener."""
        self._loop = loop
        self._end_after(FIRST_LISTENER_S)

    def presence_is(self, count: int) -> None:
        """How many listen now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if count == 0 and self._linger_s is not None:
            self._end_after(self._linger_s)

    def _end_after(self, seconds: float) -> None:
        if self._linger_s is not None and self._loop is not None:
            self._timer = self._loop.call_later(seconds, self._try_to_end)

    def _try_to_end(self) -> None:
        self._timer = None
        if not self._end():
            self._end_after(FIRST_LISTENER_S)


@contextlib.contextmanager
def _locked(folder: DataFolder) -> Generator[None, None, None]:
    """Hold the folder's lock, and see to it that a dead engine's address is not taken for ours."""
    with locked(
        folder, "The engine was not started", "use that one, or name another data folder with --data"
    ):
        # What a crashed engine left behind leads nowhere.
        with contextlib.suppress(OSError):
            folder.engine_address.unlink()
        forget_work(folder)
        yield


def _bound(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if sys.platform == "win32":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            # A port whose last connections still fade out may be used again at once.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        # Linux lets two programs bind one port as long as neither listens; the second one is told here.
        listener.listen()
    except OSError as error:
        listener.close()
        in_use = error.errno == errno.EADDRINUSE or getattr(error, "winerror", 0) == 10048
        why = "another program listens there" if in_use else (error.strerror or str(error))
        raise PortTaken(
            f"The engine cannot listen on port {port}",
            why,
            "name another one with --port, or 0 for any that is free",
        ) from error
    return listener


def _log_to_stderr() -> None:
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # What it says at this level is that it runs and that it waits for connections to close.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
