import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from engine.backends.opening import open_backend
from engine.backends.read_ahead import available
from engine.errors import ModelFileError, ModelLoadError
from engine.placement import present_plan
from engine.placement.hardware import Gpu
from engine.placement.load_plan import LoadPlan
from engine.placement.model_sizes import ModelSizes
from engine.placement.planner import Wishes
from engine.placement.present_plan import plan_for
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
