"""When the network's socket is open, and what is said where it is not. Sockets are stood in for, certificates real."""

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from engine.access import certificates, door_memory, machine_names
from engine.access.door_memory import DoorMemory
from engine.access.network_door import NetworkSocket
from engine.errors import BadRequest, DiskFull, PortTaken
from engine.paths import DataFolder
from engine.protocol_access import OpenNetwork

NOW = 1_800_000_000.0


class Sockets:
    """Stands in for the network: `taken` ports are another's."""

    def __init__(self) -> None:
        self.open: list[tuple[tuple[str, ...], int]] = []
        self.taken: set[int] = set()
        self.shown: list[ssl.SSLContext] = []

    async def __call__(
        self, addresses: Sequence[str], port: int, liked: int, context: ssl.SSLContext
    ) -> "_Listening":
        self.shown.append(context)
        if port in self.taken:
            raise PortTaken(
                "The network's socket is not open", "another program listens there", "choose another"
            )
        number = port or (liked if liked and liked not in self.taken else 50_000)
        self.open.append((tuple(addresses), number))
        return _Listening(self, number)


class _Listening:
    def __init__(self, sockets: Sockets, port: int) -> None:
        self._sockets, self.port = sockets, port

    async def close(self) -> None:
        self._sockets.open = [each for each in self._sockets.open if each[1] != self.port]


class Desk:
    def __init__(self, root: Path) -> None:
        self.folder = DataFolder(root)
        self.now = NOW
        self.changes = 0
        self.sockets = Sockets()
        self.door = self.anew()

    def anew(self) -> NetworkSocket:
        """As after a restart of the engine."""
        self.door = NetworkSocket(
            self.folder, DoorMemory(self.folder.access), self._changed, lambda: self.now
        )
        return self.door

    def _changed(self) -> None:
        self.changes += 1


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    import ipaddress

    monkeypatch.setattr(
        machine_names,
        "addresses",
        lambda: [ipaddress.ip_address("192.168.1.5"), ipaddress.ip_address("127.0.0.1")],
    )
    monkeypatch.setattr(machine_names, "names", lambda: ["desk", "desk.local"])
    return Desk(tmp_path)


def run(desk: Desk, story: Callable[[NetworkSocket], Coroutine[Any, Any, None]]) -> None:
    """A story of an engine from its start to its end."""

    async def whole() -> None:
        door = desk.anew()
        door.begin(desk.sockets, look_every_s=3600)
        await settled(door)
        try:
            await story(door)
        finally:
            await door.close()
        assert desk.sockets.open == []

    asyncio.run(whole())


async def settled(door: NetworkSocket) -> None:
    """The first look is over."""
    await asyncio.sleep(0)
    async with door._lock:
        pass


def test_it_is_closed_until_a_person_opens_it_and_open_until_one_closes_it(desk: Desk) -> None:
    async def first(door: NetworkSocket) -> None:
        assert not door.state().wanted
        assert not door.state().is_open
        assert desk.sockets.open == []
        state = await door.change(OpenNetwork(wanted=True))
        assert (state.is_open, state.port, state.certificate, state.problem) == (
            True,
            50_000,
            "generated",
            None,
        )
        assert state.addresses == [
            "https://192.168.1.5:50000/v1",
            "https://desk:50000/v1",
            "https://desk.local:50000/v1",
        ]
        assert state.notice is None
        assert state.fingerprint is not None
        assert set(door.hosts()) >= {"192.168.1.5", "desk", "desk.local", "localhost", "127.0.0.1"}

    run(desk, first)
    desk.sockets.taken = {50_000}  # nobody may take the port that is remembered; others do not matter
    desk.sockets.taken.clear()

    async def second(door: NetworkSocket) -> None:
        state = door.state()
        assert (state.is_open, state.port, state.notice) == (True, 50_000, None)
        state = await door.change(OpenNetwork(wanted=False))
        assert (state.wanted, state.is_open, state.addresses) == (False, False, [])
        assert desk.sockets.open == []

    run(desk, second)

    async def third(door: NetworkSocket) -> None:
        assert desk.sockets.open == []
        # Where it was: others have its port in their settings.
        assert (await door.change(OpenNetwork(wanted=True))).port == 50_000

    run(desk, third)


def test_chosen_interfaces_and_ports_are_kept(desk: Desk) -> None:
    async def story(door: NetworkSocket) -> None:
        state = await door.change(OpenNetwork(wanted=True, port=8643, interfaces=["192.168.1.5"]))
        assert desk.sockets.open == [(("192.168.1.5",), 8643)]
        assert state.addresses == ["https://192.168.1.5:8643/v1"]

    run(desk, story)

    async def again(_door: NetworkSocket) -> None:
        assert desk.sockets.open == [(("192.168.1.5",), 8643)]

    run(desk, again)


