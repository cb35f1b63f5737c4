"""The native engine by plans with a GPU: the contract of a backend there, what it gives back, and a GPU that is full.

Where there is no GPU the processor stands in for one: plans, placement and accounts are the same.
"""

import gc
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.conversion import convert
from engine.backends.base import ContextState
from engine.errors import GenerationError, ModelLoadError
from engine.placement.hardware import Gpu
from engine.placement.load_plan import LoadPlan
from engine.placement.native_plan import native_plan
from engine.placement.planner import Room, Wishes
from engine.placement.present_plan import sizes_of_file
from tests.convert.conversions import checkpoint, job
from tests.engine.backends.native_models import TOKENS, read

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from engine.backends import native, native_devices  # noqa: E402 - it needs torch
from engine.backends.native_vocabulary import vocabulary_of_checkpoint  # noqa: E402

GB = 1_000_000_000
EMPTY = ContextState((), np.zeros(0, np.uint8))
on_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="the engine on a GPU needs one of NVIDIA's"),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint with layers of all kinds, and the GGUF that was made of it."""
    root = tmp_path_factory.mktemp("native")
    source = checkpoint(root / "source", "0731", layers=4, seed=8)
    (path,) = convert(job(source, root / "m.gguf", draft="skip"))
    return source, path


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=on_gpu)])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "cpu":
        monkeypatch.setattr(native_devices, "_device", lambda _plan: torch.device("cpu"))
    return request.param


def planned(path: Path, *, moving: bool, context_tokens: int = 1024, cache_type: Any = "f16") -> LoadPlan:
    """A plan for a GPU: all on it, or half of the experts that have no place there."""
    sizes = sizes_of_file(path)
    room = Room(64 * GB, 60 * GB, 2, (Gpu("a GPU", 80 * GB, 70 * GB),))
    wishes = Wishes(context_tokens, cache_type, threads=1)
    plan = native_plan(sizes, room, wishes)
    budget = plan.held_bytes("gpu")
    one = sizes.expert_bytes // (sizes.experts * len(sizes.layers))
    while moving and plan.part_bytes("experts", "gpu") * 2 > sizes.expert_bytes:
        budget -= one
        plan = native_plan(sizes, room, replace(wishes, gpu_budget_bytes=budget))
    assert plan.gpu == "a GPU"
    assert plan.experts_move == moving
    return plan


@pytest.fixture
def open_(files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Opens the model by a plan; the vocabulary is the checkpoint's, which needs no llama.cpp."""
    source, path = files
    monkeypatch.setattr(
        native,
        "vocabulary_of",
        lambda _path, size: vocabulary_of_checkpoint(source, size),
    )
    opened: list[Any] = []

    def open_by(plan: LoadPlan | None, **more: Any) -> Any:
        arguments = {"name": "Model", "context_tokens": 1024, "threads": 1, "plan": plan} | more
        opened.append(native.NativeBackend.open(path, **arguments))
        return opened[-1]

    yield open_by
    for each in opened:
        each.close()


def room(size_bytes: int) -> Any:
    return np.empty(size_bytes, np.uint8)


def steps(backend: Any, tokens: list[int]) -> list[Any]:
    return [backend.step(token).copy() for token in tokens]


@pytest.mark.slow
@pytest.mark.parametrize("moving", [False, True])
def test_the_contract_is_kept_wherever_experts_lie(
    files: tuple[Path, Path], open_: Any, device: str, moving: bool
) -> None:
    plan = planned(files[1], moving=moving)
    backend = open_(plan)
    many = 200 if device == "cuda" else 6
    prompt, after = TOKENS[:150], TOKENS[700 : 700 + many]
    assert read(backend, prompt).read_tokens == 150
    logits, state = backend.logits().copy(), backend.save(room)
    first = steps(backend, after)
    # What was asked for since then has moved experts; the state alone decides what follows.
    for kept in (state, replace(state, whole=state.whole.copy())):
        read(backend, TOKENS[900:960])
        steps(backend, TOKENS[300:306])
        backend.load(kept)
        assert np.array_equal(backend.logits(), logits)
        with backend.fork():
            read(backend, [*prompt, *TOKENS[400:420]])
            steps(backend, TOKENS[500:503])
        assert all(map(np.array_equal, steps(backend, after), first))
    # And so it does when all is read anew.
    backend.load(EMPTY)
    read(backend, prompt)
    assert np.array_equal(backend.logits(), logits)
    assert all(map(np.array_equal, steps(backend, after[:4]), first))
    counts, taken = backend.expert_counts, backend.taken
    assert 0 < counts.on_gpu <= counts.in_memory <= counts.wanted
    assert (counts.on_gpu == counts.wanted) == (not moving)
    assert 0 < taken.gpu_bytes <= plan.held_bytes("gpu") - plan.part_bytes("driver", "gpu")
    assert taken.ram_bytes <= plan.held_bytes("ram")


