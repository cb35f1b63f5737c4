import logging
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.ggml_types import GGML_TYPES
from convert.gguf_header import TensorInfo, read_gguf_header
from convert.gguf_writer import Metadata, header
from engine.backends import expert_memory
from engine.backends.base import ExpertCounts
from engine.backends.direct_reader import DirectReader, Wanted
from engine.backends.mapped_file import available as exchangeable
from engine.backends.read_ahead import ReadAhead, available
from engine.errors import GenerationError
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
ONE = 3 * (6 * 4096)  # an expert's pages at most: three matrices of 17,408 bytes
BUDGETS = {"a prompt's fit": 9 * ONE, "a prompt's do not fit": 5 * ONE, "all fit": 30 * ONE}
exchanges = pytest.mark.skipif(not exchangeable(), reason="this system does not let mappings be exchanged")


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


@pytest.fixture(scope="module")
def split(scored: Path) -> Path:
    """The same model in two files; one layer's experts lie in both."""
    whole = read_gguf_header(scored)
    content = scored.read_bytes()
    first = whole.tensors[0].name.encode()
    keys = content[24 : content.index(struct.pack("<Q", len(first)) + first)]
    (key_count,) = struct.unpack_from("<Q", content, 16)
    cut = next(at for at, each in enumerate(whole.tensors) if each.name == "blk.1.ffn_up_exps.weight")
    paths = [scored.with_name(f"split-{number}-of-00002.gguf") for number in ("00001", "00002")]
    for number, (path, tensors) in enumerate(
        zip(paths, (whole.tensors[:cut], whole.tensors[cut:]), strict=True)
    ):
        metadata = Metadata()
        for key, value in (("split.no", number), ("split.count", 2)):
            metadata._add(key, 2, struct.pack("<H", value))  # a uint16
        metadata._add("split.tensors.count", 5, struct.pack("<i", len(whole.tensors)))
        if number:
            metadata.text("general.architecture", "deepseek4")
        placed = header(metadata, tensors)
        more, count = (b"", len(metadata)) if number else (keys, key_count + len(metadata))
        head = placed.content[:16] + struct.pack("<Q", count) + metadata.as_bytes() + more
        told = b"".join(
            _info(each, placed.offsets[at] - placed.offsets[0]) for at, each in enumerate(tensors)
        )
        file = bytearray(head + told)
        file += bytes(-len(file) % 32)
        start = len(file)
        for at, each in enumerate(tensors):
            file += bytes(start + placed.offsets[at] - placed.offsets[0] - len(file))
            file += content[whole.data_offset + each.offset :][: each.size_bytes]
        path.write_bytes(file)
    return paths[0]


