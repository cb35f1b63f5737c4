"""Small parts, and a pip that is told of nothing but a folder here."""

import os
from pathlib import Path

import pytest

from engine.parts.part_folder import PartFolder
from tests.support.wheel_index import small_part


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that pip looks into; no index is asked."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in [each for each in os.environ if each.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def part(tmp_path: Path, wheels: Path) -> PartFolder:
    """A part of two small wheels that lie in that folder."""
    return PartFolder(tmp_path / "data" / "parts", small_part(wheels))
