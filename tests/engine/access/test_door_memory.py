"""The port of last time and what is wanted for the network: kept, and files that are not in order."""

from pathlib import Path

import pytest

from engine.access import door_memory
from engine.access.door_memory import DoorMemory
from engine.errors import DataFolderError
from engine.protocol_access import OpenNetwork

WANTED = OpenNetwork(wanted=True, port=8643, interfaces=["192.168.1.5"])


def test_what_is_kept_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "access.json"
    memory = DoorMemory(path)
    assert (memory.port, memory.network.wanted, memory.fingerprint) == (0, False, None)
    memory.keep_port(8642)
    memory.keep_network(WANTED, "AA:BB")
    memory.keep_network(WANTED)
    again = DoorMemory(path)
    assert (again.port, again.network, again.fingerprint) == (8642, WANTED, "AA:BB")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{" * 1000,
        b'{"format": 2, "network": {"wanted": true}}',
        b'{"port": -1, "network": {"wanted": true}}',
        b" " * 100_000,
        b"\xff",
    ],
)
def test_a_file_that_is_not_in_order_opens_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "access.json"
    path.write_bytes(content)
    memory = DoorMemory(path)
    assert (memory.port, memory.network.wanted) == (0, False)
    memory.keep_port(8642)
    assert DoorMemory(path).port == 8642


def test_a_disk_that_takes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = DoorMemory(tmp_path / "access.json")

    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(door_memory, "write_atomically", full)
    memory.keep_port(8642)  # the engine starts all the same
    with pytest.raises(DataFolderError):
        memory.keep_network(WANTED)
    assert not memory.network.wanted


def test_that_it_is_to_be_closed_is_so_on_a_full_disk_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = DoorMemory(tmp_path / "access.json")
    memory.keep_network(WANTED)

    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(door_memory, "write_atomically", full)
    with pytest.raises(DataFolderError, match="is closed while this engine runs"):
        memory.keep_network(WANTED.model_copy(update={"wanted": False}))
    assert not memory.network.wanted
    assert DoorMemory(tmp_path / "access.json").network.wanted