def _info(tensor: TensorInfo, offset: int) -> bytes:
    name = tensor.name.encode()
    number = next(number for number, kind in GGML_TYPES.items() if kind.name == tensor.type_name)
    extents = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
    return struct.pack("<Q", len(name)) + name + extents + struct.pack("<IQ", number, offset)


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
    reader = ReadAhead([0], 1 << 30, lambda _, offset, length: asked.append((offset, length)))
    reader.close = lambda: None  # type: ignore[method-assign] - descriptor 0 is not ours
    watch = ExpertWatch(ranges, read_ahead=reader)
    run(hashed, watch)
    wanted = [
        tuple(each[:2])
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


def in_memory(path: Path, experts_bytes: int) -> ExpertWatch:
    watch = ExpertWatch.open(path, memory_bytes=0, experts_bytes=experts_bytes)
    assert watch is not None and watch.way == "direct"
    return watch


def as_mapped(path: Path) -> list[Any]:
    """With the same kernels, and all left to the system."""
    return run(path, ExpertWatch.open(path, memory_bytes=0, on_choice=lambda *_: None))


@exchanges
@pytest.mark.parametrize("kind", ["hashed", "scored"])
@pytest.mark.parametrize("budget", BUDGETS)
def test_experts_in_memory_of_our_own_change_no_number(
    request: pytest.FixtureRequest, kind: str, budget: str
) -> None:
    path: Path = request.getfixturevalue(kind)
    watch = in_memory(path, BUDGETS[budget])
    found = run(path, watch)
    assert all(np.array_equal(a, b) for a, b in zip(found, as_mapped(path), strict=True))
    counts = watch.counts
    assert counts is not None and not watch.failed
    assert counts.wanted == len(WRITTEN) * LAYERS * 2
    assert 0 < counts.in_memory <= counts.wanted
    assert (counts.read_bytes > 0) == (counts.in_memory < counts.wanted)
    if budget == "all fit":  # the prompt has met nearly all of them
        assert counts.in_memory > counts.wanted // 2


@exchanges
def test_what_is_held_counts_as_taken(scored: Path) -> None:
    watch = in_memory(scored, BUDGETS["all fit"])
    backend = LlamaCppBackend.open(
        scored, name="m", context_tokens=256, threads=1, on_progress=lambda _: True, watch=watch
    )
    try:
        before = backend.taken
        backend.sync(PROMPT, lambda *_: None, lambda: False)
        after = backend.taken
        assert before is not None and after is not None
        assert after.ram_bytes - before.ram_bytes == watch.held_bytes > 0
        assert before.mapped_bytes - after.mapped_bytes == watch.held_bytes
    finally:
        backend.close()


@exchanges
@pytest.mark.parametrize("experts_bytes", [0, 9 * ONE])
def test_a_model_in_several_files_gives_the_same_numbers(
    split: Path, scored: Path, experts_bytes: int
) -> None:
    watch = ExpertWatch.open(split, memory_bytes=0, experts_bytes=experts_bytes)
    assert watch is not None and watch.way == ("direct" if experts_bytes else "mapped")
    found = run(split, watch)
    assert all(np.array_equal(a, b) for a, b in zip(found, as_mapped(scored), strict=True))
    assert not watch.failed and not watch._strange
    if experts_bytes:
        assert watch.counts is not None and watch.counts.read_bytes > 0
    else:
        assert watch.asked_bytes == len(WRITTEN) * ranges_of(scored).token_bytes
    split.with_name("split-00002-of-00002.gguf").rename(split.with_name("gone"))
    assert ExpertWatch.open(split, memory_bytes=0) is None
    split.with_name("gone").rename(split.with_name("split-00002-of-00002.gguf"))


@exchanges
def test_what_is_held_can_be_taken_while_nothing_is_computed(hashed: Path) -> None:
    watch = in_memory(hashed, BUDGETS["all fit"])
    backend = LlamaCppBackend.open(
        hashed, name="m", context_tokens=256, threads=1, on_progress=lambda _: True, watch=watch
    )
    backend.sync(PROMPT, lambda *_: None, lambda: False)
    found = [backend.logits().copy()]
    for token in WRITTEN:
        assert backend.relieve(1 << 40) > 0
        watch.allow(6 * ONE)
        found.append(backend.step(token).copy())
        counts = backend.expert_counts
        assert counts is not None and counts.in_memory == 0
    backend.close()
    assert all(np.array_equal(a, b) for a, b in zip(found, as_mapped(hashed), strict=True))


@exchanges
def test_a_model_that_may_hold_nothing_any_more_goes_on_from_the_mapped_file(hashed: Path) -> None:
    watch = in_memory(hashed, BUDGETS["all fit"])
    backend = LlamaCppBackend.open(
        hashed, name="m", context_tokens=256, threads=1, on_progress=lambda _: True, watch=watch
    )
    backend.sync(PROMPT, lambda *_: None, lambda: False)
    found = [backend.logits().copy()]
    assert backend.relieve(1 << 40) > 0
    found += [backend.step(token).copy() for token in WRITTEN]
    assert watch.asked_bytes == len(WRITTEN) * ranges_of(hashed).token_bytes
    assert not watch.failed and watch.relieve(1 << 40) == 0
    backend.close()
    assert all(np.array_equal(a, b) for a, b in zip(found, as_mapped(hashed), strict=True))


class Broken:
    """A reader whose disk fails from a piece on, as often as it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int, error: BaseException) -> None:
        self.left, self.times = after, 1
        whole = DirectReader._read

        def read(reader: DirectReader, piece: Wanted) -> None:
            self.left -= 1
            if self.left < 0 and self.times > 0:
                self.times -= 1
                raise error
            whole(reader, piece)

        monkeypatch.setattr(DirectReader, "_read", read)


@exchanges
@pytest.mark.parametrize("after", [0, 3, 60, 75])
@pytest.mark.parametrize("budget", ["a prompt's fit", "all fit"])
def test_a_disk_that_fails_ends_the_answer_and_the_next_one_is_right(
    scored: Path, monkeypatch: pytest.MonkeyPatch, after: int, budget: str
) -> None:
    """Wherever it fails: in a layer met for the first time, in a prompt, in the first stage of a token or its last."""
    mapped = as_mapped(scored)
    broken = Broken(monkeypatch, after, OSError(5, "Input/output error"))
    backend = LlamaCppBackend.open(
        scored, name="m", context_tokens=256, threads=1, on_progress=lambda _: True,
        watch=in_memory(scored, BUDGETS[budget]),
    )  # fmt: skip

    def answer() -> list[Any]:
        backend.sync(PROMPT, lambda *_: None, lambda: False)
        return [backend.logits().copy()] + [backend.step(token).copy() for token in WRITTEN]

    failed = False
    try:
        found = answer()
    except GenerationError as error:
        failed = True
        assert "could not be read from the disk (Input/output error)" in str(error)
        assert list(backend.held) == []
        found = answer()
    assert failed == (broken.times == 0)
    assert failed or after > 3
    assert all(np.array_equal(a, b) for a, b in zip(found, mapped, strict=True))
    backend.close()


@exchanges
def test_a_file_that_changes_under_it_ends_the_answer(hashed: Path, tmp_path: Path) -> None:
    path = tmp_path / "copy.gguf"
    path.write_bytes(hashed.read_bytes())
    watch = in_memory(path, BUDGETS["all fit"])
    backend = LlamaCppBackend.open(
        path, name="m", context_tokens=256, threads=1, on_progress=lambda _: True, watch=watch
    )
    backend.sync(PROMPT, lambda *_: None, lambda: False)
    with path.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"x")
    with pytest.raises(GenerationError, match="changed while it was in use"):
        backend.step(80)
    backend.close()


@exchanges
@pytest.mark.parametrize("what", ["take", "drop"])
@pytest.mark.parametrize("call", [1, 4, 12])
def test_memory_that_is_refused_leaves_the_file_mapped_and_the_numbers_right(
    hashed: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, what: str, call: int
) -> None:
    calls = 0
    real = getattr(expert_memory, what)

    def refused(*arguments: int) -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            raise OSError(12, "Cannot allocate memory")
        real(*arguments)

    mapped = as_mapped(hashed)
    monkeypatch.setattr(expert_memory, what, refused)
    watch = in_memory(hashed, BUDGETS["a prompt's do not fit" if call > 9 else "a prompt's fit"])
    with caplog.at_level(logging.WARNING, "engine.backends.llama_experts"):
        found = run(hashed, watch)
    assert all(np.array_equal(a, b) for a, b in zip(found, mapped, strict=True))
    assert watch.failed and watch.way == "mapped"
    told = [record.message for record in caplog.records if record.name == "engine.backends.llama_experts"]
    assert told == ["The chosen experts are not looked at any more: [Errno 12] Cannot allocate memory"]


@exchanges
def test_an_answer_ends_where_not_even_the_file_can_be_mapped_again(
    hashed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: int) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(expert_memory, "drop", refused)
    monkeypatch.setattr(expert_memory, "give_back", refused)
    with pytest.raises(GenerationError, match="Cannot allocate memory"):
        run(hashed, in_memory(hashed, BUDGETS["a prompt's fit"]))


@exchanges
def test_experts_that_do_not_lie_where_the_file_is_mapped_are_left_alone(
    hashed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expert_memory, "mappings_of", lambda _: [])
    watch = in_memory(hashed, BUDGETS["all fit"])
    found = run(hashed, watch)
    assert all(np.array_equal(a, b) for a, b in zip(found, as_mapped(hashed), strict=True))
    assert watch.asked_bytes == len(WRITTEN) * ranges_of(hashed).token_bytes
    assert watch.counts == ExpertCounts()
