"""What a desktop calls the program with, told from a command."""

import sys
from pathlib import Path

import pytest

from engine import cli


def no_window(_data: str | None, _request: str | None) -> int:
    raise AssertionError("no window was asked for")


@pytest.mark.parametrize("with_data", [True, False])
def test_a_link_or_a_file_in_a_commands_place_opens_in_the_window(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, with_data: bool
) -> None:
    monkeypatch.setattr(cli, "has_display", lambda: True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a model.gguf").write_bytes(b"")
    asked: list[tuple[str | None, str | None]] = []
    before, data = (["--data", "x.gguf"], "x.gguf") if with_data else ([], None)
    for text in ("seamount://get/flash-0731", "a model.gguf", (tmp_path / "a model.gguf").as_uri()):
        assert cli.main([*before, text], open_window=lambda *given: asked.append(given) or 0) == 0
    path = str(tmp_path / "a model.gguf")
    assert asked == [(data, "seamount://get/flash-0731"), (data, path), (data, path)]


def test_a_bad_link_is_a_sentence_in_a_terminal_and_in_the_window_without_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    link = "seamount://run/rm%20-rf"
    monkeypatch.setattr(cli, "has_display", lambda: True)
    asked: list[tuple[str | None, str | None]] = []
    assert cli.main([link], open_window=lambda *given: asked.append(given) or 0) == 0
    assert asked == [(None, link)]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert cli.main([link], open_window=no_window) == 1
    assert "was not opened" in capsys.readouterr().err


def test_without_a_display_a_link_tells_the_command_instead(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(cli, "has_display", lambda: False)
    (tmp_path / "x.gguf").write_bytes(b"")
    assert cli.main(["seamount://get/a/b@main"], open_window=no_window) == 1
    assert "seamount get a/b@main" in capsys.readouterr().err
    assert cli.main([str(tmp_path / "x.gguf")], open_window=no_window) == 1
    assert f'seamount chat --model "{tmp_path}/x.gguf"' in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["chat", "x.gguf"], ["seamount://get/a", "no-command"]])
def test_what_stands_beside_a_command_is_no_request(
    argv: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "has_display", lambda: True)
    with pytest.raises(SystemExit):
        cli.main(argv, open_window=no_window)
    assert "usage:" in capsys.readouterr().err


def test_a_link_beside_a_command_is_not_opened(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "has_display", lambda: True)
    assert cli.main(["seamount://get/a", "doctor"], open_window=no_window) == 1
    assert "one at a time" in capsys.readouterr().err


def test_of_several_the_first_is_opened(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(cli, "has_display", lambda: True)
    paths = [tmp_path / f"{name}.gguf" for name in "abc"]
    for path in paths:
        path.write_bytes(b"")
    asked: list[tuple[str | None, str | None]] = []
    given = [path.as_uri() for path in paths]
    assert cli.main([*given, "--data", "d"], open_window=lambda *words: asked.append(words) or 0) == 0
    assert asked == [("d", str(paths[0]))]
    assert "2 more are left" in capsys.readouterr().err
