"""What of a model goes into a GPU's memory when so many bytes of it may be used.

Owns: the order in which parts are put there. Pure; knows neither RAM nor words. First the output, which llama.cpp
places before any layer; then as many of the last layers as fit without their experts, each with its cache; then the
experts of whole layers, the last ones first; and of a layer whose experts do not fit, single matrices of them.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from engine.placement.model_sizes import LayerSizes, Matrix

MATRICES: tuple[Matrix, ...] = ("down", "up")
"""What of a layer's experts may go to the GPU where not all of them fit, in that order. The last matrix goes first: the
processor computes the others before it, and hands over no more often than with all of them in RAM."""


class Layout(NamedTuple):
    """What would lie on a GPU. `on_gpu`: bytes of experts by layer; `apart`: matrices of those layers that stay in
    RAM all the same; `reach`: whether other weights stay there ("both") or none ("gpu")."""

    layers: int
    on_gpu: dict[int, int]
    apart: tuple[tuple[int, Matrix], ...]
    reach: Literal["gpu", "both"]
    compute_bytes: int


def layout(
    layers: Sequence[LayerSizes],
    caches: Sequence[int],
    output_bytes: int,
    compute_bytes: Callable[[Literal["gpu", "both"]], int],
    budget_bytes: int,
) -> Layout | None:
    """As much as the budget holds; None for not even a layer. `caches`: bytes for each layer; `compute_bytes`: of the
    buffers on the GPU, where weights stay in RAM and where none do."""
    reaches: tuple[Literal["gpu", "both"], ...] = ("gpu", "both")
    for reach in reaches:
        compute = compute_bytes(reach)
        left = budget_bytes - compute - output_bytes
        count = 0
        for each, cache in zip(reversed(layers), reversed(caches), strict=True):
            if each.dense_bytes + cache > left:
                break
            left -= each.dense_bytes + cache
            count += 1
        if count == 0 or left < 0:
            continue
        on_gpu, apart = _experts(layers, len(layers) - count, left)
        whole = all(on_gpu.get(at) == each.expert_bytes for at, each in enumerate(layers))
        # Without weights in RAM there is no room needed for bringing them over.
        if reach == "both" or whole:
            return Layout(count, on_gpu, apart, reach, compute)
    return None


def _experts(
    layers: Sequence[LayerSizes], first: int, left: int
) -> tuple[dict[int, int], tuple[tuple[int, Matrix], ...]]:
    """Bytes of experts by layer from `first` on, of `left`; and what of them stays."""
    on_gpu = dict.fromkeys(range(first, len(layers)), 0)
    for at in reversed(on_gpu):
        if layers[at].expert_bytes <= left:
            on_gpu[at] = layers[at].expert_bytes
            left -= on_gpu[at]
    apart: list[tuple[int, Matrix]] = []
    for at in reversed(on_gpu):
        if on_gpu[at] < layers[at].expert_bytes:
            some, stay = _matrices(layers[at], left)
            if some:
                on_gpu[at], left = some, left - some
                apart.extend((at, matrix) for matrix in stay)
    return on_gpu, tuple(sorted(apart))


def _matrices(layer: LayerSizes, left: int) -> tuple[int, list[Matrix]]:
    """The bytes of this layer's matrices that go to the GPU alone, and those that stay."""
    sizes: dict[Matrix, int] = dict(layer.matrices)
    some = 0
    for matrix in MATRICES:
        if len(sizes) < 2 or matrix not in sizes or sizes[matrix] > left - some:
            break
        some += sizes.pop(matrix)
    return some, list(sizes)
