"""The rules by which experts are kept: what comes, what goes, in which order; within budgets whatever is asked."""

import random

import numpy as np
import pytest

from engine.model.expert_ledger import ExpertLedger, Move
from engine.model.expert_policies import DecayedFrequency, ExpertPolicy, StaticByLayer


def settled(policy: ExpertPolicy, ledger: ExpertLedger, most_bytes: int = 10**9) -> list[Move]:
    """Carry out all moves; returns them."""
    done: list[Move] = []
    for move in policy.moves(ledger, most_bytes):
        ledger.apply(move)  # raises where a budget would be exceeded
        done.append(move)
        assert len(done) < 10_000
    return done


def placed(ledger: ExpertLedger, tier: str) -> list[tuple[int, int]]:
    """(layer, expert) of a tier."""
    return [divmod(int(slot), ledger.experts) for slot in np.flatnonzero(ledger.held(tier))]  # type: ignore[arg-type]


def test_static_places_whole_layers_from_the_first_on_and_a_bounded_part_at_a_time() -> None:
    ledger = ExpertLedger([10, 10, 10], 2, {"gpu": 20, "ram": 15})
    policy = StaticByLayer(gpu=[1], ram=[2, 0])
    assert settled(policy, ledger, 25) == [Move(1, 0, "gpu"), Move(1, 1, "gpu")]
    assert settled(policy, ledger, 25) == [Move(0, 0, "ram")]  # 15 bytes hold one
    policy.note(2, [(0, 100)], 100)
    assert settled(policy, ledger) == []


def test_static_gives_back_the_last_and_takes_it_again() -> None:
    ledger = ExpertLedger([10, 10], 2, {"ram": 40})
    policy = StaticByLayer(ram=[0, 1])
    settled(policy, ledger)
    ledger.budget_bytes["ram"] = 15
    assert settled(policy, ledger) == [Move(1, 1, None), Move(1, 0, None), Move(0, 1, None)]
    ledger.budget_bytes["ram"] = 40
    assert settled(policy, ledger) == [Move(0, 1, "ram"), Move(1, 0, "ram"), Move(1, 1, "ram")]
    with pytest.raises(ValueError, match="both"):
        StaticByLayer(gpu=[1], ram=[1])


def test_what_is_asked_for_most_lies_on_the_device_then_in_memory() -> None:
    ledger = ExpertLedger([10], 5, {"gpu": 10, "ram": 20})
    policy = DecayedFrequency(1, 5, floor=0)
    policy.note(0, [(0, 1), (1, 3), (2, 2), (3, 4)], 4)
    settled(policy, ledger)
    assert placed(ledger, "gpu") == [(0, 3)]
    assert placed(ledger, "ram") == [(0, 1), (0, 2)]  # 0 was asked for less, 4 never


def test_worth_halves_in_a_half_life_and_a_prompt_counts_as_one() -> None:
    policy, ledger = DecayedFrequency(1, 3, half_life_tokens=8), ExpertLedger([10], 3, {"ram": 10})
    policy.note(0, [(0, 1)], 1)
    settled(policy, ledger)
    for _ in range(7):
        policy.note(0, [], 1)
        settled(policy, ledger)
    assert policy.worth(0, 0) == pytest.approx(0.5)
    policy.note(0, [(1, 800)], 800)
    assert policy.worth(0, 1) == pytest.approx(8)
    for _ in range(2000):  # the scale is renewed on the way
        policy.note(0, [(2, 1)], 1)
        settled(policy, ledger)
    # Asked for with every token, each worth 2^(-1/8) of the next after it.
    assert policy.worth(0, 2) == pytest.approx(1 / (2 ** (1 / 8) - 1))


def test_two_of_the_same_worth_do_not_take_turns() -> None:
    policy, ledger = DecayedFrequency(1, 2, half_life_tokens=64), ExpertLedger([10], 2, {"ram": 10})
    moved: list[Move] = []
    for token in range(200):
        policy.note(0, [(token % 2, 1)], 1)
        moved += settled(policy, ledger)
    # The one that is held is not behind by more than the advantage at the turn of the other, after the beginning.
    assert len(moved) <= 3


def test_the_least_worth_goes_first_and_of_equals_the_lower_number() -> None:
    policy, ledger = DecayedFrequency(1, 6, floor=0), ExpertLedger([10], 6, {"ram": 50})
    policy.note(0, [(0, 5), (1, 3), (2, 3), (3, 1), (4, 9)], 9)
    settled(policy, ledger)
    ledger.budget_bytes["ram"] = 10
    assert [move.expert for move in settled(policy, ledger)] == [3, 1, 2, 0]