@pytest.mark.slow
@pytest.mark.parametrize("moving", [False, True])
def test_it_says_what_the_processor_says(
    files: tuple[Path, Path], open_: Any, device: str, moving: bool
) -> None:
    """Activations have 8 bits there: see the bounds of the network's own tests, of which this is the wider one."""
    prompt = TOKENS[: 300 if device == "cuda" else 40]
    told: list[Any] = []
    for backend in (open_(None, cache_type="f32"), open_(planned(files[1], moving=moving))):
        read(backend, prompt)
        rows = [backend.logits().copy(), *steps(backend, TOKENS[800 : 800 + (40 if device == "cuda" else 8)])]
        told.append(torch.from_numpy(np.stack(rows)).double().log_softmax(-1))
    exact, rounded = told
    assert float((exact.exp() * (exact - rounded)).sum(-1).mean()) <= 1e-2


def test_without_room_for_a_layer_s_experts_the_processor_computes_all_of_them(
    files: tuple[Path, Path], open_: Any, device: str
) -> None:
    plan = planned(files[1], moving=False)
    parts = [
        replace(each, gpu_bytes=0, ram_bytes=each.size_bytes) if each.what == "experts" else each
        for each in plan.parts
    ]
    usual, found = open_(plan), open_(replace(plan, parts=tuple(parts)))
    for backend in (usual, found):
        read(backend, TOKENS[:30])
        backend.step(5)
    assert found.expert_counts.on_gpu == 0 < found.expert_counts.in_memory
    assert found.taken.gpu_bytes < usual.taken.gpu_bytes
    assert (found.facts.exact_key != usual.facts.exact_key) == (device == "cuda")
    off = found.logits() - usual.logits()
    assert float(np.std(off)) < 0.1 * float(np.std(usual.logits()))


def test_copies_of_experts_are_given_back_and_had_again(
    files: tuple[Path, Path], open_: Any, device: str
) -> None:
    backend = open_(planned(files[1], moving=True))
    read(backend, TOKENS[:60])
    steps(backend, TOKENS[60:80])
    state = backend.save(room)
    copies = backend._placed.tiers.ram_bytes
    assert copies > 0
    first = steps(backend, TOKENS[80:84])
    before = backend.taken
    assert backend.relieve(0) == 0
    assert backend.relieve(1) >= 1
    assert backend.relieve(1 << 40) > 0
    assert backend._placed.tiers.ram_bytes == 0
    assert backend.taken.ram_bytes < before.ram_bytes
    assert backend.taken.gpu_bytes == before.gpu_bytes
    backend.load(state)
    assert all(map(np.array_equal, steps(backend, TOKENS[80:84]), first))
    assert backend._placed.tiers.ram_bytes == 0
    assert backend.allow(1 << 40) >= copies
    steps(backend, TOKENS[84:88])
    assert backend._placed.tiers.ram_bytes > 0
    assert backend.allow(1 << 40) == 0


def test_keys_tell_where_it_was_computed_and_not_where_experts_lay(
    files: tuple[Path, Path], open_: Any, device: str
) -> None:
    plain, resident, moving, mixed = (
        open_(plan).facts
        for plan in (
            None,
            planned(files[1], moving=False),
            planned(files[1], moving=True),
            planned(files[1], moving=False, cache_type="q8_0"),
        )
    )
    assert plain.state_key == resident.state_key == moving.state_key != mixed.state_key
    assert plain.exact_key != resident.exact_key
    chunks = [planned(files[1], moving=each).micro_batch_tokens for each in (False, True)]
    assert (resident.exact_key == moving.exact_key) == (chunks[0] == chunks[1])


