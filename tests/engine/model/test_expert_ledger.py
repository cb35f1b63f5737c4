"""Budgets of experts' copies: what is noted, what is refused."""

import pytest

from engine.model.expert_ledger import ExpertLedger, Move


def test_a_copy_is_counted_where_it_lies_and_moves_between_tiers() -> None:
    ledger = ExpertLedger([10, 20], 3, {"gpu": 40, "ram": 25})
    ledger.apply(Move(0, 2, "ram"))
    ledger.apply(Move(1, 0, "gpu"))
    assert ledger.held_bytes == {"gpu": 20, "ram": 10}
    assert (ledger.tier_of(0, 2), ledger.tier_of(1, 0), ledger.tier_of(1, 1)) == ("ram", "gpu", None)
    ledger.apply(Move(0, 2, "gpu"))
    assert ledger.held_bytes == {"gpu": 30, "ram": 0}
    ledger.apply(Move(0, 2, None))
    ledger.apply(Move(0, 2, None))
    assert ledger.held_bytes == {"gpu": 20, "ram": 0}


def test_no_budget_is_exceeded_and_nothing_goes_where_it_is_not_taken() -> None:
    ledger = ExpertLedger([10, 20], 3, {"gpu": 25, "ram": 15}, barred={"gpu": [0]})
    ledger.apply(Move(1, 0, "gpu"))
    for refused in (Move(1, 1, "gpu"), Move(0, 0, "gpu"), Move(1, 1, "ram")):
        with pytest.raises(ValueError, match="no room"):
            ledger.apply(refused)
    assert ledger.held_bytes == {"gpu": 20, "ram": 0}
    assert not ledger.takes("ram", 1)
    assert ledger.over_bytes("gpu", 20) == 15


def test_an_expert_that_is_none_is_refused() -> None:
    ledger = ExpertLedger([10], 3, {"ram": 100})
    for layer, expert in ((1, 0), (0, 3), (-1, 0)):
        with pytest.raises(IndexError):
            ledger.tier_of(layer, expert)
    with pytest.raises(ValueError, match="sizes"):
        ExpertLedger([0], 3, {"ram": 100})
