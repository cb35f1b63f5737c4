"""The engine's plan on a GPU against the best that llama-bench finds by a sweep, within the same budgets of memory.

    python -m tests.benchmarks.gpu_sweep --llama-bench PATH [--model FILE] [--budgets 8,24,70] [--json FILE]

Needs an NVIDIA GPU (its memory is read through NVML), a build of llama.cpp that reaches it (LLAMA_CPP_LIB_PATH for
llama-cpp-python, and llama-bench of the same build), 31 GB of disk and 60 GB of RAM.

The model is synthetic: 8 layers of Flash's true shapes, 256 experts each. For each budget llama-bench is put through
micro-batches, each with the fewest layers' experts in RAM with which its GPU memory, as NVML sees it at its highest,
stays within the budget; at the best of those through threads, and mapped instead of pinned. What is best for writing
and what is best for reading a prompt are then run again in turn with the engine, each in a process of its own, once
for each thing that a person may favour. The engine goes its own way: planner, `open_backend`, `sync` and `step`.
Its GPU memory is read in the same way: a plan that breaks the budget fails. Figures are medians; a ratio is ours by
the peer's.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LAYERS = 8
MICRO_BATCHES = (512, 2048, 4096, 8192)
PROMPTS = (2048, 8192)
ANSWER = 64
SHORT_ANSWER = 16
"""Behind a prompt that is timed; its own time is not used."""
CONTEXT = 8448
"""Holds the longest prompt and the answer; the same for both."""
WANTED = 0.97
GIGABYTE = 10**9
Json = dict[str, Any]


class GpuMemory:
    """The highest use of the first GPU's memory while something runs, above what was used before."""

    def __init__(self) -> None:
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        self._used = lambda: int(pynvml.nvmlDeviceGetMemoryInfo(handle).used)
        self._before = self._used()

    def watched(self, command: Sequence[str], limit_s: float) -> tuple[str, int, bool]:
        """What the command prints, the highest use in bytes, and whether it went well."""
        highest, ended = 0, threading.Event()

        def watch() -> None:
            nonlocal highest
            while not ended.wait(0.02):
                highest = max(highest, self._used() - self._before)

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            done = subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, errors="replace", timeout=limit_s
            )
        except subprocess.TimeoutExpired:
            return "", highest, False
        finally:
            ended.set()
            thread.join()
        if done.returncode:
            print(done.stderr[-1500:], file=sys.stderr)
        return done.stdout, highest, done.returncode == 0


class Peer:
    """llama-bench on one model."""

    def __init__(self, program: Path, model: Path, memory: GpuMemory, cores: int) -> None:
        self._program, self._model, self._memory, self._cores = program, model, memory, cores

    def run(
        self,
        *,
        in_ram: int,
        batch: int,
        threads: Sequence[int] = (),
        mode: str = "none",
        prompts: Sequence[int] = PROMPTS,
        answer: int = ANSWER,
        times: int = 2,
    ) -> Json:
        """Tokens per second for each prompt length ("p2048"), and for an answer by threads ("n15")."""
        command = [
            str(self._program), "-m", str(self._model), "-o", "jsonl", "-ngl", "99", "-sm", "none", "-r", str(times),
            "-lm", mode, "-ncmoe", str(in_ram), "-b", str(batch), "-ub", str(batch),
            "-t", ",".join(map(str, threads or (max(1, self._cores - 1),))),
            "-p", ",".join(map(str, prompts)) or "0", "-n", str(answer),
        ]  # fmt: skip
        text, highest, good = self._memory.watched(command, 240)
        rows = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        found: Json = {"in_ram": in_ram, "batch": batch, "mode": mode, "gpu_bytes": highest, "good": good}
        for row in rows:
            key = f"p{row['n_prompt']}" if row["n_prompt"] else f"n{row['n_threads']}"
            found[key] = list(row["samples_ts"])
        return found


def rate(found: Json, prefix: str) -> float:
    """The best median of a run's figures whose names begin so; 0 for none."""
    return max(
        (statistics.median(each) for key, each in found.items() if key.startswith(prefix)), default=0.0
    )


