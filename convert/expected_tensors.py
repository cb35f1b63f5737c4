"""Which tensors a DeepSeek-V4 checkpoint of a given shape has, and how that compares with what is there.

Owns: the names, formats and shapes of V4.md 1.3 (main model, MTP block, DSpark stages), in the order of the
model; the counts of parameters that follow. Does not read files.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from convert.checkpoint import Source
from convert.model_shape import FP4_BLOCK, FP8_BLOCK, ModelShape
from convert.safetensors_header import tensor_bytes

EXPERT_PARTS = ("w1", "w2", "w3")
"""Gate, down, up."""


class Expected(NamedTuple):
    """The format and shape of a tensor, slowest-changing extent first."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """What it takes."""
        return tensor_bytes(self.dtype, self.shape)


class Wrong(NamedTuple):
    """A tensor that is there with another format or shape than it should have."""

    name: str
    expected: Expected
    found: Expected


@dataclass(frozen=True)
class Comparison:
    """What is missing (in the order of the model), unexpected and wrong in a checkpoint."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    wrong: tuple[Wrong, ...]

    @property
    def agrees(self) -> bool:
        """Whether the checkpoint holds exactly what it should."""
        return not (self.missing or self.unexpected or self.wrong)


@dataclass(frozen=True)
class Parameters:
    """How many numbers a model has been taught; scales and routing tables are not counted."""

    model: int
    draft: int
    active: int
    """Of `model`, those that one token passes through, without the embedding's row."""

    @property
    def total(self) -> int:
        """Model and drafter."""
        return self.model + self.draft


def expected_tensors(shape: ModelShape) -> dict[str, Expected]:
    """Every tensor of a checkpoint of that shape: the main model, then its drafter (`mtp.*`)."""
    tensors = dict(_model(shape))
    tensors.update(_draft(shape))
    return tensors


def compare(tensors: Mapping[str, Source], expected: Mapping[str, Expected]) -> Comparison:
    """What a checkpoint's `tensors` lack of the `expected`, have beyond them, and have otherwise."""
    found = {name: Expected(source.dtype, source.shape) for name, source in tensors.items()}
    return Comparison(
        missing=tuple(name for name in expected if name not in found),
        unexpected=tuple(name for name in found if name not in expected),
        wrong=tuple(
            Wrong(name, each, found[name])
            for name, each in expected.items()
            if name in found and found[name] != each
        ),
    )


def parameters(shape: ModelShape) -> Parameters:
    """The counts that follow from the shape."""
    experts = 3 * shape.hidden_size * shape.moe_intermediate_size
    idle = (shape.n_routed_experts - shape.num_experts_per_tok) * experts * shape.num_hidden_layers
    model = sum(_count(name, each) for name, each in _model(shape))
    embedding = shape.vocab_size * shape.hidden_size
    draft = sum(_count(name, each) for name, each in _draft(shape))
    return Parameters(model=model, draft=draft, active=model - idle - embedding)


def is_draft(name: str) -> bool:
    """Whether a tensor belongs to the drafter."""
    return name.startswith("mtp.")


def is_packed_fp4(name: str, each: Expected) -> bool:
    """Whether each byte of the tensor holds two FP4 numbers."""
    return each.dtype == "I8" and ".experts." in name


def _count(name: str, each: Expected) -> int:
    if name.endswith((".scale", ".tid2eid")):
        return 0
    count = 2 if is_packed_fp4(name, each) else 1
    for extent in each.shape:
        count *= extent
    return count


_Tensors = Iterator[tuple[str, Expected]]


def _model(shape: ModelShape) -> _Tensors:
    yield "embed.weight", Expected("BF16", (shape.vocab_size, shape.hidden_size))
    for layer, ratio in enumerate(shape.layer_ratios):
        yield from _block(shape, f"layers.{layer}.", ratio, hashed=layer < shape.num_hash_layers)
    yield from _ending(shape, "")
    yield "head.weight", Expected("BF16", (shape.vocab_size, shape.hidden_size))


def _draft(shape: ModelShape) -> _Tensors:
    """The MTP block of a preview, or the stages of DSpark; each has a whole block of its own, window only."""
    hidden = shape.hidden_size
    if shape.dspark is None:
        for block in range(shape.num_nextn_predict_layers):
            prefix = f"mtp.{block}."
            yield from _fp8(f"{prefix}e_proj", hidden, hidden)
            yield from _fp8(f"{prefix}h_proj", hidden, hidden)
            yield f"{prefix}enorm.weight", Expected("BF16", (hidden,))
            yield f"{prefix}hnorm.weight", Expected("BF16", (hidden,))
            yield from _block(shape, prefix, 0, hashed=False)
            yield from _ending(shape, prefix)
        return
    dspark = shape.dspark
    for stage in range(dspark.stages):
        prefix = f"mtp.{stage}."
        if stage == 0:
            yield from _fp8(f"{prefix}main_proj", hidden, len(dspark.target_layer_ids) * hidden)
            yield f"{prefix}main_norm.weight", Expected("BF16", (hidden,))
        yield from _block(shape, prefix, 0, hashed=False)
        if stage == dspark.stages - 1:
            yield from _ending(shape, prefix)
            for table in ("markov_w1", "markov_w2"):
                markov = Expected("BF16", (shape.vocab_size, dspark.markov_rank))
                yield f"{prefix}markov_head.{table}.weight", markov
            yield f"{prefix}confidence_head.proj.weight", Expected("BF16", (1, hidden + dspark.markov_rank))


