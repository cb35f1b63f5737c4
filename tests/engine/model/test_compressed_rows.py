"""Rows shared by contexts and their forks: each holder sees its own, whatever the others do."""

import random

import pytest

torch = pytest.importorskip("torch", reason="the native engine needs torch")

from engine.model.compressed_rows import CompressedRows  # noqa: E402


def made(width: int = 2) -> CompressedRows:
    return CompressedRows(width, torch.float32, torch.device("cpu"))


def rows_of(*values: float) -> "torch.Tensor":
    return torch.tensor([[value, -value] for value in values]).view(-1, 2)


def content(rows: CompressedRows) -> list[float]:
    return rows.kept[:, 0].tolist()


def test_staged_rows_become_its_own_when_they_are_settled() -> None:
    rows = made()
    rows.stage(rows_of(1, 2, 3))
    assert (content(rows), len(rows.rows)) == ([], 3)
    rows.settle(2)
    assert (content(rows), rows.staged) == ([1, 2], 0)
    rows.stage(rows_of(4))
    rows.settle(rows.length)
    assert content(rows) == [1, 2]


def test_no_more_can_be_settled_than_there_is() -> None:
    rows = made()
    rows.stage(rows_of(1))
    with pytest.raises(ValueError, match="2 rows of 1"):
        rows.settle(2)


def test_the_first_to_go_on_writes_in_place_and_the_other_copies() -> None:
    rows = made()
    rows.reserve(16)
    rows.stage(rows_of(1, 2))
    rows.settle(2)
    twin = rows.fork()
    place = rows.kept.data_ptr()
    rows.stage(rows_of(3))
    assert rows.rows.data_ptr() == place
    twin.stage(rows_of(9))  # while the other's row is only staged
    assert twin.rows.data_ptr() != place
    rows.settle(3)
    twin.settle(3)
    assert (content(rows), content(twin)) == ([1, 2, 3], [1, 2, 9])


def test_a_fork_that_is_gone_is_no_reason_to_copy() -> None:
    rows = made()
    rows.reserve(16)
    rows.stage(rows_of(1, 2))
    rows.settle(2)
    place = rows.kept.data_ptr()
    twin = rows.fork()
    twin.stage(rows_of(7, 8))
    twin.settle(4)
    del twin
    rows.stage(rows_of(3))
    rows.settle(3)
    assert (rows.kept.data_ptr(), content(rows)) == (place, [1, 2, 3])


def test_room_that_was_reserved_is_not_moved() -> None:
    rows = made()
    rows.reserve(100)
    rows.stage(rows_of(0))
    place, size = rows.rows.data_ptr(), rows.allocated_bytes
    for value in range(100):
        rows.stage(rows_of(value))
        rows.settle(value + 1)
    assert (rows.kept.data_ptr(), rows.allocated_bytes) == (place, size)


@pytest.mark.parametrize("seed", range(20))
def test_any_order_of_forks_and_rows_is_what_separate_lists_would_be(seed: int) -> None:
    dice = random.Random(seed)
    holders: list[tuple[CompressedRows, list[float], list[float]]] = [(made(), [], [])]
    for step in range(200):
        place = dice.randrange(len(holders))
        rows, own, staged = holders[place]
        match dice.choice("sssccfdx"):
            case "s":
                staged[:] = [step + part / 8 for part in range(dice.randrange(4))]
                rows.stage(rows_of(*staged))
            case "c":
                length = dice.randrange(len(own) + len(staged) + 1)
                own[:], staged[:] = (own + staged)[:length], []
                rows.settle(length)
            case "f" if len(holders) < 6:
                holders.append((rows.fork(), list(own), []))
            case "d" if len(holders) > 1:
                del holders[place]
            case _:
                staged.clear()
                rows.settle(len(own))
        del rows, own, staged  # or a dropped holder would live on here
        for each, own, staged in holders:
            assert content(each) == own
            assert each.rows[:, 0].tolist() == own + staged
        del each, own, staged


def test_who_adds_no_row_takes_no_copy() -> None:
    rows = made()
    rows.stage(rows_of(1, 2))
    rows.settle(2)
    twin = rows.fork()
    rows.stage(rows_of(3))
    place = twin.kept.data_ptr()
    twin.stage(twin.kept[:0])
    assert (twin.kept.data_ptr(), twin.staged, content(twin)) == (place, 0, [1, 2])
