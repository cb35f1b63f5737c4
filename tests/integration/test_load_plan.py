"""A load keeps its plan: llama.cpp itself reports what it took, and where weights lie."""

import logging
import re
from pathlib import Path

import pytest

from convert.conversion import convert
from engine.backends.llama_log import logger
from engine.backends.opening import open_backend
from engine.errors import DoesNotFit
from engine.placement import hardware
from engine.placement.planner import RESERVE_SHARE, Room, Wishes, plan
from engine.placement.present_plan import plan_for, sizes_of_file
from engine.protocol import ModelEntry
from tests.convert.conversions import checkpoint, job

CONTEXT = 1024
_CACHE = re.compile(r"(?:^llama_kv_cache: size =|^llama_dsv4_comp_state: .*, size =) *([\d.]+) MiB")
_COMPUTE = re.compile(r"compute buffer size = *([\d.]+) MiB")


@pytest.fixture(scope="module")
def v4_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("v4")
    source = checkpoint(folder, "0731", n_routed_experts=32, seed=3)
    return convert(job(source, folder / "v4.gguf", draft="skip"))[0]


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What llama.cpp says while it loads."""
    caplog.set_level(logging.DEBUG, logger.name)
    return caplog


def entry(path: Path) -> ModelEntry:
    return ModelEntry(id="m", name="m", path=str(path), size_bytes=0, source="file")


def load(path: Path, threads: int = 1) -> None:
    backend = open_backend(entry(path), wishes=Wishes(CONTEXT, threads=threads), on_progress=lambda _: True)
    try:
        assert backend.facts.threads == threads
        backend.sync([5, 6, 7, 8], lambda _done, _total, _reused: None, lambda: False)
        assert backend.logits().max() > backend.logits().min()
    finally:
        backend.close()


def reported(told: pytest.LogCaptureFixture, pattern: re.Pattern[str]) -> float:
    """MiB, all lines that match together."""
    return sum(float(found[1]) for line in told.messages if (found := pattern.search(line)))


@pytest.mark.parametrize("which", ["v4", "starter"])
def test_cache_and_buffers_are_what_was_planned(
    which: str, v4_path: Path, starter_path: Path, told: pytest.LogCaptureFixture
) -> None:
    path = v4_path if which == "v4" else starter_path
    planned = plan_for(sizes_of_file(path), Wishes(CONTEXT, threads=1))
    load(path)
    cache = reported(told, _CACHE)
    assert cache > 0
    # Each line is rounded to a hundredth.
    assert planned.part_bytes("cache", "ram") / (1 << 20) == pytest.approx(cache, abs=0.06)
    compute = reported(told, _COMPUTE)
    assert 0 < compute <= planned.part_bytes("compute", "ram") / (1 << 20)


def memory_of(monkeypatch: pytest.MonkeyPatch, available_bytes: int) -> None:
    total = int(available_bytes + 1e9)
    monkeypatch.setattr(hardware, "memory", lambda: hardware.Memory(total, available_bytes))


def test_where_all_fits_weights_are_copied_and_where_not_nothing_is(
    v4_path: Path, told: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = hardware.llama_cpp()
    assert isinstance(built, hardware.LlamaCpp)
    if "REPACK" not in built.features:
        pytest.skip("this llama.cpp copies no weights")
    load(v4_path)
    assert any("CPU_REPACK model buffer" in line for line in told.messages)
    told.clear()
    # Half of the experts beyond what is left when the rest of it, and nothing for the states, is in RAM.
    sizes = sizes_of_file(v4_path)
    roomy = plan(sizes, Room(8 << 30, 8 << 30, 2), Wishes(CONTEXT))
    reserve = 600_000_000
    needed = sizes.loaded_bytes + roomy.part_bytes("cache", "ram") + roomy.part_bytes("compute", "ram")
    memory_of(monkeypatch, reserve + needed - sizes.expert_bytes // 2)
    assert RESERVE_SHARE * (reserve + needed + 1e9) < reserve
    assert not plan_for(sizes, Wishes(CONTEXT)).copied
    load(v4_path)
    assert not any("REPACK" in line for line in told.messages)
    assert any("CPU_Mapped model buffer" in line for line in told.messages)


def test_what_does_not_fit_is_refused_before_anything_is_loaded(
    v4_path: Path, told: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory_of(monkeypatch, 601_000_000)
    with pytest.raises(DoesNotFit, match=r"m does not fit into this machine's memory: it needs .* tokens"):
        load(v4_path)
    assert not any("load_tensors" in line for line in told.messages)
