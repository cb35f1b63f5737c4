"""Decoding with experts that do not fit into memory: Seamount's way against plain llama.cpp, mapped.

    python -m tests.benchmarks.experts_from_disk            needs 8 GB in the temporary folder (TMPDIR)

The model is synthetic: 6 layers of 96 experts, each matrix of Flash's exact size, routed by token id, so that all
ways read the same 108 matrices (481 MB) for a token. What is not experts is small: the disk is what is measured. Two
traces: uniform, and skewed (the expert at rank r asked for as 1/(r+1)).

Two states of memory. "squeezed": a memory control group (Linux, root) in which the process and its page cache may
have a third of the file; plain llama.cpp has all of it for its page cache, Seamount a budget for experts that leaves
`REST_BYTES` of it to the rest. "cold": everything is dropped before each token, the dense part too, so all of it comes
from the disk; needs no rights. All ways run in one process, on one file, in turn, on the same tokens; before each run
everything of all of them is dropped, and its first tokens, which fill the memory, are not counted. In the same round
the disk is read past the page cache (O_DIRECT, 4 threads) where the last tokens' experts lie, before and after the
run of Seamount's way. Figures are the medians of the rounds' own ratios; a token at the disk's rate reads all its
experts.

`--also` adds ways, for what each part gives: "advice" (the system is asked to read ahead what was chosen, and keeps
what it likes), "one stage" (computing waits for all of a layer), "fresh pages" (pages are freed and filled anew, not
moved), "least recent" (what was not asked for the longest goes first). `--prompt N` reads prompts of N tokens instead.
"""

import argparse
import contextlib
import ctypes
import json
import mmap
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

LAYERS, EXPERTS, USED = 6, 96, 6
SHAPE = {
    "n_routed_experts": EXPERTS, "num_experts_per_tok": USED, "hidden_size": 256, "moe_intermediate_size": 32768,
    "num_attention_heads": 4, "head_dim": 128, "q_lora_rank": 128, "o_groups": 2, "o_lora_rank": 64,
    "index_n_heads": 4, "index_topk": 16, "vocab_size": 1024,
}  # fmt: skip
SKEWED_FROM = 512
"""Token ids from here on are routed by skew, those below evenly."""
UNCOUNTED, COUNTED, ROUNDS = 6, 6, 5
MEMORY_SHARE = 1 / 3
REST_BYTES = 450 << 20
"""Python and its libraries, a context for each way, and what is not experts."""
BATCH_BYTES = 4 * USED * SHAPE["moe_intermediate_size"] * 4
"""What computing a batch takes for each token and context: a few rows as long as these experts are wide, in F32."""
ALSO = ("advice", "one stage", "fresh pages", "least recent")
DIRECT_TOKENS, DIRECT_THREADS = 4, 4
NEEDED_BYTES = 8 << 30
RATIO_WANTED, DISK_WANTED = 2.5, 0.75
ROOT = Path(__file__).resolve().parents[2]
GROUPS = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))
EVERYTHING = 1 << 60
_MADV_DONTNEED = 4


def write_model(path: Path) -> None:
    """The synthetic model, 8 GB."""
    from tests.benchmarks.synthetic_v4 import synthetic_shape, write_synthetic

    write_synthetic(path, synthetic_shape(layers=LAYERS, hashed=True, overrides=SHAPE), routes=routes)


def routes(layer: int) -> Any:
    """Half of the vocabulary goes to uniformly drawn experts, half to skewed ones."""
    import numpy as np

    from tests.benchmarks.routing_patterns import skewed, uniform

    rest = SHAPE["vocab_size"] - SKEWED_FROM
    even = uniform(layer, SKEWED_FROM, EXPERTS, USED, 0)
    return np.concatenate([even, skewed(layer, rest, EXPERTS, USED, 0)])


