"""The commands, as far as they go before anything heavy is loaded."""

import sys
from pathlib import Path

import pytest

from engine import cli
from engine.errors import DiskFull, EngineRunning, NotFound, PortTaken, StoreVersionError


def no_window(_data: str | None) -> int:
    raise AssertionError("no window was asked for")


def test_without_a_command_the_window_opens_on_the_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "has_display", lambda: True)
    asked: list[str | None] = []
    assert cli.main(["--data", "here"], open_window=lambda data: asked.append(data) or 7) == 7
    assert asked == ["here"]


def test_without_a_display_the_terminal_opens_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import engine.terminal_chat as terminal_chat

    monkeypatch.setattr(cli, "has_display", lambda: False)
    monkeypatch.setattr(terminal_chat, "chat", lambda _folder, **_options: 5)
    assert cli.main([], open_window=no_window) == 5
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="these always have a display")
@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"DISPLAY": ":0"}, True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, True),
        ({"DISPLAY": ""}, False),
        ({"QT_QPA_PLATFORM": "offscreen"}, True),
        ({"QT_QPA_PLATFORM": "minimal:option"}, True),
        ({"QT_QPA_PLATFORM": "xcb"}, False),
    ],
)
def test_a_display(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: bool) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cli.has_display() is expected


def test_the_version_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"], open_window=no_window) == 0
    assert capsys.readouterr().out.startswith("seamount ")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (EngineRunning("a", "b", "c"), 3),
        (DiskFull("a", "b", "c"), 4),
        (StoreVersionError("a", "b", "c"), 4),
        (PortTaken("a", "b", "c"), 5),
        (NotFound("a", "b", "c"), 1),
    ],
)
def test_an_error_is_one_line_and_a_status(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    error: Exception,
    status: int,
) -> None:
    import engine.model_table as model_table

    def fail(_folder: object) -> int:
        raise error

    monkeypatch.setattr(model_table, "print_models", fail)
    assert cli.main(["--data", str(tmp_path), "models"], open_window=no_window) == status
    assert capsys.readouterr().err == "seamount: a: b; c.\n"


@pytest.mark.parametrize("argv", [["serve", "--port", "99999"], ["serve", "--linger", "-1"], ["dance"]])
def test_arguments_that_cannot_be_are_refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(argv, open_window=no_window)
    assert left.value.code == 2
    assert "usage:" in capsys.readouterr().err
