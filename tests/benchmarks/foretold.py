"""What is foretold of a model on this machine, against what the clock says.

    python -m tests.benchmarks.foretold            # about five minutes, and 5 GB of disk; --quick: two small models
    python -m tests.benchmarks.foretold --keep DIR # models are made there, and used again if they are there

Measures this machine as `seamount bench --hardware` does, and then for each model, in a process of its own, takes
the plan and the forecast that a person would be shown before it is loaded, loads it by the way of an answer
(`open_backend`), reads a typical prompt and writes behind it. Nothing of earlier runs corrects the forecast. Figures
are medians of the rounds; what is compared is the likely value. A load is from the disk: what the system has in
memory of the file is given up before.

Where a memory control group can be made (that needs root), a model runs whose experts do not fit into it.

Wanted: at most 30 % off. Other programs make what is seen slower and not what is foretold, so on a busy machine the
figures mean little; the load is printed.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from tests.benchmarks.against_sweep import ROOT, starter
from tests.benchmarks.experts_from_disk import memory_group
from tests.benchmarks.synthetic_v4 import synthetic_shape, write_synthetic

MOST_OFF = 0.30
ROUNDS, DISK_ROUNDS = 3, 1
CONTEXT = 1280
WRITTEN = 24
_NARROW = {
    "hidden_size": 1024,
    "num_attention_heads": 16,
    "q_lora_rank": 512,
    "o_lora_rank": 256,
    "o_groups": 4,
    "index_n_heads": 16,
    "moe_intermediate_size": 1024,
    "vocab_size": 8192,
}
MODELS: dict[str, tuple[int, dict[str, int]]] = {
    "V4, narrow": (6, _NARROW | {"n_routed_experts": 112}),
    "V4, Flash's width": (4, {"n_routed_experts": 32, "vocab_size": 16384}),
}
"""Layers, and what is otherwise than in Flash: 1.2 and 2.6 GB."""
SQUEEZED = (
    "V4, half its experts on disk",
    (4, _NARROW | {"n_routed_experts": 256, "moe_intermediate_size": 2048}),
)
_PROCESS_BYTES = 300 << 20
"""Of the control group, for Python and its libraries."""


def run(path: Path, root: Path, group: str, rounds: int) -> None:
    """In a process of its own: print what is foretold and what is seen, as a line of JSON."""
    if group:
        (Path(group) / "cgroup.procs").write_text(str(os.getpid()))
    from engine.backends.opening import open_backend
    from engine.model_bench import run_model
    from engine.placement.forecast import TYPICAL_PROMPT_TOKENS, forecast
    from engine.placement.hardware_record import read_record
    from engine.placement.planner import Wishes
    from engine.placement.present_plan import plan_for, sizes_of_file
    from engine.protocol import ModelEntry

    record = read_record(root)
    assert record is not None
    sizes, wishes = sizes_of_file(path), Wishes(CONTEXT)
    planned = plan_for(sizes, wishes)
    told = forecast(sizes, planned, record)
    assert told is not None, "nothing is foretold: the disk of this machine could not be measured"
    entry = ModelEntry(id="m", name="m", path=str(path), size_bytes=0, source="file")
    loads: list[float] = []
    runs: list[Any] = []
    backend: Any = None
    for number in range(rounds):
        if backend is not None:
            backend.close()
        forget(path)
        began_s = time.perf_counter()
        backend = open_backend(entry, wishes=wishes, on_progress=lambda _: True, root=root)
        loads.append(time.perf_counter() - began_s)
        runs += run_model(backend, (TYPICAL_PROMPT_TOKENS,), (0,), lambda _: None, decoded_tokens=WRITTEN)
        del number
    prefill_s = statistics.median(each.prefill_s for each in runs)
    decode_s = statistics.median(each.decode_s for each in runs)
    plan = backend.plan
    backend.close()
    print(
        "> "
        + json.dumps({
            "told": asdict(told),
            "threads": [planned.threads, plan.threads, plan.prompt_threads or plan.threads],
            "disk_share": 1 - planned.experts_in_memory_share,
            "prompt": TYPICAL_PROMPT_TOKENS,
            "prefill": TYPICAL_PROMPT_TOKENS / prefill_s,
            "decode": 1 / decode_s,
            "first": prefill_s + decode_s,
            "load": statistics.median(loads),
        }),
        flush=True,
    )  # fmt: skip


def forget(path: Path) -> None:
    """Give up what the system has in memory of a file, where it takes such advice."""
    if not hasattr(os, "posix_fadvise"):
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def compared(name: str, path: Path, root: Path, *, group: Path | None = None, rounds: int = ROUNDS) -> bool:
    """Print a model's figures; whether each is near enough."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.foretold", "--run", str(path), str(root), str(group or ""),
         str(rounds)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    found = next(json.loads(line[2:]) for line in done.stdout.splitlines() if line.startswith("> "))
    told = found["told"]
    disk = f", {found['disk_share']:.0%} of its experts on disk" if found["disk_share"] else ""
    expected, writing, reading = found["threads"]
    print(
        f"{name}, {path.stat().st_size / 1e9:.1f} GB{disk}: {writing}+{reading} threads ({expected} expected), "
        f"load {psutil.getloadavg()[0]:.1f}"
    )
    holds = True
    for label, key, seen in (
        (f"read {found['prompt']:,}, tok/s", "prefill_tokens_per_s", found["prefill"]),
        ("write, tok/s", "decode_tokens_per_s", found["decode"]),
        ("first token, s", "first_token_s", found["first"]),
        ("load, s", "load_s", found["load"]),
    ):
        likely = told[key]["likely"]
        off = likely / seen - 1
        good = abs(off) <= MOST_OFF
        holds = holds and good
        within = told[key]["low"] <= seen <= told[key]["high"]
        print(
            f"  {label:<18} foretold {likely:>8.2f} ({told[key]['low']:.2f} to {told[key]['high']:.2f})  "
            f"seen {seen:>8.2f}  {off:+.0%}{'' if good else '  TOO FAR'}{'' if within else '  beyond the range'}",
            flush=True,
        )
    return holds


