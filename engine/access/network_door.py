"""The socket for the local network: whether it is open, where, and with which certificate.

Owns: opening it when a person has said so, and again at each start until the person says otherwise; looking now and
then whether the machine's addresses or the certificate have changed, and trying again where it could not be opened.
What goes wrong is told as the state's problem and never keeps the engine from starting. Does not know how a socket is
served: it is handed what opens one. For the event loop's thread; files are read in others.
"""

import asyncio
import contextlib
import ipaddress
import logging
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol

from engine.access import certificates, machine_names
from engine.access.certificates import Shown
from engine.access.door_memory import DoorMemory
from engine.errors import BadRequest, SeamountError
from engine.paths import DataFolder
from engine.protocol import ErrorBody
from engine.protocol_access import NetworkDoor, OpenNetwork

LOOK_EVERY_S = 30.0
_log = logging.getLogger(__name__)


class Listening(Protocol):
    """A socket that is open."""

    port: int

    async def close(self) -> None: ...


OpenSocket = Callable[[Sequence[str], int, int, ssl.SSLContext], Awaitable[Listening]]
"""(addresses, [] for all; the port; one to take where that is 0 and it is free; TLS) → the open socket.

Raises PortTaken and other SeamountErrors."""


class NetworkSocket:
    """The network's socket of one engine. `changed` is called when its state has."""

    def __init__(
        self,
        folder: DataFolder,
        memory: DoorMemory,
        changed: Callable[[], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._memory = memory
        self._changed = changed
        self._clock = clock
        self._open_socket: OpenSocket | None = None
        self._listening: Listening | None = None
        self._shown: Shown | None = None
        self._problem: SeamountError | None = None
        self._new_certificate = False
        self._names: list[str] = []
        self._lacking: Sequence[str] = ()
        self._lock = asyncio.Lock()
        self._watch: asyncio.Task[None] | None = None

    def begin(self, open_socket: OpenSocket, look_every_s: float = LOOK_EVERY_S) -> None:
        """Open it where a person has said so, soon, and look after it from now on."""
        self._open_socket = open_socket
        self._watch = asyncio.get_running_loop().create_task(self._look_after(look_every_s))

    def hosts(self) -> list[str]:
        """What a Host header may name there, without the port."""
        return self._names

    def state(self) -> NetworkDoor:
        """What is so now."""
        wanted, listening, shown = self._memory.network, self._listening, self._shown
        port = listening.port if listening else wanted.port
        error = self._problem if wanted.wanted else None
        return NetworkDoor(
            wanted=wanted.wanted,
            is_open=listening is not None,
            port=port,
            addresses=[f"https://{name}:{port}/v1" for name in self._reachable()] if listening else [],
            interfaces=wanted.interfaces,
            fingerprint=shown.fingerprint if shown else None,
            certificate=shown.kind if shown else "none",
            expires_at=shown.expires_at if shown else None,
            problem=ErrorBody(code=error.code, text=error.text) if error else None,
            notice=self._notice() if listening else None,
        )

    async def change(self, asked: OpenNetwork) -> NetworkDoor:
        """Open it, open it otherwise, or close it, and keep that. What keeps it from being opened is in the state.

        Raises BadRequest, DiskFull, DataFolderError; all is then as it was, but that it is closed where that was asked.
        """
        if (asked.certificate_path is None) != (asked.key_path is None):
            raise BadRequest(
                "The network's socket was not changed",
                "a certificate and its key belong together",
                "name both files, or neither for a generated one",
            )
        for named in (asked.certificate_path, asked.key_path):
            if named is not None and not Path(named).is_absolute():
                raise BadRequest(
                    "The network's socket was not changed", f"{named} is not a whole path", "write it whole"
                )
        async with self._lock:
            before = self._memory.network
            # The port stays known while it is closed, so that others find it where it was.
            kept = asked.model_copy(update={"port": asked.port or before.port})
            if not asked.wanted:
                kept = before.model_copy(update={"wanted": False})
            try:
                if not asked.wanted:
                    await self._shut()  # nobody who shuts others out waits for a disk
                await asyncio.to_thread(self._memory.keep_network, kept)
            finally:
                self._changed()
            await self._shut()
            self._problem = None
            if asked.wanted:
                await self._open(is_asked=True, no_other_port=asked.port != 0)
        self._changed()
        return self.state()

    async def close(self) -> None:
        """The engine ends; the next one opens it again."""
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
        async with self._lock:
            await self._shut()

    # --- inside --------------------------------------------------------------------------------------

    async def _look_after(self, every_s: float) -> None:
        while True:
            before = self.state()
            try:
                async with self._lock:
                    await self._look()
            except Exception:  # noqa: BLE001 - the next look may go better
                _log.exception("looking after the network's socket failed")
            if self.state() != before:
                self._changed()
            await asyncio.sleep(every_s)

    async def _look(self) -> None:
        if not self._memory.network.wanted:
            return
        shown = self._shown
        if self._listening is not None and shown is not None:
            names = await asyncio.to_thread(certificates.wanted_names)
            self._name(names, shown)
            left_s = shown.expires_at - self._clock()
            due = certificates.RENEWED_BEFORE_S if shown.kind == "generated" else 0.0
            if left_s > due:
                return
            await self._shut()
        await self._open(is_asked=False)

    async def _open(self, *, is_asked: bool, no_other_port: bool = False) -> None:
        """`is_asked`: by a person, just now. Otherwise nobody looks, and nobody is shown another certificate than
        before as long as that counts. `no_other_port`: than the one that is wanted."""
        wanted = self._memory.network
        if self._open_socket is None:
            return
        listening: Listening | None = None
        try:
            names = await asyncio.to_thread(certificates.wanted_names)
            shown = await asyncio.to_thread(self._certificate, wanted, names, is_asked)
            context = await asyncio.to_thread(certificates.context, shown)
            port, liked = (wanted.port, 0) if no_other_port else (0, wanted.port)
            listening = await self._open_socket(wanted.interfaces, port, liked, context)
            before = self._memory.fingerprint
            if (listening.port, shown.fingerprint) != (wanted.port, before):
                kept = wanted.model_copy(update={"port": listening.port})
                await asyncio.to_thread(self._memory.keep_network, kept, shown.fingerprint)
        except SeamountError as error:
            if listening is not None:
                await listening.close()
            if self._problem is None or self._problem.text != error.text:
                _log.warning("%s", error.text)
            self._problem = error
            return
        if before not in (None, shown.fingerprint):
            self._new_certificate = True
        self._listening, self._shown, self._problem = listening, shown, None
        self._name(names, shown)
        _log.info(
            "the network may come in at port %d; the certificate is %s", listening.port, shown.fingerprint
        )

    async def _shut(self) -> None:
        listening, self._listening = self._listening, None
        if listening is not None:
            await listening.close()

    def _certificate(self, wanted: OpenNetwork, names: Sequence[str], is_asked: bool) -> Shown:
        if wanted.certificate_path is not None and wanted.key_path is not None:
            return certificates.own(Path(wanted.certificate_path), Path(wanted.key_path), self._clock)
        folder = self._folder
        return certificates.generated(
            folder.network_certificate, folder.network_key, names, self._clock, for_all=is_asked
        )

    def _name(self, names: Sequence[str], shown: Shown) -> None:
        """What counts as this machine's own there: what the system says, and what the certificate is for."""
        own = [each for each in (*names, *shown.names) if "*" not in each]
        self._names = [f"[{each}]" if ":" in each else each for each in dict.fromkeys(own)]
        self._lacking = shown.lacks([str(each) for each in machine_names.addresses() if not each.is_loopback])

    def _reachable(self) -> list[str]:
        """Where others find it: at the chosen interfaces, else at all addresses but loopback, and by name."""
        if chosen := self._memory.network.interfaces:
            return [machine_names.in_url(ipaddress.ip_address(each)) for each in chosen]
        own = [each for each in machine_names.addresses() if not each.is_loopback]
        return [*(machine_names.in_url(each) for each in own), *machine_names.names()]

    def _notice(self) -> str | None:
        if self._new_certificate:
            return (
                "The certificate is a new one: programs that were told the fingerprint of the one before have "
                "to be told this one."
            )
        if self._lacking:
            return (
                f"The certificate is not for {', '.join(self._lacking)}, which this machine has now; "
                "open the socket anew for one that is."
            )
        return None
