"""With how many threads a model computes: which numbers are worth trying, and which one their times speak for.

Owns: the rules, and their words. Pure. Does not time anything (`engine.backends.llama_threads`), keep anything
(`thread_record`), or know the machine's cores (`engine.backends.cores`).

Two wishes are against each other. llama.cpp's threads wait for each other after every operation, so a single one
that has to share its core with another program holds up all of them: a core that is left free for everything else
makes an answer steady. And where there are few cores, one left free is much of the speed: of two, half. So it
is left free unless using it as well pays clearly.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from engine.placement.load_plan import Decision, LoadPlan

LAST_CORE_GAIN = 1.08
"""What the last free core must bring, as a factor of speed."""
AS_FAST = 0.98
"""Fewer threads are taken where they are at least that fast: they leave more of the machine to others."""
_HALF_FROM_CORES = 8
"""With that many cores memory may well be what limits an answer, and half of them as fast as all."""

Times = Mapping[int, Sequence[float]]
"""Number of threads → seconds, once for each trial."""


@dataclass(frozen=True)
class ThreadChoice:
    """Threads that write an answer and that read a prompt, which llama.cpp takes separately, and how many times as
    fast each is as the threads that would leave a core free (`free`); 1 where it is those."""

    decode: int
    prompt: int
    free: int
    decode_gain: float = 1.0
    prompt_gain: float = 1.0


def free_threads(cores: int) -> int:
    """As many threads as leave one of `cores` free, at least one."""
    return max(1, cores - 1)


def expected_threads(cores: int) -> int:
    """What a trial will most likely find, before there was one: if all cores do the same, the last of up to 13
    brings more than `LAST_CORE_GAIN`."""
    free = free_threads(cores)
    return cores if cores / free >= LAST_CORE_GAIN else free


def candidates(cores: int, processors: int, fast_cores: int = 0) -> tuple[int, ...]:
    """Numbers of threads to try, ascending.

    `cores`: physical ones that may be used; `processors`: the same with hyper-threads; `fast_cores`: of a processor
    whose cores differ, how many are the quick ones, else 0.
    """
    wanted = {free_threads(cores), cores, processors}
    if cores >= _HALF_FROM_CORES:
        wanted.add(cores // 2)
    if 0 < fast_cores < cores:
        wanted |= {fast_cores, free_threads(fast_cores)}
    return tuple(sorted(each for each in wanted if 1 <= each <= max(cores, processors)))


def chosen(times: Times, cores: int) -> int:
    """The number of threads that its times speak for; of numbers about equally fast the smallest.

    Among those that leave one of `cores` free the quickest; more only if that is `LAST_CORE_GAIN` times as fast.
    Raises ValueError where nothing was timed.
    """
    medians = {threads: statistics.median(each) for threads, each in times.items() if each}
    if not medians:
        raise ValueError("no times to choose by")
    sparing = {threads: each for threads, each in medians.items() if threads <= free_threads(cores)}
    greedy = {threads: each for threads, each in medians.items() if threads not in sparing}
    if not sparing or (greedy and min(sparing.values()) >= LAST_CORE_GAIN * min(greedy.values())):
        return _fewest(greedy)
    return _fewest(sparing)


def choice_of(decode: Times, prompt: Times, cores: int) -> ThreadChoice:
    """What trials of both kinds speak for. Without any of prompts they are read by as many as write answers."""
    writing = chosen(decode, cores)
    reading = chosen(prompt, cores) if prompt else writing
    free = free_threads(cores)
    return ThreadChoice(
        writing, reading, free, _gain(decode, writing, free), _gain(prompt, reading, free) if prompt else 1.0
    )


def with_threads(plan: LoadPlan, choice: ThreadChoice) -> LoadPlan:
    """The plan by that choice, with its reason in the place of what had been expected."""
    kept = tuple(each for each in plan.decisions if not is_about_threads(each))
    return replace(
        plan,
        threads=choice.decode,
        prompt_threads=choice.prompt,
        decisions=(*kept, decision_of(choice)),
    )


def decision_of(choice: ThreadChoice) -> Decision:
    """In words."""
    what = counted(choice.decode)
    if choice.prompt != choice.decode:
        what += f" for answers, {choice.prompt} for prompts"
    reasons: list[str] = []
    for threads, gain, doing in (
        (choice.decode, choice.decode_gain, "write"),
        (choice.prompt, choice.prompt_gain, "read prompts"),
    ):
        if threads == choice.free:
            reasons.append(f"{counted(threads)} leave a core free, and more {doing} hardly faster")
        elif gain > 0:
            reasons.append(f"{counted(threads)} {doing} {gain:.2f} times as fast as {choice.free} here")
    return Decision(what, "tried: " + "; ".join(dict.fromkeys(reasons)))


def expected_decision(threads: int, cores: int) -> Decision:
    """Why a plan counts on that many threads that nobody has tried."""
    if cores == 1:
        return Decision(counted(threads), "there is one core")
    if threads < cores:
        why = "one core stays free: a thread that has to share its core holds up all others"
        return Decision(counted(threads), why)
    why = f"a core left free would be one of {cores}; tried when it is loaded"
    return Decision(counted(threads), why)


def is_about_threads(decision: Decision) -> bool:
    """Whether a decision is one of those that this module words."""
    number, _, rest = decision.what.partition(" ")
    return number.isdigit() and rest.startswith("thread")


def counted(threads: int) -> str:
    """`1 thread`, `2 threads`."""
    return f"{threads} thread{'s' if threads != 1 else ''}"


def _fewest(medians: Mapping[int, float]) -> int:
    quickest = min(medians.values())
    return min(threads for threads, each in medians.items() if quickest >= AS_FAST * each)


def _gain(times: Times, threads: int, free: int) -> float:
    """How many times as fast as with `free` threads; 1 where those were not timed."""
    before, now = times.get(free), times.get(threads)
    return statistics.median(before) / statistics.median(now) if before and now else 1.0
