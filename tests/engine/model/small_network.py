"""A small V4 network of seeded weights, for the tests of what is built on one."""

from pathlib import Path
from typing import Any

import torch

from engine.model.checkpoint_weights import open_checkpoint
from engine.model.expert_store import MappedExperts
from engine.model.network import Network
from engine.model.row_formats import CacheFormat
from tests.convert.seeded_checkpoint import Edit, write_checkpoint

SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "num_attention_heads": 2,
    "q_lora_rank": 32,
    "o_lora_rank": 32,
    "n_routed_experts": 4,
    "moe_intermediate_size": 64,
    "index_n_heads": 2,
    "index_topk": 8,
}
"""What is smaller still than in a seeded checkpoint: a step takes a few milliseconds."""


def small_network(
    folder: Path,
    *,
    cache_format: CacheFormat = "f32",
    drafts: bool = True,
    edit: Edit | None = None,
    **changes: Any,
) -> Network:
    """Of a checkpoint that is written into `folder`, with `changes` to its config."""
    source = folder / "checkpoint"
    if not source.exists():
        write_checkpoint(source, tokenizer="none", edit=edit, **SMALL | {"layers": 5} | changes)
    return network_of(source, cache_format=cache_format, drafts=drafts)


def network_of(source: Path, *, cache_format: CacheFormat = "f32", drafts: bool = True) -> Network:
    """Of a checkpoint."""
    model = open_checkpoint(source)
    weights = model.weights
    banks = [block.moe.experts for block in weights.blocks]
    if weights.draft is not None:
        banks.append(weights.draft.block.moe.experts)
    return Network(
        model.config,
        weights,
        cache_format=cache_format,
        experts=MappedExperts(banks),
        drafts=drafts,
    )


def drawn_tokens(count: int, seed: int = 0, vocabulary: int = 512) -> torch.Tensor:
    """int64 [count], drawn evenly."""
    return torch.randint(vocabulary, (count,), generator=torch.Generator().manual_seed(seed))
