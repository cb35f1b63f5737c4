"""What goes into a GPU's memory, and in which order."""

from typing import Literal

import pytest

from engine.placement.gpu_layout import layout
from engine.placement.model_sizes import LayerSizes, Matrix

MATRICES: tuple[tuple[Matrix, int], ...] = (("down", 40), ("gate", 30), ("up", 30))
LAYERS = (LayerSizes(100, 10, 0, 0, MATRICES),) * 4
CACHES = (1, 1, 1, 1)
OUTPUT = 20


def compute(reach: Literal["gpu", "both"]) -> int:
    return {"gpu": 5, "both": 45}[reach]


def found(budget: int) -> tuple[int, dict[int, int], tuple[tuple[int, Matrix], ...], str, int] | None:
    return layout(LAYERS, CACHES, OUTPUT, compute, budget)


def test_with_room_for_all_of_it_none_is_kept_for_bringing_weights_over() -> None:
    all_of_it = OUTPUT + 4 * 111 + 5
    assert found(all_of_it) == (4, {0: 100, 1: 100, 2: 100, 3: 100}, (), "gpu", 5)
    less = found(all_of_it - 1)
    assert less is not None
    assert less[3:] == ("both", 45)


@pytest.mark.parametrize(
    ("left", "on_gpu", "apart"),
    [
        (0, {}, ()),
        (39, {}, ()),
        (40, {3: 40}, ((3, "gate"), (3, "up"))),
        (70, {3: 70}, ((3, "gate"),)),
        (99, {3: 70}, ((3, "gate"),)),
        (100, {3: 100}, ()),
        (145, {3: 100, 2: 40}, ((2, "gate"), (2, "up"))),
        (270, {3: 100, 2: 100, 1: 70}, ((1, "gate"),)),
    ],
)
def test_whole_layers_of_experts_and_then_single_matrices(
    left: int, on_gpu: dict[int, int], apart: tuple[tuple[int, Matrix], ...]
) -> None:
    got = found(OUTPUT + 4 * 11 + 45 + left)
    assert got is not None
    assert got[:3] == (4, {at: on_gpu.get(at, 0) for at in range(4)}, apart)


def test_the_output_comes_before_any_layer_and_layers_before_experts() -> None:
    assert found(OUTPUT + 45 + 10) is None
    two = found(OUTPUT + 45 + 2 * 11 + 10)
    assert two is not None
    assert two[:2] == (2, {2: 0, 3: 0})


def test_a_layer_whose_matrices_are_not_known_is_not_divided() -> None:
    unknown = (LayerSizes(100, 10, 0, 0),)
    got = layout(unknown, (0,), 0, lambda _reach: 0, 109)
    assert got is not None
    assert got[:3] == (1, {0: 0}, ())


def test_a_layer_whose_gate_and_up_are_one_gives_its_down() -> None:
    fused = (LayerSizes(100, 10, 0, 0, (("down", 40), ("gate_up", 60))),)
    got = layout(fused, (0,), 0, lambda _reach: 0, 70)
    assert got is not None
    assert got[:3] == (1, {0: 40}, ((0, "gate_up"),))
