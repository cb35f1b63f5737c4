"""The native network against `transformers`' DeepseekV4, every part of every layer, and against llama.cpp.

    python -m tests.integration.native_exactness --seeds 3

For each case (release, kind of layers, hashed layers, seed) a small checkpoint is drawn and converted, the reference
computes 700 tokens of it in a process of its own (`.venv-reference`), and the native network computes them
- from the checkpoint's folder, from its GGUF in BF16, from one with F32 in BF16's place, and from one in Q8_0 (there
  the reference is given the numbers that Q8_0 means),
- in one pass, in random chunks, and token by token,
- by the fast paths, which are what people run, and by the reference operators (`kernels.dispatch`; the proofs that
  take minutes by what its environment variable says).
At every position the logits may be 2e-4 of their standard deviation away, every part of every layer 1e-4 of its own
(`native_trace`); choices of experts and of rows are equal, or the tie that parted them is printed and the reference's
taken. `--long`: 16,384 tokens of one small model whose indexer takes 32 of 4,096 rows. `--true-shapes`: two layers of
Flash's own shapes, transformers, llama.cpp and this network of the same weights. `--half`: BF16 activations and the
two smaller kinds of cache, as KL divergence from F32.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from convert.conversion import convert
from convert.conversion_plan import make_plan
from engine.model.checkpoint_weights import open_checkpoint
from engine.model.expert_store import MappedExperts
from engine.model.gguf_weights import open_gguf
from engine.model.network import Network
from kernels.dispatch import VARIABLE, fast_paths_are_wanted
from tests.convert.conversions import Release, checkpoint, job
from tests.integration.native_trace import Reference, Trace
from tests.integration.reference_comparison import (
    MISSING,
    PYTHON,
    RATIOS,
    READY,
    RELEASES,
    ROOT,
    Logits,
    Ratios,
    widened,
)  # fmt: skip

SCRIPT = ROOT / "tests" / "convert" / "reference" / "intermediates.py"
TOKENS = 700
"""Beyond a group of 4, one of 128 and the window, and 512."""
Source = Literal["folder", "bf16", "f32", "q8_0"]
Way = Literal["one pass", "chunks", "tokens", "steps"]
"""steps: single tokens around 4, 128, 256 and 512, chunks between them."""
Kernels = Literal["fast", "reference"]
"""Which implementations of the operators; `fast` has its own for the matrices of FP4 and FP8."""


@dataclass(frozen=True)
class Case:
    """One seeded checkpoint."""

    release: Release
    ratios: Ratios
    hashed: int
    seed: int
    layers: int = 5
    tokens: int = TOKENS
    config: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.release} {self.ratios} hashed {self.hashed} seed {self.seed}"

    def write(self, folder: Path) -> Path:
        """The checkpoint, in `folder`. Eight heads of the indexer: of four, often none is above zero, and rows
        without any are tied by the dozen."""
        config = {"index_n_heads": 8, "num_hash_layers": self.hashed} | self.config
        return checkpoint(
            folder, self.release, ratios=self.ratios, seed=self.seed, layers=self.layers, **config
        )

    @property
    def ids(self) -> list[int]:
        """Drawn from all of the small vocabulary."""
        return [int(each) for each in np.random.default_rng(self.seed).integers(0, 512, self.tokens)]


@dataclass(frozen=True)
class Outcome:
    """One case from one source, read in one way by one implementation."""

    case: Case
    source: Source
    way: Way
    kernels: Kernels
    trace: Trace
    elapsed_s: float

    def __str__(self) -> str:
        what = f"{self.case} from {self.source}, {self.way}, {self.kernels}"
        return f"{what}: {self.trace.summary}, {self.elapsed_s:.0f} s"


def cases(seeds: Sequence[int]) -> list[Case]:
    """Both releases with both kinds of layers for each seed, and 0, 1 and 3 hashed layers by turns."""
    found = [(seed, release, ratios) for seed in seeds for release in RELEASES for ratios in RATIOS]
    return [
        Case(release, ratios, (3, 0, 1)[(number + seed) % 3], 10 * seed + number % 4)
        for number, (seed, release, ratios) in enumerate(found)
    ]


def way_of(way: Way, tokens: int, seed: int) -> list[int]:
    """The sizes of the parts in which so many tokens are read."""
    if way == "one pass":
        return [tokens]
    if way == "tokens":
        return [1] * tokens
    if way == "steps":
        sizes: list[int] = []
        done = 0
        for edge in (4, 128, 256, 512):
            if edge + 5 > tokens:
                break
            sizes += [edge - 5 - done] if edge - 5 > done else []
            sizes += [1] * (edge + 5 - max(done, edge - 5))
            done = edge + 5
        return sizes + ([tokens - done] if tokens > done else [])
    random = np.random.default_rng(seed + 1000)
    sizes = []
    while (left := tokens - sum(sizes)) > 0:
        sizes.append(min(left, int(random.choice([1, 2, 3, 4, 5, 7, 8, 31, 64, 127, 128, 129, 200]))))
    return sizes


# --- the reference ---------------------------------------------------------------------------------


def run_reference(folder: Path, tasks: Sequence[dict[str, Any]]) -> None:
    """Compute the tasks of tests/convert/reference/intermediates.py, by a process whose path lacks this checkout."""
    (folder / "tasks.json").write_text(json.dumps(tasks), encoding="utf-8")
    command = [str(PYTHON), "-I", str(SCRIPT), str(folder / "tasks.json")]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def q8_0_numbers(source: Path, converted: Path, folder: Path) -> Path:
    """The numbers that a Q8_0 file means, under the names of the checkpoint: decoded here from the format's
    definition (a half-float scale, then 32 signed bytes)."""
    folder.mkdir()
    planned = make_plan(job(source, converted, dense="q8_0", draft="skip")).files["model"]
    content = np.memmap(converted, mode="r")
    block = np.dtype([("scale", "<f2"), ("codes", "i1", 32)])
    for target in planned.targets:
        if target.type_name != "Q8_0":
            continue
        start = planned.offset(target)
        blocks = np.frombuffer(content[start : start + target.size_bytes].tobytes(), block)
        numbers = blocks["scale"].astype(np.float32)[:, None] * blocks["codes"].astype(np.float32)
        columns, rows = target.shape
        np.save(folder / f"{target.sources[0]}.npy", numbers.reshape(rows, columns))
    return folder


# --- ours ------------------------------------------------------------------------------------------


@contextmanager
def network(path: Path, **options: Any) -> Iterator[Network]:
    """The network of a checkpoint's folder or of a GGUF, with F32 everywhere unless `options` say otherwise."""
    opened = open_checkpoint(path) if path.is_dir() else open_gguf(path)
    banks = [block.moe.experts for block in opened.weights.blocks]
    try:
        yield Network(
            opened.config,
            opened.weights,
            **({"cache_format": "f32", "experts": MappedExperts(banks)} | options),
        )
    finally:
        opened.close()


