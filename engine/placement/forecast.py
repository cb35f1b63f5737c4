"""How fast a model will be on this machine, foretold from its plan and what was measured of the machine.

Owns: what is told, how wide its range is, and how what a model gave before corrects it. Pure. The times come from
`token_time`.

How often a token's experts are in memory is not known beforehand: least, if every expert is wanted equally often;
more, since neighbouring tokens want the same ones. Published counts of hits lie between those two curves.
"""

import math
from dataclasses import dataclass

from engine.placement.hardware_record import HardwareRecord, Observed
from engine.placement.load_plan import LoadPlan
from engine.placement.model_sizes import ModelSizes
from engine.placement.token_time import TokenTime, gpu_rates

TYPICAL_PROMPT_TOKENS = 1000
LONG_PROMPT_TOKENS = 100_000
OPENING_S, COPYING_BYTES_PER_S = 0.15, 1.4e9
"""A load beside its bytes: vocabulary and context; and how fast weights are copied into the order that the processor
reads fastest. Of a starter of 0.1 GB and a V4 of 1.3 GB, on two cores."""
UNSEEN_MARGIN = 1.4
"""The range is the likely value divided by that, and multiplied, where nothing has run here yet."""
SEEN_MARGIN = 1.15
_LIKELY_HITS, _BEST_HITS = 0.65, 0.36
"""Exponents: of the share s of experts in memory s**1 is hit at worst. Between those of published traces:
9 % in memory: 17 to 42 % hits, 46 %: 64 to 80 %."""


@dataclass(frozen=True)
class Range:
    """A figure with what it may as well be."""

    low: float
    likely: float
    high: float


@dataclass(frozen=True)
class Forecast:
    """What is foretold. Rates in tokens per second with a typical prompt, times in seconds. `long_prompt_s` None:
    the context does not hold it. `disk_bytes_per_token`: of experts, while an answer is written."""

    decode_tokens_per_s: Range
    prefill_tokens_per_s: Range
    first_token_s: Range
    long_prompt_s: Range | None
    load_s: Range
    ram_bytes: int
    gpu_bytes: int
    disk_bytes: int
    disk_bytes_per_token: Range
    seen: bool
    """Whether it rests on what this model gave here before."""


@dataclass(frozen=True)
class Turn:
    """What a turn gave: `read_tokens` were read behind `depth_tokens` others, then `written_tokens` were written.
    Rates in tokens per second; 0: nothing is known of it."""

    depth_tokens: int
    read_tokens: int
    read_per_s: float
    written_tokens: int
    written_per_s: float


def forecast(sizes: ModelSizes, plan: LoadPlan, record: HardwareRecord) -> Forecast | None:
    """The forecast; None where it would rest on something that was not measured: a GPU, or the disk where experts
    come from it; and for a file without a layer to compute."""
    try:
        return _Forecaster(sizes, plan, record).forecast()
    except ValueError:
        return None


def observed_key(sizes: ModelSizes, plan: LoadPlan) -> str:
    """By which is kept what a model gave: the model, and in words what of its plan makes it faster or slower.

    Shares are told in tenths, since what is free differs a little from one load to the next. Threads are left out: they
    are in the formula, and are found only when the model is loaded.
    """
    experts = sizes.expert_bytes

    def tenths(place_bytes: int) -> int:
        return round(10 * place_bytes / experts) if experts else 0

    where = "processor"
    if plan.gpu is not None:
        layers = sum(part.what == "dense" and part.gpu_bytes > 0 for part in plan.parts)
        where = f"{layers} layers and {tenths(plan.part_bytes('experts', 'gpu'))} of 10 experts on {plan.gpu[:100]}"
    disk = tenths(plan.part_bytes("experts", "disk"))
    from_disk = f"{disk} of 10 experts from disk ({plan.experts_read})" if disk else "none from disk"
    form = "mapped" if plan.memory_mapped else "in memory"
    copied = " and copied" if plan.copied else ""
    return (
        f"{sizes.key}: {where}, {from_disk}, {form}{copied}, cache {plan.cache_type}, "
        f"{plan.micro_batch_tokens} at a time"
    )


def observed(sizes: ModelSizes, plan: LoadPlan, record: HardwareRecord, turn: Turn) -> Observed | None:
    """What a turn gave against what would be foretold of it without knowing any; None where it tells nothing.

    A turn has a depth and a length of its own, and is compared with the forecast for those.
    """
    try:
        bare = _Forecaster(sizes, plan, record.model_copy(update={"observed": {}}))
    except ValueError:
        return None
    reading = writing = 0.0
    if turn.read_tokens:
        reading = turn.read_per_s * bare.prompt_s(turn.read_tokens, turn.depth_tokens) / turn.read_tokens
    if turn.written_tokens:
        writing = turn.written_per_s * bare.token_s(_middle(turn))
    ratios = [each if math.isfinite(each) and 0.001 < each < 1000 else None for each in (writing, reading)]
    return None if ratios == [None, None] else Observed(decode=ratios[0], prefill=ratios[1])


