"""What was put is found, loaded and kept within the budget; what fails is told, and the next one is written."""

import errno
import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import fault_points
from engine.backends.base import ContextState
from engine.errors import DataFolderError, DiskFull, SnapshotDamaged, SnapshotRefused
from engine.store import snapshots
from engine.store.sealing import Ciphers, MasterKey
from engine.store.snapshot_file import SnapshotFileError
from engine.store.snapshot_index import About
from engine.store.snapshots import Found, SnapshotStore
from tests.support.context_states import ABOUT, files_in, kept_id, probe_of, put, same_state, state_of

ROOT = Path(__file__).resolve().parents[3]
TOKENS = list(range(2000, 3000))
AMPLE = 1 << 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "snapshots"


@pytest.fixture
def store(folder: Path) -> Iterator[SnapshotStore]:
    store = opened(folder)
    yield store
    store.close()


def opened(folder: Path, budget_bytes: int = AMPLE, leaves_free: int = 0) -> SnapshotStore:
    return SnapshotStore(folder, lambda: budget_bytes, leaves_free=lambda disk_bytes: leaves_free)  # noqa: ARG005


def noise(seed: int, size: int = 20_000) -> ContextState:
    """A state of tokens of its own that cannot be compressed."""
    state = state_of([seed] * 300, logits=0)
    whole = np.frombuffer(np.random.default_rng(seed).bytes(size), np.uint8)
    return ContextState(state.tokens, whole)


def test_what_was_put_is_found_and_loaded_also_by_the_next_engine(folder: Path) -> None:
    state = state_of(TOKENS, marks=[400])
    store = opened(folder)
    snapshot_id = kept_id(store, state, probe=probe_of())
    store.close()
    store = opened(folder)
    (found,) = store.find(ABOUT.state_key, TOKENS[:999], any_prefix=False)
    assert (found.id, found.tokens, found.whole_tokens, found.exact_key) == (
        snapshot_id,
        400,
        1000,
        "exact key",
    )
    assert found.bytes == (folder / f"{snapshot_id}.kv").stat().st_size
    loaded, probe = store.load(snapshot_id)
    assert same_state(loaded, state)
    assert probe is not None
    assert (probe.token, probe.logits.tolist()) == (3, probe_of().logits.tolist())
    assert store.by_digest(found.digest) is not None
    assert store.by_digest("0" * 64) is None
    store.close()


def test_any_beginning_is_found_to_the_token_where_a_context_can_be_cut(store: SnapshotStore) -> None:
    kept_id(store, state_of(TOKENS))
    kept_id(store, state_of([*TOKENS[:700], 1, 2, 3]))
    found = store.find(ABOUT.state_key, [*TOKENS[:777], 5], any_prefix=True)
    assert [(each.tokens, each.whole_tokens) for each in found] == [(777, 1000), (700, 703)]
    assert store.find(ABOUT.state_key, [*TOKENS[:777], 5], any_prefix=False) == []


def test_the_same_state_is_kept_once(store: SnapshotStore, folder: Path) -> None:
    digests = {put(store, state_of(TOKENS))[0] for _ in range(3)}
    assert len(digests) == len(files_in(folder)) == 1
    assert put(store, state_of(TOKENS, seed=1))[0] not in digests
    assert len(files_in(folder)) == 2


def test_one_whose_file_somebody_deleted_is_written_again(store: SnapshotStore, folder: Path) -> None:
    snapshot_id = kept_id(store, state_of(TOKENS))
    (folder / f"{snapshot_id}.kv").unlink()
    assert kept_id(store, state_of(TOKENS)) == snapshot_id
    assert same_state(store.load(snapshot_id)[0], state_of(TOKENS))


