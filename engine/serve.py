"""The engine process: what `seamount serve` does.

Owns: the lock of the data folder, the sockets, `engine.json`, the server's life and its end (asked for, or by
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
import ssl
import sys
import threading
from collections.abc import Callable, Generator, Sequence

import uvicorn
from uvicorn.server import HANDLED_SIGNALS

from engine.access.door_memory import DoorMemory
from engine.atomic_file import write_atomically
from engine.engine import Engine
from engine.errors import DataFolderError, PortTaken, SeamountError
from engine.folder_lock import forget_work, locked
from engine.paths import DataFolder
from engine.protocol import BackendChoice, Settings
from engine.server.app import create_app
from engine.server.auth import LOOPBACK_NAMES, Door, Guard
from engine.server.connection import KEEP_ALIVE_S, PATIENCE, Crowd, connection_class
from engine.server.network_listener import NetworkListener
from engine.settings import settings_now

HOST = "127.0.0.1"
FIRST_LISTENER_S = 30.0
"""How long a lingering engine waits for its first listener."""

_GRACE_S = 3
_TAKEN_AT_ONCE = 64
"""New connections before anything else is done: each holds a file before it is counted, and whoever opens thousands is
not to use all files up, nor to come between a program's connection and its request."""
_KEPT_BY_THE_SYSTEM = 1024
"""New connections that wait to be taken."""
_log = logging.getLogger(__name__)


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

    `port` 0: that of the settings, else the one before, else a free one. `llama_cpp`: a folder with libraries to use
    instead of the settings'. `backend`: what computes models instead of what the settings name. `without_backup`: this
    version's first start on the folder is not preceded by a backup. Raises EngineRunning, PortTaken, DataFolderError
    and its kinds, and what `Engine.open` raises for `model`.
    """
    _log_to_stderr()
    folder.create()
    with _locked(folder), contextlib.ExitStack() as open_sockets:
        memory = DoorMemory(folder.access)
        listener, problem = _listener(folder, memory, port)
        open_sockets.enter_context(contextlib.closing(listener))
        number: int = listener.getsockname()[1]
        memory.keep_port(number)
        engine = Engine.open(
            folder, model=model, llama_cpp=llama_cpp, backend=backend, without_backup=without_backup
        )
        try:
            engine.access.listens(f"http://{HOST}:{number}", problem)
            _Server(engine, folder, secrets.token_urlsafe(32), number, linger_s).run([listener])
        finally:
            engine.store.close()
    return 0


class _Server(uvicorn.Server):
    """Uvicorn, with our beginning and end, and the network's socket beside the one on loopback."""

    def __init__(
        self, engine: Engine, folder: DataFolder, key: str, port: int, linger_s: float | None
    ) -> None:
        self._app = create_app(engine)
        door = Door(
            engine.access.keys,
            lambda: LOOPBACK_NAMES,
            port,
            own_key=key,
            origins=lambda: engine.settings().allowed_origins,
            seen=lambda caller: engine.clients.saw(caller),
        )
        config = uvicorn.Config(
            Guard(self._app, door),  # pyright: ignore[reportArgumentType] - uvicorn's protocol is its own
            http=connection_class(Crowd(PATIENCE)),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=_GRACE_S,
            backlog=_TAKEN_AT_ONCE,
        )
        super().__init__(config)
        self._engine = engine
        self._folder = folder
        self._address = {"url": f"http://{HOST}:{port}", "key": key, "pid": os.getpid()}
        self._lease = _Lease(linger_s, self._end_unless_waited_for)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say where."""
        await super().startup(sockets)
        for each in sockets or ():
            each.listen(_KEPT_BY_THE_SYSTEM)
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
        self._engine.access.network.begin(self._open_to_network)
        print(f"Seamount listens at {self._address['url']}/v1", flush=True)
        print(f"its key is in {self._folder.engine_address}", flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answers end first, while their listeners can still be told; then the connections."""
        with contextlib.suppress(OSError):
            self._folder.engine_address.unlink()
        await asyncio.to_thread(self._engine.close)
        await self._engine.access.network.close()
        self._engine.events.close()
        await super().shutdown(sockets)

    async def _open_to_network(
        self, addresses: Sequence[str], port: int, liked: int, context: ssl.SSLContext
    ) -> NetworkListener:
        """Keys for the network alone count there, and they open the dialects alone."""
        engine = self._engine
        door = Door(
            engine.access.keys,
            engine.access.network.hosts,
            0,
            is_network=True,
            origins=lambda: engine.settings().allowed_origins,
            seen=lambda caller: engine.clients.saw(caller),
        )
        listener = NetworkListener.open(Guard(self._app, door), addresses, port, liked, context)
        door.port = listener.port
        return listener

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:  # type: ignore[override]
        """Signals ask for an end. Unlike uvicorn's own, they are not raised again after it: status 0."""
        if threading.current_thread() is threading.main_thread():
            for number in HANDLED_SIGNALS:
                signal.signal(number, self.handle_exit)
        yield

    def _end_unless_waited_for(self) -> bool:
        """No window listens any more. A job that runs goes on by itself; one that waits needs us to begin it, and a
        part that is being installed needs us to the end. A program that was answered a moment ago may ask again."""
        engine = self._engine
        if engine.jobs.waiting or engine.parts.busy or engine.clients.is_used:
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


def _listener(
    folder: DataFolder, memory: DoorMemory, asked: int
) -> tuple[socket.socket, SeamountError | None]:
    """The socket on loopback, and why it is not where the settings want it.

    `asked` is where it has to be, if anywhere. Programs that were told a port find the engine there again as long as
    nobody else took it; a window needs none, so the engine starts elsewhere rather than not. Raises PortTaken.
    """
    if asked:
        return _bound(asked), None
    # Not `load_settings`: what is wrong with the file is told by the engine, which reads it next.
    chosen = settings_now(folder.settings, Settings()).port
    liked = chosen or memory.port
    try:
        return _bound(liked), None
    except PortTaken as error:
        if not liked:
            raise
        listener = _bound(0)
        problem = PortTaken(
            f"Other programs do not find the engine at port {liked}",
            error.why,
            f"tell them {listener.getsockname()[1]} for now, or choose another port in the settings",
        )
        _log.warning("%s", problem.text)
        return listener, problem


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
    # Below this it says that it runs, and a line for each request that is none, by which anybody could fill the disk.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
