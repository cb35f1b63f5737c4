"""What opening a model and looking at every number of it takes of memory that is no file's.

    python -m tests.engine.model.open_model_memory PATH

Run as a process of its own, so that nothing else is counted; tells, as JSON, by how many bytes its anonymous memory
(RssAnon of /proc/self/status) grew when the model at PATH was opened, at its highest while all of it was looked at,
and how many bytes of files lay in memory then. Linux.
"""

import json
import sys
from pathlib import Path

import torch

from engine.model.checkpoint_weights import open_checkpoint
from engine.model.gguf_weights import open_gguf
from kernels.matrices import Matrix


def resident_bytes(kind: str) -> int:
    """ "RssAnon" or "RssFile"."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{kind}:"))


def touched(matrix: Matrix) -> int:
    """The largest byte: all of it was read."""
    flat = matrix.data.view(torch.uint8)
    return max(int(torch.amax(flat[start : start + 64])) for start in range(0, len(flat), 64))


def main() -> None:
    path = Path(sys.argv[1])
    torch.set_num_threads(1)
    touched(Matrix("f32", 1, 32, torch.ones(1, 32)))  # what torch takes for itself at first use
    before = resident_bytes("RssAnon")
    model = open_checkpoint(path) if path.is_dir() else open_gguf(path)
    opened = resident_bytes("RssAnon")
    weights, highest = model.weights, opened
    assert weights.checks is not None
    for layer, block in enumerate(weights.blocks):
        weights.checks.block(layer)
        weights.checks.experts(layer, range(len(block.moe.experts)))
        for expert in range(len(block.moe.experts)):
            three = block.moe.experts.matrices(expert)
            for matrix in (three.gate, three.up, three.down):
                touched(matrix)
        highest = max(highest, resident_bytes("RssAnon"))
    weights.checks.output()
    highest = max(highest, resident_bytes("RssAnon"))
    print(
        json.dumps(
            {
                "file_bytes": model.size_bytes,
                "opened_bytes": opened - before,
                "highest_bytes": highest - before,
                "mapped_bytes": resident_bytes("RssFile"),
            }
        )
    )


if __name__ == "__main__":
    main()
