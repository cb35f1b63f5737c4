"""Which call the words of `seamount keys` and `seamount network` are."""

import argparse
from pathlib import Path
from typing import Any

import pytest

from engine import access_arguments, access_commands
from engine.paths import DataFolder

FOLDER = DataFolder(Path("/nowhere"))


def called(monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    """(name, arguments, named arguments) of the call."""
    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
    for name in (
        "list_keys",
        "make_key",
        "show_key",
        "limit_key",
        "rename_key",
        "revoke_key",
        "show_network",
        "open_network",
        "close_network",
    ):

        def call(_folder: DataFolder, *given: Any, _name: str = name, **named: Any) -> int:
            calls.append((_name, given, named))
            return 7

        monkeypatch.setattr(access_commands, name, call)
    parser = argparse.ArgumentParser()
    access_arguments.add_arguments(parser.add_subparsers(dest="command").add_parser)
    options = parser.parse_args(words)
    assert access_arguments.run(options.command, options, FOLDER) == 7
    (found,) = calls
    return found


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("keys", ("list_keys", (), {"as_json": False})),
        ("keys list --json", ("list_keys", (), {"as_json": True})),
        ("keys make editor", ("make_key", ("editor",), {"is_network": False, "keep": True})),
        ("keys make lan --network --once", ("make_key", ("lan",), {"is_network": True, "keep": False})),
        ("keys show editor", ("show_key", ("editor",), {})),
        ("keys rename a b", ("rename_key", ("a", "b"), {})),
        ("keys revoke a", ("revoke_key", ("a",), {})),
        (
            "keys limit a --waiting 0 --seconds 60",
            (
                "limit_key",
                ("a", {"answer_tokens": None, "prompt_tokens": None, "waiting": 0, "seconds": 60}),
                {},
            ),
        ),
        ("network", ("show_network", (), {})),
        ("network show", ("show_network", (), {})),
        ("network open", ("open_network", (0, None, None, ()), {})),
        (
            "network open --port 8643 --certificate c --key k --at 10.0.0.1 --at ::1",
            ("open_network", (8643, "c", "k", ("10.0.0.1", "::1")), {}),
        ),
        ("network close", ("close_network", (), {})),
    ],
)
def test_words_are_calls(monkeypatch: pytest.MonkeyPatch, words: str, expected: Any) -> None:
    assert called(monkeypatch, *words.split()) == expected


@pytest.mark.parametrize(
    "words",
    ["keys make", "keys limit a --waiting -1", "keys limit a --seconds x", "network open --port 70000"],
)
def test_words_that_are_none(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    access_arguments.add_arguments(parser.add_subparsers(dest="command").add_parser)
    with pytest.raises(SystemExit):
        parser.parse_args(words.split())
    assert "usage" in capsys.readouterr().err
