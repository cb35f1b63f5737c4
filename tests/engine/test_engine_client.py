"""Finding an engine, also one that ends at that very moment."""

from typing import Any

import pytest

from engine import engine_client
from engine.engine_client import MOST_TRIES, EngineClient, connected, find_or_start
from engine.errors import EngineUnreachable
from engine.launch import EXIT_RUNNING, EngineAddress
from engine.paths import DataFolder

ADDRESS = EngineAddress("http://127.0.0.1:9", "key", 1)


class Started:
    """Engines that were started, by the exit status and the address of each."""

    def __init__(self, *ends: tuple[int | None, EngineAddress | None]) -> None:
        self.left = list(ends)

    def start(self, _: DataFolder, *, linger_s: float) -> Any:
        del linger_s
        status, address = self.left.pop(0)

        class Process:
            def poll(self) -> int | None:
                return status

            def address(self) -> EngineAddress | None:
                return address

        return Process()


@pytest.fixture
def folder(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> DataFolder:
    monkeypatch.setattr(engine_client, "RETRY_S", 0)
    return DataFolder(tmp_path)


def test_an_engine_that_is_ending_is_followed_by_another(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its lock is held still, but nobody is told any more where it listens.
    started = Started((EXIT_RUNNING, None), (EXIT_RUNNING, None), (None, ADDRESS))
    monkeypatch.setattr(engine_client, "EngineProcess", started)
    assert find_or_start(folder, linger_s=1) == ADDRESS
    assert started.left == []


def test_an_engine_that_ends_when_it_is_found_is_looked_for_anew(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[EngineClient] = []
    most = 2

    def open_client(client: EngineClient) -> None:
        if len(refused) < most:
            refused.append(client)
            raise EngineUnreachable("The engine does not answer any more", "it broke", "start again")

    monkeypatch.setattr(engine_client, "find_or_start", lambda *_, **__: ADDRESS)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    monkeypatch.setattr(EngineClient, "open", open_client)
    with connected(folder, linger_s=1) as client:
        assert len(refused) == 2
        assert client not in refused
    refused.clear()
    most = MOST_TRIES
    with pytest.raises(EngineUnreachable), connected(folder, linger_s=1):
        pass
    assert len(refused) == MOST_TRIES


def test_an_engine_that_encrypts_first_is_waited_for(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock:
        """Each look takes half of what a start may take."""

        now_s = 0.0

        def monotonic(self) -> float:
            return self.now_s

        def sleep(self, _: float) -> None:
            self.now_s += engine_client.START_TIMEOUT_S / 2 - 1

    monkeypatch.setattr(engine_client, "time", Clock())
    looks = iter(["the conversations are being encrypted"] * 5)
    monkeypatch.setattr(engine_client, "long_work", lambda _: next(looks, None))
    started = Started((EXIT_RUNNING, None), (None, ADDRESS))
    monkeypatch.setattr(engine_client, "EngineProcess", started)
    assert find_or_start(folder, linger_s=1) == ADDRESS
