"""What each form of `seamount parts` calls."""

from pathlib import Path
from typing import Any

import pytest

from engine import parts_command
from engine.cli import main


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The calls, in place of what they do."""
    found: list[Any] = []
    for name in ("list_parts", "install", "remove"):

        def note(folder: Any, *given: Any, name: str = name, **named: Any) -> int:
            found.append((name, folder.root, given, named))
            return 0

        monkeypatch.setattr(parts_command, name, note)
    return found


@pytest.mark.parametrize(
    ("words", "call"),
    [
        ([], ("list_parts", (), {})),
        (["list"], ("list_parts", (), {})),
        (["install", "native"], ("install", ("native",), {"variant": None, "find_links": None})),
        (
            ["install", "native", "--variant", "cuda", "--find-links", "w"],
            ("install", ("native",), {"variant": "cuda", "find_links": "w"}),
        ),
        (["remove", "native"], ("remove", ("native",), {})),
    ],
)
def test_each_form(tmp_path: Path, called: list[Any], words: list[str], call: Any) -> None:
    assert main(["--data", str(tmp_path), "parts", *words], open_window=lambda _data: 1) == 0
    name, given, named = call
    assert called == [(name, tmp_path, given, named)]


def test_a_part_is_to_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["parts", "install"], open_window=lambda _data: 1)
    assert "PART" in capsys.readouterr().err
