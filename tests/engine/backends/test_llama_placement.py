"""What a plan says of tensors and GPUs, as llama.cpp takes it; tried on the real library."""

import ctypes
from dataclasses import replace
from pathlib import Path

import pytest

from engine.backends import llama_placement
from engine.backends.llama_placement import Placement, placement_of, unmatched
from engine.backends.llamacpp import LlamaCppBackend
from engine.errors import ModelLoadError
from engine.placement.load_plan import LoadPlan
from engine.placement.planner import Room, Wishes, plan
from engine.placement.present_plan import sizes_of_file
from tests.benchmarks.synthetic_v4 import synthetic_shape, write_synthetic
from tests.convert.seeded_checkpoint import SMALL

low = pytest.importorskip("llama_cpp.llama_cpp", reason="llama-cpp-python is not installed")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("v4") / "m.gguf"
    small = {key: value for key, value in SMALL.items() if key != "num_hash_layers"}
    write_synthetic(found, synthetic_shape(layers=2, overrides=small))
    return found


@pytest.fixture(scope="module")
def plain(path: Path) -> LoadPlan:
    return plan(sizes_of_file(path), Room(8 << 30, 8 << 30, 2), Wishes(64, threads=1, cache_type="f32"))


def open_by(path: Path, by: LoadPlan) -> LlamaCppBackend:
    return LlamaCppBackend.open(
        path, name="m", context_tokens=64, threads=1, on_progress=lambda _: True, plan=by
    )


def logits(path: Path, by: LoadPlan) -> list[float]:
    backend = open_by(path, by)
    try:
        backend.sync([5, 6, 7, 8], lambda *_: None, lambda: False)
        return backend.logits().tolist()
    finally:
        backend.close()


def test_llama_cpp_takes_the_overrides_and_computes_the_same(
    path: Path, plain: LoadPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a processor alone they change nothing but that llama.cpp looks at each: it would end the process for an array
    that has no end, or whose texts are gone."""
    applied: list[int] = []
    apply = Placement.apply

    def watched(self: Placement, parameters: object) -> None:
        apply(self, parameters)
        applied.append(parameters.tensor_buft_overrides or 0)  # type: ignore[attr-defined]

    monkeypatch.setattr(Placement, "apply", watched)
    without = logits(path, plain)
    with_overrides = replace(plain, expert_layers_in_ram=(0,), matrices_in_ram=((1, "down"),))
    assert logits(path, with_overrides) == without
    assert applied[0] == 0
    assert applied[1] != 0


def test_the_array_of_overrides_ends_with_nothing() -> None:
    placement = Placement(("one", "two"))
    parameters = low.llama_model_default_params()
    placement.apply(parameters)
    pointers = ctypes.cast(parameters.tensor_buft_overrides, ctypes.POINTER(ctypes.c_void_p))
    texts = [ctypes.cast(pointers[at], ctypes.c_char_p).value for at in (0, 2)]
    assert texts == [b"one", b"two"]
    assert pointers[1] == pointers[3] is not None
    assert (pointers[4], pointers[5]) == (None, None)


def test_a_pattern_that_matches_nothing_is_an_error_before_anything_is_loaded(
    path: Path, plain: LoadPlan
) -> None:
    with pytest.raises(ModelLoadError, match=r"keeps tensors in RAM that are called .*7.*none of that name"):
        placement_of(path, "m", replace(plain, matrices_in_ram=((7, "down"),)))
    with pytest.raises(ModelLoadError, match="as planned"):
        open_by(path, replace(plain, expert_layers_in_ram=(1, 2), matrices_in_ram=((0, "gate_up"),)))


def test_unmatched_patterns() -> None:
    names = ["blk.0.ffn_up_exps.weight", "output.weight"]
    assert unmatched([r"^blk\.0\.ffn_(gate|up)_exps\.", r"^blk\.1\."], names) == [r"^blk\.1\."]


def test_a_gpu_that_this_build_does_not_reach_is_told(path: Path, plain: LoadPlan) -> None:
    planned = replace(plain, gpu="Geforce 9999", gpu_number=0, gpu_layers=2)
    with pytest.raises(
        ModelLoadError, match=r"the plan uses Geforce 9999, and this llama.cpp does not reach"
    ):
        open_by(path, planned)


class Ggml:
    """Devices as ggml lists them: a processor among GPUs."""

    def __init__(self, *devices: tuple[int, str]) -> None:
        self.devices = devices

    def function(self, name: str, *_: object) -> object:
        return {
            "ggml_backend_dev_count": lambda: len(self.devices),
            "ggml_backend_dev_get": lambda at: at + 100,
            "ggml_backend_dev_type": lambda device: self.devices[device - 100][0],
            "ggml_backend_dev_description": lambda device: self.devices[device - 100][1].encode(),
        }[name]


@pytest.mark.parametrize(
    ("name", "number", "address"),
    [("A", 0, 101), ("B", 1, 103), ("B", 2, 104), ("B", 9, 103), ("A", 1, 101)],
)
def test_a_gpu_is_found_by_its_place_and_its_name(
    name: str, number: int, address: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ggml = Ggml((0, "CPU"), (1, "A"), (3, "BLAS"), (1, "B"), (2, "B"))
    monkeypatch.setattr(llama_placement, "ggml_function", ggml.function)
    parameters = low.llama_model_default_params()
    parameters.main_gpu = number
    placement = Placement((), name, number)
    placement.apply(parameters)
    devices = ctypes.cast(parameters.devices, ctypes.POINTER(ctypes.c_void_p))
    assert (devices[0], devices[1]) == (address, None)
    assert parameters.main_gpu == 0
