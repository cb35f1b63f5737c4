"""A load keeps its plan: llama.cpp itself reports what it took, and where weights lie."""

import logging
import re
from pathlib import Path

import pytest

from convert.conversion import convert
from engine.backends.base import TakenBytes
from engine.backends.llama_log import logger
from engine.backends.opening import gpus_now, open_backend, rehearsal_of
from engine.errors import DoesNotFit
from engine.placement import hardware
from engine.placement.load_plan import LoadPlan
from engine.placement.planner import RESERVE_SHARE, Room, Wishes, plan
from engine.placement.present_plan import plan_for, sizes_of_file
from engine.protocol import ModelEntry
from tests.benchmarks.synthetic_v4 import synthetic_shape, write_synthetic
from tests.convert.conversions import checkpoint, job

pytestmark = pytest.mark.slow
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


def load(path: Path, threads: int = 1) -> tuple[LoadPlan, TakenBytes]:
    """By which plan it was loaded, and what it took."""
    backend = open_backend(entry(path), wishes=Wishes(CONTEXT, threads=threads), on_progress=lambda _: True)
    try:
        assert backend.facts.threads == threads
        backend.sync([5, 6, 7, 8], lambda _done, _total, _reused: None, lambda: False)
        assert backend.logits().max() > backend.logits().min()
        assert backend.plan is not None
        assert backend.taken is not None
        return backend.plan, backend.taken
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
    planned, _ = load(path)
    cache = reported(told, _CACHE)
    assert cache > 0
    # Each line is rounded to a hundredth.
    assert planned.part_bytes("cache", "ram") / (1 << 20) == pytest.approx(cache, abs=0.06)
    compute = reported(told, _COMPUTE)
    # A rehearsal told it, with the one for logits, of a few kilobytes.
    assert planned.part_bytes("compute", "ram") / (1 << 20) == pytest.approx(compute, abs=0.3)


def test_what_is_taken_is_what_was_planned(v4_path: Path, starter_path: Path) -> None:
    for path in (v4_path, starter_path):
        keeps_to_its_plan(*load(path))


def test_a_gigabyte_is_what_was_planned(tmp_path: Path) -> None:
    path = tmp_path / "large.gguf"
    shape = synthetic_shape(
        layers=4, overrides={"hidden_size": 2048, "moe_intermediate_size": 1024, "n_routed_experts": 48}
    )
    assert write_synthetic(path, shape) > 1_000_000_000
    keeps_to_its_plan(*load(path))


@pytest.mark.parametrize("which", ["all", "experts in RAM", "some experts in RAM"])
def test_with_a_gpu_too(which: str, tmp_path: Path, starter_path: Path) -> None:
    if not gpus_now():
        pytest.skip("this llama.cpp reaches no GPU")
    path, budget = starter_path, None
    if which != "all":
        path = tmp_path / "v4.gguf"
        narrow = {"hidden_size": 512, "moe_intermediate_size": 512, "n_routed_experts": 32, "vocab_size": 4000,
                  "num_attention_heads": 8, "o_groups": 1}  # fmt: skip
        write_synthetic(path, synthetic_shape(layers=4, overrides=narrow))
        sizes = sizes_of_file(path)
        whole = planned_within(path, None)
        assert whole.reach == "gpu"
        budget = whole.held_bytes("gpu") - sizes.expert_bytes
        if which == "some experts in RAM":
            budget = planned_within(path, budget).held_bytes("gpu") + 3 * sizes.layers[0].expert_bytes // 2
    wishes = Wishes(CONTEXT, threads=1, gpu_budget_bytes=budget)
    backend = open_backend(entry(path), wishes=wishes, on_progress=lambda _: True)
    try:
        planned, taken = backend.plan, backend.taken
        assert planned is not None
        assert taken is not None
        assert planned.gpu is not None
        assert planned.reach == ("gpu" if which == "all" else "both")
        keeps_to_its_plan(planned, taken)
        if which == "all":
            backend.sync([5, 6, 7, 8], lambda _done, _total, _reused: None, lambda: False)
            assert backend.logits().max() > backend.logits().min()
    finally:
        backend.close()


def planned_within(path: Path, gpu_budget_bytes: int | None) -> LoadPlan:
    wishes = Wishes(CONTEXT, threads=1, gpu_budget_bytes=gpu_budget_bytes)
    return plan_for(sizes_of_file(path), wishes, gpus_now(), rehearse=rehearsal_of(path, here=False))


def keeps_to_its_plan(planned: LoadPlan, taken: TakenBytes) -> None:
    """Within a hundredth; states are room for later, nothing of them is there yet, and of what the driver takes
    llama.cpp knows nothing."""
    ram = planned.held_bytes("ram") - planned.part_bytes("states", "ram")
    assert taken.ram_bytes + taken.mapped_bytes == pytest.approx(ram, rel=0.01)
    gpu = planned.held_bytes("gpu") - planned.part_bytes("driver", "gpu")
    assert taken.gpu_bytes == pytest.approx(gpu, rel=0.01)
    assert (taken.mapped_bytes > 0) is planned.memory_mapped


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
    # Half of the experts beyond what is left when the rest of it, and buffers for few tokens, are in RAM.
    sizes = sizes_of_file(v4_path)
    reserve = 600_000_000
    small = plan(sizes, Room(8 << 30, 8 << 30, 2), Wishes(CONTEXT))
    working = small.part_bytes("cache", "ram") + small.part_bytes("compute", "ram") // 8
    needed = sizes.loaded_bytes + working
    memory_of(monkeypatch, reserve + needed - sizes.expert_bytes // 2)
    assert RESERVE_SHARE * (reserve + needed + 1e9) < reserve
    little, _ = load(v4_path)
    assert not little.copied
    assert not any("REPACK" in line for line in told.messages)
    assert any("CPU_Mapped model buffer" in line for line in told.messages)


def test_what_does_not_fit_is_refused_before_anything_is_loaded(
    v4_path: Path, told: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory_of(monkeypatch, 601_000_000)
    with pytest.raises(DoesNotFit, match=r"m does not fit into this machine's memory: it needs .* tokens"):
        load(v4_path)
    assert not any("load_tensors" in line for line in told.messages)