def test_a_newcomer_takes_the_place_of_the_least_worth() -> None:
    policy, ledger = DecayedFrequency(1, 4, floor=0), ExpertLedger([10], 4, {"ram": 20})
    policy.note(0, [(0, 1), (1, 2)], 2)
    settled(policy, ledger)
    policy.note(0, [(3, 1)], 1)
    assert settled(policy, ledger) == []  # worth no more than expert 0 by the advantage
    policy.note(0, [(3, 1)], 1)
    assert settled(policy, ledger) == [Move(0, 0, None), Move(0, 3, "ram")]


def test_a_burst_of_one_layer_does_not_sweep_out_the_others() -> None:
    policy, ledger = DecayedFrequency(3, 8, floor=1), ExpertLedger([10] * 3, 8, {"ram": 50})
    for layer in range(3):
        policy.note(layer, [(0, 1)], 1)
    settled(policy, ledger)
    for _ in range(50):
        policy.note(1, [(expert, 20) for expert in range(8)], 20)
        settled(policy, ledger)
    held = placed(ledger, "ram")
    assert (0, 0) in held and (2, 0) in held and len(held) == 5


def test_the_floor_of_a_layer_goes_to_the_worthier_of_its_experts() -> None:
    policy, ledger = DecayedFrequency(2, 4, floor=1), ExpertLedger([10] * 2, 4, {"ram": 20})
    policy.note(0, [(0, 1)], 1)
    policy.note(1, [(0, 50)], 50)
    settled(policy, ledger)
    policy.note(0, [(2, 5)], 5)
    assert settled(policy, ledger) == [Move(0, 0, None), Move(0, 2, "ram")]


def test_a_floor_that_does_not_fit_is_none() -> None:
    policy, ledger = DecayedFrequency(4, 2, floor=1), ExpertLedger([10] * 4, 2, {"ram": 20})
    policy.note(0, [(0, 9), (1, 8)], 9)
    policy.note(1, [(0, 1)], 1)
    settled(policy, ledger)
    assert placed(ledger, "ram") == [(0, 0), (0, 1)]


def test_copies_of_one_step_are_bounded_and_go_on_with_the_next() -> None:
    policy, ledger = DecayedFrequency(1, 6), ExpertLedger([10], 6, {"ram": 60})
    policy.note(0, [(expert, expert + 1) for expert in range(6)], 6)
    assert [move.expert for move in settled(policy, ledger, 25)] == [5, 4]
    assert [move.expert for move in settled(policy, ledger, 25)] == [3, 2]


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_asked_budgets_hold_steps_are_bounded_and_the_same_questions_give_the_same_moves(
    seed: int,
) -> None:
    """Random routing, budgets that shrink and grow, experts of two sizes. `apply` refuses whatever does not fit."""

    def run() -> list[Move]:
        random_ = random.Random(seed)
        layers, experts = random_.randint(1, 4), random_.randint(2, 9)
        sizes = [random_.choice((10, 16)) for _ in range(layers)]
        budgets = {"gpu": random_.randint(0, 80), "ram": random_.randint(0, 120)}
        ledger = ExpertLedger(sizes, experts, budgets, barred={"gpu": [0]} if random_.random() < 0.3 else {})  # type: ignore[arg-type]
        policy = DecayedFrequency(layers, experts, half_life_tokens=16, floor=random_.randint(0, 2))
        done: list[Move] = []
        for _ in range(60):
            tokens = random_.choice((1, 1, 1, 7, 40))
            for layer in range(layers):
                asked = random_.sample(range(experts), random_.randint(1, experts))
                policy.note(layer, [(each, random_.randint(1, tokens)) for each in asked], tokens)
            if random_.random() < 0.2:
                ledger.budget_bytes["ram"] = random_.randint(0, 120)
            most = random_.choice((0, 20, 64))
            moves = settled(policy, ledger, most)
            assert sum(sizes[move.layer] for move in moves if move.to) <= most
            for tier in ("gpu", "ram"):
                held = sum(sizes[layer] for layer, _ in placed(ledger, tier))
                assert held == ledger.held_bytes[tier] <= ledger.budget_bytes[tier]
            done += moves
        return done

    first = run()
    assert first == run()
