"""Plans, forecasts and choices put together for a window."""

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from engine import placement_desk
from engine.backends.base import TakenBytes
from engine.errors import DoesNotFit, NotFound
from engine.model_host import ModelHost, wishes_of
from engine.paths import DataFolder
from engine.placement import hardware
from engine.placement.choices import KeptChoices
from engine.placement.hardware import Gpu, Memory
from engine.placement.hardware_record import HardwareRecord, MeasuredDisk, write_record
from engine.placement.load_needs import given_back_bytes
from engine.placement.measurement import present_fingerprint
from engine.placement.planner import Room, Wishes, plan
from engine.placement_desk import PlacementDesk
from engine.protocol import BackendChoice, ModelEntry, Settings
from engine.protocol_placement import Choices, Placement
from tests.engine.placement.models import GB, dense_model, flash

SETTINGS = Settings(context_tokens=4096, threads=2)
RICH = Memory(total_bytes=64 * GB, available_bytes=50 * GB)
POOR = Memory(total_bytes=8 * GB, available_bytes=3 * GB)
CARD = Gpu("Some GPU", 24 * GB, 20 * GB)


class Bench:
    """A desk over one file, on a machine that is what a test says."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = DataFolder(root)
        self.folder.create()
        self.path = self.folder.models / "flash.gguf"
        self.path.write_bytes(b"GGUF")
        self.memory, self.gpus, self.sizes = RICH, cast("tuple[Gpu, ...]", ()), flash()
        self.read: list[Path] = []
        monkeypatch.setattr(hardware, "memory", lambda: self.memory)
        monkeypatch.setattr(placement_desk, "sizes_of_file", self._sizes_of)
        self.backend: BackendChoice = "auto"
        self.host = SimpleNamespace(opened=None, wishes=self._wishes)
        host = cast(ModelHost, self.host)
        self.choices = KeptChoices(root)
        self.desk = PlacementDesk(
            self.folder, host, self.choices, lambda: SETTINGS, self._entry, lambda: self.gpus
        )

    def _sizes_of(self, path: Path) -> Any:
        self.read.append(path)
        return self.sizes

    def _wishes(self, _model_id: str, asked: Choices) -> Wishes:
        return replace(wishes_of(asked, SETTINGS), backend=self.backend)

    def _entry(self, model_id: str) -> ModelEntry:
        return ModelEntry(id=model_id, name="Flash", path=str(self.path), size_bytes=4, source="folder")

    def measure(self) -> None:
        """This machine has been measured."""
        record = HardwareRecord(
            measured_at=time.time(),
            fingerprint=present_fingerprint(self.folder.models, self.gpus),
            memory_threads=2,
            memory_bytes_per_s=40e9,
            memory_one_bytes_per_s=20e9,
            arithmetic_per_s=50e9,
            disk=MeasuredDisk(sequential_bytes_per_s=3e9, random_bytes_per_s=2e9, mapped_bytes_per_s=1e9),
        )
        write_record(self.folder.root, record)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def held(told: Placement, kind: str) -> int:
    return sum(part.size_bytes for place in told.places if place.kind == kind for part in place.parts)


def test_it_tells_what_the_planner_plans_with_every_byte_in_its_place(bench: Bench) -> None:
    told = bench.desk.of_model("m")
    expected = plan(
        replace(flash(), name="Flash"),
        Room(RICH.total_bytes, RICH.available_bytes, hardware.processor().cores),
        Wishes(4096, threads=2),
    )
    assert told.problem is None and told.context_tokens == 4096 and told.threads == 2
    assert held(told, "ram") == expected.held_bytes("ram")
    assert held(told, "disk") == expected.held_bytes("disk") > 0
    assert [place.kind for place in told.places] == ["ram", "disk"]
    [ram, disk] = told.places
    experts = next(part for part in disk.parts if part.what == "experts")
    assert 0 < experts.layers <= len(flash().layers)
    assert ram.used_bytes == 14 * GB
    assert ram.used_bytes + ram.reserve_bytes + held(told, "ram") <= ram.total_bytes
    assert disk.file_bytes == flash().loaded_bytes + flash().idle_bytes
    assert [reason.what for reason in told.reasons] == [each.what for each in expected.decisions]
    assert told.limits.context_tokens == 1_048_576
    assert told.limits.gpu_budget_bytes == 0


def test_for_the_native_engine_its_own_plan_is_told(bench: Bench) -> None:
    bench.backend = "native"
    bench.measure()
    told = bench.desk.of_model("m")
    assert told.problem is None and told.reasons[0].what == "Seamount's own engine computes it"
    assert told.forecast is None and told.forecast_problem == "Nothing is foretold of the native engine."
    assert held(told, "ram") + held(told, "disk") > flash().loaded_bytes
    bench.sizes = dense_model()
    bench.path.write_bytes(b"GGUF, another one")
    refused = bench.desk.of_model("m")
    assert refused.problem is not None and refused.problem.code == "model_file"
    assert "computes deepseek4 alone" in refused.problem.text


def test_what_is_asked_stands_in_the_place_of_what_was_chosen(bench: Bench) -> None:
    bench.choices.keep("m", Choices(context_tokens=8192, cache_type="f32"))
    assert bench.desk.of_model("m").cache_type == "f32"
    told = bench.desk.of_model("m", Choices(context_tokens=1024))
    assert (told.context_tokens, told.cache_type) == (1024, "f16")
    assert told.choices == Choices(context_tokens=8192, cache_type="f32")


def test_headers_are_read_again_only_when_the_file_changed(bench: Bench) -> None:
    for _ in range(3):
        bench.desk.of_model("m")
    assert len(bench.read) == 1
    bench.path.write_bytes(b"GGUF, another one")
    bench.desk.of_model("m")
    assert len(bench.read) == 2


def test_a_gpu_has_a_bar_and_a_budget(bench: Bench) -> None:
    bench.gpus = (CARD,)
    told = bench.desk.of_model("m")
    gpu = told.places[0]
    assert (gpu.kind, gpu.name, gpu.used_bytes) == ("gpu", "Some GPU", 4 * GB)
    assert 0 < held(told, "gpu") <= told.limits.gpu_budget_bytes < 20 * GB
    assert gpu.used_bytes + gpu.reserve_bytes + told.limits.gpu_budget_bytes == gpu.total_bytes
    none = bench.desk.of_model("m", Choices(gpu_budget_bytes=0))
    assert held(none, "gpu") == 0
    assert none.limits == told.limits


def test_what_does_not_fit_is_told_and_cannot_be_chosen(bench: Bench) -> None:
    bench.memory = POOR
    told = bench.desk.of_model("m")
    assert told.problem is not None and told.problem.code == "does_not_fit"
    assert "does not fit into this machine's memory" in told.problem.text
    assert not any(place.parts for place in told.places)
    assert told.forecast is None and told.reasons == []
    with pytest.raises(DoesNotFit) as refused:
        bench.desk.choose("m", Choices(context_tokens=512))
    assert "Flash does not fit into this machine's memory: it needs" in refused.value.text
    assert bench.choices.of("m") == Choices()


def test_why_nothing_is_foretold_is_a_sentence(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    told = bench.desk.of_model("m")
    assert told.forecast is None
    assert told.forecast_problem == "Nothing is foretold: this machine has not been measured yet."
    bench.measure()
    told = bench.desk.of_model("m")
    assert told.forecast is not None and told.forecast_problem is None
    assert told.forecast.decode_tokens_per_s.low < told.forecast.decode_tokens_per_s.likely
    assert told.forecast.disk_bytes_per_token.likely > 0
    assert told.forecast.prompt_tokens == 1000
    bench.memory = Memory(128 * GB, 100 * GB)
    told = bench.desk.of_model("m")
    assert told.forecast_problem == "Nothing is foretold: this machine has changed since it was measured."


def test_a_loaded_model_is_told_by_the_plan_it_was_loaded_by(bench: Bench) -> None:
    bench.sizes = dense_model()
    wishes = Wishes(4096, threads=2)
    loaded_by = plan(dense_model(), Room(64 * GB, 60 * GB, 2), wishes)
    taken = TakenBytes(ram_bytes=2 * GB, mapped_bytes=3 * GB)
    bench.host.opened = ("m", wishes, SimpleNamespace(plan=loaded_by, taken=taken))
    told = bench.desk.of_model("m")
    assert told.loaded and told.taken is not None
    assert told.taken.host_bytes == 5 * GB
    assert told.taken.planned_host_bytes == loaded_by.held_bytes("ram")
    assert held(told, "ram") == loaded_by.held_bytes("ram")
    # What it holds now is given back before another load, so it is in nobody's way.
    other = bench.desk.of_model("m", Choices(context_tokens=512))
    assert not other.loaded and other.taken is None
    assert other.places[0].used_bytes == 14 * GB - 2 * GB
    bench.host.opened = ("m", wishes, SimpleNamespace(plan=loaded_by, taken=None))
    assert bench.desk.of_model("other").places[0].used_bytes == 14 * GB - given_back_bytes(loaded_by)


def test_a_released_model_is_told_before_it_is_here(bench: Bench) -> None:
    told = bench.desk.of_offer("flash-0731", Choices(context_tokens=16_384))
    assert told.context_tokens == 16_384 and told.problem is None
    assert held(told, "ram") + held(told, "disk") > 150 * GB
    assert told.places[0].used_bytes == 4 * GB
    assert bench.desk.of_offer("deepseek-ai/DeepSeek-V4-Flash-0731", Choices()).name == told.name
    for name in ("nothing", "../../etc"):
        with pytest.raises(NotFound, match="not known before it is here"):
            bench.desk.of_offer(name, Choices())


def test_a_script_lies_nowhere(bench: Bench) -> None:
    bench.path = bench.folder.models / "talk.script.json"
    with pytest.raises(NotFound, match="it is a script"):
        bench.desk.of_model("m")


def test_choosing_keeps_and_answers_with_the_plan(bench: Bench) -> None:
    wanted = Choices(context_tokens=2048, cache_type="q8_0")
    told = bench.desk.choose("m", wanted)
    assert told.choices == wanted and told.context_tokens == 2048
    assert KeptChoices(bench.folder.root).of("m") == wanted
