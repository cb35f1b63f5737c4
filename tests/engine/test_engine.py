"""What an engine as a whole tells, in this process."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from engine import memory_watch
from engine.engine import Engine
from engine.paths import DataFolder
from engine.placement import pressure
from engine.placement.pressure import Reading
from tests.integration.live_engine import SCRIPT_MODEL, write_script

TOTAL = 8 << 30


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


def test_short_memory_is_in_the_status_until_it_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    available = [TOTAL]
    clock = iter(range(10**9))
    monkeypatch.setattr(pressure, "read", lambda: Reading(float(next(clock)), TOTAL, available[0]))
    monkeypatch.setattr(memory_watch, "LOOK_S", 0.001)
    folder = DataFolder(tmp_path)
    folder.create()
    write_script(folder)

    async def run() -> None:
        engine = Engine.open(folder, model=SCRIPT_MODEL)
        try:
            engine.start(asyncio.get_running_loop())
            await until(lambda: engine.host.loaded_id)
            assert engine.status().notice is None
            available[0] = 0
            await until(lambda: engine.status().notice)
            assert "Memory is short" in (engine.status().notice or "")
            available[0] = TOTAL
            await until(lambda: engine.status().notice is None)
        finally:
            await asyncio.to_thread(engine.close)
            engine.events.close()
            engine.store.close()

    asyncio.run(run())
