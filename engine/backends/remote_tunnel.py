"""A Seamount on another machine, reached through the system's own ssh.

Owns: the processes of ssh, their fixed arguments, and how long they live. Two are run: one asks that machine for the
port of its Seamount and for nothing else, the other forwards to it, from a socket file in a folder that only this user
may enter (on Windows, whose ssh has no such sockets, from a port of this machine). Nothing goes through a shell here,
and nothing but digits is believed of what comes back. ssh itself knows the host's key and proves who asks: a host that
is not known, or a key that needs a password, is an error that says what to do.
"""

import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from engine.backends.remote_address import Address
from engine.backends.remote_faults import Limits, Target
from engine.conversation import clean_text
from engine.errors import RemoteUnreachable

ASK_S = 30.0
"""How long the other machine may take to say its port."""
OPEN_S = 20.0
REMOTE_COMMAND = "seamount remotes port"
HOLDING_COMMAND = "seamount remotes port --hold"
"""What is run on the other machine. Its shell reads it, and nothing in it comes from anybody. The second one waits for
the end of its input, which is the end of this engine, however it ends: no ssh outlives it."""
_POLL_S = 0.02
_MOST_BYTES = 4096
_MOST_SAID = 64 << 10
"""A login may greet with much; what says more than this says no port."""
_END_S = 3.0
_HAS_SOCKET_FILES = sys.platform != "win32"
_OPTIONS = (
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "ConnectTimeout=10",
    "ExitOnForwardFailure=yes",
    "ForwardAgent=no",
    "ForwardX11=no",
    "PermitLocalCommand=no",
    "ControlMaster=no",
    "ControlPath=none",
    "ServerAliveInterval=15",
    "ServerAliveCountMax=4",
)


@dataclass(frozen=True)
class _Tunnel:
    """An ssh that forwards to `port` there, from `folder`'s socket or `local_port` here."""

    process: "subprocess.Popen[bytes]"
    port: int
    folder: Path
    local_port: int

    @property
    def socket_path(self) -> str | None:
        return str(self.folder / "s") if _HAS_SOCKET_FILES else None

    def close(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.terminate()
        try:
            self.process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(_END_S)
        shutil.rmtree(self.folder, ignore_errors=True)


class Tunnels:
    """Those of one engine. Questions to a machine go through the one that is open to it; one that has ended is opened
    anew. Any thread; `target` waits for ssh. `close` ends all, also what is being opened."""

    def __init__(self, program: str = "ssh") -> None:
        self._program = program
        self._lock = threading.Lock()
        self._open: dict[Address, _Tunnel] = {}
        self._begun: list[subprocess.Popen[bytes]] = []
        """Those that `target` waits for."""
        self._closing = False

    def target(self, address: Address, key: str | None, limits: Limits) -> Target:
        """Where a request to the Seamount behind `address` is sent. Raises RemoteUnreachable."""
        with self._lock:
            tunnel = self._open.get(address)
            if tunnel is None or tunnel.process.poll() is not None:
                if tunnel is not None:
                    tunnel.close()
                tunnel = self._open[address] = self._opened(address)
        there = Address("http", "127.0.0.1", tunnel.port, "/v1")
        if tunnel.socket_path is None:
            here = Address("http", "127.0.0.1", tunnel.local_port, "/v1")
            return Target(here, key=key, limits=limits, name=address.place, host=there.place)
        return Target(there, key=key, limits=limits, name=address.place, socket_path=tunnel.socket_path)

    def forget(self, address: Address) -> None:
        """The Seamount there may listen elsewhere by now: the next question asks for its port."""
        with self._lock:
            tunnel = self._open.pop(address, None)
        if tunnel is not None:
            tunnel.close()

    def close(self) -> None:
        """End all, for good. Raises nothing."""
        # Without the lock: who has it may be waiting for a machine that does not answer.
        self._closing = True
        for process in list(self._begun):
            process.kill()
        with self._lock:
            found, self._open = list(self._open.values()), {}
        for each in found:
            each.close()

    def _opened(self, address: Address) -> _Tunnel:
        program = shutil.which(self._program)
        if program is None:
            raise RemoteUnreachable(
                f"{address.place} was not asked",
                "there is no ssh on this machine",
                "install OpenSSH's client (on Windows it is an optional feature of the system)",
            )
        port = self._asked_port(program, address)
        folder = Path(tempfile.mkdtemp(prefix="seamount-"))  # its mode is 0700
        local_port = 0 if _HAS_SOCKET_FILES else _free_port()
        from_here = str(folder / "s") if _HAS_SOCKET_FILES else f"127.0.0.1:{local_port}"
        forward = ["-L", f"{from_here}:127.0.0.1:{port}"]
        command = [*_ssh(program, address), *forward, "--", address.host, HOLDING_COMMAND]
        try:
            # Not read before it has ended, so it must not be able to fill a pipe.
            with (folder / "said").open("wb") as said:
                process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said
                )
            tunnel = _Tunnel(process, port, folder, local_port)
            with self._waited_for(process):
                _wait_open(tunnel, address)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return tunnel

    @contextlib.contextmanager
    def _waited_for(self, process: "subprocess.Popen[bytes]") -> Generator[None]:
        """`close` ends it meanwhile."""
        self._begun.append(process)
        try:
            if self._closing:
                process.kill()
            yield
        finally:
            self._begun.remove(process)

    def _asked_port(self, program: str, address: Address) -> int:
        """The port of the Seamount there. Raises RemoteUnreachable."""
        what = f"{address.place} was not asked"
        command = [*_ssh(program, address), "--", address.host, REMOTE_COMMAND]
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except OSError as error:
            why = f"ssh cannot be run ({error.strerror})"
            raise RemoteUnreachable(what, why, "check it by hand") from error
        with self._waited_for(process):
            said, complained, in_time = _heard(process)
        if not in_time:
            raise RemoteUnreachable(
                what, f"it did not answer within {ASK_S:.0f} s by ssh", "try `ssh` by hand"
            )
        if process.returncode == 0 and len(said) <= _MOST_SAID:
            # A login may print something before it.
            word = (said[-_MOST_BYTES:].split() or [b""])[-1]
            if word.isdigit() and len(word) <= 5 and 0 < int(word) < 65536:
                return int(word)
        if process.returncode == 0 or len(said) > _MOST_SAID:
            raise RemoteUnreachable(
                what,
                "what runs there does not say its port",
                "install this version of Seamount there, or a newer one",
            )
        words = _words(complained)
        if process.returncode == 255:
            raise RemoteUnreachable(
                what,
                f"ssh did not get there{words}",
                f"see that `ssh {_login(address)}` works without a password",
            )
        raise RemoteUnreachable(what, f"no Seamount runs there{words}", "start it there: `seamount serve`")


