"""What goes when an item is removed, and what never does."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.errors import Conflict, LibraryError
from engine.library import removal, trash
from engine.library.fetching.fetch_manifest import Manifest, write_manifest
from engine.library.fetching.remote_file import RemoteFile
from engine.library.holdings import Holding, Holdings
from engine.library.in_use import InUse
from engine.library.last_used import LastUsed
from engine.library.models import ModelLibrary
from engine.paths import DataFolder
from engine.protocol_jobs import Job, VerifyRequest
from engine.protocol_library import Removed
from tests.engine.library.test_checkpoint_folders import fetched, plain
from tests.engine.library.test_models import put

FREE = InUse([], [])
links = pytest.mark.skipif(sys.platform == "win32", reason="links need rights here")


class Place:
    """A library on one data folder with a second folder for checkpoints."""

    def __init__(self, folder: DataFolder) -> None:
        self.folder = folder
        self.models = folder.models
        self.checkpoints = folder.root.parent / "checkpoints"
        self.checkpoints.mkdir()
        self.roots = [self.models, self.checkpoints]
        self.library = ModelLibrary(folder)
        self.holdings = Holdings(self.library, LastUsed(folder.models / "last_used.json"))

    def at(self, path: Path) -> Holding:
        return next(each for each in self.holdings.found(self.roots, FREE) if path in each.takes)

    def remove(self, path: Path, *, for_good: bool = True, in_use: InUse = FREE) -> Removed:
        holding = self.at(path)
        return removal.remove(
            holding, for_good=for_good, roots=self.roots, added=self.library.added, in_use=in_use
        )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    folder = DataFolder(tmp_path / "data")
    folder.create()
    return Place(folder)


def test_a_model_goes_with_all_that_belongs_to_it(place: Place) -> None:
    first, second = (put(place.models / f"m-0000{number}-of-00002.gguf", "M") for number in (1, 2))
    beside = [
        place.models / f"{first.name}{end}" for end in (".receipt.json", ".progress.json", ".part.lock")
    ]
    for path in beside:
        path.write_text("{}")
    other = put(place.models / "m.gguf", "Other")
    size = sum(path.stat().st_size for path in (first, second, *beside))
    assert place.remove(first) == Removed(size_bytes=size, in_trash=False)
    assert not any(path.exists() for path in (first, second, *beside))
    assert other.exists()


def test_what_another_conversion_is_writing_stays(place: Place) -> None:
    gguf = put(place.models / "m.gguf", "M")
    part, progress = place.models / "m.gguf.part", place.models / "m.gguf.progress.json"
    part.write_bytes(b"1")
    progress.write_text("{}")
    place.remove(gguf)
    assert not gguf.exists()
    assert part.exists()
    assert progress.exists()


def test_into_the_trash(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    gguf = put(place.models / "m.gguf", "M")
    taken: list[Path] = []

    def take(path: Path) -> None:
        taken.append(path)
        path.unlink()

    monkeypatch.setattr(trash, "to_trash", take)
    size = gguf.stat().st_size
    assert place.remove(gguf, for_good=False) == Removed(size_bytes=size, in_trash=True)
    assert taken == [gguf]


def test_where_it_cannot_go_into_the_trash_nothing_is_deleted(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    gguf = put(place.models / "m.gguf", "M")

    def refuse(path: Path) -> None:
        raise LibraryError(f"{path.name} could not be put into the trash", "there is none", "delete it")

    monkeypatch.setattr(trash, "to_trash", refuse)
    with pytest.raises(LibraryError):
        place.remove(gguf, for_good=False)
    assert gguf.exists()


def test_a_fetched_gguf_goes_with_its_folder(place: Place) -> None:
    folder = fetched(place.models / "a" / "b", "a/b", README_md=b"read me")
    gguf = put(folder / "m.gguf", "M")
    files = (RemoteFile("README.md", 7), RemoteFile("m.gguf", gguf.stat().st_size))
    write_manifest(folder, Manifest("a/b", "1" * 40, files))
    assert place.remove(gguf).size_bytes > gguf_size(files)
    assert not folder.parent.exists()
    assert place.models.exists()


def gguf_size(files: tuple[RemoteFile, ...]) -> int:
    return sum(each.size_bytes for each in files)


@pytest.mark.parametrize("stranger", ["mine.gguf", "notes.txt", "sub/x.bin"])
def test_but_not_with_what_else_lies_there(place: Place, stranger: str) -> None:
    folder = place.models / "a" / "b"
    gguf = put(folder / "m.gguf", "M")
    write_manifest(folder, Manifest("a/b", "1" * 40, (RemoteFile("m.gguf", gguf.stat().st_size),)))
    (folder / stranger).parent.mkdir(exist_ok=True)
    (folder / stranger).write_bytes(b"keep me")
    place.remove(gguf)
    assert not gguf.exists()
    assert (folder / stranger).read_bytes() == b"keep me"


def test_a_download_that_has_not_arrived_does_not_take_a_model_with_it(place: Place) -> None:
    folder = place.models / "a" / "b"
    gguf = put(folder / "m.gguf", "M")
    half = put(folder / "n-00001-of-00002.gguf", "N")
    files = (RemoteFile("m.gguf", gguf.stat().st_size), RemoteFile("n-00001-of-00002.gguf", 9))
    write_manifest(folder, Manifest("a/b", "1" * 40, files))
    (folder / ".cache" / "seamount" / "parts").mkdir()
    with pytest.raises(LibraryError, match=r"“m\.gguf”, which is a model of its own"):
        place.remove(folder)
    assert gguf.exists()
    gguf.unlink()
    place.remove(folder)
    assert not half.exists()


@pytest.mark.parametrize("root", ["models", "checkpoints"])
def test_a_fetched_checkpoint_goes_as_a_whole(place: Place, root: str) -> None:
    above: Path = getattr(place, root)
    folder = fetched(above / "a" / "b", config_json=b"{}", m_safetensors=b"12345")
    parts = folder / ".cache" / "seamount" / "parts"
    parts.mkdir()
    (parts / "n.safetensors").write_bytes(b"123")
    neighbour = fetched(above / "a" / "c", config_json=b"{}", m_safetensors=b"1")
    assert place.remove(folder).size_bytes > 10
    assert not folder.exists()
    assert neighbour.exists()
    place.remove(neighbour)
    assert not (above / "a").exists()
    assert above.exists()


@pytest.mark.parametrize(
    "stranger", ["thesis.odt", "photos/1.jpg", "lora.safetensors", ".cache/other/x", "x.gguf"]
)
def test_a_folder_with_strangers_stays(place: Place, stranger: str) -> None:
    folder = fetched(place.checkpoints / "a" / "b", config_json=b"{}", m_safetensors=b"12345")
    (folder / stranger).parent.mkdir(parents=True, exist_ok=True)
    (folder / stranger).write_bytes(b"")
    with pytest.raises(LibraryError, match=Path(stranger).name):
        place.remove(folder)
    assert (folder / "m.safetensors").exists()


def test_a_plain_checkpoint_in_the_models_folder(place: Place) -> None:
    folder = plain(place.models / "mine", "1.safetensors", "2.safetensors")
    place.remove(folder)
    assert not folder.exists()


def test_what_was_added_is_only_taken_off_the_list(place: Place, tmp_path: Path) -> None:
    gguf = put(tmp_path / "elsewhere" / "m.gguf", "M")
    folder = plain(tmp_path / "ckpt", "model.safetensors")
    place.library.add(str(gguf))
    place.holdings.add_checkpoint(folder)
    for path in (gguf, folder):
        assert place.remove(path) == Removed(size_bytes=0, in_trash=False)
        assert path.exists()
        with pytest.raises(StopIteration):
            place.at(path)


@links
def test_a_link_goes_and_what_it_leads_to_stays(place: Place, tmp_path: Path) -> None:
    gguf = put(tmp_path / "elsewhere" / "m.gguf", "M")
    link = place.models / "m.gguf"
    link.symlink_to(gguf)
    assert place.remove(link) == Removed(size_bytes=0, in_trash=False)
    assert not os.path.lexists(link)
    assert gguf.exists()


@links
@pytest.mark.parametrize("make", ["model", "checkpoint"])
def test_nothing_goes_through_a_linked_folder(place: Place, tmp_path: Path, make: str) -> None:
    makers: dict[str, Callable[[Path], Path]] = {
        "model": lambda path: put(path / "m.gguf", "M").parent,
        "checkpoint": lambda path: plain(path, "model.safetensors"),
    }
    real = makers[make](tmp_path / "elsewhere")
    link = place.models / "linked"
    link.symlink_to(real)
    with pytest.raises(LibraryError, match="only linked"):
        place.remove(link / "m.gguf" if make == "model" else link)
    assert len(list(real.iterdir())) > 0


@links
def test_a_library_behind_a_link_is_our_own(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "home").symlink_to(tmp_path / "real")
    folder = DataFolder(tmp_path / "home" / "data")
    folder.create()
    place = Place(folder)
    gguf = put(place.models / "m.gguf", "M")
    place.remove(gguf)
    assert not gguf.exists()


@links
def test_links_in_a_folder_are_strangers(place: Place, tmp_path: Path) -> None:
    folder = fetched(place.models / "a" / "b", config_json=b"{}", m_safetensors=b"12345")
    (folder / "away").symlink_to(tmp_path)
    with pytest.raises(LibraryError, match="away"):
        place.remove(folder)


@pytest.mark.parametrize("precious", ["home", "library", "mount"])
def test_what_people_live_in_stays(place: Place, monkeypatch: pytest.MonkeyPatch, precious: str) -> None:
    folder = fetched(place.checkpoints / "a" / "b", config_json=b"{}", m_safetensors=b"12345")
    if precious == "home":
        monkeypatch.setattr(Path, "home", lambda: folder)
    elif precious == "library":
        place.roots.append(folder / "models")
    else:

        def is_mount(path: Path) -> bool:
            return path == folder.resolve()

        monkeypatch.setattr(os.path, "ismount", is_mount)
    with pytest.raises(LibraryError, match="more than a model"):
        place.remove(folder)
    assert folder.exists()


def test_what_is_in_use_stays(place: Place) -> None:
    gguf = put(place.models / "m.gguf", "M")
    checking = Job(
        id="1", state="paused", created_at=0, title="", asked=VerifyRequest(path=str(gguf)), place=""
    )
    for in_use, why in ((InUse(["folder:m.gguf"], []), "loaded"), (InUse([], [checking]), "job")):
        with pytest.raises(Conflict, match=why):
            place.remove(gguf, in_use=in_use)
    assert gguf.exists()


def test_the_starter_stays(place: Place) -> None:
    starter = next(each for each in place.holdings.found(place.roots, FREE) if each.item.id == "starter")
    with pytest.raises(LibraryError, match="installed with Seamount"):
        place.remove(starter.takes[0])


def test_what_has_gone_meanwhile_is_said(place: Place) -> None:
    gguf = put(place.models / "m.gguf", "M")
    holding = place.at(gguf)
    gguf.unlink()
    with pytest.raises(LibraryError, match="not there any more"):
        removal.remove(holding, for_good=True, roots=place.roots, added=place.library.added, in_use=FREE)
