"""Items are whole: a model with its parts, its receipt and its drafter, and what is known of it."""

import shutil
from pathlib import Path

import pytest

from convert.conversion import convert
from convert.conversion_plan import path_of
from convert.receipt import receipt_path
from engine.errors import LibraryError, NotFound
from engine.library.fetching.fetch_manifest import Manifest, parts_folder, write_manifest
from engine.library.fetching.remote_file import RemoteFile
from engine.library.holdings import Holdings
from engine.library.in_use import InUse
from engine.library.last_used import LastUsed
from engine.library.models import ModelLibrary
from engine.paths import DataFolder
from tests.convert.conversions import checkpoint, job
from tests.engine.library.test_models import put

FREE = InUse([], [])


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint, m.gguf made of it, its drafter and the receipts of both."""
    folder = tmp_path_factory.mktemp("converted")
    source = checkpoint(folder, "0731", layers=3)
    convert(job(source, folder / "m.gguf"), lambda _: None, lambda: False)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    folder = DataFolder(tmp_path / "data")
    folder.create()
    return folder


@pytest.fixture
def holdings(folder: DataFolder) -> Holdings:
    return Holdings(ModelLibrary(folder), LastUsed(folder.models / "last_used.json"))


def bring(converted: Path, folder: DataFolder) -> Path:
    for path in converted.glob("m*"):
        shutil.copy2(path, folder.models / path.name)
    return folder.models / "m.gguf"


def test_a_converted_model_is_one_item(converted: Path, folder: DataFolder, holdings: Holdings) -> None:
    gguf = bring(converted, folder)
    draft = path_of(gguf, "draft")
    holding = holdings.find("folder:m.gguf", [folder.models], FREE)
    assert set(holding.takes) == {gguf, receipt_path(gguf), draft, receipt_path(draft)}
    item = holding.item
    assert (item.kind, item.files, item.release) == ("model", 2, "DeepSeek-V4 0731/0813")
    assert item.size_bytes == gguf.stat().st_size + draft.stat().st_size
    assert item.exactness is not None
    assert not item.exactness.lossless
    assert item.exactness.exact > 0
    assert item.exactness.approximate > 0
    assert 0 < item.exactness.worst_relative_rms < 0.01
    assert item.last_used_at is None
    assert not item.in_use
    assert item.removable
    # The drafter is no item of its own.
    assert [each.item.id for each in holdings.found([folder.models], FREE)][-1:] == ["folder:m.gguf"]


def test_a_receipt_of_another_file_is_not_shown(
    converted: Path, folder: DataFolder, holdings: Holdings
) -> None:
    gguf = bring(converted, folder)
    receipt = receipt_path(gguf)
    assert holdings.find("folder:m.gguf", [], FREE).item.exactness is not None
    with gguf.open("ab") as file:
        file.write(b"more")
    assert holdings.find("folder:m.gguf", [], FREE).item.exactness is None
    receipt.write_text("{}")
    assert holdings.find("folder:m.gguf", [], FREE).item.exactness is None


def test_a_drafter_of_another_checkpoint_stays_an_item(
    converted: Path, folder: DataFolder, holdings: Holdings
) -> None:
    gguf = bring(converted, folder)
    path_of(gguf, "draft").unlink()
    put(path_of(gguf, "draft"), "Somebody else's")
    found = {each.item.id for each in holdings.found([folder.models], FREE)}
    assert {"folder:m.gguf", "folder:m-draft.gguf"} <= found


def test_other_models_and_when_they_were_used(folder: DataFolder, holdings: Holdings) -> None:
    put(folder.models / "talk.gguf", "Talker")
    put(folder.models / "x-00001-of-00002.gguf", "Split")
    put(folder.models / "x-00002-of-00002.gguf", "Split")
    LastUsed(folder.models / "last_used.json", lambda: 5.0).mark("folder:talk.gguf")
    found = {each.item.id: each for each in holdings.found([folder.models], InUse(["folder:talk.gguf"], []))}
    talk, split = found["folder:talk.gguf"], found["folder:x-00001-of-00002.gguf"]
    assert (talk.item.release, talk.item.exactness, talk.item.last_used_at) == (None, None, 5.0)
    assert talk.item.in_use
    assert (split.item.files, len(split.takes), split.item.in_use) == (2, 2, False)


def test_the_starter_stays(holdings: Holdings) -> None:
    starter = holdings.find("starter", [], FREE)
    assert not starter.item.removable
    assert not starter.item.movable


def test_where_a_fetched_model_is_from(folder: DataFolder, holdings: Holdings) -> None:
    place = folder.models / "a" / "b-GGUF"
    gguf = put(place / "Q4" / "m.gguf", "M")
    files = (RemoteFile("Q4/m.gguf", gguf.stat().st_size), RemoteFile("README.md", 3))
    write_manifest(place, Manifest("a/b-GGUF", "2" * 40, files))
    other = put(place / "mine.gguf", "Mine")
    found = {each.takes[0]: each for each in holdings.found([folder.models], FREE)}
    assert (found[gguf].item.repository, found[gguf].item.revision) == ("a/b-GGUF", "2" * 40)
    assert found[gguf].fetched_in == place
    assert found[other].item.repository is None
    assert found[other].fetched_in is None


def test_checkpoints(converted: Path, folder: DataFolder, holdings: Holdings) -> None:
    source = next(path for path in converted.iterdir() if path.is_dir())
    holdings.add_checkpoint(source)
    holding = holdings.find(f"checkpoint:{source}", [folder.models], FREE)
    assert (holding.origin, holding.takes) == ("added_checkpoint", (source,))
    item = holding.item
    assert (item.kind, item.name, item.release) == ("checkpoint", source.name, "DeepSeek-V4 0731/0813")
    assert item.complete
    assert item.size_bytes > 0
    with pytest.raises(LibraryError):
        holdings.add_checkpoint(folder.models)
    with pytest.raises(NotFound):
        holdings.find("checkpoint:/nowhere", [], FREE)


def test_a_folder_with_the_loaded_model_in_it_is_in_use(folder: DataFolder, holdings: Holdings) -> None:
    place = folder.models / "a" / "b"
    gguf = put(place / "1.gguf", "M")
    files = (RemoteFile("1.gguf", gguf.stat().st_size), RemoteFile("2.gguf", 3))
    write_manifest(place, Manifest("a/b", "2" * 40, files))
    parts_folder(place).mkdir()
    item_id = f"checkpoint:{place}"
    assert not holdings.find(item_id, [folder.models], FREE).item.in_use
    assert holdings.find(item_id, [folder.models], InUse(["folder:a/b/1.gguf"], [])).item.in_use
