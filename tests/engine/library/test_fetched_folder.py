"""What a download's notes say to those who only look."""

from pathlib import Path

import pytest

from engine.library.fetched_folder import Fetched, read_notes
from engine.library.fetching.fetch_manifest import manifest_path
from tests.engine.library.test_checkpoint_folders import COMMIT, fetched


def test_notes_and_what_is_lacking(tmp_path: Path) -> None:
    folder = fetched(tmp_path / "a", config_json=b"{}", m_safetensors=b"123")
    notes = read_notes(folder)
    assert notes is not None
    assert notes == Fetched("a/Thing", COMMIT, (("config.json", 2), ("m.safetensors", 3)))
    assert not notes.is_gguf
    assert not notes.lacks(folder)
    (folder / "m.safetensors").write_bytes(b"1234")
    assert notes.lacks(folder)
    assert Fetched("a/b", COMMIT, (("M.GGUF", 3),)).is_gguf


@pytest.mark.parametrize("content", ["", "{}", "[" * 9999, '{"magic": "seamount-fetch", "version": 99}'])
def test_notes_that_cannot_be_understood_are_none(tmp_path: Path, content: str) -> None:
    folder = fetched(tmp_path / "a", config_json=b"{}")
    manifest_path(folder).write_text(content)
    assert read_notes(folder) is None
    assert read_notes(tmp_path) is None
    assert read_notes(tmp_path / "gone") is None
