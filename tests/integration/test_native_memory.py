"""What memory the native engine takes: the weights once, as pages of the file; nothing of them is copied."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the native engine needs torch")

from tests.benchmarks.synthetic_v4 import synthetic_shape, write_synthetic

ROOT = Path(__file__).resolve().parents[2]
OPENED_MB, WORKED_MB = 32, 192
"""Small vectors; then a band of a few MiB of F32 and what decodes it, activations, what torch's libraries take at their
first use and allocators keep: 147 MB were seen. A copy of this model's experts would add 107 MB, of the rest 400."""

PROGRAM = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from engine.model.expert_store import MappedExperts
from engine.model.gguf_weights import open_gguf
from engine.model.network import Network
from kernels import ops

def own_mb():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024

ops.linear(torch.ones(2, 64), torch.ones(64, 64))  # what torch takes for itself
before = own_mb()
model = open_gguf(Path(sys.argv[1]))
network = Network(model.config, model.weights, cache_format="f32",
                  experts=MappedExperts([block.moe.experts for block in model.weights.blocks]))
opened = own_mb()
cache, largest = network.new_cache(), 0.0
class Watch:
    def note(self, name, layer, value):
        global largest
        largest = max(largest, own_mb())
    def choose(self, name, layer, values):
        return None
tokens = torch.arange(3, 35)
network.forward([(cache, tokens)], watch=Watch())
for token in (5, 6):
    network.forward([(cache, torch.tensor([token]))], watch=Watch())
touched = sum(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines()
              if line.startswith("RssFile")) / 1024
print(opened - before, largest - before, touched, cache.size_bytes / 2**20)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what memory is a process's own")
def test_weights_are_in_memory_once(tmp_path: Path) -> None:
    shape = synthetic_shape(
        "flash",
        layers=4,
        hashed=True,
        overrides={
            "n_routed_experts": 8,
            "vocab_size": 2048,
            "hidden_size": 2048,
            "moe_intermediate_size": 1024,
        },
    )
    size_mb = write_synthetic(tmp_path / "model.gguf", shape) / 2**20
    assert size_mb >= 300
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "model.gguf")],
        capture_output=True, text=True, cwd=ROOT, check=False, timeout=170,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    opened_mb, worked_mb, touched_mb, cache_mb = map(float, done.stdout.split())
    print(f"{size_mb:.0f} MB: opened {opened_mb:.1f}, worked {worked_mb:.1f}, of files {touched_mb:.0f}")
    assert touched_mb > size_mb / 2  # so that it was computed with
    assert opened_mb < OPENED_MB
    assert worked_mb < WORKED_MB + cache_mb


READS = """
import sys, threading
from pathlib import Path
from engine.backends.native import NativeBackend
from engine.placement.native_plan import cache_bytes, compute_bytes
from engine.placement.present_plan import sizes_of_file

def own_bytes():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024

path, tokens, ended = Path(sys.argv[1]), 513, threading.Event()
before = largest = own_bytes()
backend = NativeBackend.open(path, name="m", context_tokens=1024, threads=1, checkpoint_bytes=0)

def look():
    global largest
    while not ended.wait(0.002):
        largest = max(largest, own_bytes())

watcher = threading.Thread(target=look)
watcher.start()
backend.sync([3 + 37 * n * n % 500 for n in range(tokens)], lambda *_: None, lambda: False)
ended.set()
watcher.join()
shape = sizes_of_file(path).cache
print(largest - before, sum(cache_bytes(shape, 1024, "f16")) + compute_bytes(shape, 1024, "f16"))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what memory is a process's own")
def test_a_chunk_of_a_prompt_takes_what_the_plan_says(tmp_path: Path) -> None:
    """Two layers of Flash's true shapes: the plan promises no less than is taken, and no more than twice that."""
    shape = synthetic_shape(
        "flash", layers=2, hashed=True, overrides={"n_routed_experts": 16, "vocab_size": 512}
    )
    write_synthetic(tmp_path / "model.gguf", shape)
    done = subprocess.run(
        [sys.executable, "-c", READS, str(tmp_path / "model.gguf")],
        capture_output=True, text=True, cwd=ROOT, check=False, timeout=170,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    taken, planned = map(int, done.stdout.split())
    print(f"{taken / 1e6:.0f} MB taken, {planned / 1e6:.0f} MB planned")
    assert planned / 2 < taken < planned