def test_those_named_are_forgotten_with_all_that_was_set_aside(
    store: SnapshotStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, gone, stays = (kept_id(store, state_of([each] * 300)) for each in (1, 2, 3))
    store.quarantine(kept_id(store, state_of([4] * 300)), "for the test")
    store.protect([gone])
    beside = folder.parent / "beside.kv"
    beside.touch()
    unlink = Path.unlink

    def refuses(path: Path, missing_ok: bool = False) -> None:
        if path.stem == stays:
            raise PermissionError(errno.EACCES, "no")
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", refuses)
    # Names come from a file that may have been restored from elsewhere.
    assert store.forget([gone, stays, "../beside"]) == [gone, "../beside"]
    assert (sorted(store.names), store.usage().damaged) == (sorted([kept, stays]), 0)
    assert beside.exists() and len(files_in(folder)) == 2


def test_a_probe_that_was_missing_is_added(store: SnapshotStore) -> None:
    snapshot_id = kept_id(store, state_of(TOKENS))
    assert kept_id(store, state_of(TOKENS), probe=probe_of()) == snapshot_id
    assert store.load(snapshot_id)[1] is not None
    assert kept_id(store, state_of(TOKENS)) == snapshot_id
    assert store.load(snapshot_id)[1] is not None
    assert store.usage().count == 1


def test_what_is_damaged_on_the_way_is_set_aside_and_never_used_again(
    store: SnapshotStore, folder: Path
) -> None:
    snapshot_id = kept_id(store, state_of(TOKENS, size=50_000))
    path = folder / f"{snapshot_id}.kv"
    whole = bytearray(path.read_bytes())
    whole[9000] ^= 1
    path.write_bytes(whole)
    with pytest.raises(SnapshotDamaged, match="not what was written"):
        store.load(snapshot_id)
    assert store.find(ABOUT.state_key, TOKENS, any_prefix=False) == []
    with pytest.raises(SnapshotDamaged, match="not there any more"):
        store.load(snapshot_id)
    assert (files_in(folder), files_in(folder / "damaged")) == ([], [path.name])
    assert (store.usage().count, store.usage().damaged) == (0, 1)
    assert opened(folder).usage().count == 0


def test_a_file_that_was_deleted_or_exchanged_is_not_used(store: SnapshotStore, folder: Path) -> None:
    one, other = kept_id(store, state_of(TOKENS)), kept_id(store, state_of(TOKENS, seed=1))
    (folder / f"{one}.kv").unlink()
    (folder / f"{other}.kv").rename(folder / f"{one}.kv")
    with pytest.raises(SnapshotDamaged, match="another file"):
        store.load(one)
    with pytest.raises(SnapshotDamaged, match="gone"):
        store.load(other)
    assert store.usage().count == 0


def test_ids_that_cannot_be_read_are_no_common_beginning(store: SnapshotStore, folder: Path) -> None:
    snapshot_id = kept_id(store, state_of(TOKENS))
    path = folder / f"{snapshot_id}.kv"
    whole = bytearray(path.read_bytes())
    whole[40] ^= 1  # in the first block, which holds the ids
    path.write_bytes(whole)
    assert store.find(ABOUT.state_key, TOKENS, any_prefix=True) == []
    assert store.usage().damaged == 1


def test_one_that_failed_its_probe_is_set_aside_for_good(store: SnapshotStore, folder: Path) -> None:
    snapshot_id = kept_id(store, state_of(TOKENS))
    store.quarantine(snapshot_id, "its probe failed")
    store.quarantine(snapshot_id, "again")
    assert store.find(ABOUT.state_key, TOKENS, any_prefix=False) == []
    assert files_in(folder / "damaged") == [f"{snapshot_id}.kv"]


def test_all_stay_within_the_budget_and_protected_ones_stay(folder: Path) -> None:
    store = opened(folder, 70_000)
    first = kept_id(store, noise(1))
    store.protect([first])
    for seed in range(2, 8):
        kept_id(store, noise(seed))
        assert store.usage().bytes <= 70_000
        assert sum((folder / name).stat().st_size for name in files_in(folder)) == store.usage().bytes
    assert f"{first}.kv" in files_in(folder)
    assert store.usage().count == 3
    store.close()


def test_what_does_not_fit_beside_what_is_protected_is_refused(folder: Path) -> None:
    store = opened(folder, 30_000)
    store.protect([kept_id(store, noise(1))])
    digest, error = put(store, noise(2))
    assert (digest, type(error)) == (None, SnapshotRefused)
    assert "left of what they may take" in str(error)
    assert (store.usage().count, len(files_in(folder))) == (1, 1)
    store.close()


def test_with_no_budget_nothing_is_kept(folder: Path) -> None:
    opened(folder, 0)
    digest, error = put(opened(folder, 0), noise(1))
    assert (digest, type(error)) == (None, SnapshotRefused)
    assert not folder.exists()


def test_a_budget_that_became_smaller_is_kept_to(folder: Path) -> None:
    budget = [AMPLE]
    store = SnapshotStore(folder, lambda: budget[0], leaves_free=lambda disk_bytes: 0)  # noqa: ARG005
    for seed in range(4):
        kept_id(store, noise(seed))
    budget[0] = 50_000
    before = store.usage().bytes
    assert store.keep_to_budget() == before - store.usage().bytes > 0
    assert store.usage().bytes <= 50_000
    budget[0] = 25_000
    store.close()
    assert opened(folder, 25_000).usage().count == 1


def test_who_is_told_can_protect_it_before_anything_may_go(folder: Path) -> None:
    """Each is protected when it is told, so the third finds no room: none of the others went for it."""
    store = opened(folder, 50_000)
    kept: list[str] = []
    errors: list[Exception | None] = []

    def done(digest: str | None, error: Exception | None) -> None:
        errors.append(error)
        if digest is not None and (found := store.by_digest(digest)) is not None:
            store.keep_to_budget()
            kept.append(found.id)
            store.protect(kept)

    for seed in range(3):
        store.put(noise(seed), None, ABOUT, done)
    assert store.settle(30)
    assert [type(error) for error in errors] == [type(None), type(None), SnapshotRefused]
    assert files_in(folder) == sorted(f"{each}.kv" for each in kept)
    store.close()


def test_room_is_left_on_the_disk(folder: Path) -> None:
    store = opened(folder, leaves_free=1 << 60)
    digest, error = put(store, noise(1))
    assert (digest, type(error)) == (None, DiskFull)
    assert "nearly full" in str(error)
    assert files_in(folder) == []
    store.close()


def full_at(monkeypatch: pytest.MonkeyPatch, name: str, passes: int) -> None:
    """The disk is full when the point is passed for the first `passes` times."""
    left = [passes]

    def at(point: str) -> None:
        if point == name and left[0] > 0:
            left[0] -= 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(fault_points, "at", at)


def test_a_disk_that_fills_up_in_the_middle_costs_others_their_place_once(
    store: SnapshotStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = kept_id(store, noise(1, 60_000))
    full_at(monkeypatch, "snapshot-write", 1)
    new = kept_id(store, noise(2))
    assert new != old
    assert files_in(folder) == [f"{new}.kv"]


def test_one_that_cannot_be_deleted_stays_known(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    budget = [AMPLE]
    store = SnapshotStore(folder, lambda: budget[0], leaves_free=lambda disk_bytes: 0)  # noqa: ARG005
    one, two = kept_id(store, noise(1)), kept_id(store, noise(2))
    budget[0] = 0
    full_at(monkeypatch, "snapshot-evict", 1)
    assert store.keep_to_budget() == store.usage().bytes
    (left,) = files_in(folder)
    assert left in (f"{one}.kv", f"{two}.kv")
    assert store.usage().count == 1
    store.close()


def test_what_little_may_go_is_tried_when_the_disk_fills_up(
    store: SnapshotStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_id(store, noise(1, 5000))
    full_at(monkeypatch, "snapshot-write", 1)
    new = kept_id(store, noise(2, 90_000))
    assert files_in(folder) == [f"{new}.kv"]


@pytest.mark.parametrize("point", ["snapshot-write", "snapshot-written", "snapshot-renamed"])
def test_a_disk_that_stays_full_is_told_and_leaves_no_temporary(
    store: SnapshotStore, folder: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    kept = kept_id(store, noise(1, 5000))
    full_at(monkeypatch, point, 2)
    digest, error = put(store, noise(2))
    assert (digest, type(error)) == (None, DiskFull)
    assert not [name for name in files_in(folder) if name.endswith(".part")]
    monkeypatch.undo()
    assert kept_id(store, noise(3)) != kept


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = opened(tmp_path / "file")
    digest, error = put(store, noise(1))
    assert (digest, type(error)) == (None, DataFolderError)
    assert "cannot be written" in str(error)
    store.close()


def test_a_state_that_cannot_be_kept_does_not_end_the_writer(store: SnapshotStore) -> None:
    digest, error = put(store, state_of([]))
    assert (digest, type(error)) == (None, ValueError)

    def done(digest: str | None, error: Exception | None) -> None:
        raise RuntimeError

    store.put(noise(1), None, ABOUT, done)
    assert store.settle(30)
    kept_id(store, noise(2))


@pytest.mark.parametrize("size", [20_000, 200_000])
def test_a_state_is_let_go_of_whether_it_was_written_or_not(folder: Path, size: int) -> None:
    store = opened(folder, 100_000)
    state = noise(1, size)
    held = weakref.ref(state.whole)
    told: list[bool] = []
    store.put(state, None, ABOUT, lambda digest, _: told.append(digest is not None))
    gc.disable()
    try:
        del state
        assert store.settle(30)
        assert told == [size < 100_000]
        assert held() is None
    finally:
        gc.enable()
    store.close()


def test_of_states_that_wait_too_long_the_oldest_are_given_up(
    store: SnapshotStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "WAITING_BYTES", 50_000)
    go_on, began = threading.Event(), threading.Event()
    told: list[tuple[int, bool]] = []

    def at(name: str) -> None:
        if name == "snapshot-written":
            began.set()
            assert go_on.wait(30)

    monkeypatch.setattr(fault_points, "at", at)
    for seed in range(5):
        store.put(
            noise(seed), None, ABOUT, lambda digest, _, seed=seed: told.append((seed, digest is not None))
        )
        if seed == 0:
            assert began.wait(30)
    assert not store.settle(0)
    assert told == [(1, False), (2, False)]
    go_on.set()
    assert store.settle(30)
    assert told[2:] == [(0, True), (3, True), (4, True)]


def test_what_waits_is_written_before_the_end_and_nothing_after_it(folder: Path) -> None:
    store = opened(folder)
    for seed in range(3):
        store.put(noise(seed), None, ABOUT, lambda digest, error: None)  # noqa: ARG005
    store.close()
    store.close()
    assert len(files_in(folder)) == 3
    digest, error = put(store, noise(9))
    assert (digest, type(error)) == (None, SnapshotRefused)


def test_loading_counts_as_use(store: SnapshotStore, folder: Path) -> None:
    snapshot_id = kept_id(store, noise(1))
    path = folder / f"{snapshot_id}.kv"
    os.utime(path, (1000, 1000))
    before = time.time()
    store.load(snapshot_id)
    assert path.stat().st_mtime >= before - 2


def test_all_are_read_whole_when_they_are_verified(store: SnapshotStore, folder: Path) -> None:
    good, bad, gone = (kept_id(store, noise(seed)) for seed in range(3))
    assert store.verify() == []
    path = folder / f"{bad}.kv"
    path.write_bytes(path.read_bytes().replace(noise(1).whole.tobytes()[100:110], bytes(10)))
    (folder / f"{gone}.kv").unlink()
    (complaint,) = store.verify()
    assert bad in complaint
    assert complaint.endswith(".")
    assert (files_in(folder), files_in(folder / "damaged")) == ([f"{good}.kv"], [f"{bad}.kv"])
    freed = (folder / "damaged" / f"{bad}.kv").stat().st_size
    assert store.compact() == freed
    assert files_in(folder / "damaged") == []


def test_everything_is_forgotten_when_that_is_asked(store: SnapshotStore, folder: Path) -> None:
    one, two = kept_id(store, noise(1)), kept_id(store, noise(2))
    store.protect([one])
    store.quarantine(two, "for the test")
    store.forget_all()
    assert files_in(folder) == files_in(folder / "damaged") == []
    assert (store.usage().count, store.usage().bytes, store.usage().damaged) == (0, 0, 0)
    kept_id(store, noise(3))


def test_sealed_snapshots_tell_nothing_and_open_with_the_key_alone(folder: Path) -> None:
    cipher = Ciphers.of(MasterKey.new()).snapshots
    store = SnapshotStore(folder, lambda: AMPLE, cipher)
    snapshot_id = kept_id(store, state_of(TOKENS, marks=[300]), probe=probe_of())
    store.close()
    plain = np.asarray(TOKENS, "<u4").tobytes()
    content = (folder / f"{snapshot_id}.kv").read_bytes()
    assert not any(plain[start : start + 12] in content for start in range(0, 4000, 400))
    again = SnapshotStore(folder, lambda: AMPLE, cipher)
    assert same_state(again.load(snapshot_id)[0], state_of(TOKENS, marks=[300]))
    assert opened(folder).usage().count == 0
    assert opened(folder).usage().bytes == len(content)
    stranger = SnapshotStore(folder, lambda: AMPLE, Ciphers.of(MasterKey.new()).snapshots)
    assert (stranger.usage().count, files_in(folder)) == (0, [])


def test_a_state_beyond_the_machines_memory_is_not_loaded(
    store: SnapshotStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot_id = kept_id(store, noise(1))

    def refuse(size_bytes: int) -> None:
        raise MemoryError(size_bytes)

    monkeypatch.setattr(snapshots, "refuse_beyond_memory", refuse)
    with pytest.raises(MemoryError):
        store.load(snapshot_id)
    assert store.usage().count == 1


def test_an_error_of_the_disk_while_reading_is_damage(
    store: SnapshotStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot_id = kept_id(store, noise(1))

    def failing(*_: object) -> None:
        raise OSError(errno.EIO, "the disk answered with an error")

    monkeypatch.setattr(snapshots, "read_snapshot", failing)
    with pytest.raises(SnapshotDamaged, match="answered with an error"):
        store.load(snapshot_id)
    assert store.usage().count == 0
    assert SnapshotFileError("x").args == ("x",)


def test_large_room_lies_in_a_file_without_a_name_and_small_room_does_not(
    store: SnapshotStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "MAPPED_FROM_BYTES", 100_000)
    small, large = store.room(99_999), store.room(100_000)
    small[:], large[:] = 1, 2
    assert (small.nbytes, large.nbytes) == (99_999, 100_000)
    assert folder.is_dir()
    assert files_in(folder) == []
    full = opened(folder, leaves_free=1 << 60)
    assert full.room(100_000).nbytes == 100_000


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="this system has no SIGKILL")
@pytest.mark.parametrize(
    "point", ["snapshot-write:2", "snapshot-written:2", "snapshot-renamed:2", "snapshot-evict:1"]
)
def test_an_engine_killed_at_any_point_leaves_whole_snapshots(folder: Path, point: str) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from engine.store.snapshots import SnapshotStore\n"
        "from tests.engine.store.test_snapshots import noise, put\n"
        "store = SnapshotStore(Path(sys.argv[1]), lambda: 45_000, leaves_free=lambda _: 0)\n"
        "for seed in range(3): put(store, noise(seed))\n"
    )
    environment = {**os.environ, "SEAMOUNT_FAULT": point}
    done = subprocess.run([sys.executable, "-c", program, str(folder)], cwd=ROOT, env=environment)
    assert done.returncode == -9
    store = opened(folder)
    assert store.verify() == []
    assert store.usage().damaged == 0
    assert files_in(folder) == sorted(
        f"{found.id}.kv"
        for seed in range(3)
        for found in store.find(ABOUT.state_key, [seed] * 300, any_prefix=False)
    )
    for seed in range(3):
        for found in store.find(ABOUT.state_key, [seed] * 300, any_prefix=False):
            assert same_state(store.load(found.id)[0], noise(seed))


STEPS = st.one_of(
    st.tuples(st.just("put"), st.integers(0, 5)),
    st.tuples(st.just("load"), st.integers(0, 5)),
    st.tuples(st.just("protect"), st.integers(0, 5)),
    st.tuples(st.just("damage"), st.integers(0, 5)),
    st.tuples(st.just("budget"), st.integers(0, 70_000)),
    st.tuples(st.just("restart"), st.just(0)),
)


@settings(max_examples=15, deadline=None)
@given(st.lists(STEPS, max_size=14))
def test_whatever_happens_what_is_there_is_whole_known_and_within_the_budget(
    steps: list[tuple[str, int]],
) -> None:
    """States 0 to 5 have sizes of their own; whatever is found of one is exactly it, and nothing damaged is."""
    budget = [45_000]

    def started() -> SnapshotStore:
        return SnapshotStore(folder, lambda: budget[0], leaves_free=lambda disk_bytes: 0)  # noqa: ARG005

    def found(number: int) -> Found | None:
        return next(iter(store.find(ABOUT.state_key, [number] * 300, any_prefix=False)), None)

    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        store = started()
        protected: set[str] = set()
        for step, value in steps:
            here = None if step in ("budget", "restart") else found(value)
            if step == "put":
                digest, _ = put(store, noise(value, 5000 + 3000 * value))
                assert digest is None or found(value) is not None
            elif step == "load" and here is not None:
                assert same_state(store.load(here.id)[0], noise(value, 5000 + 3000 * value))
            elif step == "protect":
                protected = set() if here is None else {here.id}
                store.protect(protected)
            elif step == "damage" and here is not None:
                path = folder / f"{here.id}.kv"
                path.write_bytes(path.read_bytes()[:-1] + b"0")
                with pytest.raises(SnapshotDamaged):
                    store.load(here.id)
                assert found(value) is None
            elif step == "budget":
                budget[0] = value
                store.keep_to_budget()
            elif step == "restart":
                store.close()
                store, protected = started(), set[str]()
            files = files_in(folder)
            sizes = {name: (folder / name).stat().st_size for name in files}
            assert sum(sizes.values()) == store.usage().bytes
            assert len(files) == store.usage().count
            spared = sum(size for name, size in sizes.items() if name.removesuffix(".kv") in protected)
            assert sum(sizes.values()) <= max(budget[0], spared)
        assert store.verify() == []
        store.close()


def test_another_about_of_the_same_bits_takes_the_place_of_the_first(store: SnapshotStore) -> None:
    one = kept_id(store, state_of(TOKENS))
    other = kept_id(store, state_of(TOKENS), About("state key", "another machine", 1.0))
    assert one == other
    (found,) = store.find("state key", TOKENS, any_prefix=False)
    assert found.exact_key == "another machine"
