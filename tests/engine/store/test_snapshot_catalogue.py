"""The longest that serves is found; what may go is told, and nothing else."""

from pathlib import Path

import numpy as np
import pytest

from engine.store.snapshot_catalogue import Entry, SnapshotCatalogue, common_tokens
from engine.store.snapshot_file import write_snapshot
from engine.store.snapshot_index import About
from tests.support.context_states import ABOUT, state_of

TOKENS = list(range(1000, 2000))


@pytest.fixture
def catalogue() -> SnapshotCatalogue:
    return SnapshotCatalogue()


def entry_of(
    folder: Path,
    name: str,
    tokens: list[int],
    *,
    marks: tuple[int, ...] = (),
    used_at_s: float = 0.0,
    about: About = ABOUT,
    size: int = 500,
) -> Entry:
    path = folder / f"{name}.kv"
    index = write_snapshot(path, state_of(tokens, marks=marks, size=size), None, about)
    return Entry(path, path.stat().st_size, used_at_s, index)


def served(
    catalogue: SnapshotCatalogue, tokens: list[int], *, any_prefix: bool = False
) -> list[tuple[int, str]]:
    found = catalogue.serving(ABOUT.state_key, tokens, any_prefix=any_prefix)
    return [(length, entry.id) for length, entry in found]


def test_the_longest_comes_first_and_marks_count(tmp_path: Path, catalogue: SnapshotCatalogue) -> None:
    catalogue.add(entry_of(tmp_path, "short", TOKENS[:300]))
    catalogue.add(entry_of(tmp_path, "long", TOKENS[:900], marks=(200, 500)))
    catalogue.add(entry_of(tmp_path, "other", [5, 6, 7]))
    assert served(catalogue, TOKENS) == [(900, "long"), (300, "short")]
    assert served(catalogue, TOKENS[:899]) == [(500, "long"), (300, "short")]
    assert served(catalogue, TOKENS[:300]) == [(300, "short"), (200, "long")]
    assert served(catalogue, TOKENS[:199]) == []
    assert served(catalogue, [*TOKENS[:450], 1, 2, 3]) == [(300, "short"), (200, "long")]
    assert served(catalogue, []) == []


def test_of_equals_the_one_used_last_comes_first(tmp_path: Path, catalogue: SnapshotCatalogue) -> None:
    for name, used in (("b", 5.0), ("c", 9.0), ("a", 1.0)):
        catalogue.add(entry_of(tmp_path, name, TOKENS[:300], used_at_s=used))
    assert [name for _, name in served(catalogue, TOKENS)] == ["c", "b", "a"]


def test_a_common_beginning_is_found_as_far_as_the_sums_tell(
    tmp_path: Path, catalogue: SnapshotCatalogue
) -> None:
    catalogue.add(entry_of(tmp_path, "a", TOKENS))
    assert served(catalogue, [*TOKENS[:700], 1, 2, 3], any_prefix=True) == [(512, "a")]
    assert served(catalogue, TOKENS[:20], any_prefix=True) == [(16, "a")]
    assert served(catalogue, TOKENS[:15], any_prefix=True) == []


def test_states_of_another_form_never_serve(tmp_path: Path, catalogue: SnapshotCatalogue) -> None:
    catalogue.add(entry_of(tmp_path, "a", TOKENS, about=About("another key", "exact key", 1.0)))
    assert served(catalogue, TOKENS) == []


def test_protected_and_fresh_ones_never_go(tmp_path: Path, catalogue: SnapshotCatalogue) -> None:
    for name, first in (("a", 1), ("b", 2), ("c", 3)):
        catalogue.add(entry_of(tmp_path, name, [first] * 300), fresh=name == "c")
    catalogue.protect({"a"})
    assert catalogue.protected_bytes == catalogue.entries[0].size_bytes
    assert [each.id for each in catalogue.take_to_evict(0)] == ["b"]
    catalogue.settled()
    assert [each.id for each in catalogue.take_to_evict(0)] == ["c"]
    catalogue.protect(())
    assert [each.id for each in catalogue.take_to_evict(0)] == ["a"]
    assert catalogue.entries == []


def test_what_a_longer_one_has_a_mark_for_goes_first(tmp_path: Path, catalogue: SnapshotCatalogue) -> None:
    """Though it is the dearer one to read again, byte for byte."""
    dear, cheap = About("state key", "e", 90.0), About("state key", "e", 45.0)
    for marks, expected in (((600,), "short"), ((300,), "long")):
        catalogue.add(entry_of(tmp_path, "short", TOKENS[:600], about=dear))
        catalogue.add(entry_of(tmp_path, "long", TOKENS[:900], marks=marks, size=900, about=cheap))
        room = sum(each.size_bytes for each in catalogue.entries) - 1
        assert [each.id for each in catalogue.take_to_evict(room)] == [expected]
        catalogue.take_all()
        for path in tmp_path.iterdir():
            path.unlink()


def test_only_the_very_same_kind_of_state_is_alike(tmp_path: Path, catalogue: SnapshotCatalogue) -> None:
    state = state_of(TOKENS, marks=(200,), size=500)
    catalogue.add(entry_of(tmp_path, "a", TOKENS, marks=(200,)))
    assert [each.id for each in catalogue.alike(ABOUT, state)] == ["a"]
    assert catalogue.alike(About("state key", "another", 10.0), state) == []
    assert catalogue.alike(About("another", "exact key", 10.0), state) == []
    for other in (
        state_of(TOKENS[1:], marks=(200,), size=500),
        state_of(TOKENS, marks=(201,), size=500),
        state_of(TOKENS, marks=(200,), size=501),
    ):
        assert catalogue.alike(ABOUT, other) == []


def test_an_entry_is_taken_once(tmp_path: Path, catalogue: SnapshotCatalogue) -> None:
    entry = entry_of(tmp_path, "a", TOKENS)
    catalogue.add(entry)
    assert catalogue.of_digest(entry.index.digest) is entry
    assert catalogue.take("a") is entry
    assert (catalogue.take("a"), catalogue.get("a")) == (None, None)
    assert catalogue.of_digest(entry.index.digest) is None


def test_tokens_are_compared_one_by_one_behind_what_is_known() -> None:
    own = np.asarray([1, 2, 3, 4, 5], "<u4")
    assert common_tokens(own, [1, 2, 3, 9], 2) == 3
    assert common_tokens(own, [1, 2], 1) == 2
    assert common_tokens(own, [1, 2, 3, 4, 5, 6], 0) == 5
