"""Sizes and durations in words."""

import pytest

from app.quantities import duration, rate, rough_duration, size_name, token_count, whole_duration


@pytest.mark.parametrize(
    ("size_bytes", "name"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (999_949, "999.9 kB"), (999_950, "1.0 MB"),
     (1_000_000, "1.0 MB"), (98_000_000, "98.0 MB"), (142_000_000_000, "142.0 GB"), (2_000_000_000_000, "2,000.0 GB")],
)  # fmt: skip
def test_sizes(size_bytes: int, name: str) -> None:
    assert size_name(size_bytes) == name


@pytest.mark.parametrize(
    ("seconds", "name"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (12.4, "12 s"), (59.6, "1 min 0 s"), (185, "3 min 5 s")],
)
def test_durations(seconds: float, name: str) -> None:
    assert duration(seconds) == name


@pytest.mark.parametrize(
    ("seconds", "name"),
    [
        (-3, "0.0 s"),
        (185, "3 min 5 s"),
        (5400, "1 h 30 min"),
        (13_380, "3 h 43 min"),
        (250_000, "2 days 21 h"),
    ],
)
def test_what_takes_long_is_told_roughly(seconds: float, name: str) -> None:
    assert rough_duration(seconds) == name


def test_rates_have_a_decimal_only_where_it_tells_something() -> None:
    assert (rate(3.14159), rate(99.94), rate(1519.7)) == ("3.1 tok/s", "99.9 tok/s", "1,520 tok/s")


def test_tokens_are_counted() -> None:
    assert [token_count(n) for n in (0, 1, 1340)] == ["0 tokens", "1 token", "1,340 tokens"]


def test_what_is_still_counted_is_told_in_whole_seconds() -> None:
    assert [whole_duration(s) for s in (0.9, 12.7, 59.9, 185.2)] == ["0 s", "12 s", "59 s", "3 min 5 s"]
