"""The native network on an NVIDIA GPU at Flash's true layer shapes: how fast, and what takes the time.

    python -m tests.benchmarks.native_gpu [--layers 8] [--experts 256] [--out FILE]

Weights are random numbers of the right formats (Q8_0 dense, MXFP4 experts, BF16 embedding and head) made in memory, so
that no file of 30 GB is needed; what the model says has no meaning. Everything resident first, then with the routed
experts in pinned memory. Each figure is the median of repeated runs on tokens drawn anew; a profile adds up the GPU's
time by operator of `kernels.ops`, and what no operator took by kernel.
"""

import argparse
import sys
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function

from engine.model import devices
from engine.model.config import NetworkConfig, Yarn
from engine.model.network import Network
from engine.model.weights import (
    AttentionWeights,
    BlockWeights,
    CompressorWeights,
    HyperConnectionWeights,
    IndexerWeights,
    MoeWeights,
    NetworkWeights,
)
from kernels import dispatch
from kernels.matrices import ExpertMatrices, Matrix

RATIOS = (0, 0, 4, 128)
CHUNK = 2048
DECODE_DEPTH = 2048


def flash(layers: int, experts: int) -> NetworkConfig:
    """Flash's numbers, fewer layers."""
    ratios = tuple(RATIOS[layer] if layer < 4 else (4, 128)[layer % 2] for layer in range(layers))
    return NetworkConfig(
        hidden_size=4096, num_hidden_layers=layers, num_attention_heads=64, head_dim=512, qk_rope_head_dim=64,
        q_lora_rank=1024, o_groups=8, o_lora_rank=1024, n_routed_experts=experts, num_experts_per_tok=6,
        moe_intermediate_size=2048, n_shared_experts=1, routed_scaling_factor=1.5, num_hash_layers=0,
        expert_clamp=(10.0,) * layers, shared_clamp=(10.0,) * layers, index_n_heads=64, index_head_dim=128,
        index_topk=512, sliding_window=128, compress_ratios=ratios, rope_theta=10_000.0,
        compress_rope_theta=160_000.0, yarn=Yarn(16.0, 65_536, 32.0, 1.0), max_position_embeddings=1 << 20,
        hc_mult=4, hc_sinkhorn_iters=20, hc_eps=1e-6, rms_norm_eps=1e-6, vocab_size=129_280,
    )  # fmt: skip


