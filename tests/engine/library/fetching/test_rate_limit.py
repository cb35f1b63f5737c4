"""The limit and the rate, on a clock that is turned by hand."""

from engine.library.fetching.rate_limit import RateLimit, Speed


class Clock:
    """A steady clock; waiting turns it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


def test_it_goes_no_faster_than_the_limit() -> None:
    clock = Clock()
    limit = RateLimit(lambda: 1000.0, clock=clock, wait=clock.wait)
    for _ in range(100):
        limit.take(100)
    assert 9.5 <= clock.now - 1000 <= 10.1


def test_without_a_limit_nothing_waits() -> None:
    clock = Clock()
    limit = RateLimit(lambda: 0.0, clock=clock, wait=clock.wait)
    assert not limit.is_on()
    assert RateLimit(lambda: 1.0).is_on()
    limit.take(10**12)
    assert clock.now == 1000.0


def test_a_machine_that_slept_makes_no_burst() -> None:
    clock = Clock()
    limit = RateLimit(lambda: 1000.0, clock=clock, wait=clock.wait)
    limit.take(100)
    clock.now += 8 * 3600
    woke = clock.now
    for _ in range(20):
        limit.take(100)
    assert clock.now - woke >= 1.5


def test_a_limit_that_is_lifted_counts_at_once() -> None:
    clock = Clock()
    now = [10.0]
    limit = RateLimit(lambda: now[0], clock=clock, wait=lambda s: (clock.wait(s), now.__setitem__(0, 1e9)))
    limit.take(100_000)  # ten thousand seconds by the old limit
    limit.take(100_000)
    assert clock.now - 1000 < 2


def test_waiting_ends_when_it_is_to_stop() -> None:
    clock = Clock()
    limit = RateLimit(lambda: 1.0, clock=clock, wait=clock.wait)
    limit.take(1000, stopped=lambda: clock.now > 1001)
    assert clock.now < 1002


def test_the_rate_is_of_the_last_seconds() -> None:
    clock = Clock()
    speed = Speed(clock)
    assert speed.bytes_per_s() == 0
    for _ in range(40):
        speed.count(250)
        clock.now += 0.25
    assert 900 <= speed.bytes_per_s() <= 1100
    for _ in range(60):
        speed.count(2500)
        clock.now += 0.25
    assert 9000 <= speed.bytes_per_s() <= 11000
    clock.now += 3600
    assert speed.bytes_per_s() == 0
