"""The operators of the DeepSeek-V4 network: the one door to them, and their contract.

Owns: names, shapes and promises; which implementation computes is `dispatch`'s matter, the formulas stand in each
operator's `reference`. T tokens (of all sequences together where nothing is said), D hidden size, H heads, d size of
a head, n streams, K experts used for a token. For every operator:

- it computes where its operands lie, and on nothing else;
- in at least F32 inside, whatever type goes in and out;
- T = 0 is allowed, and any T;
- up to 8 tokens together have the very bits that each has alone (`few_rows`);
- it is differentiable with respect to every float tensor (the choice of rows and of experts is not: those are
  numbers); memory is bounded where it says so and no gradient is wanted.

Knows no model, no cache, no file.
"""

from collections.abc import Callable

import torch

from kernels.attention import reference as attention
from kernels.compressor import reference as compressor
from kernels.dequantisation import reference as dequantisation
from kernels.dispatch import run
from kernels.experts import reference as swiglu_experts
from kernels.experts.reference import Bank
from kernels.hyper_connections import reference as hyper_connections
from kernels.indexer import reference as indexer
from kernels.kv_formats import reference as kv_formats
from kernels.matrices import ExpertMatrices, Matrix
from kernels.norm import reference as norm
from kernels.product import reference as products
from kernels.rotary import reference as rotary
from kernels.router import reference as router

Tensor = torch.Tensor


# Matrices


def dequantised(m: Matrix, dtype: torch.dtype = torch.float32) -> Tensor:
    """All numbers of a matrix, [rows, columns]; exact in F32 (NaN under a NaN scale)."""
    return run("dequantised", dequantisation.dequantised, m, dtype)


def product(x: Tensor, m: Matrix) -> Tensor:
    """x Wᵀ: [..., columns] → [..., rows] in x's type, summed in F32. Decodes a few MiB of W at a time."""
    return run("product", products.product, x, m)


def linear(x: Tensor, w: Tensor) -> Tensor:
    """x Wᵀ in F32: [..., columns], F32 [rows, columns] → F32 [..., rows]."""
    return run("linear", products.linear, x, w)


def rows_of(m: Matrix, ids: Tensor) -> Tensor:
    """Rows by number: int64 [T], from 0 → F32 [T, columns]. IndexError (on a processor) beyond the last."""
    return run("rows_of", products.rows_of, m, ids)


def grouped_projection(x: Tensor, wo_a: Matrix, groups: int) -> Tensor:
    """The heads' output in groups, each by its own matrix: [T, H d] → [T, groups * rank].

    wo_a [groups * rank, H d / groups]; group g has the rows from g * rank on (DeepSeek-V4 report §2.3.1).
    """
    return run("grouped_projection", products.grouped_projection, x, wo_a, groups)


# Norms and positions