def _heard(process: "subprocess.Popen[bytes]") -> tuple[bytes, bytes, bool]:
    """(what it says, what it complains of, whether it ended in time); it is not listened to for longer than that, nor
    to more than so much."""
    heard: dict[str, bytes] = {"said": b"", "complained": b""}

    def listen(name: str, stream: IO[bytes] | None) -> None:
        with contextlib.suppress(OSError, ValueError):
            heard[name] = b"" if stream is None else stream.read(_MOST_SAID + 1)
        if len(heard[name]) > _MOST_SAID:
            process.kill()

    # Who holds a pipe open though ssh has ended is not waited for.
    listeners = [
        threading.Thread(target=listen, args=each, name="ssh", daemon=True)
        for each in (("said", process.stdout), ("complained", process.stderr))
    ]
    for each in listeners:
        each.start()
    in_time = True
    try:
        process.wait(ASK_S)
    except subprocess.TimeoutExpired:
        in_time = False
        process.kill()
        process.wait(_END_S)
    for each, stream in zip(listeners, (process.stdout, process.stderr), strict=True):
        each.join(_END_S)
        if stream is not None and not each.is_alive():
            stream.close()
    return heard["said"], heard["complained"], in_time


def _ssh(program: str, address: Address) -> list[str]:
    command = [program, "-T"]
    for option in _OPTIONS:
        command += ["-o", option]
    if address.port is not None:
        command += ["-p", str(address.port)]
    if address.user:
        command += ["-l", address.user]
    return command


def _wait_open(tunnel: _Tunnel, address: Address) -> None:
    """Until ssh forwards. Raises RemoteUnreachable."""
    until_s = time.monotonic() + OPEN_S
    while True:
        if tunnel.process.poll() is not None:
            with contextlib.suppress(OSError):
                said = (tunnel.folder / "said").read_bytes()[-_MOST_BYTES:]
                raise RemoteUnreachable(
                    f"{address.place} was not asked",
                    f"ssh does not forward to it{_words(said)}",
                    f"see that `ssh {_login(address)}` works without a password",
                )
            raise RemoteUnreachable(f"{address.place} was not asked", "ssh ended", "try it by hand")
        if tunnel.socket_path is not None and Path(tunnel.socket_path).exists():
            return
        if tunnel.socket_path is None and _listens(tunnel.local_port):
            return
        if time.monotonic() > until_s:
            tunnel.close()
            raise RemoteUnreachable(
                f"{address.place} was not asked", "ssh did not open its way in time", "try it by hand"
            )
        time.sleep(_POLL_S)  # ssh tells nobody when it is ready


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), _POLL_S):
        return True
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _words(said: bytes) -> str:
    """The last line of what ssh says, for a person."""
    lines = clean_text(said.decode("utf-8", "replace"))[0].strip().splitlines()
    line = "".join(each if each.isprintable() else " " for each in lines[-1])[:200] if lines else ""
    return f" (“{line.strip()}”)" if line.strip() else ""


def _login(address: Address) -> str:
    return f"{address.user}@{address.host}" if address.user else address.host
