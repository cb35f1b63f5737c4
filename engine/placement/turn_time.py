"""About how long a typical turn takes with a plan that uses a GPU, to choose between such plans.

Owns: what a typical turn is, the formula, and the rates that it goes by where nothing was measured. Pure. It compares
plans of one model on one machine, so what is the same for all of them hardly matters. Where the machine was measured
the times are those that a person is told (`token_time`).

The choice is how many tokens of a prompt are read at once. Each batch brings the experts that stay in RAM over the bus
once, so few large batches read a prompt faster; but their buffers lie in GPU memory, where experts could have been,
and every token of the answer goes through experts. On an H100 with all experts in RAM, batches of 8,192 read a prompt
1.5 times as fast as those of 2,048.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from engine.placement.context_sizes import V4Cache
from engine.placement.hardware_record import HardwareRecord
from engine.placement.load_plan import LoadPlan
from engine.placement.model_sizes import ModelSizes
from engine.placement.token_time import TokenTime

Favour = Literal["balanced", "answers", "prompts"]
TURNS: dict[Favour, tuple[int, int]] = {
    "balanced": (4000, 500),
    "answers": (1000, 2000),
    "prompts": (32_000, 200),
}
"""Tokens of a typical turn's prompt and of its answer: a page or ten with a question; a question that is answered at
length; a whole report or a folder of code."""
EXPERT_ROWS = 24
"""So many tokens more does each expert compute as it is given in a batch: with 256 experts of which a token goes
through 6, an expert sees 12 tokens of a batch of 512. On an H100 with all of Flash's layers there, batches of 512 read
5,600 tokens a second, of 2,048: 11,200, and of 8,192, where attention looks at more that is masked: 8,700."""
UNNOTICED_S = 0.1
"""What nobody notices of a prompt that takes longer is no loss."""
LAYER_S = 300e-6
"""What a layer costs beside its weights when one token is computed on a GPU. On an H100 a layer of Flash took 0.36 ms
where reading its weights would have taken 0.07."""


class TurnTime(NamedTuple):
    """Seconds for a turn's prompt and for its answer."""

    prompt_s: float
    answer_s: float

    @property
    def turn_s(self) -> float:
        """Both."""
        return self.prompt_s + self.answer_s


@dataclass(frozen=True)
class Rates:
    """What a machine does in a second, in bytes and in multiplications of weights. The defaults are of a middling
    machine of 2022: a GPU with GDDR6X, PCIe 4.0 on 16 lanes, RAM of two channels, a fast NVMe disk read by page faults.
    They are used where nothing was measured."""

    gpu_bytes_per_s: float = 700e9
    gpu_arithmetic_per_s: float = 12e12
    bus_bytes_per_s: float = 22e9
    unpinned_bytes_per_s: float = 7e9
    """Over the bus from memory that the GPU cannot reach by itself, such as a mapped file."""
    ram_bytes_per_s: float = 40e9
    disk_bytes_per_s: float = 1.5e9


