"""The generator's files are models of V4 to our own reader and to llama.cpp, and the same each time."""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from convert.gguf_header import read_gguf_header
from engine.backends.llama_experts import ExpertWatch
from engine.backends.llamacpp import LlamaCppBackend
from engine.placement.routing_trace import TraceHead, TraceWriter
from tests.benchmarks.routing_patterns import PATTERNS
from tests.benchmarks.synthetic_v4 import BASES, main, synthetic_shape, write_synthetic
from tests.convert.seeded_checkpoint import SMALL

SMALLER = {key: value for key, value in SMALL.items() if key != "num_hash_layers"}


@pytest.mark.parametrize(("base", "layers", "hashed"), [("flash", 4, False), ("pro", 2, True)])
def test_llama_cpp_runs_it(tmp_path: Path, base: str, layers: int, hashed: bool) -> None:
    path = tmp_path / "synthetic.gguf"
    shape = synthetic_shape(base, layers=layers, hashed=hashed, overrides=SMALLER)
    size_bytes = write_synthetic(path, shape)
    assert path.stat().st_size == size_bytes
    header = read_gguf_header(path)
    names = {tensor.name for tensor in header.tensors}
    last = layers - 1
    assert header.number("deepseek4.hash_layer_count") == (layers if hashed else 3)
    assert (f"blk.{last}.ffn_gate_tid2eid.weight" in names) == hashed
    assert (f"blk.{last}.exp_probs_b.bias" in names) != hashed
    backend = LlamaCppBackend.open(path, name="s", context_tokens=256, threads=1, on_progress=lambda _: True)
    try:
        backend.sync(list(range(3, 200)), lambda *_: None, lambda: False)
        first = backend.logits().copy()
        assert np.isfinite(first).all()
        assert 0.01 < float(first.std()) < 100
        assert not np.array_equal(first, backend.step(200))
    finally:
        backend.close()


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    digests: list[str] = []
    for seed in (1, 1, 2):
        path = tmp_path / "synthetic.gguf"
        write_synthetic(path, synthetic_shape(layers=2, overrides=SMALLER), seed=seed)
        digests.append(hashlib.sha256(path.read_bytes()).hexdigest())
    assert digests[0] == digests[1] != digests[2]


def test_no_two_experts_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "synthetic.gguf"
    write_synthetic(path, synthetic_shape(layers=2, overrides=SMALLER))
    header = read_gguf_header(path)
    tensor = next(each for each in header.tensors if each.name == "blk.0.ffn_up_exps.weight")
    start = header.data_offset + tensor.offset
    experts = np.frombuffer(path.read_bytes()[start : start + tensor.size_bytes], np.uint8).reshape(8, -1)
    assert len({each.tobytes() for each in experts}) == 8
    rows = experts[0].reshape(128, -1)
    assert len({each.tobytes() for each in rows}) == 128


@pytest.mark.slow
@pytest.mark.parametrize("base", BASES)
def test_a_whole_release_fits_where_its_experts_are_holes(tmp_path: Path, base: str) -> None:
    """Two layers of the true shape: of its gigabytes only the dense ones take room."""
    path = tmp_path / "hollow.gguf"
    arguments = ["--base", base, "--layers", "2", "--hollow", "--vocabulary", "512"]
    assert main([str(path), *arguments]) == 0
    header = read_gguf_header(path)
    experts = sum(tensor.size_bytes for tensor in header.tensors if "_exps." in tensor.name)
    config = BASES[base]
    one = 3 * config["hidden_size"] * config["moe_intermediate_size"] * 17 // 32
    assert experts == 2 * config["n_routed_experts"] * one
    if sys.platform == "linux":
        assert path.stat().st_blocks * 512 < path.stat().st_size - experts + (64 << 20)
    path.unlink()  # what is dense in it is large enough


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "mine.gguf"
    path.write_text("mine")
    with pytest.raises(SystemExit):
        main([str(path)])
    assert path.read_text() == "mine"


