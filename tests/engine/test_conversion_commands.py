"""`seamount convert` and `seamount verify`, as they are called."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from convert.conversion import Advance
from convert.conversion_progress import progress_path
from engine.cli import main
from engine.library.jobs import conversion_work
from tests.convert.conversions import checkpoint


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sources")
    return {"preview": checkpoint(folder, "preview"), "0731": checkpoint(folder, "0731")}


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments], open_window=lambda _: 99)


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_converted_and_verified(
    sources: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "m.gguf"
    assert run("convert", sources["0731"], target) == 0
    assert [line.partition(" (")[0] for line in capsys.readouterr().out.splitlines()] == [
        str(target), str(tmp_path / "m-draft.gguf"),
    ]  # fmt: skip
    assert run("verify", target) == 0
    assert run("verify", sources["0731"], target) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["m.gguf", "m-draft.gguf"] * 2
    assert "108 tensors are exact, all experts among them; 42 are rounded" in lines[0]
    assert run("verify", sources["preview"], target) == 1
    assert "header: its metadata are not those of this checkpoint" in capsys.readouterr().out


def test_exact_throughout(
    sources: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "m.gguf"
    assert run("convert", sources["preview"], target, "--dense", "bf16", "--draft", "keep") == 0
    assert run("verify", sources["preview"], target) == 0
    assert capsys.readouterr().out.endswith("the same as in the checkpoint, every number exact\n")


def test_events(sources: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "m.gguf"
    assert run("convert", sources["preview"], target, "--draft", "skip", "--events") == 0
    told = events(capsys.readouterr().out)
    assert [each["event"] for each in told[:-1]] == ["progress"] * (len(told) - 1)
    assert told[-2]["done_bytes"] == told[-2]["total_bytes"]
    assert told[-2]["stage"] == "converting"
    assert told[-2]["item"]
    assert 0 < told[-2]["items_done"] <= told[-2]["items"]
    assert told[-1] == {"event": "done", "files": [str(target)]}
    assert run("convert", sources["preview"], target, "--events") == 1
    (error,) = events(capsys.readouterr().out)
    assert (error["event"], error["code"]) == ("error", "conversion")
    assert run("verify", target, "--events") == 0
    verdict = events(capsys.readouterr().out)[-1]
    assert (verdict["event"], verdict["good"], verdict["lossless"]) == ("verdict", True, False)


def test_errors_are_sentences(
    sources: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, said in (
        (("convert", tmp_path, tmp_path / "m.gguf"), "holds no config.json"),
        (("convert", sources["0731"], tmp_path / "m.gguf", "--draft", "keep"), "only as a file of its own"),
        (("convert", sources["0731"], tmp_path / "nowhere" / "m.gguf"), "there is no such folder"),
        (("verify", tmp_path / "m.gguf"), "Nothing was checked: there is no"),
        (("verify", sources["0731"], tmp_path / "m.gguf"), "there is no such file"),
        (("verify", "a", "b", "c"), "3 paths were given"),
    ):
        assert run(*arguments) == 1
        error = capsys.readouterr().err
        assert said in error
        assert error.startswith("seamount: ")
        assert error.endswith(".\n")


# --- ending it -------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent otherwise there")
def test_ctrl_c_leaves_what_can_go_on(sources: dict[str, Path], tmp_path: Path) -> None:
    target = tmp_path / "m.gguf"
    command = [sys.executable, "-m", "seamount", "convert", str(sources["0731"]), str(target), "--events"]
    slow = {**os.environ, "PYTHONPATH": str(tmp_path)}
    # A disk on which making things durable takes its time, so that the signal comes in between.
    (tmp_path / "sitecustomize.py").write_text(
        "import os, time\nfsync = os.fsync\nos.fsync = lambda fd: (time.sleep(0.05), fsync(fd))[1]\n"
    )
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=slow) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.send_signal(signal.SIGINT)
        told = events(child.stdout.read())
    assert child.returncode == 130
    assert told[-1]["code"] == "conversion_stopped"
    assert progress_path(target).exists()
    assert run("convert", sources["0731"], target) == 0


def test_the_line_for_people_is_written_over(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)

    def convert(_job: object, report: Any, _stopped: object) -> tuple[Path, ...]:
        report(Advance(10**9, 10**11, "layer 1", "blk.1.attn_kv.weight", 1e9))
        return ()

    monkeypatch.setattr(conversion_work, "convert", convert)
    monkeypatch.setattr(conversion_work, "origin_of", lambda *_: None)
    assert run("convert", "a", "b") == 0
    error = capsys.readouterr().err
    assert error == "\r\x1b[K1.0 GB of 100 GB, 1.0 GB/s, 2 min left  blk.1.attn_kv.weight\r\x1b[K"
