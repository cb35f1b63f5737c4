"""The operators against `transformers`' own modules of DeepseekV4, through small arrays that these have written.

The arrays lie in tests/kernels/goldens, made by tests/kernels/reference/make_goldens.py; the last test makes them
anew where `.venv-reference` is there.
"""

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the native engine has nothing to run on")

from kernels import ops  # noqa: E402
from kernels.matrices import ExpertMatrices, Matrix  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
GOLDENS = ROOT / "tests" / "kernels" / "goldens"
SCRIPT = ROOT / "tests" / "kernels" / "reference" / "make_goldens.py"
PYTHON = ROOT / ".venv-reference" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
READY = ROOT / ".venv-reference" / ".seamount-reference"

F32_NOISE = 2e-6
"""Of the largest number, or of one. Both compute in F32, in other orders: up to six sums of some dozens of numbers
behind each other, each off by a few times 2^-24. Seen: 1.3e-7; it may be more with another library of matrices."""
EPS = {"norm_eps": 1e-6, "eps": 1e-6}
YARN = (16.0, 65536, 32.0, 1.0)
WINDOW, R = 4, 8


@pytest.fixture(params=["reference", "fast"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEAMOUNT_KERNELS", request.param)
    torch.set_num_threads(1)


by_both = pytest.mark.usefixtures("kernels")


def golden(name: str) -> dict[str, torch.Tensor]:
    with np.load(GOLDENS / f"{name}.npz", allow_pickle=False) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def close(found: torch.Tensor, wanted: torch.Tensor) -> None:
    assert found.shape == wanted.shape
    torch.testing.assert_close(found, wanted, atol=F32_NOISE * (1 + float(wanted.abs().max())), rtol=0)


def matrix(w: torch.Tensor) -> Matrix:
    return Matrix("f32", *w.shape, w.contiguous())


@by_both
def test_hyper_connections() -> None:
    g = golden("hyper_connections")
    mixer = [g[f"weight:{name}"] for name in ("fn", "base", "scale")]
    x, post, comb = ops.mix_streams(g["streams"], *mixer, **EPS, iterations=20)
    close(x, g["x"])
    close(post, g["post"])
    close(comb, g["comb"])
    close(ops.merge_streams(g["y"], g["streams"], post, comb), g["merged"])
    head = [g[f"weight:hc_{name}"] for name in ("fn", "base", "scale")]
    close(ops.collapse_streams(g["streams"], *head, **EPS), g["collapsed"])


@by_both
def test_norms() -> None:
    g = golden("norms")
    close(ops.rms_norm(g["x"], g["weight:weight"], 1e-6), g["y"])
    close(ops.rms_norm(g["heads"], None, 1e-6), g["y_heads"])


@by_both
@pytest.mark.parametrize(("kind", "theta", "yarn"), [("main", 1e4, None), ("compress", 1.6e5, YARN)])
def test_rotary(kind: str, theta: float, yarn: Any) -> None:
    g = golden("rotary")
    frequencies = ops.rotary_frequencies(theta, R, yarn)
    # At position 1,048,575, a last bit of a frequency is 0.06 radians: they have to be the same numbers.
    assert torch.equal(frequencies, g[f"frequencies_{kind}"])
    close(ops.rotate(g["x"], g["positions"], frequencies), g[f"turned_{kind}"])
    close(ops.rotate(g["x"], g["positions"], frequencies, inverse=True), g[f"back_{kind}"])


def positioned(pooled: torch.Tensor, norm: torch.Tensor, ratio: int) -> torch.Tensor:
    """Compressed rows as they are attended to: normed, at the position of their first token."""
    at = torch.arange(len(pooled)) * ratio
    return ops.rotate(ops.rms_norm(pooled, norm, 1e-6), at, ops.rotary_frequencies(1.6e5, R, YARN))


def projections(
    hidden: torch.Tensor, weights: dict[str, torch.Tensor], name: str
) -> tuple[torch.Tensor, ...]:
    kv = ops.linear(hidden, weights[f"{name}kv_proj.weight"])
    return kv, ops.linear(hidden, weights[f"{name}gate_proj.weight"]), weights[f"{name}position_bias"]


@by_both
def test_compressors() -> None:
    g = golden("compressors")
    pooled = ops.compress_csa(*projections(g["csa_hidden"], g, "csa:"), None)
    close(pooled, g["csa_pooled"])
    close(positioned(pooled, g["csa:kv_norm.weight"], 4), g["csa_rows"])
    pooled = ops.compress_hca(*projections(g["hca_hidden"], g, "hca:"))
    assert len(pooled) == 2
    close(pooled, g["hca_pooled"])
    close(positioned(pooled, g["hca:kv_norm.weight"], 128), g["hca_rows"])


def choice_of(
    hidden: torch.Tensor, residual: torch.Tensor, w: dict[str, torch.Tensor], name: str
) -> torch.Tensor:
    """The rows that the indexer chooses, from the layer's input and the low-rank query."""
    keys = positioned(ops.compress_csa(*projections(hidden, w, name), None), w[f"{name}kv_norm.weight"], 4)
    at = torch.arange(len(hidden))
    q = ops.linear(residual, w[f"{name}q_b_proj.weight"]).view(len(hidden), 3, 8)
    q = ops.rotate(q, at, ops.rotary_frequencies(1.6e5, R, YARN))
    weights = ops.linear(hidden, w[f"{name}scorer.weights_proj.weight"]) * 8**-0.5 * 3**-0.5
    limits = (at + 1) // 4
    # Turned on both sides, which changes no product.
    return ops.causal_top_k(ops.index_scores(ops.hadamard(q), ops.hadamard(keys), weights, limits), limits, 2)


@by_both
def test_the_indexers_rows_and_choice() -> None:
    g = golden("compressors")
    pooled = ops.compress_csa(*projections(g["csa_hidden"], g, "csa:indexer."), None)
    close(pooled, g["index_pooled"])
    # Theirs are in falling order of score, with -1 behind; ours rise, with -1 in front.
    chosen = choice_of(g["csa_hidden"], g["csa_residual"], g, "csa:indexer.")
    assert torch.equal(chosen, g["index_choice"].sort(dim=1).values)
    g = golden("indexer_scores")
    weights = ops.linear(g["hidden"], g["weight:weights_proj.weight"]) * 8**-0.5 * 3**-0.5
    close(ops.index_scores(g["q"], g["keys"], weights), g["scores"])


@by_both
@pytest.mark.parametrize("kind", ["window", "csa", "hca"])
def test_whole_attention_layers(kind: str) -> None:
    g = golden("attention")
    hidden, w = g[f"{kind}_hidden"], {k.removeprefix(f"{kind}:"): v for k, v in g.items()}
    at = torch.arange(len(hidden))
    frequencies = ops.rotary_frequencies(*((1e4, R, None) if kind == "window" else (1.6e5, R, YARN)))
    residual = ops.rms_norm(ops.linear(hidden, w["q_a_proj.weight"]), w["q_a_norm.weight"], 1e-6)
    q = ops.rms_norm(ops.linear(residual, w["q_b_proj.weight"]).view(len(hidden), 4, 16), None, 1e-6)
    kv = ops.rms_norm(ops.linear(hidden, w["kv_proj.weight"]), w["kv_norm.weight"], 1e-6)
    q, kv = ops.rotate(q, at, frequencies), ops.rotate(kv, at, frequencies)
    rows, visible = None, None
    if kind == "csa":
        rows = positioned(
            ops.compress_csa(*projections(hidden, w, "compressor."), None), w["compressor.kv_norm.weight"], 4
        )
        visible = choice_of(hidden, residual, w, "compressor.indexer.")
    elif kind == "hca":
        rows = positioned(
            ops.compress_hca(*projections(hidden, w, "compressor.")), w["compressor.kv_norm.weight"], 128
        )
        visible = (at + 1) // 128
    y = ops.attend(q, kv, WINDOW, rows, visible, w["sinks"], 16**-0.5)
    y = ops.rotate(y, at, frequencies, inverse=True).flatten(1)
    close(
        ops.linear(ops.grouped_projection(y, matrix(w["o_a_proj.weight"]), 2), w["o_b_proj.weight"]),
        g[f"{kind}_y"],
    )


class Routed:
    """transformers' experts, w1 and w3 of each in one matrix, as a bank."""

    def __init__(self, gate_up: torch.Tensor, down: torch.Tensor) -> None:
        self._gate_up, self._down = gate_up, down

    def matrices(self, expert: int) -> ExpertMatrices:
        gate, up = self._gate_up[expert].chunk(2)
        return ExpertMatrices(matrix(gate), matrix(up), matrix(self._down[expert]))


@by_both
@pytest.mark.parametrize("kind", ["top", "hash"])
def test_routers_and_experts(kind: str) -> None:
    g = golden("experts")
    gate = matrix(g[f"{kind}:weight"])
    bias = g["top:e_score_correction_bias"] if kind == "top" else None
    given = g["hash:tid2eid"][g["tokens"]] if kind == "hash" else None
    chosen, weights = ops.route(g["x"], gate, bias=bias, chosen=given, used=3, scaling=1.5)
    # Theirs are in no order: both by number of the expert.
    ours, theirs = chosen.sort(dim=1), g[f"{kind}_chosen"].sort(dim=1)
    assert torch.equal(ours.values, theirs.values)
    close(weights.gather(1, ours.indices), g[f"{kind}_weights"].gather(1, theirs.indices))
    bank = Routed(g["routed:gate_up_proj"], g["routed:down_proj"])
    close(ops.experts(g["x"], chosen, weights, bank, 0.6), g[f"{kind}_y"])


@by_both
def test_the_shared_expert() -> None:
    g = golden("experts")
    three = ExpertMatrices(*(matrix(g[f"shared:{part}_proj.weight"]) for part in ("gate", "up", "down")))
    close(ops.expert(g["x"], three, 0.6), g["shared_y"])


def test_goldens_tell_errors_apart() -> None:
    """What a port gets wrong is far beyond the bound: the other direction, no clamp, a window of one more."""
    g = golden("hyper_connections")
    turned = ops.merge_streams(g["y"], g["streams"], g["post"], g["comb"].transpose(1, 2))
    assert (turned - g["merged"]).abs().max() > 100 * F32_NOISE
    g = golden("experts")
    three = ExpertMatrices(*(matrix(g[f"shared:{part}_proj.weight"]) for part in ("gate", "up", "down")))
    assert (ops.expert(g["x"], three, 0.0) - g["shared_y"]).abs().max() > 100 * F32_NOISE
    g = golden("attention")
    assert len(g["csa_hidden"]) // 4 > 2  # the indexer leaves rows out
    assert len(g["window_hidden"]) > WINDOW


@pytest.mark.slow
def test_made_anew_they_are_the_same(tmp_path: Path) -> None:
    if not READY.exists():
        pytest.skip("torch and transformers are not there (.venv-reference; `make test` says why)")
    subprocess.run([PYTHON, "-I", SCRIPT, tmp_path], check=True, timeout=150)
    made = sorted(path.name for path in tmp_path.iterdir())
    assert made == sorted(path.name for path in GOLDENS.iterdir())
    for name in made:
        with np.load(GOLDENS / name) as stored, np.load(tmp_path / name) as anew:
            assert stored.files == anew.files
            for key in stored.files:
                wanted = stored[key]
                if wanted.dtype.kind == "f":
                    noise = F32_NOISE * (1 + np.abs(wanted).max())
                    np.testing.assert_allclose(anew[key], wanted, atol=noise, rtol=0, err_msg=f"{name} {key}")
                else:
                    np.testing.assert_array_equal(anew[key], wanted)
