"""A plain client of an engine, for programs without Qt.

Owns: finding or starting the engine of a data folder, requests with its key, and reading its server-sent
events. Does not know what is done with the answers (`terminal_chat`).
"""

import contextlib
import json
import threading
import time
from collections.abc import Generator, Iterator
from typing import Any

import httpx
from pydantic import TypeAdapter

from engine.errors import EngineUnreachable, Retold
from engine.launch import EXIT_RUNNING, EngineAddress, EngineProcess, long_work, running_engine
from engine.paths import DataFolder
from engine.protocol import EngineStatus, TurnEvent
from engine.turn_log import AnyTurnEvent

START_TIMEOUT_S = 60.0
_POLL_S = 0.02
MOST_TRIES = 4
RETRY_S = 0.3
"""Between two tries to reach an engine that may be ending."""
_EVENT: TypeAdapter[Any] = TypeAdapter(TurnEvent)


class EngineSaidNo(Retold):
    """An error that the engine answered with, in its own sentence."""


def find_or_start(folder: DataFolder, *, linger_s: float) -> EngineAddress:
    """The engine of `folder`; one is started when none runs. Raises EngineUnreachable, DataFolderError."""
    address = running_engine(folder)
    if address is not None:
        return address
    process = EngineProcess.start(folder, linger_s=linger_s)
    deadline_s = time.monotonic() + START_TIMEOUT_S
    # Another process's file appears: there is nothing to wait on but time.
    while time.monotonic() < deadline_s:
        status = process.poll()
        # Status 3: another program was faster; its engine serves us too.
        address = running_engine(folder) if status == EXIT_RUNNING else process.address()
        if address is not None:
            return address
        if long_work(folder) is not None:
            # A large store that is encrypted first takes what it takes; it is not given up on the way.
            deadline_s = time.monotonic() + START_TIMEOUT_S
        elif status == EXIT_RUNNING:
            # Or one is just ending, and tells nobody where it is any more: the next start waits for its lock.
            process = EngineProcess.start(folder, linger_s=linger_s)
        if status not in (None, EXIT_RUNNING):
            raise EngineSaidNo(process.failure())
        time.sleep(_POLL_S)
    raise EngineUnreachable(
        "The engine did not start",
        f"it was not ready after {START_TIMEOUT_S:.0f} s",
        f"look into {folder.engine_log}",
    )


@contextlib.contextmanager
def connected(folder: DataFolder, *, linger_s: float) -> "Generator[EngineClient]":
    """A client that holds the lease of the engine of `folder`, as by `find_or_start`.

    An engine that ends just when it was found is looked for anew. Raises EngineUnreachable, DataFolderError.
    """
    tries = 0
    while True:
        client = EngineClient(find_or_start(folder, linger_s=linger_s))
        try:
            client.open()
            break
        except EngineUnreachable:
            client.close()
            tries += 1
            if tries >= MOST_TRIES:
                raise
            time.sleep(RETRY_S)
    with contextlib.closing(client):
        yield client


class EngineClient:
    """Requests to one engine. While it is open, a lingering engine stays."""

    def __init__(self, address: EngineAddress) -> None:
        self._http = httpx.Client(
            base_url=address.url,
            headers={"Authorization": f"Bearer {address.key}"},
            # The engine is on this machine: no proxy may stand between.
            trust_env=False,
            timeout=httpx.Timeout(30.0, read=60.0),
        )
        self._lease: threading.Thread | None = None
        self._lease_reply: httpx.Response | None = None

    def open(self) -> None:
        """Take the lease. Raises EngineUnreachable."""
        with _explained():
            self._lease_reply = self._http.send(self._http.build_request("GET", "/api/events"), stream=True)
        self._lease = threading.Thread(target=self._keep_lease, name="lease", daemon=True)
        self._lease.start()

    def close(self) -> None:
        """Give the lease back."""
        self._http.close()

    def send(self, method: str, path: str, body: Any = None, timeout_s: float | None = None) -> Any:
        """The JSON of the answer, None for an empty one. `timeout_s`: of what takes longer than most.

        Raises EngineSaidNo, EngineUnreachable.
        """
        timeout = self._http.timeout if timeout_s is None else httpx.Timeout(timeout_s)
        with _explained():
            reply = self._http.request(method, path, json=body, timeout=timeout)
        _refuse_errors(reply)
        return reply.json() if reply.content else None

    def content(self, method: str, path: str) -> bytes:
        """The bytes of the answer as they are. Raises EngineSaidNo, EngineUnreachable."""
        with _explained():
            reply = self._http.request(method, path)
        _refuse_errors(reply)
        return reply.content

    def status(self) -> EngineStatus:
        """The engine's status."""
        return EngineStatus.model_validate(self.send("GET", "/api/status"))

    def turn_events(self, turn_id: str, after: int = 0) -> Iterator[tuple[int, AnyTurnEvent]]:
        """(number, event) of a turn after number `after`, as they come."""
        path = f"/api/turns/{turn_id}/events?after={after}"
        with _explained(), self._http.stream("GET", path) as reply:
            if reply.status_code >= 400:
                reply.read()
                _refuse_errors(reply)
            number = 0
            for line in reply.iter_lines():
                field, _, value = line.partition(": ")
                if field == "id":
                    number = int(value)
                elif field == "data":
                    yield number, _EVENT.validate_json(value)

    def _keep_lease(self) -> None:
        reply = self._lease_reply
        # It ends with the client or the engine; what it says is of no use here.
        with contextlib.suppress(httpx.HTTPError, httpx.StreamError, OSError):
            if reply is not None:
                for _ in reply.iter_raw():
                    pass


def _refuse_errors(reply: httpx.Response) -> None:
    if reply.status_code < 400:
        return
    try:
        sentence = str(json.loads(reply.content)["error"]["text"])
    except (ValueError, KeyError, TypeError):
        sentence = f"The engine answered with status {reply.status_code}."
    raise EngineSaidNo(sentence)


@contextlib.contextmanager
def _explained() -> Generator[None, None, None]:
    try:
        yield
    except httpx.HTTPError as error:
        raise EngineUnreachable(
            "The engine does not answer any more",
            f"the connection broke ({type(error).__name__})",
            "start again; the conversation is kept and can be continued",
        ) from error
