"""What a DeepSeek-V4 weighs on each GPU of a cluster, when vLLM or SGLang share it out.

Owns: which tensor of a checkpoint is cut how, by the names and shapes of `convert.expected_tensors`. Pure. The rules
are those of the engines' own code for this model (vLLM 0.33.0, `vllm/models/deepseek_v4/`; SGLang 0.5.23,
`sglang/srt/models/deepseek_v4.py`), which cut alike but for the shared expert, the embedding and the output:

- the routed experts lie on all GPUs of a stage, each whole on one of them (expert parallel);
- what belongs to attention heads is cut by tensor parallel and is there once in every data-parallel group;
- the shared expert and the two ends of the model: see `Sharing`;
- all else, the compressors, the indexer and the router too, is on every GPU.

A drafter is left out: neither engine loads one unless it is asked to draft.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Literal

from convert.expected_tensors import Expected, expected_tensors, is_draft
from convert.model_shape import FP8_BLOCK, ModelShape

Engine = Literal["vllm", "sglang"]
Kind = Literal["experts", "heads", "shared", "whole"]
_LAYER = re.compile(r"^layers\.(\d{1,4})\.(.+)$")
_BY_HEAD = ("attn.wq_b.", "attn.wo_a.", "attn.wo_b.")


@dataclass(frozen=True)
class Division:
    """How many GPUs share what: `tensor` cut the heads, `data` groups of those each answer requests of their own,
    `pipeline` stages each have a part of the layers."""

    tensor: int
    data: int = 1
    pipeline: int = 1

    @property
    def gpus(self) -> int:
        """All of them."""
        return self.tensor * self.data * self.pipeline

    @property
    def experts(self) -> int:
        """GPUs that share a layer's experts."""
        return self.tensor * self.data


@dataclass(frozen=True)
class LayerWeights:
    """Bytes of one layer, by how they are cut."""

    experts: int
    heads: int
    shared: int
    whole: int


@dataclass(frozen=True)
class ModelWeights:
    """Bytes of a model without its drafter: its layers, the two ends, and what stands after the last layer."""

    layers: tuple[LayerWeights, ...]
    embedding: int
    output: int
    ending: int

    @property
    def total(self) -> int:
        """All of it, once."""
        layers = sum(getattr(each, kind.name) for each in self.layers for kind in fields(LayerWeights))
        return layers + self.embedding + self.output + self.ending


@dataclass(frozen=True)
class GpuWeights:
    """Bytes on one GPU of a stage, by kind."""

    experts: int
    heads: int
    shared: int
    whole: int
    ends: int

    @property
    def total(self) -> int:
        """All kinds."""
        return self.experts + self.heads + self.shared + self.whole + self.ends


@dataclass(frozen=True)
class Sharing:
    """How a division cuts what the engines cut differently, as the share of it on one GPU: (parts, of) of the shared
    expert's blocks; by how many GPUs the embedding and the output are cut."""

    shared: tuple[int, int]
    embedding: int
    output: int


@cache
def weights_of(shape: ModelShape) -> ModelWeights:
    """The bytes of every tensor that a checkpoint of that shape has."""
    layers = [dict.fromkeys((kind.name for kind in fields(LayerWeights)), 0) for _ in shape.layer_ratios]
    ends = {"embed.weight": 0, "head.weight": 0}
    ending = 0
    tensors: Mapping[str, Expected] = expected_tensors(shape)
    for name, each in tensors.items():
        if is_draft(name):
            continue
        found = _LAYER.match(name)
        if found is not None:
            layers[int(found[1])][kind_of(found[2])] += each.size_bytes
        elif name in ends:
            ends[name] += each.size_bytes
        else:
            ending += each.size_bytes
    return ModelWeights(
        tuple(LayerWeights(**each) for each in layers), ends["embed.weight"], ends["head.weight"], ending
    )


def kind_of(name: str) -> Kind:
    """How a layer's tensor is cut, by its name without the layer."""
    if name.startswith("ffn.experts."):
        return "experts"
    if name.startswith("ffn.shared_experts."):
        return "shared"
    return "heads" if name.startswith(_BY_HEAD) else "whole"


def sharing(shape: ModelShape, division: Division, engine: Engine) -> Sharing:
    """What the engine does with the shared expert and the ends.

    vLLM cuts the shared expert by tensor parallel, in whole blocks and so rounded up; where there are data-parallel
    groups besides, it is on every GPU, as the tokens are what is cut then. SGLang cuts it over the whole stage where
    the blocks allow, else it is on every GPU (`replicates_shared`). SGLang has the embedding whole on every GPU of
    several data-parallel groups.
    """
    blocks = shape.moe_intermediate_size * shape.n_shared_experts // FP8_BLOCK
    if engine == "vllm":
        alone = division.tensor == 1 or division.data > 1
        part = (blocks, blocks) if alone else (-(-blocks // division.tensor), blocks)
        return Sharing(part, division.tensor, division.tensor)
    part = (blocks, blocks) if replicates_shared(shape, division) else (blocks // division.experts, blocks)
    return Sharing(part, 1 if division.data > 1 else division.tensor, division.tensor)


def replicates_shared(shape: ModelShape, division: Division) -> bool:
    """Whether SGLang has to be told to keep the shared expert whole, since its blocks cannot be cut so."""
    return shape.moe_intermediate_size * shape.n_shared_experts // FP8_BLOCK % division.experts != 0


def gpu_weights(shape: ModelShape, division: Division, engine: Engine) -> tuple[GpuWeights, ...]:
    """What lies on each GPU, for every stage of the pipeline; the GPUs of a stage all hold the same."""
    weights, cut = weights_of(shape), sharing(shape, division, engine)
    parts, of = cut.shared
    found: list[GpuWeights] = []
    for stage, layers in enumerate(stages(len(weights.layers), division.pipeline, engine)):
        own = weights.layers[layers.start : layers.stop]
        whole = sum(each.whole for each in own)
        ends = weights.embedding // cut.embedding if stage == 0 else 0
        if stage == division.pipeline - 1:
            ends += weights.output // cut.output
            whole += weights.ending
        found.append(
            GpuWeights(
                experts=sum(each.experts for each in own) // division.experts,
                heads=sum(each.heads for each in own) // division.tensor,
                shared=sum(each.shared for each in own) * parts // of,
                whole=whole,
                ends=ends,
            )
        )
    return tuple(found)


def stages(layers: int, pipeline: int, engine: Engine) -> tuple[range, ...]:
    """Which layers each stage has. Where they do not come out even, vLLM gives one more to the stages before the last
    and SGLang to the last ones."""
    each, more = divmod(layers, pipeline)
    counts = [each] * pipeline
    for at in range(more):
        counts[pipeline - (2 if engine == "vllm" else 1) - at] += 1
    begins = [sum(counts[:stage]) for stage in range(pipeline)]
    return tuple(range(begin, begin + count) for begin, count in zip(begins, counts, strict=True))


def objection(shape: ModelShape, division: Division) -> str | None:
    """Why a model cannot be shared out so, as a clause; None where it can. Both engines ask for the same."""
    for many, what in ((shape.num_attention_heads, "attention heads"), (shape.o_groups, "groups of heads")):
        if many % division.tensor:
            return f"its {many} {what} cannot be cut into {division.tensor}"
    if shape.n_routed_experts % division.experts:
        return f"its {shape.n_routed_experts} experts do not come out even on {division.experts} GPUs"
    if division.pipeline > shape.num_hidden_layers:
        return f"it has {shape.num_hidden_layers} layers for {division.pipeline} stages"
    return None
