"""What a model weighs, part by part, and how much of it one token reads.

Owns: which tensors are experts, which are read for every token, which for a single row of them, and which not at
all. From the headers of a GGUF (or of all parts of a split one), or from a checkpoint's shape before anything is
downloaded. Pure; does not know machines. Bytes are those of the tensors; a file adds its header and padding.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, cast

from convert.expected_tensors import Expected, expected_tensors
from convert.gguf_header import GgufHeader
from convert.model_shape import ModelShape
from convert.tensor_map import Dense, Options, map_tensors
from engine.placement.context_sizes import CacheShape, PlainCache, V4Cache

_LAYER = re.compile(r"^blk\.(\d{1,5})\.(.+)$")
_EXPERTS = re.compile(r"^ffn_(gate|up|down|gate_up)_exps\.")
Matrix = Literal["gate", "up", "down", "gate_up"]
"""A layer's experts are so many tensors, each of them one matrix of all experts."""
V4 = "deepseek4"
DRAFTER = "dflash"
"""DSpark, in a file of its own."""
MOST_LAYERS = 1024


class Tensor(NamedTuple):
    """A tensor of a GGUF; `shape` fastest-changing first."""

    name: str
    shape: tuple[int, ...]
    size_bytes: int


@dataclass(frozen=True)
class LayerSizes:
    """One layer: its routed experts, and all the rest. `*_numbers`: weights of matrices, each one multiplication.
    `matrices`: what each matrix of the experts weighs, `expert_bytes` together; empty where that is not known."""

    expert_bytes: int
    dense_bytes: int
    expert_numbers: int
    dense_numbers: int
    matrices: tuple[tuple[Matrix, int], ...] = ()

    def grown(self, other: "LayerSizes", times: int) -> "LayerSizes":
        """This layer with `times` the difference to `other`, which has the same matrices, added."""
        fields = ("expert_bytes", "dense_bytes", "expert_numbers", "dense_numbers")
        more = ((getattr(self, name), getattr(other, name)) for name in fields)
        return LayerSizes(
            *(here + times * (there - here) for here, there in more),
            matrices=tuple(
                (name, here + times * (there - here))
                for (name, here), (_, there) in zip(self.matrices, other.matrices, strict=True)
            ),
        )


@dataclass(frozen=True)
class ModelSizes:
    """A model's parts in bytes. `embedding_bytes`: one row is read for a token, or all of it where it is the output
    as well (`tied`); `output_bytes`: the rest outside the layers; `idle_bytes`: not loaded (a drafter in the model's
    own file), nor are the `idle_layers`, which llama.cpp counts as layers all the same."""

    name: str
    architecture: str
    layers: tuple[LayerSizes, ...]
    embedding_bytes: int
    output_bytes: int
    output_numbers: int
    idle_bytes: int
    tied: bool
    experts: int
    experts_used: int
    context_train_tokens: int
    cache: CacheShape
    idle_layers: int = 0

    @property
    def key(self) -> str:
        """By which measurements of this model are kept: what it weighs and of which architecture it is."""
        return f"{self.architecture}-{len(self.layers)}-{self.loaded_bytes}"

    @property
    def expert_bytes(self) -> int:
        """All routed experts."""
        return sum(layer.expert_bytes for layer in self.layers)

    @property
    def dense_bytes(self) -> int:
        """What is read for every token: the layers without their experts, and the output."""
        output = self.output_bytes + (self.embedding_bytes if self.tied else 0)
        return sum(layer.dense_bytes for layer in self.layers) + output

    @property
    def loaded_bytes(self) -> int:
        """What is loaded."""
        experts = sum(layer.expert_bytes + layer.dense_bytes for layer in self.layers)
        return experts + self.embedding_bytes + self.output_bytes

    @property
    def largest_matrix_bytes(self) -> int:
        """The largest tensor of experts; 0 without experts, a whole layer's where its matrices are not known."""
        return max(
            (max((size for _, size in each.matrices), default=each.expert_bytes) for each in self.layers),
            default=0,
        )

    @property
    def routed_share(self) -> float:
        """The share of a layer's experts that a token goes through; 0 without experts."""
        return self.experts_used / self.experts if self.experts else 0.0

    @property
    def routed_bytes(self) -> float:
        """Bytes of experts that a token goes through."""
        return self.expert_bytes * self.routed_share

    @property
    def numbers_per_token(self) -> float:
        """Multiplications with weights for a token, the output left out: a prompt needs it once."""
        dense = sum(layer.dense_numbers for layer in self.layers)
        return dense + self.routed_share * sum(layer.expert_numbers for layer in self.layers)


