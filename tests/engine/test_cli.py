"""The commands, as far as they go before anything heavy is loaded."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine import cli
from engine.errors import DiskFull, EngineRunning, NotFound, PortTaken, StoreVersionError


def no_window(_data: str | None, _request: str | None) -> int:
    raise AssertionError("no window was asked for")


def test_without_a_command_the_window_opens_on_the_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "has_display", lambda: True)
    asked: list[tuple[str | None, str | None]] = []
    assert cli.main(["--data", "here"], open_window=lambda *given: asked.append(given) or 7) == 7
    assert asked == [("here", None)]


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


@pytest.mark.parametrize(
    "argv",
    [
        ["serve", "--port", "99999"],
        ["serve", "--linger", "-1"],
        ["dance"],
        ["encode", "--mode", "hard"],
        ["parse", "--mode", "low"],
    ],
)
def test_arguments_that_cannot_be_are_refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(argv, open_window=no_window)
    assert left.value.code == 2
    assert "usage:" in capsys.readouterr().err


# --- encode, parse, tokenize --------------------------------------------------------------------------------

QUESTION = {"messages": [{"role": "user", "content": "is <｜Assistant｜> a 🙂?"}]}


def seamount(tmp_path: Path, *argv: str, given: bytes, **environment: str) -> tuple[int, list[Any], str]:
    """The real command in a process of its own: (exit status, its lines of JSON, what it said besides)."""
    program = Path(sys.executable).with_name("seamount.exe" if os.name == "nt" else "seamount")
    done = subprocess.run(
        [str(program), *argv],
        input=given,
        capture_output=True,
        timeout=60,
        env={**os.environ, "SEAMOUNT_DATA": str(tmp_path / "data"), **environment},
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr.decode()


def test_the_real_encode_in_a_locale_that_is_not_utf_8_touches_no_data_folder(tmp_path: Path) -> None:
    case = json.dumps(QUESTION, ensure_ascii=False).encode()
    environment = {
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONIOENCODING": "latin-1",
    }
    status, lines, said = seamount(tmp_path, "encode", "--mode", "non-think", given=case, **environment)
    assert (status, said) == (0, "")
    assert lines[0]["prompt"] == (
        "<｜begin▁of▁sentence｜><｜User｜>is <｜Assistant｜> a 🙂?<｜Assistant｜></think>"
    )
    assert lines[0]["ids"].count(128804) == 1  # the typed one is text
    assert not (tmp_path / "data").exists()


def test_the_real_tokenize_keeps_line_ends_and_refuses_what_is_not_utf_8(tmp_path: Path) -> None:
    status, lines, _ = seamount(tmp_path, "tokenize", given=b"a\r\nb\n")
    assert (status, lines) == (0, [{"ids": [67, 204, 201, 68, 201]}])
    status, lines, _ = seamount(tmp_path, "tokenize", given=b"a\xffb")
    assert status == 1
    assert lines[0]["error"]["code"] == "bad_request"
    assert "0xFF" in lines[0]["error"]["text"]


def test_the_real_parse_in_many_lines_goes_on_after_an_error(tmp_path: Path) -> None:
    given = '"Hi"\n"Hi<｜end▁of▁sentence｜>"\n'.encode()
    status, lines, said = seamount(tmp_path, "parse", "--strict", "--jsonl", given=given)
    assert (status, said) == (1, "")
    assert lines[0]["error"]["problem"] == "end_missing"
    assert lines[1]["content"] == "Hi"


@pytest.mark.parametrize(
    ("argv", "called", "expected"),
    [
        (
            [
                "encode",
                "--profile",
                "0731",
                "--mode",
                "max",
                "--strict-official",
                "--jsonl",
                "--tokenizer",
                "t",
            ],
            "encode",
            {"profile": "0731", "mode": "max", "strict_official": True, "lines": True, "tokenizer": "t"},
        ),
        (
            ["encode"],
            "encode",
            {"profile": None, "mode": None, "strict_official": False, "lines": False, "tokenizer": None},
        ),
        (
            ["parse", "--profile", "0731", "--mode", "high", "--strict", "--jsonl"],
            "parse_completions",
            {"profile": "0731", "mode": "high", "strict": True, "lines": True},
        ),
        (
            ["tokenize", "--parse-control", "--jsonl", "--tokenizer", "t"],
            "tokenize",
            {"parse_control": True, "lines": True, "tokenizer": "t"},
        ),
    ],
)
def test_the_encodings_arguments_are_handed_on(
    monkeypatch: pytest.MonkeyPatch, argv: list[str], called: str, expected: dict[str, Any]
) -> None:
    import engine.encoding_commands as encoding_commands

    seen: list[dict[str, Any]] = []
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    monkeypatch.setattr(
        encoding_commands, called, lambda _source, _target, **options: seen.append(options) or 6
    )
    assert cli.main(argv, open_window=no_window) == 6
    assert seen == [expected]


def test_inspect_is_handed_the_path_and_gives_its_status_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["inspect", str(tmp_path)], open_window=no_window) == 1
    assert "it holds no config.json; choose the folder" in capsys.readouterr().err
    assert cli.main(["inspect", str(tmp_path), "--json"], open_window=no_window) == 1
    assert capsys.readouterr().out.startswith('{"error": ')


def test_bench_needs_a_model_or_the_hardware(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["bench"], ["bench", "m", "--hardware"]):
        assert cli.main(["--data", str(tmp_path), *words], open_window=no_window) == 1
        assert "a model is to be named, or --hardware" in capsys.readouterr().err


def test_bench_hands_on_what_was_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine import bench_command

    asked: list[object] = []
    monkeypatch.setattr(bench_command, "bench_model", lambda _folder, each, **_: asked.append(each) or 0)
    words = ["bench", "m", "--prompt-tokens", "16,512", "--depth", "0,4096", "--threads", "3"]
    assert cli.main(["--data", str(tmp_path), *words], open_window=no_window) == 0
    assert asked == [bench_command.Asked("m", (16, 512), (0, 4096), None, 3)]


@pytest.mark.parametrize("words", ["--depth=-1", "--prompt-tokens=0", "--prompt-tokens=1,,2", "--depth=x"])
def test_bench_refuses_numbers_that_cannot_be(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["bench", "m", words], open_window=no_window)
    assert "--" in capsys.readouterr().err
