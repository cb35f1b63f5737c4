"""How long a token takes, and a prompt, by a model's plan and what was measured of the machine.

Owns: what a typical turn is, the formula, and the rates that it goes by where nothing was measured. Pure. It compares
plans of one model on one machine, so what is the same for all of them hardly matters. Where the machine was measured
the times are those that a person is told (`token_time`).

On the processor a token costs the longer of reading its weights from RAM and multiplying with them. On a GPU it costs
reading them from its memory, and beside that what asking for the many small operations of a layer costs, which is
the larger part. Experts that lie in RAM are computed with by the processor while the GPU waits, and those that are
neither here nor there come from the disk first: the formula of mixture-of-experts models, one part after the other.
A prompt is bound by multiplying; each of its batches reads nearly every expert once, and what lies in RAM crosses the
bus to the GPU before it is multiplied with.
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
    of twice the length, nor the other way round. Of two within a hundredth, which is beyond what the formula knows,
    the earlier."""
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
    return next(at for at, each in enumerate(costs) if each <= 1.01 * min(costs))


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

    Raises ValueError for a plan that uses what was not measured: a GPU, or the disk where experts come from it.
    """

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

    @property
    def host_share_in_memory(self) -> float:
        """Of the experts that are not on a GPU, the share that lies in RAM; 1 where there are none."""
        return 1 - self._missing / self._experts_host if self._experts_host else 1.0

    def missed_bytes(self, hits: float) -> float:
        """What a token reads from the disk when so many (0 to 1) of its experts that are not on a GPU are in RAM."""
        return (1 - hits) * self._sizes.routed_share * self._experts_host if self._missing else 0.0

    def token_s(self, hits: float, depth_tokens: int) -> float:
        """Seconds for a token behind `depth_tokens` others; `hits` as in `missed_bytes`."""
        sizes, routed = self._sizes, self._sizes.routed_share
        missed = self.missed_bytes(hits)
        held = routed * self._experts_host - missed
        reading_s = (self._dense_host + held) / self.reading_per_s
        if self._gpu is None:
            multiplying_s = self._host_numbers / (DECODE_ARITHMETIC * self._arithmetic_per_s)
            attending_s = self._attention_s(depth_tokens, DECODE_ATTENTION)
            seconds = max(reading_s, multiplying_s) + attending_s
        else:
            kinds = self._kinds(self._gpu)
            seconds = max(reading_s, self._host_multiplying_s(held + missed))
            seconds += self._dense_gpu / kinds[0].one_bytes_per_s
            seconds += routed * self._experts_gpu / kinds[1].one_bytes_per_s
            seconds += self._gpu_layers * GPU_LAYER_OPERATIONS * self._gpu.operation_s
            seconds += self._host_layers * self._gpu.exchange_s
            seconds += self._gpu_attention_s(depth_tokens, 1, self._gpu)
        return seconds + missed / self._missing_per_s + LAYER_S * (len(sizes.layers) - self._gpu_layers)

    def prompt_s(self, tokens: int, depth_tokens: int = 0) -> float:
        """Seconds to read a prompt of that many tokens behind `depth_tokens` others."""
        batch = self._plan.micro_batch_tokens
        whole, rest = divmod(tokens, batch)
        sizes = [batch] * min(whole, 1) + ([rest] if rest else [])
        counts = [whole] * min(whole, 1) + ([1] if rest else [])
        # The depth grows evenly, and what is attended to with it.
        middle = depth_tokens + tokens // 2
        if self._gpu is None:
            seconds = tokens * self._sizes.numbers_per_token / (PREFILL_ARITHMETIC * self._arithmetic_per_s)
            seconds += tokens * self._attention_s(middle, PREFILL_ATTENTION)
        else:
            seconds = self._gpu_attention_s(middle, tokens, self._gpu)
        for size, count in zip(sizes, counts, strict=True):
            seconds += count * self._batch_s(size)
        return seconds

    def _batch_s(self, tokens: int) -> float:
        """Seconds that a batch costs besides its attention and, on a processor alone, its multiplications."""
        sizes = self._sizes
        touched = 1 - (1 - sizes.routed_share) ** tokens
        seconds = touched * self._missing / self._missing_per_s
        if self._gpu is None:
            return seconds + LAYER_S * len(sizes.layers)
        gpu, (dense, experts) = self._gpu, self._kinds(self._gpu)
        routed = sizes.routed_share * sum(layer.expert_numbers for layer in sizes.layers)
        others = sum(layer.dense_numbers for layer in sizes.layers)
        seconds += tokens * (others / dense.many_per_s + routed / experts.many_per_s) / GPU_PREFILL
        seconds += touched * sizes.expert_bytes / (GPU_GATHERING * gpu.copy_bytes_per_s)
        seconds += len(sizes.layers) * GPU_LAYER_OPERATIONS * gpu.operation_s
        # What lies in RAM, of every layer, crosses the bus first: llama.cpp has the GPU multiply large batches.
        bus = gpu.pageable_bytes_per_s
        if not self._plan.memory_mapped and gpu.pinned_bytes_per_s is not None:
            bus = gpu.pinned_bytes_per_s
        return seconds + (self._dense_host + touched * self._experts_host) / bus

    # --- what lies where ---------------------------------------------------------------------------

    def _split(self, kinds: tuple[str, ...]) -> tuple[int, int]:
        """Bytes of these parts on the GPU, and elsewhere."""
        parts = [part for part in self._plan.parts if part.what in kinds]
        on_gpu = sum(part.gpu_bytes for part in parts)
        return on_gpu, sum(part.size_bytes for part in parts) - on_gpu

    def _numbers(self) -> None:
        """Multiplications for a token that the processor does, and how many layers it has a part in."""
        sizes = self._sizes
        numbers = 0.0 if self._plan.part_bytes("output", "gpu") else float(sizes.output_numbers)
        layers: set[int] = set()
        for part in self._plan.parts:
            if part.layer is None or part.what not in ("dense", "experts") or not part.size_bytes:
                continue
            here = 1 - part.gpu_bytes / part.size_bytes
            if part.what == "dense":
                numbers += here * sizes.layers[part.layer].dense_numbers
            else:
                # A layer's experts may be several parts, its matrices.
                share = here * part.size_bytes / max(1, sizes.layers[part.layer].expert_bytes)
                numbers += share * sizes.routed_share * sizes.layers[part.layer].expert_numbers
            if here > 0:
                layers.add(part.layer)
        self._host_numbers, self._host_layers = numbers, len(layers)

    # --- the parts of the formula ------------------------------------------------------------------

    def _kinds(self, gpu: DeviceRates) -> tuple[Multiplying, Multiplying]:
        """The rates for the dense part and for experts."""
        if gpu.q8_0 is None:
            raise ValueError("the GPU does not multiply")
        return gpu.q8_0, gpu.mxfp4 or gpu.q8_0

    def _host_multiplying_s(self, expert_bytes: float) -> float:
        """The processor's multiplications beside a GPU, where llama.cpp keeps weights in the order of the file."""
        plain = self._record.plain
        if plain is None or plain.mxfp4 is None or plain.q8_0 is None:
            return self._host_numbers / (DECODE_ARITHMETIC * self._arithmetic_per_s)
        share = min(1.0, self._plan.threads / max(1, plain.threads))
        return (
            expert_bytes / plain.mxfp4.one_bytes_per_s + self._dense_host / plain.q8_0.one_bytes_per_s
        ) / share

    def _attention_s(self, depth_tokens: int, efficiency: float) -> float:
        """A processor's, for a token: once for scores, once for values."""
        cache = self._sizes.cache
        width = cache.heads * cache.head_dim if isinstance(cache, V4Cache) else cache.hidden
        rows = attended_rows(cache, depth_tokens)
        return 2 * rows * width / (efficiency * self._arithmetic_per_s)

    def _gpu_attention_s(self, depth_tokens: int, tokens: int, gpu: DeviceRates) -> float:
        """A GPU's, for `tokens` at about that depth."""
        cache, many = self._sizes.cache, self._kinds(gpu)[0].many_per_s
        if isinstance(cache, V4Cache):
            rows = sum(depth_tokens / ratio for ratio in cache.ratios if ratio == 4)
            if tokens == 1:
                return rows * GPU_INDEX_BYTES / gpu.copy_bytes_per_s
            return tokens * rows * cache.heads * cache.index_head_dim / (GPU_INDEX_ARITHMETIC * many)
        row_bytes = 2 * sum(keys + values for keys, values in cache.rows)
        if tokens == 1:
            return depth_tokens * row_bytes / gpu.copy_bytes_per_s
        numbers = 2 * depth_tokens * len(cache.rows) * cache.hidden
        return tokens * numbers / (GPU_ATTENTION * many)
