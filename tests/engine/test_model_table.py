"""`seamount models`."""

from pathlib import Path

import pytest

from engine.model_table import print_models, size_text
from engine.paths import DataFolder


def test_every_model_is_a_line_and_its_problem_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = DataFolder(tmp_path)
    folder.create()
    (folder.models / "talk.script.json").write_text('{"replies": [{}]}')
    (folder.models / "torn.gguf").write_bytes(b"GGUF")
    assert print_models(folder) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("folder:talk.script.json" in line for line in lines)
    torn = next(number for number, line in enumerate(lines) if "folder:torn.gguf" in line)
    assert "torn.gguf cannot be" in lines[torn + 1]
    assert sum(line.startswith("*") for line in lines) == 1


def test_sizes_are_said_as_people_say_them() -> None:
    sizes = [9_000, 98_000_000, 4_700_000_000, 160_000_000_000, 1_600_000_000_000]
    assert [size_text(size) for size in sizes] == ["9 kB", "98 MB", "4.7 GB", "160 GB", "1.6 TB"]
