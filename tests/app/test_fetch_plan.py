"""What getting a model costs, and whether it fits."""

from typing import Any

import pytest

from app.fetch_plan import FetchPlan, Room
from engine.protocol_library import Offer

GB = 10**9
OFFER: dict[str, Any] = {
    "name": "flash", "title": "Flash", "kind": "checkpoint", "repository": "a/flash", "revision": "main",
    "download_bytes": 160 * GB, "working_bytes": 8 * GB,
    "results": [{"dense": "q8_0", "model_bytes": 150 * GB, "draft_bytes": 10 * GB}],
}  # fmt: skip


def plan(*, convert: bool = True, consume: bool = False, **more: Any) -> FetchPlan:
    offer = Offer.model_validate({**OFFER, **more})
    return FetchPlan.of(offer, convert=convert, dense="q8_0", consume=consume)


@pytest.mark.parametrize(
    ("made", "end", "peak"),
    [
        (plan(convert=False), 160, 160),
        (plan(convert=False, consume=True), 160, 160),
        (plan(), 320, 320),
        (plan(consume=True), 160, 168),
        (plan(consume=True, working_bytes=None), 160, 320),
    ],
)
def test_what_lies_on_the_disk(made: FetchPlan, end: int, peak: int) -> None:
    assert (made.end_bytes, made.peak_bytes) == (end * GB, peak * GB)


def test_what_is_not_known_is_not_made_up() -> None:
    unknown = plan(download_bytes=None)
    assert (unknown.end_bytes, unknown.peak_bytes, unknown.seconds_at(1e8)) == (None, None, None)
    assert plan(results=[]).end_bytes is None
    assert unknown.shortfalls(Room(0, 1), Room(0, 2)) == [(160 * GB, 0)]


def test_time_is_bits_over_the_lines_speed() -> None:
    assert plan().seconds_at(100e6) == 12_800


def test_two_folders_of_one_disk_share_its_room() -> None:
    one = Room(200 * GB, 1000 * GB)
    a_moment_later = Room(199 * GB, 1000 * GB)
    assert one.is_same(a_moment_later)
    assert plan().shortfalls(one, a_moment_later) == [(320 * GB, 199 * GB)]
    assert plan(consume=True).shortfalls(one, a_moment_later) == []


def test_two_disks_have_each_their_own() -> None:
    assert plan().shortfalls(Room(170 * GB, 500 * GB), Room(170 * GB, 1000 * GB)) == []
    assert plan().shortfalls(Room(100 * GB, 500 * GB), Room(90 * GB, 1000 * GB)) == [
        (160 * GB, 100 * GB), (160 * GB, 90 * GB),
    ]  # fmt: skip
    assert plan(consume=True).shortfalls(Room(9 * GB, 500 * GB), Room(170 * GB, 1000 * GB)) == []


def test_a_disk_that_was_not_measured_refuses_nothing() -> None:
    assert plan().shortfalls(None, None) == []
    assert plan(convert=False).shortfalls(Room(1, 2), None) == [(160 * GB, 1)]