def sizes_of_headers(headers: Sequence[GgufHeader]) -> ModelSizes:
    """The sizes of a GGUF by its headers, the one with the metadata first. Nothing in them is trusted to be a model
    that can be loaded: what is missing counts as nothing."""
    head = headers[0]
    architecture = head.architecture or "unknown"
    tensors = [
        Tensor(each.name, each.shape, each.size_bytes) for header in headers for each in header.tensors
    ]
    experts = _whole(head, "expert_count")
    layers = _layer_count(head, tensors)
    return _sizes(
        tensors,
        name=head.name or "a model",
        architecture=architecture,
        layers=layers,
        experts=experts,
        experts_used=min(experts, _whole(head, "expert_used_count")),
        context_train_tokens=head.context_length or 0,
        cache=_cache(head, tensors, layers),
        idle_layers=max(0, min(MOST_LAYERS, _whole(head, "block_count")) - layers),
    )


def sizes_of_shape(shape: ModelShape, dense: Dense, name: str = "DeepSeek-V4") -> ModelSizes:
    """The sizes of the GGUF that a V4 checkpoint of that shape becomes, without its drafter.

    Raises ConversionError for a shape that has no lossless GGUF (experts in FP8).
    """
    used, count = shape.num_experts_per_tok, shape.n_routed_experts
    if count <= used + 1:
        return _sizes_of_tensors(shape, dense, name)
    # Pro has 140,000 tensors of experts, all alike: two small models tell what each expert adds to a layer.
    one, other = (
        _sizes_of_tensors(replace(shape, n_routed_experts=each), dense, name) for each in (used, used + 1)
    )
    layers = tuple(
        less.grown(more, count - used) for less, more in zip(one.layers, other.layers, strict=True)
    )
    return replace(one, layers=layers, experts=count)


def _sizes_of_tensors(shape: ModelShape, dense: Dense, name: str) -> ModelSizes:
    """The same by counting every tensor."""
    expected: dict[str, Expected] = expected_tensors(shape)
    mapped = map_tensors(expected, Options(dense, "skip"))
    tensors = [Tensor(each.name, each.shape, each.size_bytes) for each in mapped.of("model")]
    return _sizes(
        tensors,
        name=name,
        architecture=V4,
        layers=shape.num_hidden_layers,
        experts=shape.n_routed_experts,
        experts_used=shape.num_experts_per_tok,
        context_train_tokens=shape.max_position_embeddings,
        cache=V4Cache(
            ratios=shape.layer_ratios,
            head_dim=shape.head_dim,
            index_head_dim=shape.index_head_dim,
            window=shape.sliding_window,
            heads=shape.num_attention_heads,
            hidden=shape.hidden_size,
        ),
    )


