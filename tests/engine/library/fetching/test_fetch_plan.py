"""Which files are fetched, in which order, and whether they fit."""

import shutil
from pathlib import Path

import pytest

from engine.errors import Conflict, FetchDiskFull, FetchFailed
from engine.library.fetching.fetch_manifest import read_manifest
from engine.library.fetching.fetch_plan import SPARE_BYTES, check_room, chosen_files, planned
from engine.library.fetching.hub import Listing
from engine.library.fetching.remote_file import RemoteFile

COMMIT = "7872f01b1d1fe23eabc4c98b48bffcef5a386062"


def listing(*names: str, commit: str = COMMIT, modified_s: float = 1785484801.7) -> Listing:
    files = tuple(RemoteFile(name, 10, None, "a" * 40) for name in names)
    return Listing("some/one", commit, files, modified_s=modified_s)


def test_of_a_checkpoint_what_a_model_needs_is_chosen_small_files_first() -> None:
    found = chosen_files(
        listing(
            "model-00002.safetensors", "inference/model.py", "config.json", "model-00001.safetensors",
            "tokenizer.json", "assets/logo.png", "pytorch_model.bin", "model.safetensors.index.json",
        )
    )  # fmt: skip
    assert [each.path for each in found] == [
        "config.json", "model.safetensors.index.json", "tokenizer.json", "model-00001.safetensors",
        "model-00002.safetensors",
    ]  # fmt: skip


def test_patterns_choose_and_nothing_is_an_error() -> None:
    ggufs = listing("q4/m-00001-of-00002.gguf", "q4/m-00002-of-00002.gguf", "q8/m.gguf", "config.json")
    assert [each.path for each in chosen_files(ggufs, ["q8/*.gguf"])] == ["q8/m.gguf"]
    with pytest.raises(FetchFailed, match=r"it holds 2 models, .* name the file of one"):
        chosen_files(ggufs)
    one = listing("q4/m-00001-of-00002.gguf", "q4/m-00002-of-00002.gguf", "config.json", "README.md")
    assert [each.path for each in chosen_files(one)] == [
        "README.md",
        *sorted(each.path for each in one.files[:2]),
    ]
    with pytest.raises(FetchFailed, match="none of its 4 files"):
        chosen_files(ggufs, ["*.safetensors"])
    with pytest.raises(FetchFailed, match="none of its 1 files"):
        chosen_files(listing("README.md"))
    with pytest.raises(FetchFailed, match="none of its 2 files"):
        chosen_files(listing("config.json", "pytorch_model.bin"))


def test_the_plan_is_noted_down_with_a_time_that_every_disk_can_keep(tmp_path: Path) -> None:
    plan = planned(tmp_path / "a", listing("config.json", "m.safetensors"), (), "One")
    assert plan.manifest == read_manifest(tmp_path / "a")
    assert plan.manifest.modified_ns == 1785484800_000_000_000
    assert (plan.shards, plan.total_bytes) == (("m.safetensors",), 20)


def test_a_time_that_no_disk_can_hold_does_not_break_the_notes(tmp_path: Path) -> None:
    plan = planned(tmp_path, listing("config.json", "m.safetensors", modified_s=253402300799.0))
    assert plan.manifest == read_manifest(tmp_path)
    assert plan.manifest.modified_ns < 1 << 63


def test_more_files_of_the_same_commit_are_added(tmp_path: Path) -> None:
    planned(tmp_path, listing("config.json", "a.gguf", "b.gguf"), ["a.gguf"])
    later = listing("config.json", "a.gguf", "b.gguf", modified_s=1790000000.0)
    plan = planned(tmp_path, later, ["b.gguf"])
    assert [each.path for each in plan.manifest.files] == ["a.gguf", "b.gguf"]
    assert plan.manifest.modified_ns == 1785484800_000_000_000


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    planned(tmp_path, listing("config.json", "m.safetensors"))
    with pytest.raises(Conflict, match="was fetched into it"):
        planned(tmp_path, listing("config.json", "m.safetensors", commit="b" * 40))


def test_hostile_names_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(FetchFailed, match="outside"):
        planned(tmp_path / "a", listing("../evil.safetensors"))
    with pytest.raises(FetchFailed, match="one file on many disks"):
        planned(tmp_path / "a", listing("m.safetensors", "M.safetensors"))
    assert not (tmp_path / "a").exists()


def test_room_is_counted_by_disk_and_told_in_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**12, 0, 10**9))
    check_room({tmp_path / "a": 400_000_000, tmp_path / "b": 400_000_000})
    check_room({tmp_path: 0})
    with pytest.raises(FetchDiskFull, match=r"1\.2 GB more are needed .* 1\.0 GB are free"):
        check_room({tmp_path / "a": 600_000_000, tmp_path / "b" / "not there": 600_000_000})
    with pytest.raises(FetchDiskFull):
        check_room({tmp_path: 10**9 - SPARE_BYTES + 1})
