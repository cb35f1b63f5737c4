"""With how many threads a context computes: found by trying when it was just made, or known from an earlier load.

Owns: which work is timed, in which order, and for how long at most. Which number the times speak for is decided by
`placement.thread_choice`, and kept by `thread_record`. Importing this module loads llama.cpp.

The number is settled here once, for as long as the model is loaded: where a token attends to 512 rows and more, the
processor's flash attention cuts them into as many parts as there are threads and adds the parts up
(`use_split_kv_path` in ggml-cpu/ops.cpp), so another number of threads rounds otherwise, and an answer could not be
drawn again.

llama.cpp's own settings of how threads wait (`poll`, priorities of a `ggml_threadpool`) are not used: a build with
OpenMP, as ours is, waits in OpenMP's barriers and never looks at `poll` (ggml-cpu.c).
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from engine.backends.cores import numbers_to_try
from engine.backends.llama_batch import Batch
from engine.backends.llama_library import llama
from engine.errors import ModelLoadError
from engine.placement import hardware
from engine.placement.load_plan import LoadPlan
from engine.placement.thread_choice import (
    ThreadChoice,
    Times,
    choice_of,
    decision_of,
    free_threads,
    with_threads,
)
from engine.placement.thread_record import QUIET_CORES, keep_choice, kept_choice, thread_key

_logger = logging.getLogger(__name__)

LEAST_BUDGET_S = 2.0
LOAD_SHARE = 0.1
"""A trial takes at most `LEAST_BUDGET_S`, or that share of the load before it if this is more."""
_ENOUGH = 0.25
"""Of that time, for single tokens and for prompts each: then no further round is begun."""
ROUNDS, LEAST_ROUNDS = 7, 2
MOST_PROMPT_TOKENS, LEAST_PROMPT_TOKENS = 64, 8
_PROMPT_GAIN = 2
"""A token of a prompt takes at most half of what a single one does (by measuring, a third to a fifth)."""


@dataclass(frozen=True)
class ThreadSearch:
    """Where the number of threads is not set but found. `model_key`: what tells the model from others; `root`: the
    data folder, in which what was found is kept; None: it is found anew each time. `going_on`: asked before each token
    or piece that is timed; False gives the load up. `as_before`: an answer is to go on exactly, so the number is that
    of the load before, also where it was found on a busy machine and might be found better now."""

    model_key: str
    root: Path | None = None
    going_on: Callable[[], bool] = lambda: True
    as_before: bool = False

    @classmethod
    def of(
        cls,
        path: Path,
        root: Path | None,
        going_on: Callable[[], bool] = lambda: True,
        *,
        as_before: bool = False,
    ) -> "ThreadSearch":
        """For the model in a file, known by its name and size."""
        return cls(f"{path.name} {path.stat().st_size}", root, going_on, as_before)

    def settled(self, context: Any, vocabulary_size: int, plan: LoadPlan, load_s: float) -> LoadPlan:
        """The plan with the threads that are best, to which the context is set; nothing is read into it yet, and it
        is as empty afterwards.

        The plan's own where trying would take too long, unless other programs are busy, and where experts come from
        the disk: there waiting is most of the time, and the disk wants a core. Raises ModelLoadError where the load
        is given up.
        """
        choice = self._choice(context, vocabulary_size, plan, load_s)
        if choice is not None:
            plan = with_threads(plan, choice)
        llama.llama_set_n_threads(context, plan.threads, plan.prompt_threads or plan.threads)
        return plan

    def _choice(
        self, context: Any, vocabulary_size: int, plan: LoadPlan, load_s: float
    ) -> ThreadChoice | None:
        numbers, cores = numbers_to_try()
        if len(numbers) < 2 or plan.part_bytes("experts", "disk"):
            return None
        key = thread_key(self.model_key, plan, hardware.processor())
        kept = None if self.root is None else kept_choice(self.root, key, as_before=self.as_before)
        if kept is not None and max(kept.decode, kept.prompt) <= numbers[-1]:
            return kept
        began_s, load = time.perf_counter(), _Load()

        def before_each() -> None:
            if not self.going_on():
                why = "loading was stopped"
                raise ModelLoadError(f"{plan.model} was not loaded", why, "choose it again to load it")

        trial = try_threads(
            context, vocabulary_size, numbers, cores=cores, load_s=load_s, before_each=before_each
        )
        if trial is None:
            busy_cores = load.busy_cores()
            _logger.info("%s: other numbers of threads are not tried, it would take too long", plan.model)
            if busy_cores <= QUIET_CORES:
                return None
            # Perhaps it takes so long because others have a core: then all threads wait for the one without.
            free = free_threads(cores)
            _logger.info("%s: %d threads, since other programs have %.1f cores", plan.model, free, busy_cores)
            choice = ThreadChoice(free, free, free)
            if self.root is not None:
                keep_choice(self.root, key, choice, busy_cores)
            return choice
        found = decision_of(trial.choice)
        _logger.info(
            "%s: %s (%s; it took %.1f s, other programs had %.1f cores)",
            plan.model, found.what, found.why, time.perf_counter() - began_s, trial.busy_cores,
        )  # fmt: skip
        if self.root is not None:
            keep_choice(self.root, key, trial.choice, trial.busy_cores)
        return trial.choice


@dataclass(frozen=True)
class Trial:
    """What was found. `busy_cores`: cores' worth of time that other programs took meanwhile."""

    choice: ThreadChoice
    busy_cores: float