def _sizes(
    tensors: Iterable[Tensor],
    *,
    name: str,
    architecture: str,
    layers: int,
    experts: int,
    experts_used: int,
    context_train_tokens: int,
    cache: CacheShape,
    idle_layers: int = 0,
) -> ModelSizes:
    expert, dense = [[0, 0] for _ in range(layers)], [[0, 0] for _ in range(layers)]
    matrices: list[dict[Matrix, int]] = [{} for _ in range(layers)]
    embedding = output = numbers = idle = embedding_numbers = 0
    tied = True
    for each in tensors:
        found = _LAYER.match(each.name)
        count = math.prod(each.shape) if len(each.shape) > 1 else 0
        if found is not None:
            at = int(found[1])
            if at >= layers:  # the blocks of a drafter come after the model's own
                idle += each.size_bytes
                continue
            of_experts = _EXPERTS.match(found[2])
            if of_experts is not None:
                matrix = cast(Matrix, of_experts[1])
                matrices[at][matrix] = matrices[at].get(matrix, 0) + each.size_bytes
            parts = (dense if of_experts is None else expert)[at]
            parts[0] += each.size_bytes
            # A table that is looked into multiplies nothing.
            parts[1] += 0 if found[2].startswith("ffn_gate_tid2eid") else count
        elif each.name.startswith("token_embd."):
            embedding, embedding_numbers = embedding + each.size_bytes, count
        else:
            tied = tied and each.name != "output.weight"
            output, numbers = output + each.size_bytes, numbers + count
    return ModelSizes(
        name=name,
        architecture=architecture,
        layers=tuple(
            LayerSizes(
                of_experts[0], of_rest[0], of_experts[1], of_rest[1], tuple(sorted(of_matrices.items()))
            )
            for of_experts, of_rest, of_matrices in zip(expert, dense, matrices, strict=True)
        ),
        embedding_bytes=embedding,
        output_bytes=output,
        output_numbers=embedding_numbers if tied else numbers,
        idle_bytes=idle,
        tied=tied,
        experts=experts,
        experts_used=experts_used,
        context_train_tokens=context_train_tokens,
        cache=cache,
        idle_layers=idle_layers,
    )


def _layer_count(head: GgufHeader, tensors: Sequence[Tensor]) -> int:
    """Layers that are loaded: those of the file less a drafter's (`nextn`), at most those that have tensors."""
    there = max((int(found[1]) + 1 for each in tensors if (found := _LAYER.match(each.name))), default=0)
    named = _whole(head, "block_count")
    count = min(there, named) if named else there
    return min(MOST_LAYERS, max(0, count - _whole(head, "nextn_predict_layers")))


def _cache(head: GgufHeader, tensors: Sequence[Tensor], layers: int) -> CacheShape:
    hidden = _whole(head, "embedding_length")
    ratios = head.metadata.get(f"{head.architecture}.attention.compress_ratios")
    if head.architecture == V4 and isinstance(ratios, list):
        return V4Cache(
            ratios=tuple(int(each) for each in ratios[:layers] if each in (0, 4, 128)),
            head_dim=_whole(head, "attention.key_length"),
            index_head_dim=_whole(head, "attention.indexer.key_length"),
            window=_whole(head, "attention.sliding_window"),
            heads=_whole(head, "attention.head_count"),
            hidden=hidden,
        )
    by_name = {each.name: each for each in tensors}
    keys = _whole(head, "attention.key_length") or hidden // max(1, _whole(head, "attention.head_count"))
    values = _whole(head, "attention.value_length") or keys
    shared = _whole(head, "attention.head_count_kv") or _whole(head, "attention.head_count")
    rows: list[tuple[int, int]] = []
    for layer in range(layers):
        # What a layer's own matrices put out is surer than metadata, which may give it for each layer.
        found = [by_name.get(f"blk.{layer}.attn_{part}.weight") for part in ("k", "v")]
        if found[0] is not None:
            rows.append((_width(found[0]), 0 if found[1] is None else _width(found[1])))
        elif f"blk.{layer}.attn_qkv.weight" in by_name:
            rows.append((shared * keys, shared * values))
        elif compressed := by_name.get(f"blk.{layer}.attn_kv_a_mqa.weight"):
            rows.append((_width(compressed), 0))  # latent attention keeps one row for keys and values
    used = _whole(head, "expert_used_count")
    inner = max(_whole(head, "feed_forward_length"), used * _whole(head, "expert_feed_forward_length"))
    heads = _whole(head, "attention.head_count")
    return PlainCache(rows=tuple(rows), hidden=hidden, inner=inner, heads=heads)


def _width(matrix: Tensor) -> int:
    """How many numbers a matrix puts out; 0 for a tensor without extents."""
    return matrix.shape[-1] if matrix.shape else 0


def _whole(head: GgufHeader, key: str) -> int:
    """A count of the metadata; 0 for one that is missing or cannot be."""
    value = head.number(f"{head.architecture}.{key}")
    return value if isinstance(value, int) and 0 <= value < 1 << 31 else 0