@contextlib.contextmanager
def memory_group(limit_bytes: int) -> Iterator[Path | None]:
    """A control group whose processes may have that much memory, page cache included; None if none can be made."""
    for parent in GROUPS:
        folder = parent / f"seamount-benchmark-{os.getpid()}"
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            names = ("memory.limit_in_bytes", "memory.max")
            limit = next((folder / name for name in names if (folder / name).exists()), None)
            if limit is not None:
                limit.write_text(str(limit_bytes))
                yield folder
                return
        finally:
            with contextlib.suppress(OSError):
                folder.rmdir()
    yield None


class Unwatched:
    """In place of a watch: the experts stay mapped (not copied), and no callback is set."""

    reads_ahead = True

    def __init__(self) -> None:
        import llama_cpp.llama_cpp as llama

        self.callback: Any = llama.ggml_backend_sched_eval_callback()

    def settle(self) -> None:
        """Nothing can fail."""

    def relieve(self, _wanted_bytes: int) -> int:
        """Nothing is held."""
        return 0

    def close(self) -> None:
        """Nothing was opened."""


class Decoder:
    """One of the ways, with its own context over the same file."""

    def __init__(self, path: Path, watch: Any) -> None:
        from engine.backends.llamacpp import LlamaCppBackend

        self._watch = watch
        self._backend = LlamaCppBackend.open(
            path, name="synthetic", context_tokens=1024, threads=0, on_progress=lambda _: True, watch=watch
        )
        self._backend.relieve(EVERYTHING)

    def empty(self) -> None:
        """Drop what it holds; it may fill its budget again."""
        self._backend.relieve(EVERYTHING)
        if not isinstance(self._watch, Unwatched):
            self._watch.allow(EVERYTHING)

    def run(self, tokens: Sequence[int], before: Callable[[], None]) -> tuple[float, float, float]:
        """Milliseconds and bytes from the disk for a counted token; the sum of the last logits, to compare."""
        self._read(tokens[:1])
        elapsed_s, read_bytes = 0.0, 0
        logits: Any = None
        for number, token in enumerate(tokens[1:]):
            before()
            start, read = time.perf_counter(), disk_bytes()
            logits = self._backend.step(token)
            if number >= UNCOUNTED:
                elapsed_s += time.perf_counter() - start
                read_bytes += disk_bytes() - read
        return elapsed_s / COUNTED * 1e3, read_bytes / COUNTED, float(logits.sum())

    def read_prompt(self, tokens: Sequence[int]) -> tuple[float, float, float]:
        """As `run`, for a whole prompt that is read at once."""
        start, read = time.perf_counter(), disk_bytes()
        self._read(tokens)
        return (
            (time.perf_counter() - start) * 1e3,
            disk_bytes() - read,
            float(self._backend.logits().sum()),
        )

    def _read(self, tokens: Sequence[int]) -> None:
        # A context that holds something of it would not read it again; nothing in common with the last run's.
        self._backend._clear()
        self._backend.sync(tokens, lambda *_: None, lambda: False)


def decoder(path: Path, way: str, budget_bytes: int) -> Decoder:
    """One of "plain", "ahead" and `ALSO`."""
    from engine.backends.llama_experts import ExpertWatch

    if way == "plain":
        return Decoder(path, Unwatched())
    if way == "advice":
        return Decoder(path, ExpertWatch.open(path, memory_bytes=0))
    watch: Any = ExpertWatch.open(path, memory_bytes=0, experts_bytes=budget_bytes)
    if watch.way != "direct":
        raise SystemExit("experts from disk: this system does not let mapped memory be exchanged")
    memory = watch._memory
    if way == "one stage":
        fetch = memory.fetch

        def whole(layer: int, chosen: Any) -> Any:
            found = fetch(layer, chosen)
            found.wait()
            return found

        memory.fetch = whole
    elif way == "fresh pages":
        memory._can_move = False
    elif way == "least recent":
        memory._resident._half_life = 1.0  # what was asked for last outweighs all before
    return Decoder(path, watch)


