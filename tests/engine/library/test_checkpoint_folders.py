"""Checkpoints are found where they lie, once each, however the folders are made."""

import json
import sys
from pathlib import Path

import pytest

from engine.errors import LibraryError
from engine.library.checkpoint_folders import CheckpointFolder, CheckpointFolders
from engine.library.fetching.fetch_manifest import Manifest, manifest_path, parts_folder, write_manifest
from engine.library.fetching.remote_file import RemoteFile

COMMIT = "1" * 40


def plain(folder: Path, *shards: str) -> Path:
    """A checkpoint as another program leaves it, with an index where it has several shards."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    for shard in shards:
        (folder / shard).write_bytes(b"12345")
    if shards != ("model.safetensors",):
        (folder / "model.safetensors.index.json").write_text(
            json.dumps({"weight_map": {shard: shard for shard in (*shards, shards[0])}})
        )
    return folder


def fetched(folder: Path, repository: str = "a/Thing", **files: bytes) -> Path:
    """A folder with notes; names have `_` for their dot."""
    folder.mkdir(parents=True)
    listed: list[RemoteFile] = []
    for name, content in files.items():
        path = name.replace("_", ".")
        (folder / path).write_bytes(content)
        listed.append(RemoteFile(path, len(content)))
    write_manifest(folder, Manifest(repository, COMMIT, tuple(listed)))
    return folder


def found(*roots: Path, added: tuple[str, ...] = ()) -> list[CheckpointFolder]:
    return CheckpointFolders().found(roots, added)


def test_fetched_and_plain_ones_below_the_folders(tmp_path: Path) -> None:
    root = tmp_path / "models"
    ours = fetched(root / "a" / "Thing@1111111", config_json=b"{}", m_safetensors=b"123")
    other = plain(root / "mine", "x-1.safetensors", "x-2.safetensors")
    (root / "not one").mkdir()
    plain(root / ".hidden", "model.safetensors")
    first, second = found(root)
    assert (first.path, first.name, first.complete, first.size_bytes > 5) == (ours, "Thing", True, True)
    assert first.id == f"checkpoint:{ours}"
    assert first.files == 2
    assert first.notes is not None
    assert first.notes.commit == COMMIT
    assert (second.path, second.name, second.complete, second.notes) == (other, "mine", True, None)
    assert second.size_bytes == 10 + sum(each.stat().st_size for each in other.glob("*.json"))


def test_what_is_not_whole(tmp_path: Path) -> None:
    ours = fetched(tmp_path / "a" / "b", config_json=b"{}", m_safetensors=b"123")
    other = plain(tmp_path / "mine", "1.safetensors", "2.safetensors")
    folders = CheckpointFolders()
    assert [each.complete for each in folders.found([tmp_path], [])] == [True, True]
    (ours / "m.safetensors").write_bytes(b"12")
    (other / "2.safetensors").unlink()
    assert [each.complete for each in folders.found([tmp_path], [])] == [False, False]
    (ours / "m.safetensors").unlink()
    assert [each.complete for each in folders.found([tmp_path], [])] == [False, False]


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"weight_map": 3}', "[" * 9999, '{"weight_map": {"a": "\\u0000"}}']
)
def test_an_index_that_is_none(tmp_path: Path, content: str) -> None:
    folder = plain(tmp_path / "mine", "1.safetensors", "2.safetensors")
    (folder / "model.safetensors.index.json").write_text(content)
    assert [each.complete for each in found(tmp_path)] == [False]


def test_broken_notes_hide_nothing(tmp_path: Path) -> None:
    folder = fetched(tmp_path / "a" / "b", config_json=b"{}", model_safetensors=b"123")
    for content in ("", "{}", '{"magic": "seamount-fetch", "version": 99}'):
        manifest_path(folder).write_text(content)
        [one] = found(tmp_path)
        assert (one.notes, one.complete, one.name) == (None, True, "b")


def test_fetched_ggufs_are_models_unless_they_are_not_there(tmp_path: Path) -> None:
    folder = fetched(tmp_path / "a" / "b", x_gguf=b"GGUF")
    assert found(tmp_path) == []
    (folder / "x.gguf").unlink()
    assert found(tmp_path) == []  # it was moved or removed
    parts_folder(folder).mkdir()
    [one] = found(tmp_path)
    assert not one.complete


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights here")
def test_links_are_followed_once(tmp_path: Path) -> None:
    elsewhere = plain(tmp_path / "elsewhere", "model.safetensors")
    root = tmp_path / "models"
    root.mkdir()
    (root / "one").symlink_to(elsewhere)
    (root / "two").symlink_to(elsewhere)
    (root / "round").symlink_to(root)
    (root / "broken").symlink_to(tmp_path / "gone")
    assert len(found(root, root, added=(str(elsewhere),))) == 1


def test_added_ones_stay_in_the_list_when_their_disk_is_gone(tmp_path: Path) -> None:
    there, gone = plain(tmp_path / "there", "model.safetensors"), tmp_path / "gone"
    one, two = found(tmp_path / "models", added=(str(there), str(gone), str(there)))
    assert (one.path, one.root, one.complete) == (there, None, True)
    assert (two.path, two.complete, two.size_bytes) == (gone, False, 0)


def test_what_can_be_added(tmp_path: Path) -> None:
    folders = CheckpointFolders()
    assert folders.addable(plain(tmp_path / "one", "model.safetensors")).complete
    (tmp_path / "empty").mkdir()
    for wrong in (tmp_path / "empty", tmp_path / "gone", tmp_path / "one" / "config.json"):
        with pytest.raises(LibraryError):
            folders.addable(wrong)


def test_the_walk_ends_at_a_depth(tmp_path: Path) -> None:
    plain(tmp_path / "1" / "2" / "3" / "4", "model.safetensors")
    plain(tmp_path / "a" / "b" / "c" / "d" / "e", "model.safetensors")
    assert [each.name for each in found(tmp_path)] == ["4"]
