"""What was added where it lies is remembered, whatever is in its file."""

import json
from pathlib import Path

import pytest

from engine.errors import DataFolderError
from engine.library.added_files import Added, AddedFiles


def test_files_and_folders_come_and_go(tmp_path: Path) -> None:
    path = tmp_path / "added.json"
    added = AddedFiles(path)
    one, two, folder = tmp_path / "1.gguf", tmp_path / "2.gguf", tmp_path / "ckpt"
    assert added.read() == Added()
    added.add_model(one)
    added.add_model(two)
    added.add_model(one)
    added.add_checkpoint(folder)
    expected = Added((str(one), str(two)), (str(folder),))
    assert added.read() == AddedFiles(path).read() == expected
    added.take_off(one)
    added.take_off(folder)
    added.take_off(tmp_path / "never there")
    assert added.read() == Added((str(two),))


def test_the_first_format_is_read(tmp_path: Path) -> None:
    path = tmp_path / "added.json"
    path.write_text('{"format": 1, "paths": ["/a.gguf"]}')
    added = AddedFiles(path)
    assert added.read() == Added(("/a.gguf",))
    added.add_checkpoint(tmp_path)
    assert json.loads(path.read_text()) == {
        "format": 2,
        "paths": ["/a.gguf"],
        "checkpoints": [str(tmp_path)],
    }


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"format": 3, "paths": []}', '{"format": 2, "paths": [1]}', "[" * 9999]
)
def test_what_cannot_be_understood_is_set_aside(tmp_path: Path, content: str) -> None:
    path = tmp_path / "added.json"
    path.write_text(content)
    added = AddedFiles(path)
    assert added.read() == Added()
    added.add_model(tmp_path / "m.gguf")
    assert added.read() == Added((str(tmp_path / "m.gguf"),))
    [aside] = tmp_path.glob("added.json.broken-*")
    assert aside.read_text() == content


def test_a_list_that_cannot_be_read_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "added.json"
    path.mkdir()
    with pytest.raises(DataFolderError, match="cannot be changed"):
        AddedFiles(path).add_model(tmp_path / "m.gguf")
    assert path.is_dir()
