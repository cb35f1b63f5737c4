"""Raw rows and groups: each group comes out once, whole, with the one before it where the ratio overlaps."""

import random

import pytest

torch = pytest.importorskip("torch", reason="the native engine needs torch")

from engine.model.compressor_state import CompressorState, first_needed  # noqa: E402
from engine.model.row_formats import RowFormat  # noqa: E402


def state(ratio: int) -> CompressorState:
    return CompressorState(ratio, 1, RowFormat("f32", 1, 0), torch.device("cpu"))


def raw(first: int, count: int) -> "torch.Tensor":
    return torch.arange(first, first + count, dtype=torch.float32)[:, None]


def read(held: CompressorState, count: int, kept: int | None = None) -> list[float]:
    """Read `count` tokens, keep `kept`; the raw rows that the pass could pool, the group before included."""
    first = held.position
    groups = held.stage(raw(first, count), -raw(first, count), all_kept=kept is not None)
    assert torch.equal(groups.gate, -groups.kv)
    number = len(groups.kv) // held.ratio
    held.rows.stage(raw(groups.first, number))
    held.prepare(first + (count if kept is None else kept))
    held.commit(first + (count if kept is None else kept))
    before = [] if groups.previous is None else groups.previous[0].flatten().tolist()
    return [*before, *groups.kv.flatten().tolist()]


@pytest.mark.parametrize("ratio", [4, 128])
@pytest.mark.parametrize("seed", range(5))
def test_groups_do_not_depend_on_how_tokens_are_cut_into_passes(ratio: int, seed: int) -> None:
    dice = random.Random(seed)
    held = state(ratio)
    for _ in range(60):
        first, count = held.position, dice.choice([1, 2, 3, 5, ratio, 2 * ratio + 1])
        kept = dice.randint(1, count) if dice.random() < 0.5 else None
        pooled = read(held, count, kept)
        begin = first // ratio * ratio
        whole = (first + count) // ratio * ratio
        overlap = ratio if ratio == 4 and first >= ratio else 0
        assert pooled == [float(each) for each in range(begin - overlap, whole)]
        end = first + (count if kept is None else kept)
        assert held.position == end
        assert held.kv.flatten().tolist() == [float(each) for each in range(first_needed(ratio, end), end)]
        assert held.rows.kept.flatten().tolist() == [float(each) for each in range(end // ratio)]


@pytest.mark.parametrize(
    ("ratio", "position", "within"),
    [
        (4, 7, range(8)),  # no group matters before the kept one
        (4, 8, [8]),
        (4, 11, [8, 9, 10, 11]),
        (4, 1003, [1000, 1001, 1002, 1003]),
        (128, 127, range(128)),
        (128, 128, [128]),
        (128, 300, range(256, 301)),
    ],
)
def test_it_can_be_cut_back_to_just_the_places_whose_group_is_there(
    ratio: int, position: int, within: "range | list[int]"
) -> None:
    held = state(ratio)
    read(held, position)
    assert [end for end in range(position + 1) if held.can_end(end)] == list(within)
    for end in within:
        twin, fresh = held.fork(), state(ratio)
        twin.cut(end)
        if end:
            read(fresh, end)
        assert torch.equal(twin.kv, fresh.kv)
        assert torch.equal(twin.gate, fresh.gate)
        assert read(twin, 9) == read(fresh, 9)