def try_threads(
    context: Any,
    vocabulary_size: int,
    numbers: Sequence[int],
    *,
    cores: int,
    load_s: float,
    before_each: Callable[[], None] = lambda: None,
) -> Trial | None:
    """Time single tokens, and pieces of a prompt, by each of `numbers` threads; None where single tokens would take too
    long or the context refuses.

    The context must be empty, and is empty afterwards; how many threads it is left with is not settled. `load_s`:
    how long the model took to load. `before_each`: called before each that is timed; what it raises ends the trial.
    """
    budget_s = max(LEAST_BUDGET_S, LOAD_SHARE * load_s)
    deadline_s = time.perf_counter() + budget_s
    memory: Any = llama.llama_get_memory(context)
    load = _Load()

    def work(tokens: int) -> Callable[[int], None]:
        batch = Batch(tokens)
        batch.token[:] = range(tokens) if tokens <= vocabulary_size else 0
        batch.position[:] = range(tokens)
        batch.n_seq_and_logits(tokens)

        def run(threads: int) -> None:
            before_each()
            llama.llama_set_n_threads(context, threads, threads)
            if llama.llama_decode(context, batch.batch) != 0:
                raise _Refused
            llama.llama_synchronize(context)
            # Every trial does the same: one token, or piece, at the beginning of an empty context.
            llama.llama_memory_clear(memory, True)

        return run

    try:
        decode = timed(work(1), numbers, _ENOUGH * budget_s, budget_s)
        if decode is None:
            return None
        token_s = max(max(each) for each in decode.values() if each)
        left_s = max(0.0, deadline_s - time.perf_counter())
        # One untimed, and so often each of them.
        runs = 1 + LEAST_ROUNDS * len(numbers)
        room = int(_PROMPT_GAIN * left_s / (runs * token_s))
        count = min(MOST_PROMPT_TOKENS, int(llama.llama_n_ubatch(context)), room)
        prompt = (
            timed(work(count), numbers, _ENOUGH * budget_s, left_s) if count >= LEAST_PROMPT_TOKENS else None
        )
    except _Refused:
        return None
    finally:
        llama.llama_memory_clear(memory, True)
    return Trial(choice_of(decode, prompt or {}, cores), load.busy_cores())


def timed(
    run: Callable[[int], None],
    numbers: Sequence[int],
    enough_s: float,
    most_s: float,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> Times | None:
    """Seconds of `run(threads)` by number of threads, in rounds that go through all of them there and back again, so
    that what else the machine does meets all alike.

    Rounds until `enough_s` have passed, `LEAST_ROUNDS` to `ROUNDS` of them, fewer where they would go beyond `most_s`.
    A number of threads that takes so long has been timed, and one that was not reached has no times. None where the
    first number leaves no room for the others. The first run is not counted: it meets pages that nobody has read yet.
    """
    taken: dict[int, list[float]] = {threads: [] for threads in numbers}
    began_s = round_began_s = clock()
    run(numbers[-1])
    for done in range(ROUNDS):
        round_s = clock() - round_began_s
        passed_s = clock() - began_s
        if done and passed_s > (enough_s if done >= LEAST_ROUNDS else most_s - round_s):
            break
        round_began_s = clock()
        for threads in numbers if done % 2 == 0 else reversed(numbers):
            start_s = clock()
            run(threads)
            now_s = clock()
            taken[threads].append(now_s - start_s)
            first = done == 0 and threads == numbers[0]
            if first and now_s - began_s + (len(numbers) - 1) * (now_s - start_s) > most_s:
                return None
            if now_s - began_s > most_s:
                return taken
    return taken


class _Refused(Exception):  # noqa: N818 - not an error: the trial is left out
    """llama.cpp did not compute it; what a real prompt then meets is told where that is read."""


class _Load:
    """What other programs do, from when it was made on."""

    def __init__(self) -> None:
        self._began_s = time.perf_counter()
        self._system_s, self._own_s = _busy_s(), _own_s()

    def busy_cores(self) -> float:
        """Cores' worth of time that this process has not had."""
        elapsed_s = max(1e-3, time.perf_counter() - self._began_s)
        others_s = (_busy_s() - self._system_s) - (_own_s() - self._own_s)
        return max(0.0, others_s / elapsed_s)


def _busy_s() -> float:
    """Seconds of all processors that were not idle, since the machine began; what a host withheld counts too."""
    times = psutil.cpu_times()
    counted = ("user", "nice", "system", "irq", "softirq", "steal", "interrupt", "dpc")
    return sum(getattr(times, name, 0.0) for name in counted)


def _own_s() -> float:
    own = psutil.Process().cpu_times()
    return own.user + own.system