def squeezed(folder: Path, root: Path) -> bool:
    """The model whose experts do not fit into a control group; True where none can be made."""
    from engine.placement.planner import LEAST_RESERVE_BYTES, STATES_BYTES, Room, Wishes, plan
    from engine.placement.present_plan import sizes_of_file

    name, shape = SQUEEZED
    path = made(folder, "squeezed", shape)
    sizes = sizes_of_file(path)
    roomy = plan(sizes, Room(64 << 30, 60 << 30, 2), Wishes(CONTEXT))
    needed = roomy.held_bytes("ram") - roomy.part_bytes("experts", "ram") - STATES_BYTES
    # 6 % of the group are kept free, if that is more than the least.
    limit_bytes = int((needed + sizes.expert_bytes // 2 + _PROCESS_BYTES + LEAST_RESERVE_BYTES) * 1.02)
    forget(path)
    with memory_group(limit_bytes) as group:
        if group is None:
            print(f"{name}: not measured, no memory control group can be made here (that needs root)")
            return True
        return compared(name, path, root, group=group, rounds=DISK_ROUNDS)


def made(folder: Path, name: str, shape: tuple[int, dict[str, int]]) -> Path:
    """The model's file, written unless it is there."""
    path = folder / f"foretold-{name}.gguf"
    if not path.exists():
        layers, overrides = shape
        write_synthetic(path, synthetic_shape(layers=layers, overrides=overrides))
    return path


def main(argv: Sequence[str] | None = None) -> bool:
    """Print the figures; True when each is near enough."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="the starter and the smallest V4")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="make the models there, and leave them")
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.run:
        run(Path(options.run[0]), Path(options.run[1]), options.run[2], int(options.run[3]))
        return True
    from engine.bench_command import lines_of
    from engine.placement.hardware_record import write_record
    from engine.placement.measurement import measure

    began_s = time.monotonic()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        root = folder / "data"
        root.mkdir()
        models: Path = options.keep or folder
        models.mkdir(parents=True, exist_ok=True)
        record, trouble = measure(models, lambda _: None)
        write_record(root, record)
        for line in lines_of(record, trouble):
            print(line, flush=True)
        holds = compared("SmolLM2 135M", starter(), root)
        for number, (name, shape) in enumerate(list(MODELS.items())[: 1 if options.quick else None]):
            path = made(models, str(number), shape)
            holds = compared(name, path, root) and holds
            if options.keep is None:
                path.unlink()
        if not options.quick:
            holds = squeezed(models, root) and holds
    print(f"{time.monotonic() - began_s:.0f} s, {os.cpu_count()} processors")
    return holds


if __name__ == "__main__":
    raise SystemExit(not main())
