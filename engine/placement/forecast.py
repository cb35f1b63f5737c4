"""How fast a model will be on this machine, foretold from its plan and what was measured of the machine.

Owns: the formula and its constants, and how wide the range is that is told. Pure. What is foretold is the processor's
work alone: nothing was measured of GPUs, so for a plan that uses one nothing is said.

A token costs the longer of reading its weights from RAM and multiplying with them, and then what has to come from
the disk first (the formula of mixture-of-experts models, without the parts for a GPU). A prompt is bound by
multiplying, and each of its batches reads nearly every expert once. How often a token's experts are in memory is
not known beforehand: least, if every expert is wanted equally often; more, since neighbouring tokens want the same
ones. Published counts of hits lie between those two curves.
"""

import math
from dataclasses import dataclass

from engine.placement.context_sizes import V4Cache, attended_rows
from engine.placement.hardware_record import HardwareRecord, Observed
from engine.placement.load_plan import LoadPlan
from engine.placement.model_sizes import ModelSizes

TYPICAL_PROMPT_TOKENS = 1000
LONG_PROMPT_TOKENS = 100_000
READING_EFFICIENCY = 0.8
"""Of RAM's rate as measured, that llama.cpp's multiplications with vectors reach where RAM is what limits them."""
DECODE_ARITHMETIC = 0.27
PREFILL_ARITHMETIC = 0.45
DECODE_ATTENTION, PREFILL_ATTENTION = 0.2, 0.3
"""llama.cpp's multiplications, with quantised weights for one token, for many, and in attention, against those of
float32 matrices on one core. Fitted on one processor with AVX-512 to a model of 135M and to V4s of random weights;
docs/placement.md tells how far they were off."""
LAYER_S = 100e-6
"""A layer's operations that are too small to keep threads busy, and the threads' waiting for each other."""
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
    disk_bytes: int
    disk_bytes_per_token: Range
    seen: bool
    """Whether it rests on what this model gave here before."""


def forecast(sizes: ModelSizes, plan: LoadPlan, record: HardwareRecord) -> Forecast | None:
    """The forecast; None where it would rest on something that was not measured: a GPU, or the disk where experts
    come from it."""
    if plan.gpu is not None or (record.disk is None and plan.held_bytes("disk")):
        return None
    return _Forecaster(sizes, plan, record).forecast()


def observed(before: Forecast, decode_tokens_per_s: float, prefill_tokens_per_s: float) -> Observed | None:
    """What a run gave against a forecast that knew of none; None for figures that cannot be."""
    ratios = (
        decode_tokens_per_s / before.decode_tokens_per_s.likely,
        prefill_tokens_per_s / before.prefill_tokens_per_s.likely,
    )
    if not all(0.001 < ratio < 1000 for ratio in ratios):
        return None
    return Observed(decode=ratios[0], prefill=ratios[1])


