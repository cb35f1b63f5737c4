import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.gguf_header import read_gguf_header
from engine.backends.read_ahead import ReadAhead, available
from engine.placement.expert_ranges import ExpertRanges, expert_ranges
from tests.benchmarks.routing_patterns import PATTERNS
from tests.benchmarks.synthetic_v4 import synthetic_shape, write_synthetic
from tests.convert.seeded_checkpoint import SMALL

pytest.importorskip("llama_cpp", reason="llama_cpp is not installed")

from engine.backends.llama_experts import ExpertWatch
from engine.backends.llamacpp import LlamaCppBackend

LAYERS = 3
SMALLER = {key: value for key, value in SMALL.items() if key != "num_hash_layers"}
PROMPT, WRITTEN = list(range(40, 75)), [80, 3, 80]
ALL_OF_IT = 1 << 40


@pytest.fixture(scope="module")
def hashed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of which every layer is routed by token id, so that its choices are known."""
    path = tmp_path_factory.mktemp("experts") / "hashed.gguf"
    shape = synthetic_shape(layers=LAYERS, hashed=True, overrides=SMALLER)
    write_synthetic(path, shape, routes=lambda layer: PATTERNS["skewed"](layer, 512, 8, 2, 3))
    return path


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of which the last two layers are routed by their scores."""
    path = tmp_path_factory.mktemp("experts") / "scored.gguf"
    write_synthetic(path, synthetic_shape(layers=LAYERS, overrides=SMALLER | {"num_hash_layers": 1}))
    return path


def ranges_of(path: Path) -> ExpertRanges:
    ranges = expert_ranges(read_gguf_header(path))
    assert ranges is not None
    return ranges


def run(path: Path, watch: ExpertWatch | None) -> list[Any]:
    """The logits after the prompt and after each written token."""
    backend = LlamaCppBackend.open(
        path, name="m", context_tokens=256, threads=1, on_progress=lambda _: True, watch=watch
    )
    try:
        backend.sync(PROMPT, lambda *_: None, lambda: False)
        found = [backend.logits().copy()]
        found += [backend.step(token).copy() for token in WRITTEN]
    finally:
        backend.close()
    return found


class Seen:
    """What a watch told, put together token by token."""

    def __init__(self) -> None:
        self.by_layer: dict[int, list[Any]] = {}
        self.order: list[int] = []

    def __call__(self, layer: int, chosen: Any) -> None:
        self.order.append(layer)
        self.by_layer.setdefault(layer, []).append(chosen.copy())

    def of(self, layer: int) -> Any:
        return np.concatenate(self.by_layer[layer])


def test_what_is_seen_is_what_the_table_says(hashed: Path) -> None:
    seen = Seen()
    run(hashed, ExpertWatch.open(hashed, memory_bytes=ALL_OF_IT, on_choice=seen))
    for layer in range(LAYERS):
        table = PATTERNS["skewed"](layer, 512, 8, 2, 3)
        assert np.array_equal(seen.of(layer), table[PROMPT + WRITTEN])
    assert seen.order == list(range(LAYERS)) * (len(seen.order) // LAYERS)


def test_choices_by_score_are_experts_and_none_is_taken_twice(scored: Path) -> None:
    """Those are a view into all experts sorted: rows that lie apart."""
    seen = Seen()
    run(scored, ExpertWatch.open(scored, memory_bytes=ALL_OF_IT, on_choice=seen))
    for layer in range(LAYERS):
        chosen = seen.of(layer)
        assert chosen.shape == (len(PROMPT + WRITTEN), 2)
        assert (chosen[:, 0] != chosen[:, 1]).all()
        assert chosen.min() >= 0 and chosen.max() < 8
    assert len({tuple(row) for row in seen.of(2).tolist()}) > 3


@pytest.mark.parametrize("kind", ["hashed", "scored"])
def test_watching_changes_no_number(request: pytest.FixtureRequest, kind: str) -> None:
    path: Path = request.getfixturevalue(kind)
    plain = run(path, None)
    watched = run(path, ExpertWatch.open(path, memory_bytes=ALL_OF_IT, on_choice=lambda *_: None))
    assert all(np.array_equal(a, b) for a, b in zip(plain, watched, strict=True))


def test_written_tokens_are_asked_for_and_prompts_are_not(hashed: Path) -> None:
    asked: list[tuple[int, int]] = []
    ranges = ranges_of(hashed)
    reader = ReadAhead(0, 1 << 30, lambda _, offset, length: asked.append((offset, length)))
    reader.close = lambda: None  # type: ignore[method-assign] - descriptor 0 is not ours
    watch = ExpertWatch(ranges, read_ahead=reader)
    run(hashed, watch)
    wanted = [
        tuple(each)
        for token in WRITTEN
        for layer in range(LAYERS)
        for each in ranges.layers[layer].ranges(PATTERNS["skewed"](layer, 512, 8, 2, 3)[token].tolist())
    ]
    assert asked == wanted
    assert watch.asked_bytes == len(WRITTEN) * ranges.token_bytes


@pytest.mark.skipif(not available(), reason="this system takes no advice on what to read ahead")
def test_a_model_larger_than_its_memory_is_read_ahead_and_gives_the_same_numbers(hashed: Path) -> None:
    watch = ExpertWatch.open(hashed, memory_bytes=hashed.stat().st_size - 1)
    assert watch is not None and watch.reads_ahead
    # Not the kernels of a run that may rearrange the matrices: that one sums in another order.
    mapped = run(hashed, ExpertWatch.open(hashed, memory_bytes=0, on_choice=lambda *_: None))
    found = run(hashed, watch)
    assert all(np.array_equal(a, b) for a, b in zip(found, mapped, strict=True))
    assert watch.asked_bytes == len(WRITTEN) * ranges_of(hashed).token_bytes
    assert not watch.failed


def test_there_is_nothing_to_watch_where_the_file_fits_or_has_no_experts(
    hashed: Path, starter_path: Path, tmp_path: Path
) -> None:
    assert ExpertWatch.open(hashed, memory_bytes=hashed.stat().st_size) is None
    assert ExpertWatch.open(starter_path, memory_bytes=0) is None
    assert ExpertWatch.open(tmp_path / "nothing.gguf", memory_bytes=0) is None
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(hashed.read_bytes()[:5000])
    assert ExpertWatch.open(broken, memory_bytes=0) is None


def test_a_failure_in_it_is_told_once_and_the_answer_goes_on(
    hashed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calls = 0

    def fail(_layer: int, _chosen: Any) -> None:
        nonlocal calls
        calls += 1
        raise RuntimeError("the disk went away")

    watch = ExpertWatch.open(hashed, memory_bytes=ALL_OF_IT, on_choice=fail)
    assert watch is not None
    with caplog.at_level(logging.WARNING, "engine.backends.llama_experts"):
        found = run(hashed, watch)
    assert all(np.array_equal(a, b) for a, b in zip(found, run(hashed, None), strict=True))
    assert calls == 1 and watch.failed
    told = [record for record in caplog.records if record.name == "engine.backends.llama_experts"]
    assert [record.message for record in told] == [
        "The chosen experts are not looked at any more: the disk went away"
    ]
