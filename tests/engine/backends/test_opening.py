import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from engine.backends import llama_loading, llama_rehearsal, load_guard, opening
from engine.backends.base import Backend
from engine.backends.llamacpp import LlamaCppBackend
from engine.backends.opening import check_fits, gpus_now, open_backend
from engine.backends.read_ahead import available
from engine.errors import DoesNotFit, ModelFileError, ModelLoadError
from engine.parts.part_lock import read_lock
from engine.placement import hardware, present_plan, pressure
from engine.placement.hardware import Gpu
from engine.placement.hardware_record import HardwareRecord, write_record
from engine.placement.load_plan import LoadPlan
from engine.placement.measurement import present_fingerprint
from engine.placement.model_sizes import ModelSizes
from engine.placement.nvidia import Seen
from engine.placement.planner import LEAST_GPU_RESERVE_BYTES, Wishes
from engine.placement.present_plan import plan_for, sizes_of_file
from engine.placement.pressure import Reading
from engine.protocol import ModelEntry
from tests.benchmarks.synthetic_v4 import synthetic_shape, write_synthetic
from tests.convert.seeded_checkpoint import SMALL

ROOT = Path(__file__).parents[3]


def entry(path: Path) -> ModelEntry:
    return ModelEntry(id="m", name="My model", path=str(path), size_bytes=0, source="file")


def test_a_script_opens_the_scripted_backend(tmp_path: Path) -> None:
    path = tmp_path / "a.script.json"
    path.write_text(json.dumps({"replies": [{}]}), encoding="utf-8")
    backend = open_backend(entry(path), wishes=Wishes(300), on_progress=lambda _fraction: True)
    assert (backend.facts.backend, backend.facts.name, backend.facts.context_tokens) == (
        "scripted",
        "My model",
        300,
    )


def test_anything_else_opens_llama_cpp(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"no GGUF")
    with pytest.raises(ModelLoadError, match="My model could not be loaded"):
        open_backend(entry(path), wishes=Wishes(300), on_progress=lambda _fraction: True)


def on_disk(sizes: ModelSizes, wishes: Wishes, gpus: tuple[Gpu, ...], **_: object) -> LoadPlan:
    """The plan, were there no room for experts in memory."""
    plan = plan_for(sizes, wishes, gpus)
    parts = [
        replace(part, ram_bytes=0, disk_bytes=part.size_bytes) if part.what == "experts" else part
        for part in plan.parts
    ]
    return replace(plan, parts=tuple(parts), copied=False, memory_mapped=True)


