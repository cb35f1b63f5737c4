"""The parts of others: from a bundle's folder, else from the packages that are installed."""

import json
from pathlib import Path

import pytest

from engine.errors import NotFound
from engine.licences import Licences
from engine.protocol_about import LONGEST_LICENCE


def test_what_is_installed_here_is_listed_with_its_texts() -> None:
    licences = Licences()
    entries = licences.entries()
    names = [entry.name.lower().replace("_", "-") for entry in entries]
    assert names == sorted(names) and len(set(names)) == len(names)
    for needed in ("pyside6-essentials", "llama-cpp-python", "pydantic-core", "starlette", "shiboken6"):
        assert needed in names, "also what is needed by what is needed"
    assert "pytest" not in names and "seamount" not in names
    place = names.index("llama-cpp-python")
    assert (entries[place].licence, entries[place].version != "") == ("MIT", True)
    assert "Permission is hereby granted" in licences.text(place).text
    for place in range(len(entries)):
        text = licences.text(place).text
        assert 20 < len(text) <= LONGEST_LICENCE


def test_a_package_without_a_text_says_what_is_known() -> None:
    licences = Licences()
    place = next(at for at, entry in enumerate(licences.entries()) if entry.name.lower() == "shiboken6")
    text = licences.text(place).text
    assert "LGPL" in text


@pytest.mark.parametrize("place", [-1, 10**9])
def test_a_place_beyond_the_list_is_not_found(place: int) -> None:
    with pytest.raises(NotFound):
        Licences().text(place)


def bundle(folder: Path, *rows: dict[str, object]) -> Licences:
    folder.mkdir(exist_ok=True)
    (folder / "index.json").write_text(json.dumps(list(rows)))
    return Licences(folder)


def test_a_bundles_own_list_counts(tmp_path: Path) -> None:
    (tmp_path / "qt.txt").write_bytes("LGPL ä\r\nmore".encode())
    rows = (
        {"name": "zlib", "version": "1", "licence": "Zlib", "file": "gone.txt"},
        {"name": "Qt", "version": "6.11", "licence": "LGPL-3.0-only", "file": "qt.txt"},
    )
    licences = bundle(tmp_path, *rows)
    assert [entry.name for entry in licences.entries()] == ["Qt", "zlib"]
    assert licences.text(0).text == "LGPL ä\nmore"
    assert "no text of its licence (Zlib)" in licences.text(1).text


def test_an_index_cannot_have_other_files_shown(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    licences = bundle(
        tmp_path / "licences", {"name": "x", "version": "1", "licence": "MIT", "file": "../secret"}
    )
    assert "secret" not in licences.text(0).text


@pytest.mark.slow
@pytest.mark.parametrize("content", ["", "{", "7", '[{"name": "x"}]', "[7]", "[" * 9000])
def test_an_index_that_cannot_be_read_is_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "index.json").write_text(content)
    assert len(Licences(tmp_path).entries()) > 20
