"""The window's ring: the last rows, whatever passes they came in."""

import random

import pytest

torch = pytest.importorskip("torch", reason="the native engine needs torch")

from engine.model.ring import Ring  # noqa: E402
from engine.model.row_formats import RowFormat  # noqa: E402

WINDOW = 5


def ring() -> Ring:
    return Ring(WINDOW, RowFormat("f32", 1, 0), torch.device("cpu"))


def rows(first: int, count: int) -> "torch.Tensor":
    return torch.arange(first, first + count, dtype=torch.float32)[:, None]


def content(held: Ring, count: int = WINDOW) -> list[float]:
    return held.last(count)[:, 0].tolist()


def test_what_is_staged_is_not_there_before_it_is_committed() -> None:
    held = ring()
    held.stage(rows(0, 3), all_kept=True)
    assert content(held) == []
    held.drop()
    held.commit(3)  # nothing is staged: nothing happens
    assert (content(held), held.end) == ([], 0)


@pytest.mark.parametrize("seed", range(10))
def test_it_holds_the_last_rows(seed: int) -> None:
    dice = random.Random(seed)
    held, end = ring(), 0
    for _ in range(40):
        count, all_kept = dice.randrange(1, 12), dice.random() < 0.5
        held.stage(rows(end, count), all_kept=all_kept)
        end += dice.randint(1, count) if all_kept else count
        held.commit(end)
        wanted = [float(each) for each in range(max(0, end - WINDOW), end)]
        assert content(held) == wanted
        assert content(held, 2) == wanted[-2:]
        assert held.size_bytes == 4 * len(wanted)


def test_it_can_end_earlier_only_while_the_rows_before_are_there() -> None:
    held = ring()
    held.stage(rows(0, WINDOW), all_kept=False)
    held.commit(WINDOW)
    assert all(held.can_end(end) for end in range(WINDOW + 1))
    held.stage(rows(WINDOW, 2), all_kept=False)
    held.commit(WINDOW + 2)
    assert [end for end in range(WINDOW + 3) if held.can_end(end)] == [WINDOW + 1, WINDOW + 2]
    held.cut(WINDOW + 1)
    assert content(held) == [2, 3, 4, 5]
    assert [end for end in range(WINDOW + 2) if held.can_end(end)] == [WINDOW + 1]
    held.stage(rows(WINDOW + 1, 1), all_kept=False)
    held.commit(WINDOW + 2)
    assert content(held) == [2, 3, 4, 5, 6]


def test_a_fork_is_a_copy() -> None:
    held = ring()
    held.stage(rows(0, 7), all_kept=False)
    held.commit(7)
    twin = held.fork()
    held.stage(rows(7, 3), all_kept=False)
    held.commit(10)
    assert (content(twin), content(held)) == ([2, 3, 4, 5, 6], [5, 6, 7, 8, 9])