def rms_norm(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """x / sqrt(mean(x²) + eps), times `weight` F32 [d] where there is one: [T, ..., d], same type."""
    return run("rms_norm", norm.rms_norm, x, weight, eps)


def rotary_frequencies(
    theta: float,
    r: int,
    yarn: tuple[float, int, float, float] | None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """F32 [r / 2], radians for each position; `yarn` is (factor, original length, beta_fast, beta_slow)."""
    return rotary.rotary_frequencies(theta, r, yarn, device)


def rotate(x: Tensor, positions: Tensor, frequencies: Tensor, *, inverse: bool = False) -> Tensor:
    """x [T, ..., d] with its last r dimensions turned, in interleaved pairs; positions int64 [T], frequencies [r / 2].

    `inverse` turns back. Angles are F32.
    """
    return run("rotate", rotary.rotate, x, positions, frequencies, inverse=inverse)


# Compression and the choice of compressed rows


def compress_csa(kv: Tensor, gate: Tensor, ape: Tensor, previous: tuple[Tensor, Tensor] | None) -> Tensor:
    """Rows of groups of 4 tokens that overlap: kv, gate [T, 2d], ape [4, 2d] → F32 [T // 4, d].

    Row 0 begins a group; tokens of an unfinished last group are ignored. `previous`: kv and gate [4, 2d] of the
    group before, None at the beginning of the text. `ape` is added to the gates here. No norm, no positions yet.
    """
    return run("compress_csa", compressor.compress_csa, kv, gate, ape, previous)


def compress_hca(kv: Tensor, gate: Tensor, ape: Tensor) -> Tensor:
    """Rows of groups of 128 tokens (as many as `ape` has rows): kv, gate [T, d], ape [128, d] → F32 [T // 128, d]."""
    return run("compress_hca", compressor.compress_hca, kv, gate, ape)


def hadamard(x: Tensor) -> Tensor:
    """[..., d] turned by the Hadamard matrix times d^-0.5; done twice it is undone. ValueError unless d is 2^m."""
    return run("hadamard", indexer.hadamard, x)


def index_scores(q: Tensor, keys: Tensor, weights: Tensor, limits: Tensor | None = None) -> Tensor:
    """Σ_h w_h ReLU(q_h · k_s): q [T, H, d], keys [S, d], weights [T, H] (scaled already) → F32 [T, S].

    `limits` int64 [T]: how many keys each token may choose among; scores beyond are -∞. With it, few tokens have the
    bits of single steps, when the later keys were not there yet. Memory beside the result is bounded.
    """
    return run("index_scores", indexer.index_scores, q, keys, weights, limits)


def causal_top_k(scores: Tensor, limits: Tensor, k: int) -> Tensor:
    """The k best of the first limits[t] rows: F32 [T, S], int64 [T] → int64 [T, min(k, S)].

    Numbers rise along a row, so that attention sums in one order; where there are fewer than k, -1 stands in front.
    Of equal scores the lower number wins.
    """
    return run("causal_top_k", indexer.causal_top_k, scores, limits, k)


# Attention


def attend(
    q: Tensor,
    window: Tensor,
    window_size: int,
    compressed: Tensor | None,
    visible: Tensor | None,
    sinks: Tensor,
    scale: float,
) -> Tensor:
    """Attention of one sequence: q [T, H, d] → [T, H, d] in q's type.

    `window` [W0 + T, d]: rows of the W0 tokens before these, then their own; token t sees the last `window_size` up
    to its own. `compressed` [S, d] with `visible`: int64 [T, k], the numbers of rows that each token sees, -1 for
    none; or int64 [T], so many from the first on. `sinks` [H] are logits without a value. The softmax is F32.
    Memory is bounded: slices of T.
    """
    return run("attend", attention.attend, q, window, window_size, compressed, visible, sinks, scale)


# Hyper-connections


def mix_streams(
    streams: Tensor,
    fn: Tensor,
    base: Tensor,
    scale: Tensor,
    *,
    norm_eps: float,
    eps: float,
    iterations: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """What a layer reads of the streams, and how its output goes back: [T, n, D] → x [T, D], post, comb.

    x has the streams' type; post F32 [T, n], comb F32 [T, n, n] go to `merge_streams`. fn F32 [(2 + n) n, n D],
    base [(2 + n) n], scale [3].
    """
    return run(
        "mix_streams", hyper_connections.mix_streams, streams, fn, base, scale,
        norm_eps=norm_eps, eps=eps, iterations=iterations,
    )  # fmt: skip


def merge_streams(y: Tensor, streams: Tensor, post: Tensor, comb: Tensor) -> Tensor:
    """The streams after a layer: its output y [T, D] and the streams before it [T, n, D] → [T, n, D]."""
    return run("merge_streams", hyper_connections.merge_streams, y, streams, post, comb)


def collapse_streams(
    streams: Tensor, fn: Tensor, base: Tensor, scale: Tensor, *, norm_eps: float, eps: float
) -> Tensor:
    """The streams as one, before the output head: [T, n, D] → [T, D]. fn F32 [n, n D], base [n], scale [1]."""
    return run(
        "collapse_streams", hyper_connections.collapse_streams, streams, fn, base, scale,
        norm_eps=norm_eps, eps=eps,
    )  # fmt: skip


# Experts


def router_scores(x: Tensor, gate: Matrix) -> Tensor:
    """sqrt(softplus(x Wᵀ)): [T, D] → F32 [T, experts]."""
    return run("router_scores", router.router_scores, x, gate)


def route(
    x: Tensor, gate: Matrix, *, bias: Tensor | None, chosen: Tensor | None, used: int, scaling: float
) -> tuple[Tensor, Tensor]:
    """The experts of each token and their weights: [T, D] → int64 [T, K], F32 [T, K].

    By falling score + bias, of equals the lower number; or `chosen` int64 [T, K], as it is. Weights come from the
    scores without bias, divided by their sum, times `scaling`.
    """
    return run("route", router.route, x, gate, bias=bias, chosen=chosen, used=used, scaling=scaling)


def swiglu(gate: Tensor, up: Tensor, limit: float) -> Tensor:
    """silu(min(gate, limit)) * clamp(up, ± limit): [T, M] each → [T, M]; without a clamp where limit is 0."""
    return run("swiglu", swiglu_experts.swiglu, gate, up, limit)


def expert(x: Tensor, m: ExpertMatrices, limit: float, weights: Tensor | None = None) -> Tensor:
    """One expert's output, [T, D] → [T, D]; each token's times its weight [T] where there are some."""
    return run("expert", swiglu_experts.expert, x, m, limit, weights)


def experts(x: Tensor, chosen: Tensor, weights: Tensor, bank: Bank, limit: float) -> Tensor:
    """Σ_k weights_k expert_{chosen_k}(x): x [T, D], chosen int64 [T, K], weights F32 [T, K] → [T, D].

    The sum is taken in the order of `chosen`, in F32. Memory beside the result is bounded.
    """
    return run("experts", swiglu_experts.experts, x, chosen, weights, bank, limit)


# Cached rows in few bytes


def fake_fp8(x: Tensor) -> Tensor:
    """[..., d] rounded to E4M3 in blocks of 64 with scales of powers of two; gradients pass straight through."""
    return run("fake_fp8", kv_formats.fake_fp8, x)


def fake_fp4(x: Tensor) -> Tensor:
    """[..., d] rounded to E2M1 in blocks of 32 with scales of powers of two. 32 must divide d."""
    return run("fake_fp4", kv_formats.fake_fp4, x)


def pack_row(x: Tensor, r: int) -> Tensor:
    """[S, d] → uint8 [S, row_bytes(d, r)]: FP8, the last r dimensions BF16 (584 bytes for d = 512, r = 64)."""
    return run("pack_row", kv_formats.pack_row, x, r)


def unpack_row(packed: Tensor, d: int, r: int) -> Tensor:
    """What was packed, F32 [S, d]: `fake_fp8`'s numbers and BF16's, bit for bit."""
    return run("unpack_row", kv_formats.unpack_row, packed, d, r)


def pack_index_row(x: Tensor) -> Tensor:
    """[S, d] → uint8 [S, index_row_bytes(d)]: FP4 (68 bytes for d = 128)."""
    return run("pack_index_row", kv_formats.pack_index_row, x)


def unpack_index_row(packed: Tensor) -> Tensor:
    """What was packed, F32 [S, d]: `fake_fp4`'s numbers, bit for bit."""
    return run("unpack_index_row", kv_formats.unpack_index_row, packed)


row_bytes: Callable[[int, int], int] = kv_formats.row_bytes
index_row_bytes: Callable[[int], int] = kv_formats.index_row_bytes