def sweep(
    peer: Peer, budget_bytes: int, cores: int, layers: int, layer_bytes: int, told: list[Json]
) -> list[Json]:
    """Everything that was tried within a budget, the runs that broke it left out."""
    kept: list[Json] = []
    for batch in MICRO_BATCHES:
        # From the fewest layers in RAM that could fit on; what a run took tells how many more it needs.
        in_ram = 0 if budget_bytes > layers * layer_bytes else layers - budget_bytes // layer_bytes
        while in_ram <= layers:
            known = [each for each in told if each["in_ram"] == in_ram and each["batch"] == batch]
            # Batches of 512 with experts in RAM read long prompts for half a minute, and are never the best at it.
            prompts = PROMPTS[:1] if in_ram and batch == MICRO_BATCHES[0] else PROMPTS
            found = known[0] if known else peer.run(in_ram=in_ram, batch=batch, prompts=prompts)
            if not known:
                told.append(found)
            if found["good"] and found["gpu_bytes"] <= budget_bytes:
                kept.append(found)
                break
            over = found["gpu_bytes"] - budget_bytes if found["good"] else layer_bytes
            in_ram += max(1, -(-over // layer_bytes))
    if not kept:
        return kept
    best = max(kept, key=lambda each: rate(each, "n"))
    if best["in_ram"]:
        more = [max(1, cores - 4), max(1, cores - 2), cores]
        kept.append(peer.run(in_ram=best["in_ram"], batch=best["batch"], threads=more, prompts=()))
    reader = max(kept, key=lambda each: rate(each, f"p{PROMPTS[-1]}"))
    if reader["in_ram"]:
        kept.append(
            peer.run(
                in_ram=reader["in_ram"], batch=reader["batch"], mode="mmap", prompts=PROMPTS[:1], times=1
            )
        )
    return [each for each in kept if each["good"] and each["gpu_bytes"] <= budget_bytes]


def ours(model: Path, root: Path | None, budget_bytes: int, favour: str, times: int) -> Json:
    """In a process of its own: the model opened by the engine's plan and run as an answer runs."""
    from engine.backends.opening import open_backend
    from engine.model_bench import Run, run_model
    from engine.placement.planner import Wishes
    from engine.protocol import ModelEntry

    entry = ModelEntry(
        id="synthetic", name="synthetic", path=str(model), size_bytes=model.stat().st_size, source="file"
    )
    wishes = Wishes(CONTEXT, gpu_budget_bytes=budget_bytes, favour=favour)  # type: ignore[arg-type]
    began_s = time.monotonic()
    backend = open_backend(entry, wishes=wishes, on_progress=lambda _: True, root=root)
    load_s = time.monotonic() - began_s
    plan, taken = backend.plan, backend.taken
    assert plan is not None
    found: Json = {
        "favour": favour, "batch": plan.micro_batch_tokens, "threads": plan.threads, "load_s": load_s,
        "gpu": plan.gpu, "planned_gpu_bytes": plan.held_bytes("gpu"), "planned_ram_bytes": plan.held_bytes("ram"),
        "taken": None if taken is None else vars(taken), "mapped": plan.memory_mapped,
        "decisions": [f"{each.what} ({each.why})" for each in plan.decisions],
        "foretold": _foretold(model, root, backend),
    }  # fmt: skip

    def measured(prompts: Sequence[int], answer: int) -> list[Run]:
        return run_model(backend, prompts, (0,), lambda _: None, decoded_tokens=answer)

    # As llama-bench does: everything once before it is timed, and answers behind nothing.
    measured(PROMPTS, SHORT_ANSWER)
    for _ in range(times):
        for run in measured(PROMPTS, SHORT_ANSWER):
            found.setdefault(f"p{run.prompt_tokens}", []).append(run.prefill_tokens_per_s)
        found.setdefault("n", []).append(measured((1,), ANSWER)[0].decode_tokens_per_s)
    backend.close()
    return found


def _foretold(model: Path, root: Path | None, backend: Any) -> Json:
    """What the formula says of this plan, by the record of this machine in the data folder `root`."""
    from engine.placement.hardware_record import read_record
    from engine.placement.present_plan import sizes_of_file
    from engine.placement.token_time import TokenTime

    record = None if root is None else read_record(root)
    if record is None:
        return {}
    times = TokenTime(sizes_of_file(model), backend.plan, record)
    return {"n": 1 / times.token_s(1.0, ANSWER)} | {
        f"p{each}": each / times.prompt_s(each) for each in PROMPTS
    }


def main(argv: Sequence[str] | None = None) -> bool:
    """Print the ratios; True when every one holds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--llama-bench", type=Path, required=True)
    parser.add_argument("--model", type=Path, help="keep the model there, and use it if it is there")
    parser.add_argument(
        "--root", type=Path, help="a data folder: this machine is measured into it unless it was"
    )
    parser.add_argument("--sweep-only", action="store_true")
    parser.add_argument("--budgets", default="8,24,70", help="gigabytes (10^9)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="everything that was seen, a line each")
    parser.add_argument("--swept", type=Path, help="an earlier --json: its sweep is taken, not run again")
    parser.add_argument("--ours", nargs=3, metavar=("BUDGET", "FAVOUR", "TIMES"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.ours:
        budget, favour, times = options.ours
        print(json.dumps(ours(options.model, options.root, int(budget), favour, int(times))))
        return True
    with tempfile.TemporaryDirectory() as folder:
        model: Path = options.model or Path(folder) / "synthetic.gguf"
        if not model.exists():
            from tests.benchmarks.synthetic_v4 import synthetic_shape, write_synthetic

            write_synthetic(model, synthetic_shape(layers=LAYERS))
        return _measured(options, model)


def _measured(options: argparse.Namespace, model: Path) -> bool:
    from engine.placement.hardware import processor
    from engine.placement.present_plan import sizes_of_file

    sizes = sizes_of_file(model)
    layer_bytes = max(each.expert_bytes for each in sizes.layers)
    cores = processor().cores
    if options.root is not None:
        _measure(options.root, model.parent)
    memory = GpuMemory()
    peer = Peer(options.llama_bench, model, memory, cores)
    told: list[Json] = []
    holds = True
    for budget in options.budgets.split(","):
        budget_bytes = int(float(budget) * GIGABYTE)
        kept = _swept(options.swept, budget) or sweep(
            peer, budget_bytes, cores, len(sizes.layers), layer_bytes, told
        )
        for each in kept:
            _note(options.json, {"kind": "sweep", "budget": budget, **each})
            _say(f"  {budget} GB, llama-bench", each)
        if not kept:
            print(f"{budget} GB: llama-bench found no setting that fits")
            continue
        if not options.sweep_only:
            holds = _compared(options, model, memory, peer, budget, kept) and holds
    return holds


def _measure(root: Path, folder: Path) -> None:
    from engine.placement import hardware
    from engine.placement.hardware_record import read_record, write_record
    from engine.placement.measurement import measure

    if read_record(root) is None:
        told = hardware.llama_cpp()
        gpus = () if isinstance(told, str) else told.gpus
        record, _ = measure(folder, lambda _: None, gpus)
        root.mkdir(parents=True, exist_ok=True)
        write_record(root, record)


def _compared(
    options: argparse.Namespace, model: Path, memory: GpuMemory, peer: Peer, budget: str, kept: list[Json]
) -> bool:
    """The engine, once for each favour, and the peer's best settings, in turn."""
    budget_bytes = int(float(budget) * GIGABYTE)
    best = {
        name: max(kept, key=lambda each: rate(each, name))
        for name in ("n", *(f"p{count}" for count in PROMPTS))
    }
    settings = {(each["in_ram"], each["batch"]): each for each in best.values()}
    threads = _best_threads(kept)
    seen: dict[str, list[float]] = {}
    lines: dict[str, Json] = {}
    favours = ["balanced", "answers", "prompts"]
    root = [] if options.root is None else ["--root", str(options.root)]
    for _ in range(options.rounds):
        for favour in list(favours):
            text, highest, good = memory.watched(
                [sys.executable, "-m", "tests.benchmarks.gpu_sweep", "--llama-bench", str(options.llama_bench),
                 "--model", str(model), *root, "--ours", str(budget_bytes), favour, "2"], 240,
            )  # fmt: skip
            if not good:
                print(f"{budget} GB, ours, {favour}: FAILED")
                return False
            found = json.loads(text.splitlines()[-1]) | {"gpu_bytes": highest}
            same = lines.get("balanced", found)
            if (
                favour not in lines
                and favour != "balanced"
                and same["decisions"][:3] == found["decisions"][:3]
            ):
                favours.remove(favour)  # the same plan
                continue
            lines[favour] = found
            _note(options.json, {"kind": "ours", "budget": budget, **found})
            for key in ("n", *(f"p{count}" for count in PROMPTS)):
                seen.setdefault(f"{favour} {key}", []).extend(found[key])
        for in_ram, batch in settings:
            found = peer.run(in_ram=in_ram, batch=batch, threads=(threads,), times=2)
            _note(options.json, {"kind": "peer", "budget": budget, **found})
            for key in ("n", *(f"p{count}" for count in PROMPTS)):
                values = [value for name, each in found.items() if name.startswith(key) for value in each]
                seen.setdefault(f"peer {key} {in_ram} {batch}", []).extend(values)
    median = {key: statistics.median(each) for key, each in seen.items() if each}
    holds = True
    for favour, found in lines.items():
        words: list[str] = []
        for key in ("n", *(f"p{count}" for count in PROMPTS)):
            other = max(value for name, value in median.items() if name.startswith(f"peer {key} "))
            mine = median[f"{favour} {key}"]
            words.append(f"{key} {mine:.1f} ÷ {other:.1f} = {mine / other:.3f}")
        within = found["gpu_bytes"] <= budget_bytes
        taken = (found["taken"] or {}).get("gpu_bytes", 0)
        print(
            f"{budget} GB, {favour}: "
            + ", ".join(words)
            + f"; batch {found['batch']}, {found['threads']} threads; "
            f"planned {found['planned_gpu_bytes'] / 1e9:.2f} GB on the GPU, taken {taken / 1e9:.2f}, "
            f"NVML {found['gpu_bytes'] / 1e9:.2f}{'' if within else ': OVER THE BUDGET'}",
            flush=True,
        )
        if found["foretold"]:
            words = [
                f"{key} {told:.1f} ({told / median[f'{favour} {key}'] - 1:+.0%})"
                for key, told in found["foretold"].items()
            ]
            print("    foretold: " + ", ".join(words), flush=True)
        holds = holds and within
    aims = {"n": ("answers", "balanced"), **{f"p{count}": ("prompts", "balanced") for count in PROMPTS}}
    for key, favours in aims.items():
        other = max(value for name, value in median.items() if name.startswith(f"peer {key} "))
        mine = max(median.get(f"{favour} {key}", 0.0) for favour in favours)
        holds = holds and mine >= WANTED * other
    return holds


def _best_threads(kept: list[Json]) -> int:
    answers = [
        (statistics.median(each), int(key[1:]))
        for found in kept
        for key, each in found.items()
        if key[:1] == "n" and key[1:].isdigit()
    ]
    return max(answers)[1]


def _swept(path: Path | None, budget: str) -> list[Json]:
    if path is None:
        return []
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [each for each in rows if each["kind"] == "sweep" and each["budget"] == budget]


def _note(path: Path | None, line: Json) -> None:
    if path is not None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _say(words: str, found: Json) -> None:
    figures = ", ".join(
        f"{key} {statistics.median(each):.1f}" for key, each in found.items() if isinstance(each, list) and each
    )  # fmt: skip
    print(
        f"{words}: {found['in_ram']} layers in RAM, batch {found['batch']}, {found['mode']}, "
        f"{found['gpu_bytes'] / 1e9:.2f} GB: {figures}",
        flush=True,
    )


if __name__ == "__main__":
    raise SystemExit(not main())