class Dropped:
    """Everything of the file out of memory: first out of the mappings, then out of the page cache."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDONLY)
        self._libc = ctypes.CDLL(None)

    def __call__(self) -> None:
        for line in Path("/proc/self/maps").read_text().splitlines():
            if line.endswith(str(self._path)):
                first, last = (int(each, 16) for each in re.split("[- ]", line)[:2])
                self._libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), _MADV_DONTNEED)
        os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def read_directly(path: Path, ranges: Sequence[Any]) -> float:
    """Bytes per second of reading the ranges past the page cache, whole 4 KiB blocks of them."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
    largest = max(each.size_bytes for each in ranges) + 8192
    buffers = [mmap.mmap(-1, largest) for _ in range(DIRECT_THREADS)]  # O_DIRECT wants whole pages

    def read(number: int) -> int:
        done = 0
        for offset, size_bytes, _ in ranges[number::DIRECT_THREADS]:
            start = offset // 4096 * 4096
            end = -(-(offset + size_bytes) // 4096) * 4096
            with memoryview(buffers[number]) as view, view[: end - start] as part:
                done += os.preadv(descriptor, [part], start)
        return done

    start = time.perf_counter()
    with ThreadPoolExecutor(DIRECT_THREADS) as pool:
        done = sum(pool.map(read, range(DIRECT_THREADS)))
    elapsed_s = time.perf_counter() - start
    os.close(descriptor)
    return done / elapsed_s


def disk_bytes() -> int:
    """What this process has had read from disks."""
    return int(re.search(r"^read_bytes: (\d+)", Path("/proc/self/io").read_text(), re.MULTILINE)[1])  # type: ignore[index]


def measure(path: Path, group: str, rounds: int, also: Sequence[str], prompt_tokens: int) -> None:
    """In a process of its own: print a line of JSON for each round and trace."""
    if group:
        (Path(group) / "cgroup.procs").write_text(str(os.getpid()))
    import random

    from convert.gguf_header import read_gguf_header
    from engine.placement.expert_ranges import expert_ranges

    tables = [routes(layer) for layer in range(LAYERS)]
    ranges = expert_ranges(read_gguf_header(path))
    assert ranges is not None
    drop = Dropped(path)
    rest_bytes = REST_BYTES + (2 + len(also)) * prompt_tokens * BATCH_BYTES
    budget_bytes = round(path.stat().st_size * MEMORY_SHARE) - rest_bytes
    decoders = {way: decoder(path, way, budget_bytes) for way in ("plain", "ahead", *also)}
    draws = random.Random(0)
    count = prompt_tokens or 1 + UNCOUNTED + COUNTED
    for number in range(rounds):
        for trace, first, last in (("uniform", 3, SKEWED_FROM), ("skewed", SKEWED_FROM, SHAPE["vocab_size"])):
            tokens = [draws.randrange(first, last) for _ in range(count)]
            wanted = [
                part
                for token in tokens[-DIRECT_TOKENS:]
                for layer, each in ranges.layers.items()
                for part in each.ranges(tables[layer][token].tolist())
            ]
            found: dict[str, Any] = {"round": number, "trace": trace}
            sums: list[float] = []
            rates: list[float] = []
            for name, each in decoders.items() if number % 2 == 0 else reversed(decoders.items()):
                drop()
                if name == "ahead":
                    rates.append(read_directly(path, wanted))

                def before(each: Decoder = each) -> None:
                    if not group:
                        each.empty()
                        drop()

                each.empty()
                done = each.read_prompt(tokens) if prompt_tokens else each.run(tokens, before)
                found[name], found[f"{name}_read"], total = done
                each.empty()
                sums.append(total)
                if name == "ahead":
                    rates.append(read_directly(path, wanted))
            found["same"] = len(set(sums)) == 1
            found["direct_rate"] = 2 / sum(1 / rate for rate in rates)
            found["token_bytes"], found["load"] = ranges.token_bytes, psutil.getloadavg()[0]
            print(json.dumps(found), flush=True)


def main(argv: Sequence[str] | None = None) -> bool:
    """Print the figures; True when both ratios hold for both traces (or nothing could be measured)."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--memory", choices=("squeezed", "cold"), help="default: squeezed where that can be had"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--model", type=Path, help="keep the model there, and use it if it is there")
    parser.add_argument("--also", action="append", choices=ALSO, default=[], help="a further way")
    parser.add_argument("--prompt", type=int, default=0, metavar="TOKENS", help="read prompts, write nothing")
    parser.add_argument("--measure", nargs=2, metavar=("MODEL", "GROUP"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.measure:
        path, group = options.measure
        measure(Path(path), group, options.rounds, options.also, options.prompt)
        return True
    if sys.platform != "linux":
        print("experts from disk: not measured, this system takes no advice on what to read ahead")
        return True
    with tempfile.TemporaryDirectory() as folder:
        path: Path = options.model or Path(folder) / "synthetic.gguf"
        if not path.exists():
            if shutil.disk_usage(path.parent).free < NEEDED_BYTES + (1 << 30):
                print(
                    f"experts from disk: not measured, there are no {NEEDED_BYTES >> 30} GB in {path.parent}"
                )
                return True
            write_model(path)
        with path.open("rb+") as file:  # out of the page cache, which is not charged to the group otherwise
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return _measured(path, options)


def _measured(path: Path, options: argparse.Namespace) -> bool:
    limit_bytes = round(path.stat().st_size * MEMORY_SHARE)
    with memory_group(limit_bytes) if options.memory != "cold" else contextlib.nullcontext() as group:
        if group is None and options.memory == "squeezed":
            print("experts from disk: no memory control group can be made here (that needs root)")
            return False
        state = "cold" if group is None else f"{limit_bytes / 1e9:.1f} of {path.stat().st_size / 1e9:.1f} GB"
        also = [word for way in options.also for word in ("--also", way)]
        done = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.experts_from_disk", *also, "--rounds", str(options.rounds),
             "--prompt", str(options.prompt), "--measure", str(path), "" if group is None else str(group)],
            cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    reports = [
        _report(state, trace, [each for each in found if each["trace"] == trace], options)
        for trace in ("uniform", "skewed")
    ]
    return all(reports)


def _report(state: str, trace: str, rows: Sequence[dict[str, Any]], options: argparse.Namespace) -> bool:
    """Print a trace's figures; whether they hold."""
    middle = statistics.median
    what = f"a prompt of {options.prompt} tokens" if options.prompt else "a token"
    same = all(each["same"] for each in rows)
    ratio = middle(each["plain"] / each["ahead"] for each in rows)
    direct = middle(each["token_bytes"] / each["direct_rate"] * 1e3 / each["ahead"] for each in rows)
    loads = sorted(each["load"] for each in rows)
    print(
        f"experts from disk, memory {state}, {trace}, {len(rows)} rounds, load {loads[0]:.1f} to {loads[-1]:.1f}:"
    )
    for way in ("plain", "ahead", *options.also):
        elapsed_ms, read_bytes = (middle(each[name] for each in rows) for name in (way, f"{way}_read"))
        against = middle(each[way] / each["ahead"] for each in rows)
        print(
            f"  {way:12} {elapsed_ms:6.0f} ms {what}, {read_bytes / 1e6:5.0f} MB read; ÷ ahead {against:.2f}"
        )
    print(f"  logits {'equal' if same else 'DIFFER'}; plain ÷ ahead {ratio:.2f}", end="")
    if options.prompt:
        print(flush=True)
        return same
    rate = middle(each["direct_rate"] for each in rows)
    print(
        f" (≥ {RATIO_WANTED}); ÷ O_DIRECT at {rate / 1e9:.2f} GB/s, "
        f"all {rows[0]['token_bytes'] / 1e6:.0f} MB of a token, {direct:.2f} (≥ {DISK_WANTED})",
        flush=True,
    )
    return same and ratio >= RATIO_WANTED and direct >= DISK_WANTED


if __name__ == "__main__":
    raise SystemExit(not main())
