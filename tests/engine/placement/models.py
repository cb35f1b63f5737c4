"""Models to plan for: the released ones by their configs, and any that hypothesis thinks of."""

from functools import cache

from hypothesis import strategies as st

from convert.model_shape import ModelShape
from engine.placement.context_sizes import CacheShape, PlainCache, V4Cache
from engine.placement.model_sizes import LayerSizes, Matrix, ModelSizes, sizes_of_shape
from tests.convert.released_configs import FLASH, PRO

GB = 1_000_000_000


@cache
def flash() -> ModelSizes:
    """The preview of Flash, dense part in Q8_0."""
    return sizes_of_shape(ModelShape.from_config(FLASH), "q8_0", "Flash")


@cache
def pro() -> ModelSizes:
    """The same of Pro."""
    return sizes_of_shape(ModelShape.from_config(PRO), "q8_0", "Pro")


def dense_model(layers: int = 30, layer_bytes: int = 3_000_000) -> ModelSizes:
    """A small model without experts, whose output is its embedding."""
    return ModelSizes(
        name="small",
        architecture="llama",
        layers=(LayerSizes(0, layer_bytes, 0, layer_bytes * 2),) * layers,
        embedding_bytes=30_000_000,
        output_bytes=2304,
        output_numbers=28_000_000,
        idle_bytes=0,
        tied=True,
        experts=0,
        experts_used=0,
        context_train_tokens=8192,
        cache=PlainCache(((192, 192),) * layers, hidden=576, inner=1536),
    )


@st.composite
def any_layer(draw: st.DrawFn, *, with_experts: bool) -> LayerSizes:
    """With three matrices of experts, with two, or with one size for all."""
    kinds = st.sampled_from([("gate", "up", "down"), ("down", "gate_up"), ()])
    names: tuple[Matrix, ...] = draw(kinds) if with_experts else ()  # type: ignore[assignment]
    matrices = tuple((name, draw(st.integers(0, 7 * GB))) for name in names)
    whole = draw(st.integers(0, 20 * GB)) if with_experts and not names else 0
    return LayerSizes(
        sum(size for _, size in matrices) + whole,
        draw(st.integers(1, 2 * GB)),
        draw(st.integers(0, 40 * GB)) if with_experts else 0,
        draw(st.integers(1, 2 * GB)),
        matrices,
    )


@st.composite
def any_model(draw: st.DrawFn) -> ModelSizes:
    """Of any shape, from a few megabytes to a terabyte."""
    count = draw(st.integers(1, 12))
    experts = draw(st.sampled_from([0, 8, 256]))
    layers = tuple(draw(any_layer(with_experts=experts > 0)) for _ in range(count))
    cache_shape: CacheShape
    if draw(st.booleans()):
        cache_shape = V4Cache(
            tuple(draw(st.sampled_from([0, 4, 128])) for _ in range(count)), 512, 128, 128, 64, 4096
        )
    else:
        rows = draw(st.integers(0, count))
        cache_shape = PlainCache(((1024, 1024),) * rows, hidden=4096, inner=14336)
    tied = draw(st.booleans())
    return ModelSizes(
        name="any",
        architecture="any",
        layers=layers,
        embedding_bytes=draw(st.integers(0, 2 * GB)),
        output_bytes=draw(st.integers(0, 2 * GB)),
        output_numbers=draw(st.integers(0, 2 * GB)),
        idle_bytes=draw(st.integers(0, GB)),
        tied=tied,
        experts=experts,
        experts_used=min(experts, 6),
        context_train_tokens=draw(st.sampled_from([0, 4096, 1 << 20])),
        cache=cache_shape,
    )
