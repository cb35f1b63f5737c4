"""What is decorated computes few rows one by one, and more of them at once."""

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the native engine has nothing to run on")

from kernels.few_rows import FEW_ROWS, few_rows_alone, own_row  # noqa: E402


def test_from_one_to_eight_rows_the_operator_sees_one_row_at_a_time() -> None:
    seen: list[tuple[int, ...]] = []

    @few_rows_alone("x", "y")
    def sums(x: torch.Tensor, factor: float, y: torch.Tensor | None = None) -> torch.Tensor:
        seen.append(tuple(x.shape))
        return x.sum(dim=1) * factor + (0 if y is None else y[:, 0])

    x = torch.arange(27.0).view(9, 3)
    for count in range(1, FEW_ROWS + 1):
        seen.clear()
        assert torch.equal(sums(x[:count], 2.0), x[:count].sum(1) * 2)
        assert torch.equal(sums(x[:count], factor=1.0, y=x[:count]), x[:count].sum(1) + x[:count, 0])
        assert seen == [(1, 3)] * (2 * count)
    for rows in (x[:0], x):
        seen.clear()
        assert torch.equal(sums(rows, 1.0, y=rows), rows.sum(1) + rows[:, 0])
        assert seen == [tuple(rows.shape)]


def test_several_results_are_joined_each_with_its_like() -> None:
    @few_rows_alone("x")
    def both(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x + 1, x[:, :1] * 2

    x = torch.arange(6.0).view(2, 3)
    first, second = both(x)
    assert torch.equal(first, x + 1)
    assert torch.equal(second, x[:, :1] * 2)


def test_a_row_of_its_own_begins_where_allocations_begin() -> None:
    wide = torch.arange(70.0).view(2, 35)
    rows = wide[:, 1:34]
    for t in range(2):
        own = own_row(rows, t)
        assert torch.equal(own, rows[t : t + 1])
        assert own.is_contiguous()
        assert own.data_ptr() % 64 == 0
    lone = torch.zeros(1, 5)
    assert own_row(lone, 0) is lone
    assert own_row(wide[:1, 1:3], 0).data_ptr() % 64 == 0