@pytest.mark.skipif(not available(), reason="this system takes no advice on what to read ahead")
@pytest.mark.parametrize("from_disk", [True, False])
def test_experts_that_the_plan_leaves_on_the_disk_are_read_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, from_disk: bool
) -> None:
    path = tmp_path / "m.gguf"
    small = {key: value for key, value in SMALL.items() if key != "num_hash_layers"}
    write_synthetic(path, synthetic_shape(layers=2, overrides=small))
    if from_disk:
        monkeypatch.setattr(present_plan, "plan_for", on_disk)
    backend = open_backend(entry(path), wishes=Wishes(64, threads=1), on_progress=lambda _fraction: True)
    watch = backend._watch  # type: ignore[attr-defined]
    try:
        assert (watch is not None) == from_disk
        backend.sync([5, 6, 7], lambda *_: None, lambda: False)
        backend.step(8)
        if watch is not None:
            assert watch.reads_ahead
            assert watch.asked_bytes == 2 * 2 * 3 * (256 * 128 * 17 // 32)  # layers, experts, matrices
    finally:
        backend.close()


def memory_of(monkeypatch: pytest.MonkeyPatch, available_bytes: int) -> None:
    monkeypatch.setattr(hardware, "memory", lambda: hardware.Memory(8 << 30, available_bytes))


def test_what_will_fit_is_told_before_what_is_loaded_is_closed(
    starter_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starter = entry(starter_path)
    memory_of(monkeypatch, 8 << 30)
    loaded = plan_for(sizes_of_file(starter_path), Wishes(8192))
    memory_of(monkeypatch, 601_000_000)
    with pytest.raises(DoesNotFit, match="512 tokens"):
        open_backend(starter, wishes=Wishes(512), on_progress=lambda _fraction: True)
    # In the place of the one that is loaded it fits, with what that gives back; as large again it would, too.
    check_fits(starter, wishes=Wishes(512), loaded=loaded)
    check_fits(starter, wishes=Wishes(8192), loaded=loaded)
    small = replace(loaded, parts=tuple(part for part in loaded.parts if part.what == "compute"))
    with pytest.raises(DoesNotFit, match="8,192 tokens"):
        check_fits(starter, wishes=Wishes(8192), loaded=small)
    assert loaded.held_bytes("ram") > 90_000_000


def test_what_is_no_model_is_found_when_it_is_opened(starter_path: Path, tmp_path: Path) -> None:
    loaded = plan_for(sizes_of_file(starter_path), Wishes(512))
    (tmp_path / "a.gguf").write_bytes(b"no GGUF")
    for name in ("a.gguf", "gone.gguf", "a.script.json"):
        check_fits(entry(tmp_path / name), wishes=Wishes(1 << 40), loaded=loaded)


def test_a_load_ends_when_the_memory_that_was_planned_with_goes(
    starter_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = iter([8 << 30, 8 << 30])
    monkeypatch.setattr(pressure, "read", lambda: Reading(0.0, 8 << 30, next(left, 100_000_000)))
    monkeypatch.setattr(load_guard, "LOOK_S", 0.0)
    fractions: list[float] = []
    with pytest.raises(DoesNotFit, match="was not loaded: memory got short while it was being loaded"):
        open_backend(
            entry(starter_path),
            wishes=Wishes(8192, threads=1),
            on_progress=lambda fraction: fractions.append(fraction) is None,
        )
    assert len(fractions) == 1


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="there is no file"):
        open_backend(entry(tmp_path / "gone.gguf"), wishes=Wishes(1), on_progress=lambda _f: True)


def test_choosing_loads_no_library_that_is_not_used() -> None:
    program = (
        "import sys, engine.backends.opening, engine.backends.scripted\n"
        "import engine.generation, engine.encoding.prompt\n"
        "assert 'llama_cpp' not in sys.modules and 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr


class Machine:
    """A GPU that is fuller, or gone, when a model is loaded; what is opened is told and not loaded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *free_bytes: int) -> None:
        self.free_bytes = list(free_bytes)
        self.tried: list[LoadPlan] = []
        self.failures = 1
        self.on_failure: Callable[[Callable[[float], bool]], None] = lambda _on_progress: None
        monkeypatch.setattr(llama_loading, "reaches_gpu", lambda: True)
        monkeypatch.setattr(opening, "_gpus", None)
        monkeypatch.setattr(hardware, "llama_cpp", self.asked)
        monkeypatch.setattr(hardware, "memory", lambda: hardware.Memory(8 << 30, 6 << 30))
        monkeypatch.setattr(llama_rehearsal, "rehearse", lambda *_, **__: "no rehearsal here")
        monkeypatch.setattr(LlamaCppBackend, "open", self.open)

    def asked(self) -> hardware.LlamaCpp:
        free = self.free_bytes.pop(0) if len(self.free_bytes) > 1 else self.free_bytes[0]
        gpus = (Gpu("G", 4 << 30, free),) if free else ()
        return hardware.LlamaCpp("1", True, (), gpus)

    def open(self, _path: Path, *, plan: LoadPlan, on_progress: Callable[[float], bool], **_: object) -> str:
        self.tried.append(plan)
        if len(self.tried) <= self.failures:
            self.on_failure(on_progress)
            raise ModelLoadError("m could not be loaded", "unable to allocate CUDA0 buffer", "do something")
        return "opened"


@pytest.fixture
def small(tmp_path: Path) -> ModelEntry:
    path = tmp_path / "m.gguf"
    shape = {key: value for key, value in SMALL.items() if key != "num_hash_layers"}
    write_synthetic(path, synthetic_shape(layers=2, overrides=shape))
    return entry(path)


def opened(model: ModelEntry, on_progress: Callable[[float], bool] = lambda _: True) -> object:
    return open_backend(model, wishes=Wishes(256, threads=1), on_progress=on_progress)


def test_a_plan_is_made_for_the_gpu(small: ModelEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, 3 << 30)
    machine.failures = 0
    assert opened(small) == "opened"
    (plan,) = machine.tried
    assert (plan.gpu, plan.gpu_layers) == ("G", 2)


@pytest.mark.parametrize("changed", [False, True])
def test_it_is_planned_by_what_was_measured_of_this_machine_and_no_other(
    changed: bool, small: ModelEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch, 3 << 30)
    machine.failures = 0
    here = present_fingerprint(tmp_path / "models", gpus_now())
    there = here.model_copy(update={"gpus": ["another"]})
    record = HardwareRecord(
        measured_at=1,
        fingerprint=there if changed else here,
        memory_threads=1,
        memory_bytes_per_s=1e10,
        memory_one_bytes_per_s=1e10,
        arithmetic_per_s=1e10,
    )
    write_record(tmp_path, record)
    planned: list[HardwareRecord | None] = []

    def plan(*asked: object, record: HardwareRecord | None, **more: object) -> LoadPlan:
        planned.append(record)
        return plan_for(*asked, record=record, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(present_plan, "plan_for", plan)
    wishes = Wishes(256, threads=1)
    open_backend(small, wishes=wishes, on_progress=lambda _: True, root=tmp_path)
    assert planned == [None if changed else record]


def test_a_gpu_that_is_fuller_than_planned_gets_a_plan_for_what_is_free(
    small: ModelEntry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    machine = Machine(monkeypatch, 3 << 30, 3 << 30)
    # Another program takes all but the reserve, the driver's share and a little.
    full = plan_for(sizes_of_file(Path(small.path)), Wishes(256, threads=1), (Gpu("G", 4 << 30, 3 << 30),))
    machine.free_bytes = [3 << 30, LEAST_GPU_RESERVE_BYTES + full.held_bytes("gpu") - 1]
    assert opened(small) == "opened"
    first, second = machine.tried
    assert second.gpu == "G"
    assert second.held_bytes("gpu") < first.held_bytes("gpu")
    assert "were planned for it, of which" in caplog.text
    assert "unable to allocate CUDA0 buffer" in caplog.text
    assert "loaded once more, by a plan for G" in caplog.text


@pytest.mark.parametrize("gone", [0, 1])
def test_without_the_gpu_the_processor_loads_it(
    gone: int, small: ModelEntry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    machine = Machine(monkeypatch, 3 << 30, gone)
    assert opened(small) == "opened"
    assert [plan.gpu for plan in machine.tried] == ["G", None]
    assert "a plan for the processor alone" in caplog.text
    assert ("which is not there now" in caplog.text) is (gone == 0)


def test_a_gpu_that_fails_twice_is_left(small: ModelEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, 3 << 30, 2 << 30)
    machine.failures = 2
    assert opened(small) == "opened"
    assert machine.tried[-1].gpu is None


def test_when_all_fails_one_sentence_says_so_with_numbers(
    small: ModelEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch, 3 << 30, 1 << 30)
    machine.failures = 9
    with pytest.raises(ModelLoadError) as caught:
        opened(small)
    text = caught.value.text
    assert "of G were planned for it, of which 1.1 GB are free now (unable to allocate CUDA0 buffer)" in text
    assert text.count(". ") == 0
    assert len(machine.tried) <= 3


def test_a_load_that_was_stopped_is_not_tried_again(
    small: ModelEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch, 3 << 30)

    def stopping(on_progress: Callable[[float], bool]) -> None:
        on_progress(0.5)

    machine.on_failure = stopping
    with pytest.raises(ModelLoadError):
        opened(small, lambda _fraction: False)
    assert len(machine.tried) == 1


@pytest.mark.parametrize(("number", "names"), [(0, "GG"), (1, "GG"), (1, "FG"), (1, "G"), (0, "F")])
def test_what_is_given_up_is_free_on_the_gpu_that_held_it_alone(
    number: int, names: str, small: ModelEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch, 3 << 30)
    machine.failures = 0
    opened(small)
    (held,) = machine.tried
    loaded = replace(held, gpu_number=number)
    gpus = tuple(Gpu(name, 4 << 30, 1 << 30) for name in names)
    monkeypatch.setattr(opening, "gpus_now", lambda: gpus)
    asked: list[tuple[Gpu, ...]] = []

    def plan(_sizes: object, _wishes: object, gpus: tuple[Gpu, ...], **_: object) -> LoadPlan:
        asked.append(gpus)
        return held

    monkeypatch.setattr(present_plan, "plan_for", plan)
    check_fits(small, wishes=Wishes(256), loaded=loaded)
    freed = [each.free_bytes - (1 << 30) for each in asked[0]]
    at = min(number, len(names) - 1)
    whole = held.held_bytes("gpu") if "G" in names else 0
    assert freed == [whole if each == at else 0 for each in range(len(names))]


def test_the_gpus_are_asked_for_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, 3, 2, 1)
    assert [gpus_now()[0].free_bytes, gpus_now()[0].free_bytes] == [3, 3]
    assert gpus_now(fresh=True)[0].free_bytes == 2
    assert gpus_now()[0].free_bytes == 2
    assert machine.free_bytes == [1]


def test_a_llama_cpp_that_does_not_answer_has_no_gpus(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Machine(monkeypatch, 1)
    monkeypatch.setattr(hardware, "llama_cpp", lambda: "it did not answer within 60 s")
    assert gpus_now() == ()
    assert "it did not answer" in caplog.text


def small_v4(path: Path) -> Path:
    """A V4 with true headers; its numbers are of no matter."""
    small = {key: value for key, value in SMALL.items() if key != "num_hash_layers"}
    write_synthetic(path, synthetic_shape(layers=2, overrides=small))
    return path


def natively(path: Path, context_tokens: int = 64) -> Backend:
    wishes = Wishes(context_tokens, threads=1, backend="native")
    return open_backend(entry(path), wishes=wishes, on_progress=lambda _fraction: True)


def test_the_native_engine_opens_what_it_is_asked_for_by_its_own_plan(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    path = small_v4(tmp_path / "m.gguf")
    backend = natively(path)
    try:
        plan = backend.plan
        assert backend.facts.backend == "native" and backend.facts.name == "My model"
        assert plan is not None and plan.computed_by == "native"
        assert (backend.facts.context_tokens, backend.facts.threads) == (64, 1)
        backend.sync([5, 6, 7], lambda *_: None, lambda: False)
        backend.step(8)
        taken = backend.taken
        assert taken is not None and 0 < taken.ram_bytes <= plan.part_bytes("cache", "ram")
    finally:
        backend.close()
    auto = open_backend(entry(path), wishes=Wishes(64, threads=1), on_progress=lambda _fraction: True)
    assert auto.facts.backend == "llama.cpp"
    auto.close()


def test_what_the_native_engine_cannot_put_onto_a_gpu_is_loaded_on_the_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    from engine.backends import native_devices
    from engine.model.model_error import ModelError

    path = small_v4(tmp_path / "m.gguf")
    found = (Gpu("a GPU", 80 * 10**9, 70 * 10**9),)
    monkeypatch.setattr(opening, "nvidia_gpus", lambda: Seen(("a GPU",)))  # type: ignore[arg-type]
    monkeypatch.setattr(native_devices, "gpus", lambda: found)
    tried: list[str | None] = []

    def placed(_model: object, plan: LoadPlan, *_: object) -> object:
        tried.append(plan.gpu)
        raise ModelError("This model cannot be used on the GPU", "its memory became full", "close something")

    monkeypatch.setattr(native_devices, "_on_gpu", placed)
    backend = natively(path)
    plan = backend.plan
    backend.sync([5, 6, 7], lambda *_: None, lambda: False)
    backend.close()
    assert plan is not None and plan.gpu is None
    # What is free has not changed, so the same is not tried twice.
    assert tried == ["a GPU"]
    assert "of a GPU were planned for it, of which 70 GB are free now (its memory became full)" in caplog.text
    assert "once more, by a plan for the processor alone" in caplog.text
    # Where it is not to be used it is not tried.
    wishes = Wishes(64, threads=1, backend="native", gpu_budget_bytes=0)
    open_backend(entry(path), wishes=wishes, on_progress=lambda _fraction: True).close()
    # Stopped while it was tried: then nothing more is.
    with pytest.raises(ModelLoadError, match="loading was stopped"):
        open_backend(entry(path), wishes=Wishes(64, backend="native"), on_progress=lambda part: part < 0.5)
    assert tried == ["a GPU"]


def test_torch_is_not_asked_for_gpus_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "engine.backends.native_devices", None)
    monkeypatch.setattr(opening, "nvidia_gpus", Seen)
    assert opening.native_gpus() == ()
    # There is one, and no PyTorch.
    monkeypatch.setattr(opening, "nvidia_gpus", lambda: Seen(("a GPU",)))  # type: ignore[arg-type]
    assert opening.native_gpus() == ()


def test_what_the_native_engine_cannot_compute_is_refused_before_anything_is_loaded(
    tmp_path: Path, starter_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "engine.backends.native", None)
    with pytest.raises(ModelFileError) as refused:
        natively(starter_path)
    assert "architecture llama, and that engine computes deepseek4 alone" in refused.value.text
    path = small_v4(tmp_path / "m.gguf")
    memory = hardware.Memory(4 * 10**9, 700_000_000)
    with monkeypatch.context() as patch:
        patch.setattr(hardware, "memory", lambda: memory)
        with pytest.raises(DoesNotFit, match="the native engine needs"):
            natively(path, 1 << 20)
    # With a PyTorch that cannot be imported, and without one.
    monkeypatch.setattr(opening, "find_spec", lambda _name: object())
    with pytest.raises(ModelLoadError, match="needs PyTorch, which could not be loaded"):
        natively(path)
    monkeypatch.setattr(opening, "find_spec", lambda _name: None)
    with pytest.raises(ModelLoadError) as lacking:
        natively(path)
    how = "in Settings → Machine or with `seamount parts install native`"
    if not read_lock().fits_here:
        how = 'with `pip install "seamount[native]"`'
    assert f"which is not installed; get it {how}" in lacking.value.text


def test_a_pytorch_that_the_system_cannot_load_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own libraries may be missing or broken, which is no ImportError."""

    class Broken:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "engine.backends.native":
                raise OSError("libtorch_cpu.so: cannot open shared object file")

    monkeypatch.delitem(sys.modules, "engine.backends.native", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    monkeypatch.setattr(opening, "find_spec", lambda _name: object())
    with pytest.raises(ModelLoadError) as refused:
        natively(small_v4(tmp_path / "m.gguf"))
    assert "could not be loaded (libtorch_cpu.so" in refused.value.text
    assert 'remove it and get it again with `pip install "seamount[native]"`' in refused.value.text


def test_what_will_not_fit_natively_is_told_while_the_other_one_is_loaded(
    tmp_path: Path, starter_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small_v4(tmp_path / "m.gguf")
    loaded = plan_for(sizes_of_file(path), Wishes(64))
    wishes = Wishes(1 << 20, backend="native")
    monkeypatch.setattr(hardware, "memory", lambda: hardware.Memory(4 * 10**9, 700_000_000))
    with pytest.raises(DoesNotFit, match="the native engine needs"):
        check_fits(entry(path), wishes=wishes, loaded=loaded)
    # What else is wrong is found when it is opened.
    check_fits(entry(starter_path), wishes=wishes, loaded=loaded)