def test_a_gpu_without_the_memory_is_told_and_the_model_can_be_opened_otherwise(
    files: tuple[Path, Path], open_: Any, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(files[1], moving=False)
    with monkeypatch.context() as patch:
        for error in (
            torch.OutOfMemoryError("CUDA out of memory. Tried"),
            RuntimeError("CUDA error: lost\nmore"),
        ):
            patch.setattr(native_devices.devices, "place", _raising(error))
            with pytest.raises(ModelLoadError, match="Model could not be put onto a GPU") as failed:
                open_(plan)
            assert failed.value.__context__ is None  # it would keep alive what was uploaded
            assert "more" not in failed.value.text
    parts = tuple(replace(each, gpu_bytes=0) if each.what == "cache" else each for each in plan.parts)
    tight = replace(plan, parts=tuple(replace(p, gpu_bytes=p.gpu_bytes // 1000) for p in parts))
    with pytest.raises(ModelLoadError, match="MiB are free"):
        open_(tight)
    monkeypatch.setattr(native.NativeMemory, "_empty", _raising(torch.OutOfMemoryError("full")))
    with pytest.raises(ModelLoadError, match="became full with a context of 1,024 tokens"):
        open_(plan)
    monkeypatch.undo()


def _raising(error: Exception) -> Any:
    def call(*_: Any, **__: Any) -> Any:
        raise error

    return call


def test_without_a_gpu_torch_names_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert native_devices.gpus() == ()


def test_a_gpu_that_does_not_answer_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", _raising(RuntimeError("it is lost")))
    assert native_devices.gpus() == ()
    assert "GPU 0 does not answer" in caplog.text


def in_use() -> int:
    """Bytes of the GPU, without what waits to be forgotten."""
    gc.collect()
    torch.cuda.empty_cache()
    return torch.cuda.memory_allocated()


def test_a_closed_one_has_no_weights_and_gives_nothing_back(
    files: tuple[Path, Path], open_: Any, device: str
) -> None:
    backend = open_(planned(files[1], moving=True))
    read(backend, TOKENS[:20])
    table = weakref.ref(backend._network.weights.embed.data)
    backend.close()
    assert table() is None
    assert backend.taken is None
    assert backend.relieve(1 << 40) == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="the engine on a GPU needs one of NVIDIA's")
class TestOnAGpu:
    def test_it_is_found_with_what_is_free(self) -> None:
        (first, *_) = native_devices.gpus()
        assert 0 < first.free_bytes <= first.total_bytes
        assert first.name

    def test_a_full_gpu_ends_the_turn_and_the_next_one_goes_on(
        self, files: tuple[Path, Path], open_: Any
    ) -> None:
        backend = open_(planned(files[1], moving=True, context_tokens=4096), context_tokens=4096)
        long = [TOKENS[at % len(TOKENS)] for at in range(3000)]
        read(backend, long[:100])
        logits, state = backend.logits().copy(), backend.save(room)
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.empty_cache()
        ballast: list[Any] = []
        try:
            torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (4 << 20)) / total)
            # What torch holds without using it is room, too: less than a megabyte is left.
            with pytest.raises(torch.OutOfMemoryError):
                while True:
                    ballast.append(torch.empty(1 << 20, dtype=torch.uint8, device="cuda"))
            with pytest.raises(GenerationError, match=r"tokens at once.* tokens would fit"):
                read(backend, long)
        finally:
            ballast.clear()
            torch.cuda.set_per_process_memory_fraction(1.0)
        # The parts that were read before it are held, and the next turn goes on from there.
        held = len(backend.held)
        assert 100 <= held < 3000
        assert list(backend.held) == long[:held]
        assert read(backend, long).reused_tokens == held
        found = backend.logits().copy()
        backend.load(state)
        assert np.array_equal(backend.logits(), logits)
        read(backend, long)
        assert np.array_equal(backend.logits(), found)

    def test_a_gpu_that_is_full_at_load_is_told_and_what_was_uploaded_is_free_again(
        self, files: tuple[Path, Path], open_: Any
    ) -> None:
        plan = planned(files[1], moving=False)
        before = in_use()
        total = torch.cuda.get_device_properties(0).total_memory
        try:
            torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (2 << 20)) / total)
            with pytest.raises(ModelLoadError, match="could not be put onto"):
                open_(plan)
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        assert torch.cuda.memory_allocated() == before
        read(open_(plan), TOKENS[:20])

    def test_a_closed_one_leaves_nothing_there(self, files: tuple[Path, Path], open_: Any) -> None:
        read(open_(planned(files[1], moving=True)), TOKENS[:20])  # what libraries keep is there from now on
        before = in_use()
        backend = open_(planned(files[1], moving=True))
        read(backend, TOKENS[:20])
        assert torch.cuda.memory_allocated() > before
        backend.close()
        assert torch.cuda.memory_allocated() == before
