"""Experts on a device, in memory, in the file: the sums are the same bits, budgets hold, nothing moves in a pass.

The processor stands in for a device: its slots are second copies.
"""

import random
import threading
from collections.abc import Iterator

import pytest

torch = pytest.importorskip("torch", reason="the native engine needs torch")

from engine.model import tiered_experts  # noqa: E402
from engine.model.expert_copies import PlainSlots, copy_bytes  # noqa: E402
from engine.model.expert_policies import DecayedFrequency, StaticByLayer  # noqa: E402
from engine.model.expert_store import ExpertTraffic  # noqa: E402
from engine.model.tiered_experts import TieredExperts  # noqa: E402
from kernels import ops  # noqa: E402
from tests.engine.model.small_experts import HIDDEN, SmallBank  # noqa: E402

torch.set_num_threads(1)

EXPERTS, USED, LIMIT = 6, 3, 4.0
BYTES = copy_bytes(SmallBank(1).matrices(0))


def routing(random_: random.Random, tokens: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x, chosen and weights of so many tokens."""
    rows = [random_.sample(range(EXPERTS), USED) for _ in range(tokens)]
    generator = torch.Generator().manual_seed(random_.randrange(2**31))
    return (
        torch.randn(tokens, HIDDEN, generator=generator),
        torch.tensor(rows, dtype=torch.int64).view(tokens, USED),
        torch.rand(tokens, USED, generator=generator),
    )


@pytest.mark.slow
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_random_sequences_give_the_reference_bit_for_bit_within_budgets_and_counts_add_up(
    seed: int, apart: bool
) -> None:
    random_ = random.Random(seed)
    banks = [SmallBank(EXPERTS, layer) for layer in range(3)]
    slots = PlainSlots(random_.randint(1, 7), banks[0].matrices(0))
    staging = random_.randint(0, 1)
    ram_bytes = random_.randint(0, 9) * BYTES
    store = TieredExperts(
        banks, DecayedFrequency(3, EXPERTS, half_life_tokens=8), slots=slots, staging=staging,
        ram_bytes=ram_bytes, step_bytes=4 * BYTES, apart=apart,
    )  # fmt: skip
    asked, allowed = 0, ram_bytes
    for _ in range(14):
        tokens = random_.choice((1, 1, 1, 2, 5, 8, 9, 40))
        with store.passing():
            before = [[store.where(layer, e) for e in range(EXPERTS)] for layer in range(3)]
            for layer in range(3):
                x, chosen, weights = routing(random_, tokens)
                found = store.product(layer, x, chosen, weights, LIMIT)
                assert torch.equal(found, ops.experts(x, chosen, weights, banks[layer], LIMIT))
                asked += chosen.numel()
            if random_.random() < 0.3:
                given = store.relieve(random_.randint(1, 3 * BYTES))
                allowed = min(allowed, max(0, store.ram_bytes - given))
            # A move never happens during a pass.
            assert before == [[store.where(layer, e) for e in range(EXPERTS)] for layer in range(3)]
        assert store.ram_bytes <= allowed
        if random_.random() < 0.3:
            allowed += store.allow(2 * BYTES)
        assert allowed <= ram_bytes
        places = [store.where(layer, e) for layer in range(3) for e in range(EXPERTS)]
        assert places.count("gpu") <= slots.count - staging
        counts = store.counts
        assert counts.gpu + counts.ram + counts.disk == asked
    assert store.counts.gpu > 0 or slots.count == staging


def test_whole_layers_lie_where_they_are_said_to_and_a_device_is_not_asked_what_was_chosen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    banks = [SmallBank(EXPERTS, layer) for layer in range(3)]
    store = TieredExperts(
        banks, StaticByLayer(gpu=[1], ram=[0]), slots=PlainSlots(EXPERTS, banks[0].matrices(0)),
        ram_bytes=EXPERTS * BYTES, apart=True,
    )  # fmt: skip
    store.settle(10**9)
    assert [store.where(1, e) for e in range(EXPERTS)] == ["gpu"] * EXPERTS
    assert store.ram_bytes == EXPERTS * BYTES
    assert store.matrices(0, 2).gate.data.data_ptr() != banks[0].matrices(2).gate.data.data_ptr()
    assert store.matrices(2, 2) is banks[2].matrices(2)
    monkeypatch.setattr(tiered_experts, "choices_of", None)  # would fail if it were called
    x, chosen, weights = routing(random.Random(1), 4)
    found = store.product(1, x, chosen, weights, LIMIT)
    assert torch.equal(found, ops.experts(x, chosen, weights, banks[1], LIMIT))
    assert store.counts == ExpertTraffic(gpu=12)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_with_slots_for_a_layer_kept_free_bits_do_not_depend_on_where_experts_were(kind: torch.dtype) -> None:
    """BF16 too, where sums of what was rounded one by one would differ."""
    banks = [SmallBank(EXPERTS, layer) for layer in range(2)]
    like = banks[0].matrices(0)
    resident = TieredExperts(
        banks, StaticByLayer(gpu=[0, 1]), slots=PlainSlots(2 * EXPERTS, like), apart=True, upload_tokens=1
    )
    resident.settle(10**9)
    policy = DecayedFrequency(2, EXPERTS, half_life_tokens=4)
    moving = TieredExperts(
        banks, policy, slots=PlainSlots(EXPERTS + 3, like), staging=EXPERTS, ram_bytes=2 * BYTES,
        step_bytes=2 * BYTES, apart=True, upload_tokens=1,
    )  # fmt: skip
    random_ = random.Random(5)
    for tokens in (1, 1, 2, 30, 1, 9, 1, 1, 3):
        for layer in range(2):
            x, chosen, weights = routing(random_, tokens)
            found = [store.product(layer, x.to(kind), chosen, weights, LIMIT) for store in (resident, moving)]
            assert torch.equal(*found)
    assert moving.counts.gpu > 0
    assert moving.counts.ram + moving.counts.disk > 0


def test_experts_of_another_form_never_go_to_the_device() -> None:
    banks = [SmallBank(EXPERTS), SmallBank(EXPERTS, kind="q8_0")]
    slots = PlainSlots(2 * EXPERTS, banks[0].matrices(0))
    store = TieredExperts(banks, StaticByLayer(gpu=[0, 1]), slots=slots)
    store.settle(10**9)
    assert store.where(0, 0) == "gpu" and store.where(1, 0) == "ram"


def test_in_a_pass_nothing_is_settled_and_after_a_failed_one_copies_only_go() -> None:
    banks = [SmallBank(EXPERTS)]
    store = TieredExperts(banks, DecayedFrequency(1, EXPERTS), ram_bytes=EXPERTS * BYTES)
    x, chosen, weights = routing(random.Random(1), 2)
    with pytest.raises(ZeroDivisionError), store.passing():
        store.product(0, x, chosen, weights, LIMIT)
        with pytest.raises(RuntimeError, match="pass"):
            store.settle(10**9)
        raise ZeroDivisionError
    assert store.ram_bytes == 0
    store.settle(10**9)
    assert store.ram_bytes == len(chosen.unique()) * BYTES
    with pytest.raises(ValueError, match="cannot move"):
        TieredExperts(banks, StaticByLayer(), step_bytes=BYTES - 1)


def test_without_room_for_a_copy_the_budget_is_what_is_held_and_the_answer_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    banks = [SmallBank(EXPERTS)]
    store = TieredExperts(banks, StaticByLayer(ram=[0]), ram_bytes=EXPERTS * BYTES)
    store.settle(2 * BYTES)
    monkeypatch.setattr(tiered_experts, "copied", _no_room)
    store.settle(10**9)
    monkeypatch.undo()
    store.settle(10**9)
    assert store.ram_bytes == 2 * BYTES
    x, chosen, weights = routing(random.Random(1), 3)
    found = store.product(0, x, chosen, weights, LIMIT)
    assert torch.equal(found, ops.experts(x, chosen, weights, banks[0], LIMIT))
    assert store.allow(10**9) == (EXPERTS - 2) * BYTES
    store.settle(10**9)
    assert store.ram_bytes == EXPERTS * BYTES


def test_memory_is_given_back_at_once_between_passes_and_after_a_running_one() -> None:
    banks = [SmallBank(EXPERTS)]
    store = TieredExperts(banks, StaticByLayer(ram=[0]), ram_bytes=EXPERTS * BYTES)
    store.settle(10**9)
    assert store.relieve(BYTES + 1) == BYTES + 1
    assert store.ram_bytes == (EXPERTS - 2) * BYTES
    with store.passing():
        assert store.relieve(1) >= 1
        assert store.ram_bytes == (EXPERTS - 2) * BYTES
    assert store.ram_bytes == (EXPERTS - 3) * BYTES
    assert store.relieve(10**9) == (EXPERTS - 3) * BYTES
    assert (store.ram_bytes, store.relieve(1)) == (0, 0)
    assert store.allow(2 * BYTES) == 2 * BYTES


@pytest.mark.slow
def test_any_thread_may_ask_for_memory_while_tokens_are_computed() -> None:
    banks = [SmallBank(EXPERTS, layer) for layer in range(2)]
    store = TieredExperts(banks, DecayedFrequency(2, EXPERTS), ram_bytes=8 * BYTES, step_bytes=4 * BYTES)
    over, failures = threading.Event(), []

    def ask() -> Iterator[None]:
        while not over.is_set():
            store.relieve(BYTES)
            store.where(0, 1)
            store.allow(2 * BYTES)
            yield

    def run() -> None:
        try:
            for _ in ask():
                pass
        except BaseException as error:  # noqa: BLE001 - told by the test
            failures.append(error)

    others = [threading.Thread(target=run) for _ in range(2)]
    for each in others:
        each.start()
    random_ = random.Random(2)
    try:
        for _ in range(12):
            with store.passing():
                for layer in range(2):
                    x, chosen, weights = routing(random_, 2)
                    found = store.product(layer, x, chosen, weights, LIMIT)
                    assert torch.equal(found, ops.experts(x, chosen, weights, banks[layer], LIMIT))
            assert store.ram_bytes <= 8 * BYTES
    finally:
        over.set()
        for each in others:
            each.join()
    assert failures == []


def _no_room(*_: object, **__: object) -> None:
    raise MemoryError