def test_a_shape_that_would_end_llama_cpp_is_not_made(tmp_path: Path) -> None:
    assert synthetic_shape("flash", layers=2).layer_ratios == (4, 128)
    assert synthetic_shape("flash", layers=3).layer_ratios == (0, 4, 128)
    assert synthetic_shape("pro", layers=63).layer_ratios[-2:] == (128, 4)
    for wrong in (["--layers", "1"], ["--set", "hidden_size=33"], ["--set", "hidden_size"], ["--set", "a=b"]):
        with pytest.raises(SystemExit):
            main([str(tmp_path / "m.gguf"), *wrong])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", PATTERNS)
def test_a_pattern_asks_for_different_experts_and_repeats(name: str) -> None:
    rows = PATTERNS[name](3, 600, 32, 6, 5)
    assert rows.shape == (600, 6)
    assert all(len(set(row)) == 6 for row in rows.tolist())
    assert rows.min() >= 0 and rows.max() < 32
    assert np.array_equal(rows, PATTERNS[name](3, 600, 32, 6, 5))
    assert not np.array_equal(rows, PATTERNS[name](4, 600, 32, 6, 5))


def test_skew_is_what_its_name_says() -> None:
    def top_quarter(rows: np.ndarray) -> float:
        counts = np.sort(np.bincount(rows.reshape(-1), minlength=64))[::-1]
        return float(counts[:16].sum() / counts.sum())

    even, skew = (PATTERNS[name](0, 2000, 64, 6, 0) for name in ("uniform", "skewed"))
    assert top_quarter(even) < 0.32  # a quarter and what chance adds
    assert top_quarter(skew) > 0.5
    topical = PATTERNS["topical"](0, 2048, 64, 6, 0)
    assert top_quarter(topical) < top_quarter(topical[:256])


def recorded(path: Path, layers: int, experts: int = 8, used: int = 2) -> list[np.ndarray]:
    """Write a trace of 40 tokens; what each layer chose."""
    draws = np.random.default_rng(7)
    writer = TraceWriter(path, TraceHead("m", experts, used, tuple(range(1, layers + 1))))
    choices = [
        np.stack([draws.permutation(experts)[:used] for _ in range(40)]).astype(np.int32)
        for _ in range(layers)
    ]
    for layer, each in enumerate(choices, 1):
        writer.add(layer, each)
    writer.close()
    return choices


def test_a_recorded_trace_is_replayed_by_token_id(tmp_path: Path) -> None:
    choices = recorded(tmp_path / "trace", layers=2)
    out = tmp_path / "m.gguf"
    more = [word for key, value in SMALLER.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    assert main([str(out), "--layers", "2", "--routing", f"trace:{tmp_path / 'trace'}", *more]) == 0
    seen: dict[int, list[np.ndarray]] = {}
    watch = ExpertWatch.open(
        out,
        memory_bytes=1 << 40,
        on_choice=lambda layer, each: seen.setdefault(layer, []).append(each.copy()),
    )
    backend = LlamaCppBackend.open(
        out, name="s", context_tokens=256, threads=1, on_progress=lambda _: True, watch=watch
    )
    tokens = [3, 39, 40, 100]
    backend.sync(tokens, lambda *_: None, lambda: False)
    backend.close()
    for layer, each in enumerate(choices):
        assert np.array_equal(np.concatenate(seen[layer]), each[np.array(tokens) % 40])


@pytest.mark.parametrize(
    ("layers", "experts", "why"),
    [(1, 8, "the trace has 1 layers"), (2, 9, "of 2 of 9 experts"), (0, 0, "no such file")],
)
def test_a_trace_that_does_not_fit_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], layers: int, experts: int, why: str
) -> None:
    if layers:
        recorded(tmp_path / "trace", layers, experts)
    more = [word for key, value in SMALLER.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    with pytest.raises(SystemExit):
        main([str(tmp_path / "m"), "--layers", "2", "--routing", f"trace:{tmp_path / 'trace'}", *more])
    assert why in capsys.readouterr().err
    assert not (tmp_path / "m").exists()