def foretold_rates(
    sizes: ModelSizes, plan: LoadPlan, record: HardwareRecord, turn: Turn
) -> tuple[float, float] | None:
    """Tokens read and written per second that are foretold, likely, for a turn of such lengths; None as `forecast`."""
    try:
        forecaster = _Forecaster(sizes, plan, record)
    except ValueError:
        return None
    seen = forecaster.seen
    reading = max(1, turn.read_tokens) / forecaster.prompt_s(max(1, turn.read_tokens), turn.depth_tokens)
    return reading * (seen.prefill or 1.0), (seen.decode or 1.0) / forecaster.token_s(_middle(turn))


def _middle(turn: Turn) -> int:
    """How many tokens are behind one of those that were written."""
    return turn.depth_tokens + turn.read_tokens + turn.written_tokens // 2


class _Forecaster:
    """Raises ValueError for what was not measured, and for a file that is no model: nothing is computed with it."""

    def __init__(self, sizes: ModelSizes, plan: LoadPlan, record: HardwareRecord) -> None:
        if not sizes.numbers_per_token:
            raise ValueError("it has no matrices")
        self._sizes, self._plan, self._record = sizes, plan, record
        self._time = TokenTime(sizes, plan, record)
        self.seen = record.observed.get(observed_key(sizes, plan), Observed())
        share = self._time.host_share_in_memory
        self._hits = (share, share**_LIKELY_HITS, share**_BEST_HITS)
        """How many of a token's experts, of those not on a GPU, are in memory: at worst, likely, at best."""

    def forecast(self) -> Forecast:
        plan, sizes = self._plan, self._sizes
        decode = self._decode()
        prompt = max(1, min(TYPICAL_PROMPT_TOKENS, plan.context_tokens - 1))
        typical = self._prompt(prompt)
        long = self._prompt(LONG_PROMPT_TOKENS) if plan.context_tokens > LONG_PROMPT_TOKENS else None
        missed = [self._time.missed_bytes(hits) for hits in self._hits]
        return Forecast(
            decode_tokens_per_s=decode,
            prefill_tokens_per_s=Range(
                *(prompt / each for each in (typical.high, typical.likely, typical.low))
            ),
            first_token_s=_sum(typical, Range(1 / decode.high, 1 / decode.likely, 1 / decode.low)),
            long_prompt_s=long,
            load_s=self._load(),
            ram_bytes=plan.held_bytes("ram"),
            gpu_bytes=plan.held_bytes("gpu"),
            disk_bytes=sizes.loaded_bytes + sizes.idle_bytes,
            disk_bytes_per_token=Range(missed[2], missed[1], missed[0]),
            seen=self.seen != Observed(),
        )

    def prompt_s(self, tokens: int, depth_tokens: int) -> float:
        """Without what was seen."""
        return self._time.prompt_s(tokens, depth_tokens)

    def token_s(self, depth_tokens: int) -> float:
        """Without what was seen."""
        return self._time.token_s(self._hits[1], depth_tokens)

    def _decode(self) -> Range:
        depth = TYPICAL_PROMPT_TOKENS // 2
        worst, likely, best = (1 / self._time.token_s(hits, depth) for hits in self._hits)
        ratio = self.seen.decode
        if ratio is None:
            return Range(worst / UNSEEN_MARGIN, likely, best * UNSEEN_MARGIN)
        # The ratio says already how often experts were in memory.
        return Range(likely * ratio / SEEN_MARGIN, likely * ratio, likely * ratio * SEEN_MARGIN)

    def _prompt(self, tokens: int) -> Range:
        """Seconds to read a prompt of that many tokens into an empty context."""
        ratio, margin = 1.0, UNSEEN_MARGIN
        if self.seen.prefill is not None:
            ratio, margin = self.seen.prefill, SEEN_MARGIN
        likely = self._time.prompt_s(tokens) / ratio
        return Range(likely / margin, likely, likely * margin)

    def _load(self) -> Range:
        """llama.cpp reads the whole file before anything is computed, a mapped one too (MAP_POPULATE in
        src/llama-mmap.cpp): from the page cache at best. There nothing is left of the beginning of a file that is
        larger than the memory."""
        sizes, plan, disk = self._sizes, self._plan, self._record.disk
        gpu_bytes = sum(plan.part_bytes(what, "gpu") for what in ("experts", "dense", "output", "embedding"))
        whole = sizes.loaded_bytes + (sizes.idle_bytes if plan.memory_mapped else 0)
        cached_s = whole / self._time.reading_per_s
        from_disk_s = whole / disk.sequential_bytes_per_s if disk else cached_s
        rates = gpu_rates(plan, self._record)
        sending_s = gpu_bytes / rates.pageable_bytes_per_s if rates is not None else 0.0
        slow_s = max(cached_s, from_disk_s)
        quick_s = slow_s / UNSEEN_MARGIN if plan.held_bytes("disk") else cached_s
        likely_s = slow_s if plan.held_bytes("disk") else (quick_s + slow_s) / 2
        if plan.copied:
            copying_s = whole / COPYING_BYTES_PER_S
            quick_s, likely_s, slow_s = (max(each, copying_s) for each in (quick_s, likely_s, slow_s))
        return Range(
            OPENING_S + quick_s / UNSEEN_MARGIN,
            OPENING_S + likely_s + sending_s / 2,
            (OPENING_S + slow_s + sending_s) * UNSEEN_MARGIN,
        )


def _sum(one: Range, other: Range) -> Range:
    return Range(one.low + other.low, one.likely + other.likely, one.high + other.high)
