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
from dataclasses import dataclass
from pathlib import Path

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
    anew. Any thread; `target` waits for ssh. `close` ends all."""

    def __init__(self, program: str = "ssh") -> None:
        self._program = program
        self._lock = threading.Lock()
        self._open: dict[Address, _Tunnel] = {}

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
        """End all."""
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
        port = _asked_port(program, address)
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
            _wait_open(tunnel, address)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return tunnel


def _ssh(program: str, address: Address) -> list[str]:
    command = [program, "-T"]
    for option in _OPTIONS:
        command += ["-o", option]
    if address.port is not None:
        command += ["-p", str(address.port)]
    if address.user:
        command += ["-l", address.user]
    return command


def _asked_port(program: str, address: Address) -> int:
    """The port of the Seamount there. Raises RemoteUnreachable."""
    what = f"{address.place} was not asked"
    try:
        done = subprocess.run(
            [*_ssh(program, address), "--", address.host, REMOTE_COMMAND],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=ASK_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RemoteUnreachable(
            what, f"it did not answer within {ASK_S:.0f} s by ssh", "try `ssh` by hand"
        ) from error
    except OSError as error:
        raise RemoteUnreachable(what, f"ssh cannot be run ({error.strerror})", "check it by hand") from error
    if done.returncode == 0:
        # A login may print something before it.
        word = (done.stdout[-_MOST_BYTES:].split() or [b""])[-1]
        if word.isdigit() and len(word) <= 5 and 0 < int(word) < 65536:
            return int(word)
        raise RemoteUnreachable(
            what,
            "what runs there does not say its port",
            "install this version of Seamount there, or a newer one",
        )
    said = _words(done.stderr)
    if done.returncode == 255:
        raise RemoteUnreachable(
            what, f"ssh did not get there{said}", f"see that `ssh {_login(address)}` works without a password"
        )
    raise RemoteUnreachable(what, f"no Seamount runs there{said}", "start it there: `seamount serve`")


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
