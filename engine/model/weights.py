"""The weights of the network, by the part they play.

Owns: `NetworkWeights` and what it is made of: matrices as they lie in the file (`kernels.matrices`), small tensors
in F32. Filled by `gguf_weights` and `checkpoint_weights`; names are those of the checkpoint. Knows no file.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from kernels.matrices import ExpertMatrices, Matrix


@dataclass(frozen=True)
class HyperConnectionWeights:
    """fn F32 [(2 + n) n, n * hidden] (or [n, n * hidden] for the head), base [(2 + n) n] ([n]), scale [3] ([1])."""

    fn: torch.Tensor
    base: torch.Tensor
    scale: torch.Tensor


@dataclass(frozen=True)
class CompressorWeights:
    """wkv, wgate [w, hidden], ape F32 [ratio, w], norm F32 [d]; w = 2 d for ratio 4, d for 128."""

    wkv: Matrix
    wgate: Matrix
    ape: torch.Tensor
    norm: torch.Tensor


@dataclass(frozen=True)
class IndexerWeights:
    """wq_b [heads * d, q_lora_rank], weights_proj [heads, hidden], and a compressor of its own of width d."""

    wq_b: Matrix
    weights_proj: Matrix
    compressor: CompressorWeights


@dataclass(frozen=True)
class AttentionWeights:
    """wq_a [q_lora_rank, hidden], wq_b [heads * head_dim, q_lora_rank], wkv [head_dim, hidden], wo_b [hidden,
    o_groups * o_lora_rank]; norms and sinks are F32 vectors."""

    wq_a: Matrix
    q_norm: torch.Tensor
    wq_b: Matrix
    wkv: Matrix
    kv_norm: torch.Tensor
    wo_a: Matrix
    """[o_groups * o_lora_rank, heads * head_dim / o_groups]."""
    wo_b: Matrix
    sinks: torch.Tensor
    compressor: CompressorWeights | None
    indexer: IndexerWeights | None
    """There exactly where the layer's ratio is 4."""


class ExpertBank(Protocol):
    """The routed experts of one layer as they lie in the file."""

    def __len__(self) -> int:
        """How many."""
        ...

    def matrices(self, expert: int) -> ExpertMatrices:
        """Views of the file; nothing is read by asking."""
        ...


@dataclass(frozen=True)
class MoeWeights:
    """gate [experts, hidden]; bias F32 [experts] of a layer that chooses by score, table int32 [vocabulary, used] of
    one that is routed by token id; the shared expert."""

    gate: Matrix
    bias: torch.Tensor | None
    table: torch.Tensor | None
    shared: ExpertMatrices
    experts: ExpertBank


@dataclass(frozen=True)
class BlockWeights:
    """One layer."""

    attn_norm: torch.Tensor
    ffn_norm: torch.Tensor
    hc_attn: HyperConnectionWeights
    hc_ffn: HyperConnectionWeights
    attention: AttentionWeights
    moe: MoeWeights


class WeightChecks(Protocol):
    """Whether what is about to be used can be: asked before each use, costs nothing once it was answered.

    Every question raises ModelError with the name of the tensor that holds a number which is not finite.
    """

    def begin_pass(self) -> None:
        """Also raises it where a file changed under its mapping. Ask once for each pass, before anything is read."""
        ...

    def embedding(self, ids: torch.Tensor) -> None:
        """The rows of the embedding for these tokens; int64, any shape."""
        ...

    def block(self, layer: int) -> None:
        """All of a layer but its routed experts; the draft block's number is that of the layer after the last."""
        ...

    def experts(self, layer: int, chosen: Iterable[int]) -> None:
        """Those routed experts of a layer."""
        ...

    def output(self) -> None:
        """The output head and what leads to it."""
        ...


@dataclass(frozen=True)
class DraftWeights:
    """The MTP block: a window-only layer over e_proj(enorm(embedding)) + h_proj(hnorm(streams)), with a head norm and
    hyper-connection head of its own; embedding and output head are the model's.

    In a GGUF the two projections are one matrix, side by side: each is a view of half of every row, so its `data` is
    not contiguous. Where a GGUF keeps the drafter beside the model, `hc_head` is the model's: llama.cpp has it so."""

    e_proj: Matrix
    h_proj: Matrix
    enorm: torch.Tensor
    hnorm: torch.Tensor
    norm: torch.Tensor
    hc_head: HyperConnectionWeights
    block: BlockWeights


@dataclass(frozen=True)
class NetworkWeights:
    """All of it. `embed` [vocabulary, hidden], `head` [vocabulary, hidden]."""

    embed: Matrix
    blocks: Sequence[BlockWeights]
    hc_head: HyperConnectionWeights
    norm: torch.Tensor
    head: Matrix
    draft: DraftWeights | None = None
    checks: WeightChecks | None = None
    """None: nothing is checked (weights that no file holds)."""