class Bank:
    """One layer's experts in one piece of pinned memory, as a file has them."""

    def __init__(self, experts: int, hidden: int, intermediate: int) -> None:
        self._shapes = [(intermediate, hidden), (intermediate, hidden), (hidden, intermediate)]
        self._parts: list[torch.Tensor] = []
        for rows, columns in self._shapes:
            shape = (experts, rows, columns // 32, 17)
            blocks = torch.randint(0, 256, shape, dtype=torch.uint8, device="cuda")
            # A fresh network's numbers have a deviation of columns^-0.5; those of E2M1's codes have 2.9.
            blocks[..., 0] = 127 - round((columns.bit_length() - 1) / 2 + 1.5)
            self._parts.append(torch.empty(shape, dtype=torch.uint8, pin_memory=True).copy_(blocks))

    def __len__(self) -> int:
        return len(self._parts[0])

    def matrices(self, expert: int) -> ExpertMatrices:
        return ExpertMatrices(
            *(
                Matrix("mxfp4", *shape, part[expert].view(shape[0], -1))
                for part, shape in zip(self._parts, self._shapes, strict=True)
            )
        )


def random_weights(c: NetworkConfig, device: str) -> NetworkWeights:
    """A fresh network's numbers."""

    def q8(rows: int, columns: int) -> Matrix:
        blocks = torch.randint(0, 256, (rows, columns // 32, 34), dtype=torch.uint8, device=device)
        scale = torch.full((rows, columns // 32, 1), columns**-0.5 / 73, dtype=torch.float16, device=device)
        blocks[..., :2] = scale.view(torch.uint8)
        return Matrix("q8_0", rows, columns, blocks.view(rows, -1))

    def bf16(rows: int, columns: int, size: float | None = None) -> Matrix:
        numbers = torch.randn(rows, columns, dtype=torch.bfloat16, device=device)
        return Matrix("bf16", rows, columns, numbers * (columns**-0.5 if size is None else size))

    def vector(*shape: int, mean: float = 0.0, deviation: float = 0.1) -> torch.Tensor:
        return torch.randn(*shape, device=device) * deviation + mean

    def connection(mixes: int, scales: int) -> HyperConnectionWeights:
        wide = c.hc_mult * c.hidden_size
        return HyperConnectionWeights(
            vector(mixes, wide, deviation=wide**-0.5), vector(mixes), vector(scales, mean=1.0)
        )

    def compressor(ratio: int, d: int) -> CompressorWeights:
        w = 2 * d if ratio == 4 else d
        return CompressorWeights(
            bf16(w, c.hidden_size), bf16(w, c.hidden_size), vector(ratio, w), vector(d, mean=1.0)
        )

    def attention(ratio: int) -> AttentionWeights:
        wide = c.num_attention_heads * c.head_dim
        indexer = None
        if ratio == 4:
            indexer = IndexerWeights(
                q8(c.index_n_heads * c.index_head_dim, c.q_lora_rank), bf16(c.index_n_heads, c.hidden_size),
                compressor(4, c.index_head_dim),
            )  # fmt: skip
        return AttentionWeights(
            q8(c.q_lora_rank, c.hidden_size), vector(c.q_lora_rank, mean=1.0), q8(wide, c.q_lora_rank),
            q8(c.head_dim, c.hidden_size), vector(c.head_dim, mean=1.0),
            q8(c.o_groups * c.o_lora_rank, wide // c.o_groups), q8(c.hidden_size, c.o_groups * c.o_lora_rank),
            vector(c.num_attention_heads), compressor(ratio, c.head_dim) if ratio else None, indexer,
        )  # fmt: skip

    def block(ratio: int) -> BlockWeights:
        n, m = c.hc_mult, c.moe_intermediate_size
        shared = ExpertMatrices(q8(m, c.hidden_size), q8(m, c.hidden_size), q8(c.hidden_size, m))
        moe = MoeWeights(
            bf16(c.n_routed_experts, c.hidden_size), vector(c.n_routed_experts, deviation=0.01), None, shared,
            Bank(c.n_routed_experts, c.hidden_size, m),
        )  # fmt: skip
        return BlockWeights(
            vector(c.hidden_size, mean=1.0), vector(c.hidden_size, mean=1.0), connection((2 + n) * n, 3),
            connection((2 + n) * n, 3), attention(ratio), moe,
        )  # fmt: skip

    blocks = [block(ratio) for ratio in c.compress_ratios]
    return NetworkWeights(
        bf16(c.vocab_size, c.hidden_size, 1.0), blocks, connection(c.hc_mult, 1),
        vector(c.hidden_size, mean=1.0), bf16(c.vocab_size, c.hidden_size),
    )  # fmt: skip


def timed(run: Callable[[], object], times: int) -> list[float]:
    """Seconds of each run, the GPU waited for."""
    found: list[float] = []
    for _ in range(times):
        torch.cuda.synchronize()
        began = time.perf_counter()
        run()
        torch.cuda.synchronize()
        found.append(time.perf_counter() - began)
    return found


@contextmanager
def named_operators() -> Iterator[None]:
    """Within it each call of an operator is marked with its name."""
    plain = dispatch.run

    def run(operator: str, reference: Any, *operands: Any, **named: Any) -> Any:
        with record_function(f"op.{operator}"):
            return plain(operator, reference, *operands, **named)

    from kernels import ops

    ops.run = run  # type: ignore[assignment]
    try:
        yield
    finally:
        ops.run = plain  # type: ignore[assignment]


def profiled(run: Callable[[], object], what: str, layers: int, say: Callable[[str], None]) -> None:
    """Where the time of one run goes."""
    run()
    with named_operators(), profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        run()
        torch.cuda.synchronize()
    on_gpu = [event for event in found.events() if event.device_type == DeviceType.CUDA]
    marks = sorted((e.time_range.start, e.time_range.end, e.name) for e in on_gpu if e.name.startswith("op."))
    starts = [mark[0] for mark in marks]
    by_operator: dict[str, list[float]] = defaultdict(lambda: [0.0, 0])
    by_kernel: dict[str, list[float]] = defaultdict(lambda: [0.0, 0])
    for event in on_gpu:
        if event.name.startswith("op."):
            continue
        began, duration = event.time_range.start, event.time_range.elapsed_us()
        at = bisect_right(starts, began) - 1
        inside = at >= 0 and began < marks[at][1]
        name = marks[at][2] if inside else "copies" if event.name.startswith("Mem") else "between operators"
        for entry in (by_operator[name], by_kernel[event.name[:70]]):
            entry[0] += duration
            entry[1] += 1
    total = sum(entry[0] for entry in by_operator.values())
    launches = sum(int(entry[1]) for entry in by_operator.values())
    say(
        f"\n{what}: {total / 1e3:.2f} ms of the GPU in {launches} kernels, {total / 1e3 / layers:.3f} ms a layer"
    )
    for name, entry in sorted(by_operator.items(), key=lambda item: -item[1][0]):
        say(
            f"  {name:28s} {entry[0] / 1e3:9.3f} ms  {100 * entry[0] / total:5.1f} %  {int(entry[1]):5d} kernels"
        )
    for name, entry in sorted(by_kernel.items(), key=lambda item: -item[1][0])[:14]:
        say(f"    {name:70s} {entry[0] / 1e3:9.3f} ms {int(entry[1]):5d}")
    syncs = [e for e in found.events() if "Synchronize" in e.name]
    copies = [e for e in found.events() if e.name.startswith("Memcpy")]
    say(f"  waits of the host: {len(syncs)}; copies: {len(copies)}")


def measure(network: Network, what: str, layers: int, say: Callable[[str], None], *, deep: bool) -> None:
    """Prefill and decode, and their profiles."""
    draw = torch.Generator().manual_seed(1)

    def tokens(count: int) -> torch.Tensor:
        return torch.randint(network.config.vocab_size, (count,), generator=draw)

    def prefill() -> None:
        network.forward([(network.new_cache(), tokens(CHUNK))])

    for _ in range(2):
        prefill()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    seconds = timed(prefill, 5 if deep else 2)
    peak = torch.cuda.max_memory_allocated() - before
    say(f"{what}: prefill of {CHUNK} tokens {median(seconds) * 1e3:.1f} ms ({min(seconds) * 1e3:.1f} … "
        f"{max(seconds) * 1e3:.1f}), {CHUNK / median(seconds):.0f} tok/s; took {peak / 1e6:.0f} MB, reckoned "
        f"{devices.pass_bytes(network.config, CHUNK, network.activations) / 1e6:.0f} MB")  # fmt: skip
    cache = network.new_cache()
    cache.reserve(DECODE_DEPTH + 512)
    network.forward([(cache, tokens(DECODE_DEPTH))])

    def step() -> None:
        network.forward([(cache, tokens(1))])

    for _ in range(10 if deep else 3):
        step()
    seconds = timed(step, 64 if deep else 8)
    middle = median(seconds)
    say(f"{what}: one token at a depth of {DECODE_DEPTH}: {middle * 1e3:.2f} ms ({min(seconds) * 1e3:.2f} … "
        f"{max(seconds) * 1e3:.2f}), {1 / middle:.1f} tok/s, {middle * 1e3 / layers:.3f} ms a layer")  # fmt: skip
    profiled(step, f"{what}, one token", layers, say)
    profiled(prefill, f"{what}, {CHUNK} tokens", layers, say)


def divergence(one: Network, other: Network) -> tuple[float, float]:
    """Mean and largest KL of `other`'s next-token distributions from `one`'s."""
    tokens = torch.randint(one.config.vocab_size, (256,), generator=torch.Generator().manual_seed(2))
    exact, found = (
        each.forward([(each.new_cache(), tokens)], logits="all").double().log_softmax(-1)
        for each in (one, other)
    )
    kl = (exact.exp() * (exact - found)).sum(-1)
    return float(kl.mean()), float(kl.max())


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--experts", type=int, default=256)
    parser.add_argument("--out", default="")
    wanted = parser.parse_args(argv)
    device = devices.gpu()
    if device is None:
        print("there is no NVIDIA GPU here that the network can run on")
        return 0
    lines: list[str] = []

    def say(line: str) -> None:
        print(line, flush=True)
        lines.append(line)
        if wanted.out:
            with open(wanted.out, "w", encoding="utf-8") as file:  # noqa: PTH123
                file.write("\n".join(lines) + "\n")

    say(f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}; {wanted.layers} layers of "
        f"Flash's shapes, {wanted.experts} experts each, random weights")  # fmt: skip
    torch.manual_seed(0)
    config = flash(wanted.layers, wanted.experts)
    began = time.perf_counter()
    weights = random_weights(config, "cuda")
    common: dict[str, Any] = {"context_tokens": 16_384, "chunk_tokens": CHUNK, "cache_format": "bf16"}
    placed = devices.place(config, weights, device, **common, gpu_bytes=1 << 50)
    torch.cuda.synchronize()
    say(f"made and put into place in {time.perf_counter() - began:.1f} s; "
        f"dense {devices.dense_bytes(weights) / 1e9:.2f} GB, {placed.slots} experts in slots")  # fmt: skip

    def network(of: devices.Placed, activations: torch.dtype, cache_format: Any) -> Network:
        return Network(
            config,
            of.weights,
            cache_format=cache_format,
            experts=of.experts,
            activations=activations,
            device=device,
        )

    resident = network(placed, torch.bfloat16, "bf16")
    measure(resident, "all experts resident", wanted.layers, say, deep=True)
    mean, largest = divergence(network(placed, torch.float32, "f32"), resident)
    say(f"BF16 beside F32, 256 tokens: mean KL {mean:.2e}, largest {largest:.2e}")
    staged = devices.dense_bytes(weights) + devices.cache_bytes(config, "bf16", 16_384)
    staged += devices.pass_bytes(config, CHUNK, torch.bfloat16)
    one = weights.blocks[0].moe.experts.matrices(0).size_bytes
    away = devices.place(
        config, weights, device, **common, gpu_bytes=staged + (config.n_routed_experts + 1) * one
    )
    torch.set_num_threads(15)
    measure(network(away, torch.bfloat16, "bf16"), "all experts in memory", wanted.layers, say, deep=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
