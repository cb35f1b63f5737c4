"""What experts cost, from a backend's counts."""

from engine.backends.base import ExpertCounts
from engine.expert_meter import EVERY_S, LATELY_S, ExpertCost, ExpertMeter


class Counting:
    """A backend's counts and a clock, both set by hand."""

    def __init__(self, counts: ExpertCounts | None = None) -> None:
        self.counts = counts
        self.now_s = 100.0
        self.meter = ExpertMeter(lambda: self.counts, lambda: self.now_s)

    def go_on(self, seconds: float, wanted: int, held: int, read_bytes: int) -> None:
        """Some tokens later."""
        self.now_s += seconds
        before = self.counts or ExpertCounts()
        self.counts = ExpertCounts(
            before.wanted + wanted, before.in_memory + held, before.read_bytes + read_bytes
        )


def test_where_nobody_counts_there_is_nothing_to_tell() -> None:
    counting = Counting(None)
    counting.now_s += 100
    assert counting.meter.news(5) is None
    assert counting.meter.whole(5) is None


def test_what_was_before_the_answer_is_not_counted() -> None:
    counting = Counting(ExpertCounts(1000, 10, 10**12))
    counting.go_on(2.0, wanted=40, held=30, read_bytes=800)
    assert counting.meter.news(4) == ExpertCost(2.0, 200.0, 0.75)
    assert counting.meter.whole(4) == ExpertCost(2.0, 200.0, 0.75)


def test_news_comes_at_most_so_often_and_only_with_tokens() -> None:
    counting = Counting(ExpertCounts())
    counting.go_on(EVERY_S / 2, 10, 10, 0)
    assert counting.meter.news(1) is None
    counting.go_on(EVERY_S, 10, 10, 0)
    assert counting.meter.news(2) is not None
    counting.go_on(EVERY_S, 10, 10, 0)
    assert counting.meter.news(2) is None


def test_news_is_of_the_last_seconds_and_the_whole_of_all() -> None:
    counting = Counting(ExpertCounts())
    for tokens in range(1, 11):  # slow at first, all from the disk
        counting.go_on(1.0, wanted=10, held=0, read_bytes=1000)
        counting.meter.news(tokens)
    latest = None
    for tokens in range(11, 31):  # then all of it in memory
        counting.go_on(1.0, wanted=10, held=10, read_bytes=0)
        latest = counting.meter.news(tokens)
    assert latest == ExpertCost(1.0, 0.0, 1.0)
    whole = counting.meter.whole(30)
    assert whole is not None
    assert (whole.disk_bytes_per_token, whole.in_memory) == (10_000 / 30, 200 / 300)
    assert LATELY_S < 20


def test_a_token_without_experts_lacks_none() -> None:
    counting = Counting(ExpertCounts())
    counting.go_on(1.0, 0, 0, 0)
    assert counting.meter.news(1) == ExpertCost(1.0, 0.0, 1.0)
    assert counting.meter.whole(0) is None
