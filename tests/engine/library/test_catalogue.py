"""What is asked for becomes exactly what is fetched, and where it goes."""

import sys
from pathlib import Path

import pytest

from engine.errors import BadRequest, Conflict
from engine.library.catalogue import checkpoints_folder, resolve, wanted
from engine.library.catalogue_entries import own_catalogue
from engine.library.fetching.fetch_manifest import Manifest, write_manifest
from engine.library.fetching.fetch_plan import CHECKPOINT_FILES
from engine.library.fetching.remote_file import RemoteFile
from engine.paths import DataFolder
from engine.protocol import Settings
from engine.protocol_jobs import ConvertAfter, FetchRequest

PINNED = "7872f01b1d1fe23eabc4c98b48bffcef5a386062"
OTHER = "1" * 40
GGUFS = "antirez/deepseek-v4-gguf"


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    folder = DataFolder(tmp_path / "Ünïcode data")
    folder.create()
    return folder


def ask(data: DataFolder, what: str, settings: Settings | None = None, **fields: object) -> FetchRequest:
    asked = FetchRequest.model_validate({"what": what, **fields})
    return resolve(asked, settings or Settings(), data)


def notes(place: Path, commit: str, *files: str) -> None:
    write_manifest(place, Manifest("a/b", commit, tuple(RemoteFile(name, 1) for name in files)))


def test_an_entry_by_name_repository_and_address(folder: DataFolder) -> None:
    repository = "deepseek-ai/DeepSeek-V4-Flash-0731"
    for what in ("flash-0731", repository, repository.lower(), f"https://huggingface.co/{repository}"):
        found = ask(folder, what)
        assert found.what == repository
        assert found.revision == PINNED
        assert found.files == list(CHECKPOINT_FILES)
        assert found.folder == str(folder.models / "deepseek-ai" / "DeepSeek-V4-Flash-0731")
        assert found.release == "DeepSeek-V4-Flash-0731"
        assert found.convert is None
        # What is resolved stays as it is when it is resolved again.
        assert resolve(found, Settings(), folder) == found


def test_what_is_said_comes_before_the_catalogue(folder: DataFolder, tmp_path: Path) -> None:
    assert ask(folder, "flash-0731@v9").revision == "v9"
    assert ask(folder, "flash-0731", revision="v8").revision == "v8"
    found = ask(folder, "flash", folder=str(tmp_path / "x" / ".." / "here"), release="Mine", files=["a.json"])
    assert (found.folder, found.release, found.files) == (str(tmp_path / "here"), "Mine", ["a.json"])
    assert ask(folder, "flash").revision == "main"
    assert ask(folder, "any/Thing").revision == "main"
    assert ask(folder, "any/Thing").release is None


def test_the_folder_of_the_settings_is_for_checkpoints_only(folder: DataFolder, tmp_path: Path) -> None:
    settings = Settings(checkpoints_folder=str(tmp_path / "disk"))
    assert ask(folder, "a/b", settings).folder == str(tmp_path / "disk" / "a" / "b")
    gguf = ask(folder, "flash-gguf-2bit", settings)
    assert gguf.folder == str(folder.models / "antirez" / "deepseek-v4-gguf")
    assert checkpoints_folder(Settings(), folder) == folder.models
    with pytest.raises(BadRequest, match="whole path"):
        ask(folder, "a/b", Settings(checkpoints_folder="relative"))


def test_another_commit_goes_beside(folder: DataFolder) -> None:
    place = folder.models / "deepseek-ai" / "DeepSeek-V4-Flash-0731"
    notes(place, OTHER, "config.json")
    assert ask(folder, "flash-0731").folder == f"{place}@{PINNED[:7]}"
    assert ask(folder, "flash-0731", revision=OTHER).folder == str(place)
    # Which commit a branch is only the hub knows; what was begun is gone on with.
    assert ask(folder, "flash-0731", revision="main").folder == str(place)
    write_manifest(place, Manifest("a/b", OTHER, (RemoteFile("config.json", 1),), revision="main"))
    assert ask(folder, "flash-0731", revision="main").folder == str(place)
    assert ask(folder, "flash-0731", revision="pr/1").folder == f"{place}@pr_1"