def turn_clock(
    sizes: ModelSizes, favour: Favour, record: HardwareRecord | None
) -> Callable[[LoadPlan], TurnTime]:
    """What tells the seconds of a turn with a plan: by what was measured of this machine where that suffices, as it
    is foretold; else by the rates of a middling one."""

    def measured(plan: LoadPlan) -> TurnTime:
        if record is None:
            return turn_time(sizes, plan, favour)
        try:
            times = TokenTime(sizes, plan, record)
        except ValueError:
            return turn_time(sizes, plan, favour)
        prompt, answer = _turn(plan, favour)
        share = times.host_share_in_memory
        return TurnTime(times.prompt_s(prompt), answer * times.token_s(share, prompt + answer // 2))

    return measured


def best_of(times: Sequence[TurnTime], favour: Favour) -> int:
    """Which of these plans to take, by its number: the one with which the turn is shortest. Where nothing is favoured,
    the one that loses least, in parts of the shortest time, where it loses most: an answer is not bought with prompts
    of twice the length, nor the other way round. Of two within a hundredth the earlier; within three hundredths where
    nothing is favoured, which is beyond what the formula knows, and the earlier has the smaller buffers."""
    shortest = (min(each.prompt_s for each in times), min(each.answer_s for each in times))

    def cost(each: TurnTime) -> float:
        if favour != "balanced":
            return each.turn_s
        # The lesser loss decides between plans that lose as much.
        losses = sorted(
            (each_s + UNNOTICED_S) / (least_s + UNNOTICED_S)
            for each_s, least_s in zip(each, shortest, strict=True)
        )
        return losses[1] + 0.1 * losses[0]

    costs = list(map(cost, times))
    near = (1.03 if favour == "balanced" else 1.01) * min(costs)
    return next(at for at, each in enumerate(costs) if each <= near)


def turn_time(
    sizes: ModelSizes, plan: LoadPlan, favour: Favour = "balanced", rates: Rates | None = None
) -> TurnTime:
    """A turn as `favour` has it, as far as the context holds it, by rates that were not measured here."""
    rates = rates or Rates()
    prompt, answer = _turn(plan, favour)
    weights = _Weights.of(plan)
    share = sizes.routed_share
    bus = rates.unpinned_bytes_per_s if plan.memory_mapped else rates.bus_bytes_per_s
    batch = min(plan.micro_batch_tokens, prompt)
    touched = 1 - (1 - share) ** batch
    # llama.cpp copies and then computes, one after the other.
    over_bus = (weights.dense_ram + touched * weights.experts_host) / bus
    from_disk = touched * weights.experts_disk / rates.disk_bytes_per_s
    in_place = (weights.dense_gpu + touched * weights.experts_gpu) / rates.gpu_bytes_per_s
    multiplied = _multiplications(sizes, batch) / rates.gpu_arithmetic_per_s
    reading = -(-prompt // batch) * (over_bus + from_disk + max(in_place, multiplied))
    token = (
        (weights.dense_gpu + share * weights.experts_gpu) / rates.gpu_bytes_per_s
        + (weights.dense_ram + share * weights.experts_host) / rates.ram_bytes_per_s
        + share * weights.experts_disk / rates.disk_bytes_per_s
        + LAYER_S * len(sizes.layers)
    )
    return TurnTime(reading, answer * token)


def _turn(plan: LoadPlan, favour: Favour) -> tuple[int, int]:
    """Tokens of the prompt and of the answer, as far as the context holds them."""
    prompt, answer = TURNS[favour]
    held = plan.context_tokens / (prompt + answer)
    if held < 1:
        prompt, answer = max(1, int(prompt * held)), max(1, int(answer * held))
    return prompt, answer


def _multiplications(sizes: ModelSizes, batch: int) -> float:
    """Of a batch of a prompt, on a GPU."""
    count = batch * sizes.numbers_per_token
    count += EXPERT_ROWS * sum(layer.expert_numbers for layer in sizes.layers)
    if isinstance(sizes.cache, V4Cache):
        # V4's window is computed for all tokens of a batch, and what lies beyond it is masked.
        count += batch * batch * len(sizes.layers) * sizes.cache.heads * sizes.cache.head_dim
    return count


@dataclass(frozen=True)
class _Weights:
    dense_gpu: int
    dense_ram: int
    experts_gpu: int
    experts_host: int
    """In RAM or on the disk: they go the same way from there."""
    experts_disk: int

    @classmethod
    def of(cls, plan: LoadPlan) -> "_Weights":
        dense = [part for part in plan.parts if part.what in ("dense", "output")]
        experts = [part for part in plan.parts if part.what == "experts"]
        return cls(
            sum(part.gpu_bytes for part in dense),
            sum(part.ram_bytes for part in dense),
            sum(part.gpu_bytes for part in experts),
            sum(part.ram_bytes + part.disk_bytes for part in experts),
            sum(part.disk_bytes for part in experts),
        )
