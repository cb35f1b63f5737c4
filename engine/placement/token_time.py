"""How long a token takes, and a prompt, by a model's plan and what was measured of the machine.

Owns: the formula and its constants. Pure; knows no ranges and nothing of what a model gave before (`forecast`).

On the processor a token costs the longer of reading its weights from RAM and multiplying with them. On a GPU it costs
reading them from its memory, and beside that what asking for the many small operations of a layer costs, which is
the larger part. Experts that lie in RAM are computed with by the processor while the GPU waits, and those that are
neither here nor there come from the disk first: the formula of mixture-of-experts models, one part after the other.
A prompt is bound by multiplying; each of its batches reads nearly every expert once, and what lies in RAM crosses the
bus to the GPU before it is multiplied with.
"""

import math

from engine.placement.context_sizes import V4Cache, attended_rows
from engine.placement.hardware_record import DeviceRates, HardwareRecord, Multiplying
from engine.placement.load_plan import LoadPlan
from engine.placement.model_sizes import ModelSizes

READING_EFFICIENCY = 0.8
"""Of RAM's rate as measured, that llama.cpp's multiplications with vectors reach where RAM is what limits them."""
DECODE_ARITHMETIC = 0.27
PREFILL_ARITHMETIC = 0.43
DECODE_ATTENTION, PREFILL_ATTENTION = 0.2, 0.3
"""llama.cpp's multiplications, with quantised weights for one token, for many, and in attention, against those of
float32 matrices on one core. Fitted on one processor with AVX-512 to a model of 135M and to V4s of random weights;
docs/placement.md tells how far they were off."""
LAYER_S, V4_LAYER_S = 100e-6, 500e-6
"""A layer's operations that are too small to keep threads busy, and the threads' waiting for each other; V4 has a
hundred of them in a layer."""
GPU_LAYER_OPERATIONS = 360
"""A layer of V4 costs one token as much as so many of the smallest operations do, beside its weights. llama.cpp's graph
has 112 for a layer, views left out, most of which are larger. With weights so fast to read, that is most of what a GPU
does."""
GPU_WEIGHTS, GPU_ATTENTION, GPU_INDEX = 0.62, 0.645, 0.106
"""Of a GPU's multiplications as measured, those that a prompt's weights, its attention and the choice of compressed
rows reach. docs/placement.md tells what they were fitted to, and what was not measured there."""
HOST_EXPERTS = 0.7
"""Of the rate at which the processor multiplies with a large matrix of experts in the file's order, that six experts of
a layer reach, whose matrices are small and come one after the other."""
GPU_EXPERTS_PASS = 0.134
"""Of the rate at which a GPU's memory is copied, that a batch's pass over all experts reaches: each gets few tokens."""
GPU_INDEX_BYTES = 25_000
"""What a compressed row costs the one token that is written behind it, in bytes of the GPU's memory."""


def gpu_rates(plan: LoadPlan, record: HardwareRecord) -> DeviceRates | None:
    """What was measured of the GPU that a plan uses; None where it was not, or cannot multiply with such weights."""
    found = next((each for each in record.gpus if each.name == plan.gpu), None)
    if plan.gpu_number < len(record.gpus) and record.gpus[plan.gpu_number].name == plan.gpu:
        found = record.gpus[plan.gpu_number]
    rates = None if found is None else found.rates
    return None if rates is None or rates.q8_0 is None else rates


