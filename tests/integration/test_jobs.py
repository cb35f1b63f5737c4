"""Jobs through the engine's routes, and what becomes of them when the engine dies."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.convert.conversions import checkpoint
from tests.integration.conftest import StartEngine
from tests.integration.live_engine import LiveEngine, read_events

pytestmark = pytest.mark.slow

TIMEOUT_S = 60.0


def large(folder: Path) -> Path:
    return checkpoint(folder, "0731", layers=24, n_routed_experts=24)


def asking(source: Path, target: Path, **more: Any) -> Any:
    return {"asked": {"kind": "convert", "source": str(source), "target": str(target), **more}}


def wait(engine: LiveEngine, job_id: str, *states: str) -> Any:
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        job = next(job for job in engine.get("/api/jobs")["jobs"] if job["id"] == job_id)
        if job["state"] in states and not job["stopping"]:
            return job
        assert time.monotonic() < deadline, job
        time.sleep(0.05)


def test_the_whole_way_over_http(start_engine: StartEngine, tmp_path: Path) -> None:
    engine, source, target = start_engine(), large(tmp_path), tmp_path / "m.gguf"
    seen = engine.post("/api/inspect", {"path": str(source), "target": str(target)})
    assert seen["name"] == source.name
    assert seen["problems"] == []
    assert engine.get("/api/jobs") == {"jobs": []}
    with engine.client.stream("GET", "/api/events") as reply:
        told = (event for _, event in read_events(reply))
        job = engine.post("/api/jobs", asking(source, target))
        assert next(event for event in told if event["kind"] == "job")["job_id"] == job["id"]
    again = engine.client.post("/api/jobs", json=asking(source, target))
    assert again.status_code == 409
    assert "another conversion in the list" in again.json()["error"]["text"]
    engine.post(f"/api/jobs/{job['id']}/pause")
    wait(engine, job["id"], "paused")
    engine.post(f"/api/jobs/{job['id']}/resume")
    assert wait(engine, job["id"], "done")["files"][0] == str(target)
    assert engine.client.delete(f"/api/jobs/{job['id']}").status_code == 204
    assert engine.client.delete(f"/api/jobs/{job['id']}").status_code == 404
    assert engine.client.post("/api/inspect", json={"path": str(tmp_path)}).status_code == 422


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no kill -9")
def test_it_outlives_a_killed_engine(start_engine: StartEngine, tmp_path: Path) -> None:
    engine, source = start_engine(), large(tmp_path)
    job = engine.post("/api/jobs", asking(source, tmp_path / "m.gguf"))
    [converting] = [
        p for p in psutil.process_iter() if _command(p)[-2:-1] == ["work"] and job["id"] in _command(p)[-1]
    ]
    os.kill(engine.address.pid, signal.SIGKILL)
    engine.process.wait(10)
    assert converting.is_running()
    later = start_engine()
    [found] = later.get("/api/jobs")["jobs"]
    assert found["id"] == job["id"]
    assert found["state"] in ("running", "done")
    wait(later, job["id"], "done")
    assert (tmp_path / "m.gguf").is_file()


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