def test_another_gguf_of_a_repository_goes_beside(folder: DataFolder) -> None:
    first = ask(folder, "flash-gguf-2bit")
    notes(Path(first.folder or ""), OTHER, *first.files)
    assert ask(folder, "flash-gguf-2bit").folder == first.folder
    second = Path(ask(folder, "flash-gguf-4bit").folder or "")
    assert second.parent == folder.models / "antirez"
    assert second.name.startswith("deepseek-v4-gguf-DeepSeek-V4-Flash-Q4K")


def test_one_file_of_a_repository_by_its_address(folder: DataFolder) -> None:
    found = ask(folder, "https://huggingface.co/a/b-GGUF/blob/main/Q4/x-00002-of-00003.gguf")
    assert found.files == ["Q4/x-?????-of-00003.gguf"]
    assert ask(folder, "https://huggingface.co/a/b/blob/v1/q[4].gguf").files == ["q[[]4].gguf"]
    # What a repository holds that the catalogue does not know, only the hub can tell.
    assert ask(folder, "https://huggingface.co/a/b/blob/v1/README.md").files == []
    assert ask(folder, "a/b").files == []


def test_a_repository_of_several_models_wants_a_choice(folder: DataFolder) -> None:
    with pytest.raises(BadRequest, match=r"flash-gguf-2bit, flash-gguf-4bit"):
        ask(folder, GGUFS)
    with pytest.raises(BadRequest, match="several models"):
        ask(folder, "someone/Thing-GGUF")
    assert ask(folder, GGUFS, files=["*2*.gguf"]).files == ["*2*.gguf"]
    # To look at it, or to name it, is another thing.
    assert wanted(GGUFS, None, Settings(), folder).entry is None


def test_the_target_of_a_conversion(folder: DataFolder, tmp_path: Path) -> None:
    def target(**fields: object) -> str | None:
        convert = ConvertAfter.model_validate(fields)
        found = ask(folder, "flash-0731", convert=convert.model_dump()).convert
        assert found is not None
        assert found.consume == convert.consume
        return found.target

    expected = folder.models / "DeepSeek-V4-Flash-0731.gguf"
    assert target(consume=True) == str(expected)
    assert target(target=str(tmp_path / "m.gguf")) == str(tmp_path / "m.gguf")
    for wrong in ("m.gguf", str(tmp_path / "m.bin"), str(tmp_path)):
        with pytest.raises(BadRequest):
            target(target=wrong)
    expected.write_bytes(b"")
    with pytest.raises(Conflict, match="is there already"):
        target()


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights here")
def test_a_target_that_is_a_broken_link_is_taken(folder: DataFolder, tmp_path: Path) -> None:
    (folder.models / "DeepSeek-V4-Pro.gguf").symlink_to(tmp_path / "gone")
    with pytest.raises(Conflict):
        ask(folder, "pro", convert={})


def test_what_is_refused(folder: DataFolder) -> None:
    for what, why in (
        ("deepseek-ai/DeepSeek-V4-Flash-Base", "Base model"),
        ("https://huggingface.co/deepseek-ai/DeepSeek-V4.1-Flash", "another architecture"),
        ("nonsense", "neither in the catalogue"),
        ("https://example.com/a/b", "not the hub"),
    ):
        with pytest.raises(BadRequest, match=why):
            ask(folder, what)
    with pytest.raises(BadRequest, match="GGUF already"):
        ask(folder, "flash-gguf-2bit", convert={})
    for files in (["../x"], ["/etc/passwd"], ["a\\b"]):
        with pytest.raises(BadRequest, match="leads out"):
            ask(folder, "a/b", files=files)


def test_a_persons_entry_is_found_by_its_name(folder: DataFolder) -> None:
    own_catalogue(folder).write_text(
        '[[model]]\nname="mine"\ntitle="M"\nkind="gguf"\nrepository="me/Mine"\nfiles=["m.gguf"]\nrevision="v2"\n'
    )
    found = ask(folder, "mine")
    assert (found.what, found.revision, found.files) == ("me/Mine", "v2", ["m.gguf"])
    assert ask(folder, "me/mine").files == ["m.gguf"]