class TokenTime:
    """Seconds for the parts of a turn of one model by one plan on one machine.

    Raises ValueError for a plan that uses what was not measured: a GPU, or the disk where experts come from it.
    """

    def __init__(self, sizes: ModelSizes, plan: LoadPlan, record: HardwareRecord) -> None:
        self._sizes, self._plan, self._record = sizes, plan, record
        self._gpu = None if plan.gpu is None else gpu_rates(plan, record)
        if plan.gpu is not None and self._gpu is None:
            raise ValueError("the GPU was not measured")
        if record.disk is None and plan.held_bytes("disk"):
            raise ValueError("the disk was not measured")
        cores = max(1, record.fingerprint.cores)
        # Threads beyond the cores share their units.
        self._arithmetic_per_s = record.arithmetic_per_s * min(plan.threads, cores)
        # Prompts may be read by another number of threads than answers are written with.
        self._prompt_share = min(plan.threads, cores) / min(plan.prompt_threads or plan.threads, cores)
        alone = record.memory_one_bytes_per_s * plan.threads
        self.reading_per_s = READING_EFFICIENCY * min(record.memory_bytes_per_s, alone)
        """Bytes of weights that the processor reads from RAM in a second."""
        self._faults_per_s = record.disk.mapped_bytes_per_s if record.disk else math.inf
        self._missing_per_s = self._faults_per_s
        if plan.experts_read == "direct" and record.disk is not None:
            self._missing_per_s = record.disk.random_bytes_per_s
        self._dense_gpu, self._dense_host = self._split(("dense", "output"))
        if sizes.tied:
            of_table = self._split(("embedding",))
            self._dense_host += of_table[1] if not plan.part_bytes("output", "gpu") else 0
        self._experts_gpu, self._experts_host = self._split(("experts",))
        self._missing = plan.part_bytes("experts", "disk")
        self._gpu_layers = sum(part.what == "dense" and part.gpu_bytes > 0 for part in plan.parts)
        self._layer_s = V4_LAYER_S if isinstance(sizes.cache, V4Cache) else LAYER_S
        self._numbers()

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
        return seconds + missed / self._missing_per_s + self._layer_s * (len(sizes.layers) - self._gpu_layers)

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
            seconds *= self._prompt_share
        else:
            seconds = self._gpu_attention_s(middle, tokens, self._gpu)
        for size, count in zip(sizes, counts, strict=True):
            seconds += count * self._batch_s(size)
        return seconds

    def _batch_s(self, tokens: int) -> float:
        """Seconds that a batch costs besides its attention and, on a processor alone, its multiplications."""
        sizes = self._sizes
        touched = 1 - (1 - sizes.routed_share) ** tokens
        # Read directly, a batch's experts of one layer must all have room in memory at once; else they are mapped.
        largest = max((layer.expert_bytes for layer in sizes.layers), default=0)
        has_room = touched * largest <= self._experts_host - self._missing
        seconds = touched * self._missing / (self._missing_per_s if has_room else self._faults_per_s)
        if self._gpu is None:
            return seconds + self._layer_s * len(sizes.layers)
        gpu, (dense, experts) = self._gpu, self._kinds(self._gpu)
        routed = sizes.routed_share * sum(layer.expert_numbers for layer in sizes.layers)
        others = sum(layer.dense_numbers for layer in sizes.layers)
        seconds += tokens * (others / dense.many_per_s + routed / experts.many_per_s) / GPU_WEIGHTS
        seconds += touched * sizes.expert_bytes / (GPU_EXPERTS_PASS * gpu.copy_bytes_per_s)
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
        if plain is None or plain.mxfp4 is None:
            return self._host_numbers / (DECODE_ARITHMETIC * self._arithmetic_per_s)
        share = min(1.0, self._plan.threads / max(1, plain.threads))
        dense = (plain.q8_0 or plain.mxfp4).one_bytes_per_s
        return (
            expert_bytes / (HOST_EXPERTS * plain.mxfp4.one_bytes_per_s) + self._dense_host / dense
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
        if not isinstance(cache, V4Cache):
            if tokens == 1:
                row_bytes = 2 * sum(keys + values for keys, values in cache.rows)
                return depth_tokens * row_bytes / gpu.copy_bytes_per_s
            numbers = 2 * depth_tokens * len(cache.rows) * cache.hidden
            return tokens * numbers / (GPU_ATTENTION * many)
        indexed = sum(depth_tokens / ratio for ratio in cache.ratios if ratio == 4)
        if tokens == 1:
            return indexed * GPU_INDEX_BYTES / gpu.copy_bytes_per_s
        # llama.cpp computes the window of every token over the raw rows of its whole batch, and masks the others.
        raw = cache.window + min(tokens, self._plan.micro_batch_tokens)
        width = 2 * cache.heads * cache.head_dim
        attended = sum(raw + (depth_tokens / ratio if ratio == 128 else 0.0) for ratio in cache.ratios)
        choosing = indexed * cache.heads * cache.index_head_dim / GPU_INDEX
        return tokens * (attended * width / GPU_ATTENTION + choosing) / many
