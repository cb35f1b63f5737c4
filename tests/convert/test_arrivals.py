"""Conversions of checkpoints that are still arriving: the same bytes as of the whole folder, whatever comes when."""

import os
import shutil
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from convert.arrivals import Beginning
from convert.checkpoint import Checkpoint
from convert.checkpoint_error import CheckpointError
from convert.conversion import Advance, convert
from convert.conversion_error import ConversionError
from convert.conversion_plan import make_plan
from convert.conversion_progress import consumed_shards
from convert.tensor_map import Draft
from tests.convert import kill_campaign
from tests.convert.arriving_shards import ArrivingShards
from tests.convert.conversions import Release, checkpoint, job

SHARDS = {"preview": 8, "0731": 10}
FOURTH = "model-00004-of-00008.safetensors"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sources")
    return {
        "preview": checkpoint(folder, "preview", ratios="pro", seed=3),
        "0731": checkpoint(folder, "0731", ratios="flash", seed=4),
    }


@pytest.fixture(scope="module")
def wanted(sources: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """What conversions of the whole folders give, by release and by what becomes of the drafter."""
    found: dict[str, dict[str, bytes]] = {}
    cases: list[tuple[Release, Draft]] = [
        ("preview", "separate"),
        ("preview", "keep"),
        ("0731", "separate"),
        ("0731", "skip"),
    ]
    for release, draft in cases:
        folder = tmp_path_factory.mktemp("straight")
        convert(job(sources[release], folder / "m.gguf", draft=draft))
        found[f"{release} {draft}"] = digests(folder)
    return found


@pytest.fixture
def arriving(sources: dict[str, Path], tmp_path: Path) -> ArrivingShards:
    """Shards of the preview's checkpoint on their way; none has arrived, and none comes unasked."""
    return ArrivingShards(sources["preview"], tmp_path / "coming" / sources["preview"].name, others=0)


def digests(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


class StoppedError(Exception):
    """What a test breaks a conversion off with."""


def stop_after(count: int) -> Any:
    """A report that breaks off at the `count`-th piece, as a crash would."""
    seen = 0

    def report(_: Advance) -> None:
        nonlocal seen
        seen += 1
        if seen == count:
            raise StoppedError

    return report


# --- the same as of the whole folder ---------------------------------------------------------------


def test_the_plan_is_made_from_beginnings(sources: dict[str, Path], arriving: ArrivingShards) -> None:
    before = Checkpoint.open(arriving.folder, arrivals=arriving)
    whole = Checkpoint.open(sources["preview"])
    assert before.fingerprint() == whole.fingerprint()
    assert [shard.promised for shard in before.shards] == [True] * SHARDS["preview"]
    assert {name: each.offset for name, each in before.tensors.items()} == {
        name: each.offset for name, each in whole.tensors.items()
    }
    assert not list(arriving.folder.glob("*.safetensors"))
    with pytest.raises(CheckpointError, match="8 of its 8 shards are missing"):
        Checkpoint.open(arriving.folder)


@pytest.mark.parametrize("consume", [False, True])
@pytest.mark.parametrize(
    ("release", "draft"),
    [("preview", "separate"), ("preview", "keep"), ("0731", "separate"), ("0731", "skip")],
)
def test_every_order_gives_the_same_bytes(
    sources: dict[str, Path],
    wanted: dict[str, dict[str, bytes]],
    tmp_path: Path,
    release: Release,
    draft: Draft,
    consume: bool,
) -> None:
    seed = 2 * len(release + draft) + consume
    coming = ArrivingShards(sources[release], tmp_path / "coming" / sources[release].name, seed=seed)
    target = tmp_path / "target" / "m.gguf"
    target.parent.mkdir()
    convert(job(coming.folder, target, draft=draft, consume=consume), arrivals=coming)
    assert digests(target.parent) == wanted[f"{release} {draft}"]
    assert len(set(coming.order)) == len(coming.order)
    left = {path.name for path in coming.folder.glob("*.safetensors")}
    if consume:
        assert left.isdisjoint(coming.gone)
        needless = make_plan(job(sources[release], target, draft=draft)).needless
        assert {*coming.gone, *left, *coming.coming} >= needless
        assert len(needless) == (3 if draft == "skip" else 0)
        # What was left out is not deleted; nor is it waited for.
        assert len(coming.gone) == SHARDS[release] - len(needless) - (draft == "keep")
    else:
        assert len(left) == SHARDS[release]
        assert digests(sources[release]).items() <= digests(coming.folder).items()


def test_shards_come_in_the_order_in_which_they_are_needed(sources: dict[str, Path], tmp_path: Path) -> None:
    coming = ArrivingShards(sources["0731"], tmp_path / "coming" / sources["0731"].name, others=0)
    convert(job(coming.folder, tmp_path / "m.gguf", consume=True), arrivals=coming)
    assert coming.order == coming.gone == [f"model-{n:05d}-of-00010.safetensors" for n in range(1, 11)]
    assert coming.most_whole == 1


def test_the_disk_holds_little_more_than_the_result(arriving: ArrivingShards, tmp_path: Path) -> None:
    target = tmp_path / "target" / "m.gguf"
    target.parent.mkdir()
    asked = job(arriving.folder, target, consume=True)
    files = make_plan(asked, arrivals=arriving).files.values()
    ends = sorted(file.offset(each) + each.size_bytes for file in files for each in file.targets)
    largest = max(path.stat().st_size for path in arriving.whole.glob("*.safetensors"))
    told = 0

    def report(advance: Advance) -> None:
        nonlocal told
        told += 1
        # Its own group at most is more than what is done: the rest of the file is a hole.
        taken = sum(path.stat().st_blocks * 512 for path in target.parent.iterdir())
        assert taken <= advance.done_bytes + largest + (1 << 20), advance

    convert(asked, report, arrivals=arriving)
    assert told > 100
    assert ends[-1] > 2 * largest + (1 << 20), "the checkpoint is too small to tell"


def test_a_shard_that_arrives_while_it_is_looked_for_is_found(
    sources: dict[str, Path], arriving: ArrivingShards, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets its name between the look into the folder, the question, and the reading of its beginning."""
    beginning = arriving.beginning
    asked = 0

    def brought(name: str) -> Beginning | None:
        nonlocal asked
        asked += 1
        found = beginning(name)
        if asked in (1, 11, 12):
            arriving.bring(name)
            return None if asked == 1 else found
        return found

    monkeypatch.setattr(arriving, "beginning", brought)
    opened = Checkpoint.open(arriving.folder, arrivals=arriving)
    assert opened.fingerprint() == Checkpoint.open(sources["preview"]).fingerprint()
    assert len(arriving.order) == 3


# --- interrupted -----------------------------------------------------------------------------------


@pytest.mark.parametrize("consume", [False, True])
def test_it_goes_on_where_it_was(
    sources: dict[str, Path], wanted: dict[str, dict[str, bytes]], tmp_path: Path, consume: bool
) -> None:
    """Some shards are whole then, some have begun, some are consumed."""
    folder, target = tmp_path / "coming" / sources["preview"].name, tmp_path / "target" / "m.gguf"
    target.parent.mkdir()
    asked = job(folder, target, consume=consume)
    consumed: set[str] = set()
    for seed, count in enumerate((1, 60, 60, 60)):
        coming = ArrivingShards(sources["preview"], folder, seed=seed, target=target)
        with pytest.raises(StoppedError):
            convert(asked, stop_after(count), arrivals=coming)
        assert consumed.isdisjoint(coming.order), "what was consumed came again"
        consumed = set(consumed_shards(target))
        assert set(coming.gone) <= consumed
    assert (len(consumed) > 2) == consume
    convert(asked, arrivals=ArrivingShards(sources["preview"], folder, seed=9, target=target))
    assert digests(target.parent) == wanted["preview separate"]
    assert consumed_shards(target) == frozenset()


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    """A few kills of the campaign, of conversions during which shards arrive."""
    count = kill_campaign.run(tmp_path, kills=6, seed=12, only_arriving=True)
    assert count.kills >= 6
    assert count.arriving == count.conversions > 0


def test_stopping_while_it_waits_leaves_it_to_go_on(
    wanted: dict[str, dict[str, bytes]], arriving: ArrivingShards, tmp_path: Path
) -> None:
    stopped = False
    wait_for = arriving.wait_for
    target = tmp_path / "target" / "m.gguf"
    target.parent.mkdir()

    def endless(names: Collection[str], cancelled: Callable[[], bool]) -> None:
        nonlocal stopped
        if FOURTH not in names:
            return wait_for(names, cancelled)
        while not cancelled():
            stopped = True
        return None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arriving, "wait_for", endless)
        with pytest.raises(ConversionError) as caught:
            convert(job(arriving.folder, target), cancelled=lambda: stopped, arrivals=arriving)
    assert caught.value.trouble == "stopped"
    assert FOURTH in arriving.coming
    convert(job(arriving.folder, target), arrivals=arriving)
    assert digests(target.parent) == wanted["preview separate"]


def test_what_bringing_fails_with_is_passed_on(
    wanted: dict[str, dict[str, bytes]], arriving: ArrivingShards, tmp_path: Path
) -> None:
    class NoNetworkError(Exception):
        pass

    wait_for = arriving.wait_for
    target = tmp_path / "target" / "m.gguf"
    target.parent.mkdir()

    def failing(names: Collection[str], cancelled: Callable[[], bool]) -> None:
        if FOURTH in names:
            raise NoNetworkError("the network is gone")
        wait_for(names, cancelled)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arriving, "wait_for", failing)
        with pytest.raises(NoNetworkError, match="the network is gone"):
            convert(job(arriving.folder, target, consume=True), arrivals=arriving)
    assert consumed_shards(target) == {f"model-{n:05d}-of-00008.safetensors" for n in (1, 2, 3)}
    convert(job(arriving.folder, target, consume=True), arrivals=arriving)
    assert digests(target.parent) == wanted["preview separate"]


# --- what is not as it was promised ----------------------------------------------------------------


def lying(path: Path) -> None:
    """Change the text in a beginning's header without any harm to its form."""
    raw = path.read_bytes()
    assert raw.count(b'"pt"') == 1
    path.write_bytes(raw.replace(b'"pt"', b'"qt"'))


def test_a_beginning_that_was_not_true_is_found_out_and_the_whole_shard_counts(
    wanted: dict[str, dict[str, bytes]], arriving: ArrivingShards, tmp_path: Path
) -> None:
    lying(arriving.folder / "arriving" / FOURTH)
    target = tmp_path / "target" / "m.gguf"
    target.parent.mkdir()
    asked = job(arriving.folder, target, consume=True)
    with pytest.raises(ConversionError, match=f"{FOURTH} of the checkpoint has changed") as caught:
        convert(asked, arrivals=arriving)
    assert caught.value.trouble == "changed"
    assert FOURTH in arriving.order
    assert FOURTH not in consumed_shards(target)
    assert len(consumed_shards(target)) == 3
    for name in arriving.coming:
        arriving.bring(name)
    with pytest.raises(ConversionError, match="has changed"):  # nobody vouches for it
        convert(asked)
    with pytest.raises(ConversionError, match="other options"):
        convert(job(arriving.folder, target, consume=True, dense="bf16"), arrivals=arriving)
    convert(asked, arrivals=arriving)
    assert digests(target.parent) == wanted["preview separate"]


def test_a_beginning_that_was_not_true_of_a_shard_left_out_is_found_out(
    sources: dict[str, Path], wanted: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    """Nothing is made of it, but the digest of its header is part of what the result says of its source."""
    coming = ArrivingShards(sources["0731"], tmp_path / "coming" / sources["0731"].name)
    lying(coming.folder / "arriving" / "model-00009-of-00010.safetensors")
    target = tmp_path / "target" / "m.gguf"
    target.parent.mkdir()
    asked = job(coming.folder, target, draft="skip")
    with pytest.raises(ConversionError, match="model-00009"):
        convert(asked, arrivals=coming)
    convert(asked, arrivals=coming)
    assert digests(target.parent) == wanted["0731 skip"]


def test_a_shard_that_changes_after_it_was_used_is_refused(
    sources: dict[str, Path], arriving: ArrivingShards, tmp_path: Path
) -> None:
    asked = job(arriving.folder, tmp_path / "m.gguf")
    with pytest.raises(StoppedError):
        convert(asked, stop_after(60), arrivals=arriving)
    os.utime(arriving.folder / "model-00002-of-00008.safetensors", ns=(1, 1))
    with pytest.raises(ConversionError, match="model-00002"):
        convert(asked, arrivals=arriving)


@pytest.mark.parametrize("difference", [-1, 1])
def test_a_size_that_is_not_that_of_the_tensors_is_refused(
    arriving: ArrivingShards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, difference: int
) -> None:
    beginning = arriving.beginning

    def false(name: str) -> Beginning | None:
        found = beginning(name)
        if found is None or name != FOURTH:
            return found
        return replace(found, size_bytes=found.size_bytes + difference)

    monkeypatch.setattr(arriving, "beginning", false)
    with pytest.raises(CheckpointError) as caught:
        convert(job(arriving.folder, tmp_path / "m.gguf"), arrivals=arriving)
    assert caught.value.problem in ("truncated", "damaged")
    assert caught.value.shard == FOURTH
    assert FOURTH in str(caught.value)
    assert not list(tmp_path.glob("m.gguf*progress*"))


def test_more_than_was_promised_is_refused(arriving: ArrivingShards) -> None:
    coming = arriving.folder / "arriving" / FOURTH
    shutil.copyfile(arriving.whole / FOURTH, coming)
    with coming.open("ab") as file:
        file.write(b"x")
    with pytest.raises(CheckpointError, match="have arrived"):
        Checkpoint.open(arriving.folder, arrivals=arriving)


@pytest.mark.parametrize(
    ("kept_bytes", "problem"), [(0, "not_safetensors"), (7, "truncated"), (20, "damaged"), (600, "damaged")]
)
def test_a_beginning_without_its_header_is_refused(
    arriving: ArrivingShards, kept_bytes: int, problem: str
) -> None:
    os.truncate(arriving.folder / "arriving" / FOURTH, kept_bytes)
    with pytest.raises(CheckpointError) as caught:
        Checkpoint.open(arriving.folder, arrivals=arriving)
    assert (caught.value.problem, caught.value.shard) == (problem, FOURTH)


def test_a_header_is_enough_however_short_it_is(sources: dict[str, Path], arriving: ArrivingShards) -> None:
    for coming in (arriving.folder / "arriving").iterdir():
        raw = (arriving.whole / coming.name).read_bytes()
        coming.write_bytes(raw[: 8 + int.from_bytes(raw[:8], "little")])
    opened = Checkpoint.open(arriving.folder, arrivals=arriving)
    assert opened.fingerprint() == Checkpoint.open(sources["preview"]).fingerprint()


@pytest.mark.parametrize("what", ["size", "time", "gone"])
def test_a_shard_that_comes_otherwise_is_refused(
    arriving: ArrivingShards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    bring = arriving.bring

    def other(name: str) -> None:
        bring(name)
        path = arriving.folder / name
        if name == FOURTH and what == "size":
            os.truncate(path, path.stat().st_size - 1)
        elif name == FOURTH and what == "time":
            os.utime(path, ns=(1, 1))
        elif name == FOURTH:
            path.unlink()

    monkeypatch.setattr(arriving, "bring", other)
    with pytest.raises(ConversionError, match=f"{FOURTH} of the checkpoint has changed"):
        convert(job(arriving.folder, tmp_path / "m.gguf"), arrivals=arriving)
