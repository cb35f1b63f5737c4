"""Which call each of the words is."""

from typing import Any

import pytest

from engine import cli, encoding_commands


@pytest.mark.parametrize(
    ("words", "name", "options"),
    [
        (
            ["encode", "--profile", "0731", "--strict-official"],
            "encode",
            {"profile": "0731", "mode": None, "strict_official": True, "lines": False, "tokenizer": None},
        ),
        (
            ["parse", "--mode", "max", "--jsonl"],
            "parse_completions",
            {"profile": None, "mode": "max", "strict": False, "lines": True},
        ),
        (
            ["tokenize", "--parse-control", "--tokenizer", "x"],
            "tokenize",
            {"parse_control": True, "lines": False, "tokenizer": "x"},
        ),
    ],
)
def test_each(monkeypatch: pytest.MonkeyPatch, words: list[str], name: str, options: dict[str, Any]) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(encoding_commands, "text_streams", lambda source, target: (source, target))
    monkeypatch.setattr(encoding_commands, name, lambda *_streams, **given: asked.append(given) or 4)
    assert cli.main(words, open_window=lambda *_given: 9) == 4
    assert asked == [options]
