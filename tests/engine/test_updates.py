"""When the feed is asked: only where a person wants it, once a day, and never twice for the same."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import updates as module
from engine.errors import FeedRefused
from engine.protocol import Settings
from engine.protocol_about import UpdateFound
from engine.updates import DAY_S, Updates

FEED = "https://example.org/feed.json"
ON = Settings(look_for_updates=True, updates_address=FEED)


class World:
    """The settings, the clock and the feed."""

    def __init__(self, path: Path) -> None:
        self.path, self.settings, self.now = path, ON, 1_000_000.0
        self.asked: list[str] = []
        self.answer: UpdateFound | Exception = UpdateFound(version="9.9.9", notes_url="https://example.org/n")
        self.was_told = threading.Event()
        self.made: list[Updates] = []

    def fetch(self, address: str, _stopping: Any) -> UpdateFound:
        self.asked.append(address)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def updates(self) -> Updates:
        made = Updates(
            self.path, lambda: self.settings, self.was_told.set, first_after_s=0, now=lambda: self.now
        )
        self.made.append(made)
        made.start()
        return made

    def told(self) -> bool:
        """Whether there was news; waits for it."""
        was = self.was_told.wait(20)
        self.was_told.clear()
        return was


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(module, "version", lambda: "0.1.0")
    made = World(tmp_path / "updates.json")
    monkeypatch.setattr(module, "fetch", made.fetch)
    yield made
    for each in made.made:
        each.close()


def quiet(updates: Updates) -> bool:
    """Whether nothing is due now, by its own reckoning."""
    return updates._wait_s() != 0.0


def test_off_nobody_is_asked_and_nothing_is_known(world: World) -> None:
    world.settings = Settings(updates_address=FEED)
    updates = world.updates()
    assert quiet(updates) and not updates.state().asks and updates.state().address == FEED
    world.settings = Settings(look_for_updates=True, updates_address=FEED, offline=True)
    updates.wake()
    assert quiet(updates) and not updates.state().asks
    assert world.asked == [] and not world.path.exists()


def test_a_build_without_an_address_asks_nobody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "built_in_address", lambda: None)
    world.settings = Settings(look_for_updates=True)
    state = world.updates().state()
    assert (state.asks, state.address) == (False, None)


def test_on_it_is_asked_at_once_and_then_once_a_day(world: World) -> None:
    world.settings = Settings(updates_address=FEED)
    updates = world.updates()
    world.settings = ON
    updates.wake()
    assert world.told()
    assert updates.found() == UpdateFound(version="9.9.9", notes_url="https://example.org/n")
    assert updates.state().looked_at == world.now
    updates.wake()
    assert quiet(updates)
    again = world.updates()
    assert quiet(again) and again.found() == updates.found(), "it is known from the last time"
    assert world.asked == [FEED]
    world.now += DAY_S
    assert not quiet(again)
    again.wake()
    assert world.told() and world.asked == [FEED, FEED]


def test_turned_off_the_news_goes(world: World) -> None:
    updates = world.updates()
    assert world.told() and updates.found() is not None
    world.settings = Settings(updates_address=FEED)
    assert updates.found() is None


@pytest.mark.parametrize("version", ["0.1.0", "0.0.9", "0.1.0rc1", "0.1.0.dev9"])
def test_the_same_or_an_older_version_is_no_news(world: World, version: str) -> None:
    world.answer = UpdateFound(version=version)
    updates = world.updates()
    assert world.told()
    assert updates.found() is None and updates.state().looked_at is not None


def test_what_goes_wrong_is_a_sentence_and_what_was_known_stays(world: World) -> None:
    updates = world.updates()
    assert world.told()
    world.now += DAY_S
    world.answer = FeedRefused("It is not known", "nobody answered", "tomorrow")
    updates.wake()
    assert world.told()
    state = updates.state()
    assert state.problem == "It is not known: nobody answered; tomorrow."
    assert state.found is not None and state.looked_at == world.now - DAY_S
    assert quiet(updates), "it is not asked again before tomorrow"


def test_another_address_is_asked_at_once_and_what_the_first_said_counts_no_more(world: World) -> None:
    updates = world.updates()
    assert world.told()
    world.settings = ON.model_copy(update={"updates_address": "https://other.example/feed"})
    world.answer = UpdateFound(version="0.1.0")
    assert updates.found() is None
    updates.wake()
    assert world.told()
    assert world.asked == [FEED, "https://other.example/feed"] and updates.found() is None


def test_a_clock_that_was_put_back_does_not_silence_it(world: World) -> None:
    world.updates()
    assert world.told()
    world.now -= 400 * DAY_S
    updates = world.updates()
    assert world.told() and world.asked == [FEED, FEED]
    assert quiet(updates)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"7", b"[" * 9000, b"\xff", b'{"address": 1, "asked_at": "x"}',
     b'{"address": "http://example.org/", "asked_at": 1}', b'{"address": "https://h/", "asked_at": NaN}'],
)  # fmt: skip
def test_a_note_that_cannot_be_believed_is_not(world: World, content: bytes) -> None:
    world.path.write_bytes(content)
    updates = world.updates()
    assert world.told() and updates.found() is not None


def test_a_note_with_something_else_in_the_place_of_a_page_opens_nothing(world: World) -> None:
    note = {
        "address": FEED,
        "asked_at": world.now,
        "looked_at": 1,
        "version": "9.9.9",
        "notes_url": "file:///x",
    }
    world.path.write_text(json.dumps(note))
    assert world.updates().found() == UpdateFound(version="9.9.9")


def test_where_it_cannot_be_noted_it_is_known_all_the_same(world: World) -> None:
    world.path.mkdir()
    updates = world.updates()
    assert world.told() and updates.found() is not None
