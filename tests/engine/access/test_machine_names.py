"""What the system says of its addresses and names, and systems that say odd things."""

import socket
from types import SimpleNamespace

import psutil
import pytest

from engine.access import machine_names


def test_addresses_are_of_interfaces_that_are_up_loopback_last(monkeypatch: pytest.MonkeyPatch) -> None:
    def at(address: str, family: int = socket.AF_INET) -> SimpleNamespace:
        return SimpleNamespace(family=family, address=address)

    six = socket.AF_INET6
    interfaces = {
        "lo": [at("127.0.0.1"), at("::1", six)],
        "eth0": [at("192.168.1.5"), at("fe80::1%eth0", six), at("fd00::2", six), at("aa:bb", 17), at("x")],
        "down": [at("10.0.0.1")],
    }
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: interfaces)
    monkeypatch.setattr(
        psutil, "net_if_stats", lambda: {name: SimpleNamespace(isup=name != "down") for name in interfaces}
    )
    found = [str(each) for each in machine_names.addresses()]
    assert found == ["192.168.1.5", "fd00::2", "127.0.0.1", "::1"]
    assert [machine_names.in_url(each) for each in machine_names.addresses()][:2] == [
        "192.168.1.5",
        "[fd00::2]",
    ]


def test_a_system_that_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses() -> None:
        raise PermissionError

    monkeypatch.setattr(psutil, "net_if_stats", refuses)
    monkeypatch.setattr(socket, "gethostname", refuses)
    assert machine_names.addresses() == []
    assert machine_names.names() == []


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("Desk", ["desk", "desk.local"]),
        ("desk.lan.", ["desk.lan", "desk.local"]),
        ("desk.local", ["desk.local"]),
        ("my desk", []),
        ("*", []),
        ("a" * 300, []),
    ],
)
def test_names_are_names(monkeypatch: pytest.MonkeyPatch, host: str, expected: list[str]) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    assert machine_names.names() == expected