def test_a_port_that_is_taken_is_said_and_tried_again(desk: Desk) -> None:
    desk.sockets.taken = {8643}

    async def story(door: NetworkSocket) -> None:
        state = await door.change(OpenNetwork(wanted=True, port=8643))
        assert (state.wanted, state.is_open) == (True, False)
        assert state.problem is not None
        assert state.problem.code == "port_taken"
        desk.sockets.taken.clear()
        await door._look()
        assert door.state().is_open
        assert door.state().problem is None

    run(desk, story)


def test_what_makes_no_sense_changes_nothing(desk: Desk) -> None:
    async def story(door: NetworkSocket) -> None:
        await door.change(OpenNetwork(wanted=True))
        for wrong in (
            OpenNetwork(wanted=True, certificate_path="/a.pem"),
            OpenNetwork(wanted=True, certificate_path="a.pem", key_path="/b.pem"),
        ):
            with pytest.raises(BadRequest):
                await door.change(wrong)
        assert door.state().is_open

    run(desk, story)


def test_a_generated_certificate_is_renewed_and_that_is_said(desk: Desk) -> None:
    async def story(door: NetworkSocket) -> None:
        before = await door.change(OpenNetwork(wanted=True))
        assert before.expires_at is not None
        desk.now = before.expires_at - certificates.RENEWED_BEFORE_S - 10
        await door._look()
        assert door.state().fingerprint == before.fingerprint
        desk.now += 20
        await door._look()
        after = door.state()
        assert after.is_open
        assert after.fingerprint != before.fingerprint
        assert after.notice is not None
        assert "new one" in after.notice

    run(desk, story)


def test_ones_own_that_ends_closes_the_socket(desk: Desk, tmp_path: Path) -> None:
    pair = tmp_path / "own.pem", tmp_path / "own-key.pem"
    shown = certificates.generated(*pair, ["desk"], lambda: NOW)
    asked = OpenNetwork(wanted=True, certificate_path=str(pair[0]), key_path=str(pair[1]))

    async def story(door: NetworkSocket) -> None:
        state = await door.change(asked)
        assert (state.certificate, state.fingerprint) == ("own", shown.fingerprint)
        # It is for fewer names than the machine has.
        assert state.notice is not None
        assert "192.168.1.5" in state.notice
        desk.now = shown.expires_at
        await door._look()
        state = door.state()
        assert not state.is_open
        assert state.problem is not None
        assert "counted until" in state.problem.text
        assert desk.sockets.open == []

    run(desk, story)

    async def later(door: NetworkSocket) -> None:
        assert door.state().problem is not None
        pair[0].unlink()
        await door._look()
        assert "is no file" in (door.state().problem or pytest.fail("it is open")).text

    run(desk, later)


def test_new_addresses_are_this_machines_own_at_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    import ipaddress

    async def story(door: NetworkSocket) -> None:
        before = await door.change(OpenNetwork(wanted=True))
        monkeypatch.setattr(machine_names, "addresses", lambda: [ipaddress.ip_address("10.0.0.7")])
        await door._look()
        state = door.state()
        assert "10.0.0.7" in door.hosts()
        assert state.addresses[0] == "https://10.0.0.7:50000/v1"
        # Who was told the fingerprint is not told another one behind the back.
        assert state.fingerprint == before.fingerprint
        assert state.notice is not None
        assert "10.0.0.7" in state.notice
        fingerprints.append(before.fingerprint)

    fingerprints: list[str | None] = []
    run(desk, story)

    async def later(door: NetworkSocket) -> None:
        assert [door.state().fingerprint] == fingerprints
        opened = await door.change(OpenNetwork(wanted=True))
        assert opened.fingerprint not in fingerprints
        assert opened.notice is not None
        assert "new one" in opened.notice

    run(desk, later)


def test_it_is_closed_on_a_full_disk_too(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    async def story() -> None:
        desk.door.begin(desk.sockets)
        await desk.door.change(OpenNetwork(wanted=True))
        assert desk.sockets.open
        monkeypatch.setattr(door_memory, "write_atomically", full)
        with pytest.raises(DiskFull, match="would be open after a restart"):
            await desk.door.change(OpenNetwork(wanted=False))
        assert not desk.sockets.open
        await desk.door._look()  # as it does now and then
        assert not desk.sockets.open
        assert not desk.door.state().wanted
        await desk.door.close()

    asyncio.run(story())