@contextmanager
def computed_by(kernels: Kernels) -> Iterator[None]:
    """The operators are those within."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = kernels
    try:
        yield
    finally:
        os.environ.pop(VARIABLE)
        if before is not None:
            os.environ[VARIABLE] = before


def follow(model: Network, ids: Sequence[int], sizes: Sequence[int], trace: Trace) -> Logits:
    """Read the tokens in parts of these sizes; the trace compares as they are computed. The logits of every one."""
    cache, start = model.new_cache(), 0
    found: list[torch.Tensor] = []
    for part in torch.tensor(ids).split(list(sizes)):
        trace.at(start, len(part))
        found.append(model.forward([(cache, part)], logits="all", watch=trace))
        trace.logits(found[-1])
        start += len(part)
    return torch.cat(found).numpy()


def own_logits(model: Network, ids: Sequence[int], size: int = 256) -> Logits:
    """Logits of every position, read in chunks of `size`."""
    cache = model.new_cache()
    parts = torch.tensor(ids).split(size)
    return torch.cat([model.forward([(cache, part)], logits="all") for part in parts]).numpy()


# --- a case ----------------------------------------------------------------------------------------


def sources_of(folder: Path, source: Path, wanted: Sequence[Source]) -> dict[Source, Path]:
    """The checkpoint, and the files that are made of it."""
    found: dict[Source, Path] = {"folder": source}
    if "bf16" in wanted or "f32" in wanted:
        (found["bf16"],) = convert(job(source, folder / "bf16.gguf", dense="bf16", draft="skip"))
    if "f32" in wanted:
        found["f32"] = widened(source, found["bf16"], folder / "f32.gguf")
    if "q8_0" in wanted:
        (found["q8_0"],) = convert(job(source, folder / "q8_0.gguf", dense="q8_0", draft="skip"))
    return {kind: found[kind] for kind in wanted}


Plan = Sequence[tuple[Source, Way, Kernels]]
EVERY: Plan = (
    ("folder", "one pass", "fast"), ("folder", "chunks", "fast"), ("folder", "tokens", "fast"),
    ("folder", "one pass", "reference"), ("folder", "chunks", "reference"), ("folder", "tokens", "reference"),
    ("bf16", "one pass", "fast"), ("bf16", "chunks", "fast"), ("bf16", "chunks", "reference"),
    ("f32", "one pass", "fast"), ("f32", "steps", "fast"),
    ("q8_0", "one pass", "fast"), ("q8_0", "chunks", "fast"),
)  # fmt: skip


def prove(folder: Path, wanted: Sequence[tuple[Case, Plan]]) -> Iterator[Outcome]:
    """Every case from every source in every way that its plan names. `folder` is for what is written on the way."""
    tasks: list[dict[str, Any]] = []
    files: list[dict[Source, Path]] = []
    for number, (case, plan) in enumerate(wanted):
        own = folder / f"case-{number}"
        own.mkdir()
        files.append(sources_of(own, case.write(own), list(dict.fromkeys(kind for kind, *_ in plan))))
        task = {"checkpoint": str(files[-1].get("folder") or case.write(own)), "tokens": case.ids}
        if any(kind != "q8_0" for kind, *_ in plan):
            tasks.append(task | {"trace": str(own / "reference")})
        if "q8_0" in files[-1]:
            source = Path(str(task["checkpoint"]))
            numbers = q8_0_numbers(source, files[-1]["q8_0"], own / "numbers")
            tasks.append(task | {"trace": str(own / "reference-q8_0"), "replaced": str(numbers)})
    run_reference(folder, tasks)
    for number, (case, plan) in enumerate(wanted):
        for kind, way, kernels in plan:
            name = "reference-q8_0" if kind == "q8_0" else "reference"
            trace = Trace(Reference(folder / f"case-{number}" / name))
            started = time.monotonic()
            with network(files[number][kind]) as model, computed_by(kernels):
                follow(model, case.ids, way_of(way, case.tokens, case.seed), trace)
            yield Outcome(case, kind, way, kernels, trace, time.monotonic() - started)


LONG_TOKENS = 16_384
LONG = Case(
    "preview", "flash", 1, 7, layers=4, tokens=LONG_TOKENS,
    config={
        "hidden_size": 128, "num_attention_heads": 2, "head_dim": 64, "qk_rope_head_dim": 32, "q_lora_rank": 64,
        "o_lora_rank": 32, "n_routed_experts": 4, "moe_intermediate_size": 64, "index_head_dim": 64,
        "index_topk": 32,
    },
)  # fmt: skip
"""The indexer takes 32 of 4,096 rows."""
LONG_REFERENCE_CHUNK = 1024
"""`transformers` masks densely: 16,384 tokens at once would take it some 20 GB."""
LONG_STEPS = 300
"""Single tokens at the end."""


def prove_long(folder: Path, kernels: Kernels) -> Iterator[Outcome]:
    """One sequence of 16,384 tokens, in one pass, then in parts that get larger and at its end singly."""
    source = LONG.write(folder)
    parts = [LONG_REFERENCE_CHUNK] * (LONG_TOKENS // LONG_REFERENCE_CHUNK)
    task = {
        "checkpoint": str(source),
        "tokens": LONG.ids,
        "trace": str(folder / "reference"),
        "chunks": parts,
    }
    run_reference(folder, [task])
    chunks = [511, 513, 1024, 4096, 4097]
    chunks += [LONG_TOKENS - LONG_STEPS - sum(chunks)] + [1] * LONG_STEPS
    ways: dict[Way, list[int]] = {"one pass": [LONG_TOKENS], "chunks": chunks}
    for way, sizes in ways.items():
        trace, started = Trace(Reference(folder / "reference")), time.monotonic()
        with network(source) as model, computed_by(kernels):
            follow(model, LONG.ids, sizes, trace)
        yield Outcome(LONG, "folder", way, kernels, trace, time.monotonic() - started)


def set_kernels() -> Kernels:
    """What the environment says; it decides of the proofs that take minutes."""
    return "fast" if fast_paths_are_wanted() else "reference"


def told(outcome: Outcome) -> bool:
    """Print an outcome with its ties and differences; whether it is as it must be."""
    print(outcome, flush=True)
    for tie in outcome.trace.ties:
        print(f"  {tie}")
    for miss in outcome.trace.misses:
        print(f"  DIFFERS: {miss}", flush=True)
    return not outcome.trace.misses


def main() -> int:
    from tests.integration import native_distances as distances
    from tests.integration.reference_comparison import cases as sharp_cases

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--seed", type=int, default=1, help="the first of them")
    parser.add_argument("--long", action="store_true", help="16,384 tokens, too")
    parser.add_argument(
        "--true-shapes", action="store_true", help="two layers of Flash's, too: up to 13 GB of memory"
    )
    options = parser.parse_args()
    if not READY.exists():
        print(f"not compared with transformers: {MISSING}")
        return 0
    torch.set_num_threads(1)
    right = True
    seeds = range(options.seed, options.seed + options.seeds)
    for case in cases(seeds):
        with tempfile.TemporaryDirectory() as folder:
            for outcome in prove(Path(folder), [(case, EVERY)]):
                right &= told(outcome)
    with tempfile.TemporaryDirectory() as folder:
        sharp = sharp_cases(seeds)
        for found in distances.small_from_llama(Path(folder), sharp):
            print(found, *found.misses, sep="\n  ", flush=True)
            right &= not found.misses
        for number, case in enumerate(sharp):
            source = distances.sharp_checkpoint(Path(folder) / f"halves-{number}", case)
            halves = distances.halves(str(case), source, distances.tokens_of(case))
            print(halves, *halves.misses, sep="\n  ", flush=True)
            right &= not halves.misses
    if options.long:
        with tempfile.TemporaryDirectory() as folder:
            for outcome in prove_long(Path(folder), set_kernels()):
                right &= told(outcome)
    if options.true_shapes:
        with tempfile.TemporaryDirectory() as folder:
            for found in distances.true_shapes(Path(folder)):
                misses = [] if isinstance(found, str) else found.misses
                lines = [*([] if isinstance(found, Trace) else [str(found)]), *misses]
                print(*lines, sep="\n  ", end="\n" if lines else "", flush=True)
                right &= not misses
    return int(not right)


if __name__ == "__main__":
    sys.exit(main())