class _Forecaster:
    def __init__(self, sizes: ModelSizes, plan: LoadPlan, record: HardwareRecord) -> None:
        self._sizes, self._plan, self._record = sizes, plan, record
        self._seen = record.observed.get(sizes.key)
        cores = max(1, record.fingerprint.cores)
        # Threads beyond the cores share their units.
        self._arithmetic_per_s = record.arithmetic_per_s * min(plan.threads, cores)
        alone = record.memory_one_bytes_per_s * plan.threads
        self._reading_per_s = READING_EFFICIENCY * min(record.memory_bytes_per_s, alone)
        self._mapped_per_s = record.disk.mapped_bytes_per_s if record.disk else math.inf

    def forecast(self) -> Forecast:
        share = self._plan.experts_in_memory_share
        decode = self._decode(share)
        prompt = min(TYPICAL_PROMPT_TOKENS, self._plan.context_tokens - 1)
        typical = self._prompt(prompt)
        long = self._prompt(LONG_PROMPT_TOKENS) if self._plan.context_tokens > LONG_PROMPT_TOKENS else None
        missed = [self._sizes.routed_bytes * (1 - hits) for hits in self._hits(share)]
        return Forecast(
            decode_tokens_per_s=decode,
            prefill_tokens_per_s=Range(
                *(prompt / each for each in (typical.high, typical.likely, typical.low))
            ),
            first_token_s=_sum(typical, Range(1 / decode.high, 1 / decode.likely, 1 / decode.low)),
            long_prompt_s=long,
            load_s=self._load(),
            ram_bytes=self._plan.held_bytes("ram"),
            disk_bytes=self._sizes.loaded_bytes + self._sizes.idle_bytes,
            disk_bytes_per_token=Range(missed[2], missed[1], missed[0]),
            seen=self._seen is not None,
        )

    @staticmethod
    def _hits(share: float) -> tuple[float, float, float]:
        """How many of a token's experts are in memory: at worst, likely, at best."""
        return share, share**_LIKELY_HITS, share**_BEST_HITS

    def _decode(self, share: float) -> Range:
        ratio, margin = (self._seen.decode, SEEN_MARGIN) if self._seen else (1.0, UNSEEN_MARGIN)
        worst, likely, best = (ratio / self._token_s(hits) for hits in self._hits(share))
        if self._seen:
            worst = best = likely  # the ratio says already how often they were
        return Range(worst / margin, likely, best * margin)

    def _token_s(self, hits: float) -> float:
        """Seconds for a token with little before it."""
        sizes = self._sizes
        routed = sizes.routed_bytes
        reading_s = (sizes.dense_bytes + hits * routed) / self._reading_per_s
        numbers = sizes.numbers_per_token + sizes.output_numbers
        multiplying_s = numbers / (DECODE_ARITHMETIC * self._arithmetic_per_s)
        rows = attended_rows(sizes.cache, TYPICAL_PROMPT_TOKENS // 2)
        attending_s = self._attention(rows) / (DECODE_ATTENTION * self._arithmetic_per_s)
        waiting_s = (1 - hits) * routed / self._mapped_per_s
        return max(reading_s, multiplying_s) + attending_s + waiting_s + LAYER_S * len(sizes.layers)

    def _prompt(self, tokens: int) -> Range:
        """Seconds to read a prompt of that many tokens into an empty context."""
        sizes, batch = self._sizes, self._plan.micro_batch_tokens
        seconds = tokens * sizes.numbers_per_token / (PREFILL_ARITHMETIC * self._arithmetic_per_s)
        # The depth grows evenly, and what is attended to with it.
        rows = attended_rows(sizes.cache, tokens // 2)
        seconds += tokens * self._attention(rows) / (PREFILL_ATTENTION * self._arithmetic_per_s)
        batches = -(-tokens // batch)
        missing = 1 - self._plan.experts_in_memory_share
        touched = 1 - (1 - sizes.routed_share) ** min(batch, tokens)
        seconds += batches * touched * missing * sizes.expert_bytes / self._mapped_per_s
        seconds += batches * LAYER_S * len(sizes.layers)
        ratio, margin = (self._seen.prefill, SEEN_MARGIN) if self._seen else (1.0, UNSEEN_MARGIN)
        likely = seconds / ratio
        return Range(likely / margin, likely, likely * margin)

    def _attention(self, rows: float) -> float:
        """Multiplications for a token that attends to that many rows: once for scores, once for values."""
        cache = self._sizes.cache
        width = cache.heads * cache.head_dim if isinstance(cache, V4Cache) else cache.hidden
        return 2 * rows * width

    def _load(self) -> Range:
        """From the page cache at best. What is mapped and not copied is read when it is first wanted; that is
        counted for what every token reads."""
        sizes, disk = self._sizes, self._record.disk
        now = sizes.loaded_bytes if self._plan.copied else sizes.dense_bytes
        cached_s = now / self._reading_per_s
        from_disk_s = now / disk.sequential_bytes_per_s if disk else cached_s
        slow_s = max(cached_s, from_disk_s)
        return Range(cached_s, (cached_s + slow_s) / 2, slow_s * UNSEEN_MARGIN)


def _sum(one: Range, other: Range) -> Range:
    return Range(one.low + other.low, one.likely + other.likely, one.high + other.high)