def _ending(shape: ModelShape, prefix: str) -> _Tensors:
    """The last norm, and what makes one stream of the hyper-connections' several."""
    yield f"{prefix}hc_head_fn", Expected("F32", (shape.hc_mult, shape.hc_mult * shape.hidden_size))
    yield f"{prefix}hc_head_base", Expected("F32", (shape.hc_mult,))
    yield f"{prefix}hc_head_scale", Expected("F32", (1,))
    yield f"{prefix}norm.weight", Expected("BF16", (shape.hidden_size,))


def _block(shape: ModelShape, prefix: str, ratio: int, *, hashed: bool) -> _Tensors:
    mixes = (2 + shape.hc_mult) * shape.hc_mult
    for part in ("attn", "ffn"):
        yield f"{prefix}hc_{part}_fn", Expected("F32", (mixes, shape.hc_mult * shape.hidden_size))
        yield f"{prefix}hc_{part}_base", Expected("F32", (mixes,))
        yield f"{prefix}hc_{part}_scale", Expected("F32", (3,))
        yield f"{prefix}{part}_norm.weight", Expected("BF16", (shape.hidden_size,))
    yield from _attention(shape, f"{prefix}attn.", ratio)
    yield from _experts(shape, f"{prefix}ffn.", hashed=hashed)


def _attention(shape: ModelShape, prefix: str, ratio: int) -> _Tensors:
    hidden, heads = shape.hidden_size, shape.num_attention_heads
    width, out_rank = heads * shape.head_dim, shape.o_groups * shape.o_lora_rank
    yield f"{prefix}attn_sink", Expected("F32", (heads,))
    yield from _fp8(f"{prefix}wq_a", shape.q_lora_rank, hidden)
    yield f"{prefix}q_norm.weight", Expected("BF16", (shape.q_lora_rank,))
    yield from _fp8(f"{prefix}wq_b", width, shape.q_lora_rank)
    yield from _fp8(f"{prefix}wkv", shape.head_dim, hidden)
    yield f"{prefix}kv_norm.weight", Expected("BF16", (shape.head_dim,))
    yield from _fp8(f"{prefix}wo_a", out_rank, width // shape.o_groups)
    yield from _fp8(f"{prefix}wo_b", hidden, out_rank)
    if ratio:
        yield from _compressor(f"{prefix}compressor.", ratio, shape.head_dim, hidden)
    if ratio == 4:
        index_width = shape.index_n_heads * shape.index_head_dim
        yield from _fp8(f"{prefix}indexer.wq_b", index_width, shape.q_lora_rank)
        yield f"{prefix}indexer.weights_proj.weight", Expected("BF16", (shape.index_n_heads, hidden))
        yield from _compressor(f"{prefix}indexer.compressor.", ratio, shape.index_head_dim, hidden)


def _compressor(prefix: str, ratio: int, head: int, hidden: int) -> _Tensors:
    # At ratio 4 groups overlap: a second set of channels pools the group before.
    channels = 2 * head if ratio == 4 else head
    yield f"{prefix}ape", Expected("F32", (ratio, channels))
    yield f"{prefix}wkv.weight", Expected("BF16", (channels, hidden))
    yield f"{prefix}wgate.weight", Expected("BF16", (channels, hidden))
    yield f"{prefix}norm.weight", Expected("BF16", (head,))


def _experts(shape: ModelShape, prefix: str, *, hashed: bool) -> _Tensors:
    hidden, inner = shape.hidden_size, shape.moe_intermediate_size
    extents = {"w1": (inner, hidden), "w2": (hidden, inner), "w3": (inner, hidden)}
    yield f"{prefix}gate.weight", Expected("BF16", (shape.n_routed_experts, hidden))
    if hashed:
        yield f"{prefix}gate.tid2eid", Expected("I64", (shape.vocab_size, shape.num_experts_per_tok))
    else:
        yield f"{prefix}gate.bias", Expected("F32", (shape.n_routed_experts,))
    for expert in range(shape.n_routed_experts):
        for part in EXPERT_PARTS:
            name, (rows, columns) = f"{prefix}experts.{expert}.{part}", extents[part]
            if shape.expert_dtype == "fp8":
                yield from _fp8(name, rows, columns)
                continue
            yield f"{name}.weight", Expected("I8", (rows, columns // 2))
            yield f"{name}.scale", Expected("F8_E8M0", (rows, columns // FP4_BLOCK))
    shared = inner * shape.n_shared_experts
    yield from _fp8(f"{prefix}shared_experts.w1", shared, hidden)
    yield from _fp8(f"{prefix}shared_experts.w2", hidden, shared)
    yield from _fp8(f"{prefix}shared_experts.w3", shared, hidden)


def _fp8(name: str, rows: int, columns: int) -> _Tensors:
    """A matrix and the scale of each of its blocks, those at the edges cut."""
    yield f"{name}.weight", Expected("F8_E4M3", (rows, columns))
    yield f"{name}.scale", Expected("F8_E8M0", (-(-rows // FP8_BLOCK), -(-columns // FP8_BLOCK)))
