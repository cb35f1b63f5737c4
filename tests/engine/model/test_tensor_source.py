"""An open model: what it takes of memory, and what is left of it when it is closed."""

import gc
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the native engine needs torch")

from convert.model_shape import ModelShape  # noqa: E402
from engine.model.checkpoint_weights import open_checkpoint  # noqa: E402
from engine.model.gguf_weights import open_gguf  # noqa: E402
from tests.benchmarks.synthetic_v4 import write_synthetic  # noqa: E402
from tests.convert.conversions import checkpoint  # noqa: E402
from tests.convert.seeded_checkpoint import small_config, write_hollow_checkpoint  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]
LARGE: dict[str, Any] = {
    "hidden_size": 1024,
    "moe_intermediate_size": 512,
    "n_routed_experts": 48,
    "num_experts_per_tok": 4,
    "num_hash_layers": 1,
}
"""Eighty megabytes in three layers: much more than the interpreter's own memory wavers by."""
MOST_BYTES = 12 << 20


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="only Linux tells how much memory is no file's"
)
@pytest.mark.parametrize("form", ["gguf", "checkpoint"])
def test_opening_and_reading_a_model_takes_only_its_small_vectors(tmp_path: Path, form: str) -> None:
    config = small_config(layers=3, release="preview", **LARGE)
    if form == "gguf":
        config |= {"num_nextn_predict_layers": 0, "compress_ratios": config["compress_ratios"][:3]}
        path = tmp_path / "large.gguf"
        write_synthetic(path, ModelShape.from_config(config), seed=1)
    else:
        path = write_hollow_checkpoint(tmp_path / "large", config)
    command = [sys.executable, "-m", "tests.engine.model.open_model_memory", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["file_bytes"] > 80e6
    assert found["mapped_bytes"] > 0.8 * found["file_bytes"]  # all of it was read, where it lies
    assert found["opened_bytes"] <= found["highest_bytes"] < MOST_BYTES, found


def test_a_closed_model_has_no_weights_and_those_taken_from_it_stay(tmp_path: Path) -> None:
    made = checkpoint(tmp_path, layers=2, hidden_size=64, n_routed_experts=2, moe_intermediate_size=32)
    model = open_checkpoint(made)
    down = model.weights.blocks[1].moe.experts.matrices(1).down
    before = down.data.clone()
    model.close()
    model.close()
    with pytest.raises(ValueError, match="DeepSeek-V4-Flash is closed"):
        _ = model.weights
    del model
    gc.collect()
    assert torch.equal(down.data, before)


def test_a_model_that_is_refused_lets_go_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF" + bytes(100))
    before = set(Path("/proc/self/fd").iterdir()) if Path("/proc/self/fd").exists() else set[Path]()
    for _ in range(3):
        with pytest.raises(Exception, match=r"broken\.gguf"):
            open_gguf(path)
    after = set(Path("/proc/self/fd").iterdir()) if before else set[Path]()
    assert len(after) <= len(before)
