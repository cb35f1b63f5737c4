"""The rule by which snapshots go: protected ones never, the cheapest first, no more than must."""

from collections.abc import Sequence

from hypothesis import example, given
from hypothesis import strategies as st

from engine.store.snapshot_budget import HALF_CHANCE_S, LEAST_SHARE, Weighed, to_evict, worth_of


def weighed(
    name: str,
    *,
    size: int = 100,
    cost: float = 10.0,
    tokens: int = 1000,
    unused: float = 0.0,
    protected: bool = False,
    beginnings: Sequence[str] = (),
    places: Sequence[tuple[str, int]] = (),
) -> Weighed:
    return Weighed(name, size, cost, tokens, unused, protected, frozenset(beginnings), tuple(places))


@st.composite
def collections(draw: st.DrawFn) -> list[Weighed]:
    """Snapshots of one or two conversations: each has a path of beginnings "0.1.2…", and places on it."""
    kept: list[Weighed] = []
    for number in range(draw(st.integers(0, 9))):
        branch = draw(st.sampled_from("ab"))
        depth = draw(st.integers(0, 4))
        path = [f"{branch}{step}" if step > 1 else f"{step}" for step in range(depth + 1)]
        marks = draw(st.lists(st.integers(0, depth), max_size=2))
        kept.append(
            weighed(
                f"s{number}",
                size=draw(st.integers(0, 1000)),
                cost=draw(st.floats(0, 1e5)),
                tokens=256 * (depth + 1),
                unused=draw(st.floats(0, 1e7)),
                protected=draw(st.booleans()),
                beginnings=path,
                places=[(path[step], 256 * (step + 1)) for step in {*marks, depth}],
            )
        )
    return kept


def spared(each: Weighed, others: Sequence[Weighed]) -> int:
    """What `_spared` finds with its tables, found by looking at everything."""
    return max(
        (
            tokens
            for other in others
            if other is not each
            for beginning, tokens in other.places
            if beginning in each.beginnings and tokens <= each.tokens
        ),
        default=0,
    )


@given(collections(), st.integers(0, 6000))
@example([], 0)
def test_what_goes_is_the_cheapest_of_what_may_go_and_no_more_than_must(
    kept: list[Weighed], room: int
) -> None:
    gone = to_evict(kept, room)
    by_name = {each.id: each for each in kept}
    left = list(kept)
    for name in gone:
        assert sum(each.size_bytes for each in left) > room, "one went though the rest had room"
        assert not by_name[name].protected
        cheapest = min(worth_of(each, spared(each, left)) for each in left if not each.protected)
        assert worth_of(by_name[name], spared(by_name[name], left)) == cheapest
        left.remove(by_name[name])
    assert len(set(gone)) == len(gone)
    size = sum(each.size_bytes for each in left)
    assert size <= room or all(each.protected for each in left)


def test_nothing_goes_while_there_is_room() -> None:
    assert to_evict([weighed("a"), weighed("b")], 200) == []


def test_what_costs_least_to_read_again_goes_first() -> None:
    assert to_evict([weighed("dear", cost=90), weighed("cheap", cost=3)], 100) == ["cheap"]


def test_of_equal_cost_the_larger_goes() -> None:
    assert to_evict([weighed("small", size=100), weighed("large", size=900)], 500) == ["large"]


def test_what_was_not_used_for_long_goes_first() -> None:
    assert to_evict([weighed("old", unused=30 * HALF_CHANCE_S), weighed("new")], 100) == ["old"]
    assert worth_of(weighed("a", unused=HALF_CHANCE_S), 0) == worth_of(weighed("a"), 0) / 2


def test_what_a_longer_one_has_a_mark_for_goes_before_it() -> None:
    short = weighed("short", tokens=512, cost=50, beginnings=["1", "2"], places=[("2", 512)])
    long = weighed(
        "long", size=150, tokens=1024, beginnings=["1", "2", "3", "4"], places=[("2", 512), ("4", 1024)]
    )
    assert worth_of(short, 512) < worth_of(long, 512) < worth_of(short, 0)
    assert to_evict([long, short], 150) == ["short"]


def test_when_what_spared_it_has_gone_it_is_worth_more() -> None:
    """Two of the same tokens spare each other; once the first has gone, the other is worth what it costs."""
    twins = [
        weighed(name, unused=age, beginnings=["1"], places=[("1", 1000)], cost=100)
        for name, age in (("older", 50.0), ("newer", 0.0))
    ]
    other = weighed("other", cost=30)
    assert worth_of(twins[1], 1000) < worth_of(other, 0) < worth_of(twins[1], 0)
    assert to_evict([*twins, other], 100) == ["older", "other"]


def test_even_a_spared_one_is_worth_something() -> None:
    each = weighed("a", cost=10, size=100)
    assert worth_of(each, 10**9) == worth_of(each, each.tokens) == 10 * LEAST_SHARE / 100


def test_protected_ones_stay_even_beyond_the_room() -> None:
    assert to_evict([weighed("a", protected=True), weighed("b"), weighed("c", protected=True)], 0) == ["b"]
